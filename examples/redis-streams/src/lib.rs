#![doc = include_str!("../README.md")]

mod consumer;
mod entry;

use std::{future::Future, sync::Arc};

use otel_messaging::{Instrumentation, adapter::*, semconv::attribute::*};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, ConnectionAddr, RedisError, RedisResult, aio};

pub use crate::consumer::Message;
pub use crate::entry::{Entry, HEADER_PREFIX};

const CREATE: OperationName = OperationName::create("create");
const XADD: OperationName = OperationName::send("xadd");

/// A client that adds entries to streams. Its clones share a connection.
#[derive(Debug, Clone)]
pub struct Streams {
    client: Client,
    commands: aio::MultiplexedConnection,
    telemetry: Arc<Telemetry>,
}

/// A consumer of a group of one stream.
#[derive(Debug)]
pub struct Consumer {
    streams: Streams,
    reads: aio::MultiplexedConnection,
    source: SourceId,
    stream: String,
    group: String,
    name: String,
}

impl Streams {
    /// Connects. `Instrumentation::default()` reports to OpenTelemetry's globals.
    pub async fn connect(client: Client, instrumentation: Instrumentation) -> RedisResult<Self> {
        let commands = client.get_multiplexed_async_connection().await?;
        let telemetry = Telemetry::new(scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")), "redis");
        telemetry.instrument(instrumentation);
        Ok(Self { client, commands, telemetry: Arc::new(telemetry) })
    }

    /// A consumer of an existing group, with a connection of its own.
    pub async fn consumer(&self, stream: &str, group: &str, name: &str) -> RedisResult<Consumer> {
        // A read may wait for longer than the client's response timeout.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let reads = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let (stream, group, name) = (stream.to_owned(), group.to_owned(), name.to_owned());
        Ok(Consumer { streams: self.clone(), reads, source: SourceId::new(), stream, group, name })
    }

    /// Adds an entry (`XADD`) and returns its id. After an error of the connection Redis may have added the entry.
    pub fn add(&self, stream: &str, mut entry: Entry) -> impl Future<Output = RedisResult<String>> {
        let start = self.telemetry.start_operation().filter(|_| !entry.0.is_empty());
        async move {
            let span = start
                .map(|start| self.telemetry.send(start, &self.operation(XADD, &[stream]), Some(&mut entry), |_| ()));
            let added: RedisResult<String> = self.commands.clone().xadd(stream, "*", &entry.0).await;
            if let Some(mut span) = span {
                added.iter().for_each(|id| span.set(MESSAGING_MESSAGE_ID, id.clone()));
                span.report(&added, error_type);
            }
            added
        }
    }

    /// Adds entries in one transaction and returns their ids. Redis adds all or none: one send span is true for each.
    pub fn add_all(&self, stream: &str, mut entries: Vec<Entry>) -> impl Future<Output = RedisResult<Vec<String>>> {
        let start = self.telemetry.start_operation();
        let start = start.filter(|_| !entries.is_empty() && !entries.contains(&Entry::default()));
        async move {
            let span = start.map(|start| {
                let create = self.operation(CREATE, &[stream]);
                let create = |entry| self.telemetry.create(start.clone(), &create, entry, |_| ());
                let created: Vec<_> = entries.iter_mut().map(|entry| (create(entry), Attributes::default())).collect();
                self.telemetry.send_batch(start, &self.operation(XADD, &[stream]), created.into_iter(), |_| ())
            });
            let mut transaction = redis::pipe().atomic().to_owned();
            entries.iter().for_each(|entry| _ = transaction.xadd(stream, "*", &entry.0));
            let added = transaction.query_async(&mut self.commands.clone()).await;
            if let Some(span) = span {
                span.report(&added, error_type);
            }
            added
        }
    }

    /// The key is a stream, or a stream, a group and a consumer.
    fn operation(&self, name: OperationName, key: &[&str]) -> Arc<PreparedOperation> {
        self.telemetry.operation(name, key, || {
            let mut destination = Destination::named(key[0]);
            if let ConnectionAddr::Tcp(host, port) = self.client.get_connection_info().addr() {
                destination = destination.at(host.as_str(), *port);
            }
            let consumer = [MESSAGING_CONSUMER_GROUP_NAME, MESSAGING_CLIENT_ID].into_iter().zip(&key[1..]);
            consumer.fold(destination, |all, (name, value)| all.with(name, value.to_string()))
        })
    }
}

/// `error.type`: the code of the first error that Redis returned, or the client's category.
fn error_type(error: &RedisError) -> String {
    let category = if error.is_timeout() { "timeout" } else { error.category() };
    let errors = error.clone().into_server_errors().unwrap_or_default();
    errors.first().map_or(category, |(_, first)| first.code()).to_owned()
}
