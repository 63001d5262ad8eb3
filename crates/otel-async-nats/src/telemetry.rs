//! The telemetry of one client: its operations, and the names of destinations.

use std::sync::Arc;

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};
use otel_messaging::{
    Instrumentation,
    adapter::{
        Attributes, Destination, OperationName, OperationStart, PreparedOperation, SourceId, Telemetry, opaque_debug,
        scope,
    },
    semconv::{attribute, extension},
};

use crate::{
    headers::HeaderCase,
    ledger::Ledger,
    origin::{Origin, SourceDescription},
    server_info::{Address, ConnectedServer},
    subjects::{has_wildcards, is_temporary},
};

pub(crate) const PUBLISH: OperationName = OperationName::send("publish");
pub(crate) const REQUEST: OperationName = OperationName::send("request");
#[cfg(feature = "service")]
pub(crate) const RESPOND: OperationName = OperationName::send("respond");
pub(crate) const PROCESS: OperationName = OperationName::process("process");
pub(crate) const PROCESS_FETCHED: OperationName = PROCESS.of(FETCH);
pub(crate) const FETCH: OperationName = OperationName::receive("fetch");
/// A push consumer whose stream fails.
#[cfg(feature = "jetstream")]
pub(crate) const CONSUME: OperationName = OperationName::receive("consume");

const SYSTEM: &str = "nats";

/// The telemetry of one client, which all its wrappers share.
///
/// It holds the raw client, so no message holds it: a message must not keep a connection open.
#[derive(Clone)]
pub(crate) struct ClientTelemetry {
    pub(crate) core: Arc<Telemetry>,
    pub(crate) header_case: HeaderCase,
    pub(crate) message_limit: Option<usize>,
    name: Option<Arc<str>>,
    pub(crate) server: Arc<ConnectedServer>,
    inbox_prefix: Arc<str>,
    /// The source that the sources of consumers belong to.
    #[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
    pub(crate) source: SourceId,
    /// The delivered messages that are not settled yet.
    pub(crate) ledger: Arc<Ledger>,
}

/// The data that a client's telemetry gets when the client connects.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectInfo {
    /// The name that the application gave the client.
    pub(crate) name: Option<Arc<str>>,
    /// The server, if the application named only one.
    pub(crate) only_server: Option<(Arc<str>, u16)>,
    /// The client connects only to servers that the application named.
    pub(crate) ignores_discovered_servers: bool,
    pub(crate) header_case: HeaderCase,
    /// The limit of a message with its context in bytes, where it is lower than the server's.
    pub(crate) message_limit: Option<usize>,
}

impl ClientTelemetry {
    pub(crate) fn new(client: &async_nats::Client, info: ConnectInfo) -> Self {
        let ConnectInfo { name, only_server, ignores_discovered_servers, header_case, message_limit } = info;
        // `{prefix}.{id}`, where the id has no dot.
        let mut inbox_prefix = client.new_inbox();
        inbox_prefix.truncate(inbox_prefix.rfind('.').map_or(0, |dot| dot + 1));
        Self {
            core: core(None),
            header_case,
            message_limit,
            name,
            server: Arc::new(ConnectedServer::new(client, only_server, ignores_discovered_servers)),
            inbox_prefix: inbox_prefix.into(),
            source: SourceId::new(),
            ledger: Arc::default(),
        }
    }

    /// The same client, reported to another instrumentation.
    pub(crate) fn with_instrumentation(&self, instrumentation: Instrumentation) -> Self {
        Self { core: core(Some(instrumentation)), ..self.clone() }
    }

    pub(crate) fn with_header_case(&self, header_case: HeaderCase) -> Self {
        Self { header_case, ..self.clone() }
    }

    pub(crate) fn with_message_limit(&self, bytes: usize) -> Self {
        Self { message_limit: Some(bytes), ..self.clone() }
    }

    /// The start of an operation. `None` where telemetry is off.
    #[inline]
    pub(crate) fn start_on_message(&self) -> Option<OperationStart> {
        let start = self.core.start_operation()?;
        self.ledger.expire(start.at());
        Some(start)
    }

    /// Sets the id and, where it is captured, the body size of a message.
    #[inline]
    pub(crate) fn set_message(&self, message: &mut Attributes, id: Option<Arc<str>>, body: Option<usize>) {
        message.set_opt(attribute::MESSAGING_MESSAGE_ID, id);
        if let Some(size) = body {
            self.core.set_body_size(message, size);
        }
    }

    /// Whether successful polls are recorded.
    #[cfg(feature = "jetstream")]
    pub(crate) fn records_polls(&self) -> bool {
        self.core.records_polls()
    }

    /// An operation on a subject, as a sender knows it; `answers` says whether it answers a message.
    #[inline]
    pub(crate) fn send_operation(
        &self,
        name: OperationName,
        subject: Option<&str>,
        answers: bool,
    ) -> Arc<PreparedOperation> {
        let server = self.server.only_server();
        let key = [subject.unwrap_or_default(), server_key(server), if answers { "answer" } else { "" }];
        self.core.operation(name, &key, || {
            let destination = self.describe(subject, server);
            if answers { destination.reply_address() } else { destination }
        })
    }

    /// An operation on a message of this origin with this subject; without a subject, on the origin itself.
    #[inline]
    pub(crate) fn operation_at(
        &self,
        name: OperationName,
        origin: &Origin,
        subject: Option<&str>,
    ) -> Arc<PreparedOperation> {
        let server = self.server.only_server();
        let key = [subject.unwrap_or_default(), &origin.key, server_key(server)];
        self.core.operation(name, &key, || self.describe_at(origin, subject, server))
    }

    fn describe_at(&self, origin: &Origin, subject: Option<&str>, server: Option<Address<'_>>) -> Destination {
        let SourceDescription { subject: subscribed, group, durable, stream, pulled: _ } = &origin.description;
        let (template, exact) = match subscribed {
            Some(pattern) if has_wildcards(pattern) => (Some(pattern), None),
            exact => (None, exact.as_deref()),
        };
        let mut destination = self.describe(subject.or(exact), server);
        if let Some(template) = template {
            destination = destination.template(template.clone());
        }
        let names = [
            (attribute::MESSAGING_CONSUMER_GROUP_NAME, group),
            (attribute::MESSAGING_DESTINATION_SUBSCRIPTION_NAME, durable),
            (extension::NATS_STREAM_NAME, stream),
        ];
        for (key, value) in names {
            if let Some(value) = value {
                destination = destination.with(key, value.clone());
            }
        }
        destination
    }

    fn describe(&self, subject: Option<&str>, server: Option<Address<'_>>) -> Destination {
        let mut destination = match subject {
            Some(subject) => Destination::named(subject),
            None => Destination::server(None),
        };
        if subject.is_some_and(|subject| is_temporary(subject, &self.inbox_prefix)) {
            destination = destination.temporary();
        }
        if let Some(name) = &self.name {
            destination = destination.with(attribute::MESSAGING_CLIENT_ID, name.clone());
        }
        match server {
            Some((address, port)) => destination.at(address.clone(), port),
            None => destination,
        }
    }
}

opaque_debug! { [] ClientTelemetry, "ClientTelemetry", |telemetry| core: telemetry.core }

/// A part of the key of an operation, since the server of a client may become uncertain.
#[inline]
fn server_key(server: Option<Address<'_>>) -> &'static str {
    if server.is_some() { "@" } else { "" }
}

#[inline]
pub(crate) fn message_id(headers: Option<&HeaderMap>) -> Option<Arc<str>> {
    headers?.get_last(NATS_MESSAGE_ID).map(|id| id.as_str().into())
}

pub(crate) fn core(instrumentation: Option<Instrumentation>) -> Arc<Telemetry> {
    let telemetry = Telemetry::new(scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")), SYSTEM);
    if let Some(instrumentation) = instrumentation {
        telemetry.instrument(instrumentation);
    }
    Arc::new(telemetry)
}
