//! Delivers the messages of consumers, with the spans of fetches and polls.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{
    datetime::DateTime,
    jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info},
};
use otel_messaging::{
    Instrumentation, ReceivedMessage,
    adapter::{Batch, OperationStart, SourceId},
};

use crate::{
    Client,
    error::ErrorType,
    history::{self, DeliveryHistory},
    jetstream::{Context, Message},
    origin::SourceDescription,
    receive::Source,
};

/// A consumer, as the source of messages.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerSource {
    pub(crate) inner: Arc<Source>,
    client: Arc<Client>,
    pulled: bool,
    /// Its messages can be settled.
    acknowledges: bool,
    /// The longest time that the server waits for a settlement before it delivers a message again.
    ack_wait: Duration,
    /// Each message must be settled by itself.
    awaits_settlement: bool,
    /// Its messages come without their bodies.
    headers_only: bool,
    /// Messages that the stream stored before this time are replays.
    replays_before: Option<DateTime>,
}

impl ConsumerSource {
    pub(crate) fn new(client: Arc<Client>, consumer: &Info) -> Self {
        let Info { stream_name, name, config, created, .. } = consumer;
        let pulled = config.deliver_subject.is_none();
        let description = SourceDescription {
            subject: filter(config).map(Arc::from),
            group: config.deliver_group.as_deref().map(Arc::from),
            durable: config.durable_name.as_deref().map(Arc::from),
            stream: Some(stream_name.as_str().into()),
            pulled,
        };
        Self {
            inner: Arc::new(Source::consumer(client.telemetry().clone(), name, description)),
            client,
            pulled,
            acknowledges: config.ack_policy != AckPolicy::None,
            ack_wait: config.backoff.iter().copied().chain([config.ack_wait]).max().unwrap_or_default(),
            // With `AckPolicy::All`, acknowledging one message settles all earlier ones without a call.
            awaits_settlement: config.ack_policy == AckPolicy::Explicit,
            headers_only: config.headers_only,
            replays_before: (config.deliver_policy != DeliverPolicy::New).then_some(*created),
        }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.inner.id()
    }

    /// Reports deliveries and settlements to this instrumentation.
    pub(crate) fn instrument(&mut self, instrumentation: Instrumentation) {
        self.client = Arc::new(Client::clone(&self.client).with_instrumentation(instrumentation));
        self.inner = Arc::new(self.inner.with_telemetry(self.client.telemetry().clone()));
    }

    /// Delivers a message to the application.
    pub(crate) fn deliver_stored(&self, message: async_nats::jetstream::Message) -> Message {
        let async_nats::jetstream::Message { message, context } = message;
        let telemetry = self.inner.deliver_message(&message, || {
            let (history, stored) = history::from_reply(message.reply.as_deref());
            let replayed = stored.zip(self.replays_before).is_some_and(|(stored, created)| stored < created);
            // A message without a subject to acknowledge on cannot be settled.
            let awaits_settlement = self.awaits_settlement && stored.is_some();
            DeliveryHistory { replayed, headers_only: self.headers_only, awaits_settlement, ..history }
        });
        let telemetry = telemetry.map(|delivered| match message.reply.clone().filter(|_| self.acknowledges) {
            Some(reply) => delivered.make_settleable(reply, self.ack_wait, &message.subject, &self.inner),
            None => delivered.into(),
        });
        Message {
            message: crate::Message::new(message, telemetry),
            context: Context::with_shared(context, self.client.clone()),
        }
    }

    /// Records when the application started to poll for a message, where polls are recorded.
    pub(crate) fn stream_poll_started(&self, poll_start: &mut Option<SystemTime>) {
        if self.pulled && poll_start.is_none() && self.client.telemetry().records_polls() {
            *poll_start = Some(SystemTime::now());
        }
    }

    /// The start of a poll's operation: `poll_start`, or now if that was not recorded.
    pub(crate) fn start_poll(&self, poll_start: Option<SystemTime>) -> Option<OperationStart> {
        let start = self.client.telemetry().start_on_message()?;
        let began = poll_start.unwrap_or(start.at());
        Some(start.since(began))
    }

    /// Delivers the message of a poll, or reports its error.
    pub(crate) fn poll_finished<E: ErrorType + fmt::Display>(
        &self,
        poll_start: Option<SystemTime>,
        result: Result<async_nats::jetstream::Message, E>,
    ) -> Result<Message, E> {
        match result {
            Ok(message) => {
                let message = self.deliver_stored(message);
                if let (Some(_), Some(telemetry)) = (poll_start, message.message.telemetry())
                    && let Some(start) = self.start_poll(poll_start)
                {
                    self.inner.record_poll(start, &message.message.subject, telemetry);
                }
                Ok(message)
            }
            Err(error) => {
                // A failure is reported also where polls are not recorded.
                if let Some(start) = self.start_poll(poll_start) {
                    let span = self.inner.failed_poll(start);
                    span.fail(error.error_type(), &error);
                }
                Err(error)
            }
        }
    }
}

/// The filter, if the consumer has exactly one.
fn filter(config: &Config) -> Option<&str> {
    if !config.filter_subject.is_empty() {
        return Some(&config.filter_subject);
    }
    #[cfg(feature = "server_2_10")]
    if let [only] = config.filter_subjects.as_slice() {
        return Some(only);
    }
    None
}

/// A fetch, whose span ends with its batch or when this is dropped. There is none for an empty batch.
pub(crate) struct Fetch {
    pub(crate) source: Arc<ConsumerSource>,
    /// `None` where telemetry is off, and after the end.
    open: Option<(OperationStart, Batch)>,
}

impl Fetch {
    pub(crate) fn new(source: Arc<ConsumerSource>, start: Option<OperationStart>) -> Self {
        Self { source, open: start.map(|start| (start, Batch::default())) }
    }

    pub(crate) fn deliver_next(&mut self, message: async_nats::jetstream::Message) -> Message {
        let message = self.source.deliver_stored(message);
        if let Some((_, messages)) = &mut self.open {
            messages.add(message.process_span());
        }
        message
    }

    pub(crate) fn end<E: ErrorType + fmt::Display>(&mut self, result: Result<(), &E>) {
        let Some((start, messages)) = self.open.take() else { return };
        if result.is_ok() && messages.is_empty() {
            return;
        }
        self.source.inner.received(start, messages).report(&result, |error| error.error_type());
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.end::<async_nats::Error>(Ok(()));
    }
}
