//! NATS JetStream, through whatever has the names of async-nats.

use std::future::IntoFuture;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use otel_messaging::Instrumentation;
use tokio::sync::Mutex;

use super::names::{
    async_nats::{
        self,
        jetstream::{
            self, Context,
            consumer::{AckPolicy, pull},
        },
    },
    instrumented,
};
use crate::clients::{Answer, Client, Place, text};

pub(super) struct Nats {
    /// Of the stream, and its subject.
    name: String,
    context: Context,
    messages: Mutex<Option<pull::Stream>>,
}

impl Nats {
    pub(super) async fn new(place: &Place, instrumentation: Instrumentation) -> Result<Self, String> {
        let client = async_nats::connect(&place.address).await.map_err(text)?;
        let context = jetstream::new(instrumented!(client, instrumentation));
        Ok(Self { name: place.destination.clone(), context, messages: Mutex::default() })
    }

    async fn messages(&self) -> Result<pull::Stream, async_nats::Error> {
        let config = pull::Config {
            durable_name: Some("worker".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ..Default::default()
        };
        let stream = self.context.get_stream(&self.name).await?;
        Ok(stream.get_or_create_consumer("worker", config).await?.messages().await?)
    }
}

impl Client for Nats {
    fn send(&self, payload: Bytes) -> BoxFuture<'_, Result<Answer, String>> {
        Box::pin(async move {
            let acknowledged = self.context.publish(self.name.clone(), payload).await.map_err(text)?;
            Ok(acknowledged.into_future().map(|answer| answer.map(drop).map_err(text)).boxed())
        })
    }

    fn receive(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let mut messages = self.messages.lock().await;
            let stream = match &mut *messages {
                Some(stream) => stream,
                none => none.insert(self.messages().await.map_err(text)?),
            };
            let settled = match stream.next().await {
                Some(Ok(message)) => message.ack().await.map_err(text),
                Some(Err(error)) => Err(text(error)),
                None => Err("the consumer ended".to_owned()),
            };
            if settled.is_err() {
                *messages = None;
            }
            settled
        })
    }
}
