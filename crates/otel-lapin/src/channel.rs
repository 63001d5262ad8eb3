//! Channels.

use std::{future::Future, sync::Arc};

use lapin::{
    BasicProperties, Queue, Result,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        BasicRecoverAsyncOptions, BasicRecoverOptions, BasicRejectOptions, QueueDeclareOptions,
    },
    types::{FieldTable, LongLongUInt, ShortString},
};
use otel_messaging::{
    Instrumentation,
    adapter::{OperationStart, Settlement, SourceId, poll_started, wrapper},
};

use crate::{
    confirms::PendingConfirms,
    consumer::Consumer,
    ledger::Ledger,
    message::{BasicGetMessage, BasicReturnMessage},
    publisher_confirm::PublisherConfirm,
    receive::{GetSource, Source},
    send::{SendInFlight, start_send},
    settle::{nack_outcome, reject_outcome, settle_by_tag},
    telemetry::{ACK, ClientTelemetry, NACK, REJECT, is_reply},
};

/// [`lapin::Channel`], whose messages are traced.
///
/// Methods that send, receive or settle messages are here; all others are lapin's, by `Deref`.
#[derive(Clone)]
pub struct Channel {
    inner: lapin::Channel,
    state: ChannelState,
}

/// What all clones of a channel share.
#[derive(Clone)]
struct ChannelState {
    telemetry: Arc<ClientTelemetry>,
    confirms: Arc<PendingConfirms>,
    ledger: Arc<Ledger>,
    /// Base of the source ids of `basic_get`: each queue is a source.
    source: SourceId,
}

impl ChannelState {
    fn settler(&self) -> (&ClientTelemetry, &Ledger) {
        (&self.telemetry, &self.ledger)
    }
}

impl Channel {
    pub(crate) fn new(inner: lapin::Channel, telemetry: Arc<ClientTelemetry>) -> Self {
        let (confirms, ledger, source) = (Arc::default(), Arc::default(), SourceId::new());
        let state = ChannelState { telemetry, confirms, ledger, source };
        Self { inner, state }
    }

    /// Uses this instrumentation from now on instead of the connection's. Other clones of the channel keep theirs.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        self.state.telemetry = Arc::new(self.state.telemetry.instrumented(instrumentation));
        self
    }

    /// Publishes a message. Its span is a child of the context that is current at this call. The span's context is written into
    /// the message's headers.
    ///
    /// If the channel [confirms](lapin::Channel::confirm_select), the span ends with the broker's answer; a nack and a returned
    /// message are failures. Otherwise the span ends when lapin has sent the message.
    ///
    /// The context is omitted if the content header frame would be too large with it.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_publish`].
    ///
    /// # Cancel safety
    ///
    /// As lapin's: once the future is polled, the message is sent even if the future is dropped. The outcome in the span is
    /// unknown then. A future that was never polled sends nothing and has no span.
    pub fn basic_publish(
        &self,
        exchange: ShortString,
        routing_key: ShortString,
        options: BasicPublishOptions,
        payload: &[u8],
        mut properties: BasicProperties,
    ) -> impl Future<Output = Result<PublisherConfirm>> + Send {
        let start = self.state.telemetry.core.start_operation();
        let answers = start.as_ref().is_some_and(|start| is_reply(start, exchange.as_str(), routing_key.as_str()));
        async move {
            // The properties are changed in place: they are large, and the future holds them until the publish is sent.
            let send = match start {
                Some(start) => {
                    let ChannelState { telemetry, confirms, .. } = &self.state;
                    let operation = telemetry.publish_operation(exchange.as_str(), routing_key.as_str(), answers);
                    confirms.resolve_woken();
                    let confirms = self.inner.status().confirm().then_some(confirms);
                    let returnable = options.mandatory || options.immediate;
                    start_send(start, &operation, telemetry, confirms, returnable, payload, &mut properties)
                }
                None => SendInFlight::Untraced,
            };
            send.finish_send(self.inner.basic_publish(exchange, routing_key, options, payload, properties).await)
        }
    }

    /// Waits until the broker has answered every publish, and gives the returned messages.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::wait_for_confirms`]. Returned messages are kept for the next call then.
    pub async fn wait_for_confirms(&self) -> Result<Vec<BasicReturnMessage>> {
        let returned = self.inner.wait_for_confirms().await;
        self.state.confirms.resolve_parked();
        Ok(self.state.confirms.take_returned(returned?))
    }

    /// Starts a consumer on a queue.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_consume`].
    pub async fn basic_consume(
        &self,
        queue: ShortString,
        consumer_tag: ShortString,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> Result<Consumer> {
        let consumer = self.inner.basic_consume(queue, consumer_tag, options, arguments).await?;
        let ledger = (!options.no_ack).then(|| self.state.ledger.clone());
        let source = Source::new(self.state.telemetry.clone(), consumer.queue(), ledger);
        Ok(Consumer::new(consumer, source))
    }

    /// Gets one message from a queue. A message and an error have a span `get`; an empty queue has none. The message has a
    /// process span as well.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_get`].
    pub fn basic_get(
        &self,
        queue: ShortString,
        options: BasicGetOptions,
    ) -> impl Future<Output = Result<Option<BasicGetMessage>>> + Send {
        let source = self.state.source.named(queue.as_str());
        poll_started(source);
        let start = self.state.telemetry.core.start_operation();
        async move {
            let ChannelState { telemetry, ledger, .. } = &self.state;
            let ledger = (!options.no_ack).then_some(ledger);
            let source = GetSource { telemetry, id: source, ledger };
            let Some(start) = start.map(OperationStart::release_parent) else {
                let message = self.inner.basic_get(queue, options).await?;
                return Ok(message.map(|message| source.deliver_untraced(message)));
            };
            let answer = self.inner.basic_get(queue.clone(), options).await;
            source.record_get(start, queue, answer)
        }
    }

    /// Acknowledges a delivery by its tag, or with `multiple` all up to it.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_ack`].
    ///
    /// # Cancel safety
    ///
    /// As [`Acker::ack`](crate::Acker::ack), but the settlement is written at the first poll, before later settlements.
    pub fn basic_ack(
        &self,
        delivery_tag: LongLongUInt,
        options: BasicAckOptions,
    ) -> impl Future<Output = Result<()>> + Send {
        let settle = self.inner.basic_ack(delivery_tag, options);
        settle_by_tag(self.state.settler(), ACK, delivery_tag, options.multiple, Settlement::Ack, settle)
    }

    /// Refuses a delivery by its tag, or with `multiple` all up to it.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_nack`].
    ///
    /// # Cancel safety
    ///
    /// As [`Acker::ack`](crate::Acker::ack), but the settlement is written at the first poll, before later settlements.
    pub fn basic_nack(
        &self,
        delivery_tag: LongLongUInt,
        options: BasicNackOptions,
    ) -> impl Future<Output = Result<()>> + Send {
        let settle = self.inner.basic_nack(delivery_tag, options);
        settle_by_tag(self.state.settler(), NACK, delivery_tag, options.multiple, nack_outcome(options), settle)
    }

    /// Refuses a delivery by its tag.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_reject`].
    ///
    /// # Cancel safety
    ///
    /// As [`Acker::ack`](crate::Acker::ack), but the settlement is written at the first poll, before later settlements.
    pub fn basic_reject(
        &self,
        delivery_tag: LongLongUInt,
        options: BasicRejectOptions,
    ) -> impl Future<Output = Result<()>> + Send {
        let settle = self.inner.basic_reject(delivery_tag, options);
        settle_by_tag(self.state.settler(), REJECT, delivery_tag, false, reject_outcome(options), settle)
    }

    /// Declares a queue. The connection remembers the names of exclusive queues, which are temporary and stay out of span
    /// names.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::queue_declare`].
    pub async fn queue_declare(
        &self,
        queue: ShortString,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<Queue> {
        let queue = self.inner.queue_declare(queue, options, arguments).await?;
        if options.exclusive {
            self.state.telemetry.remember_exclusive_queue(queue.name());
        }
        Ok(queue)
    }

    /// Asks the broker to deliver all unsettled messages again.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_recover`].
    pub async fn basic_recover(&self, options: BasicRecoverOptions) -> Result<()> {
        self.state.ledger.clear();
        self.inner.basic_recover(options).await
    }

    /// Asks the broker to deliver all unsettled messages again, without waiting for an answer.
    ///
    /// # Errors
    ///
    /// As [`lapin::Channel::basic_recover_async`].
    pub async fn basic_recover_async(&self, options: BasicRecoverAsyncOptions) -> Result<()> {
        self.state.ledger.clear();
        self.inner.basic_recover_async(options).await
    }
}

wrapper! {
    [] Channel => lapin::Channel, inner:
    /// lapin's channel, whose messages are not traced.
    get_ref
    /// lapin's channel, whose messages are not traced. Its `wait_for_confirms` does not give messages that were returned with
    /// confirms dropped here; that of a clone of this channel does.
    into_inner
    into deref debug
}

impl From<lapin::Channel> for Channel {
    /// For raw channels, for example of a pool. The server's address is unknown, and exclusive queues are not remembered.
    ///
    /// Wrap a raw channel once and clone the wrapper. Two wrappers of the same channel do not share their messages: neither
    /// settlements by tag nor returned messages are related across them.
    fn from(inner: lapin::Channel) -> Self {
        Self::new(inner, ClientTelemetry::for_raw_handles())
    }
}

impl PartialEq for Channel {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}
