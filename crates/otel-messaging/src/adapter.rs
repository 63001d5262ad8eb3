//! An adapter for one broker's client is written with this module.
//!
//! An adapter knows one client's types, and of OpenTelemetry only the carriers. For each client it holds one [`Telemetry`]. Each
//! operation takes an [`OperationStart`] from it, describes itself, and reports its outcome. Below is a complete adapter for a
//! queue in memory: the "client" is a channel of the futures crate.
//!
//! ```
//! use std::{collections::BTreeMap, future::Future, sync::Arc};
//!
//! use futures::{SinkExt, Stream, StreamExt, channel::mpsc, executor::block_on};
//! use otel_messaging::{
//!     MessageExt, MessageStreamExt, ProcessSpan, ReceivedMessage,
//!     adapter::{opentelemetry::propagation::{Extractor, Injector}, *},
//!     semconv::attribute, sequential,
//! };
//!
//! // 1. A carrier for the client's headers. It reads and writes text, and never fails.
//! #[derive(Default)]
//! struct HeaderMap(BTreeMap<String, String>);
//!
//! impl Injector for HeaderMap {
//!     fn set(&mut self, key: &str, value: String) {
//!         if value.is_empty() { self.0.remove(key); } else { self.0.insert(key.to_owned(), value); }
//!     }
//! }
//! impl Extractor for HeaderMap {
//!     fn get(&self, key: &str) -> Option<&str> { self.0.get(key).map(String::as_str) }
//!     fn keys(&self) -> Vec<&str> { self.0.keys().map(String::as_str).collect() }
//! }
//! impl Headers for HeaderMap {
//!     fn is_empty(&self) -> bool { self.0.is_empty() }
//! }
//!
//! // 2. The names of the operations, in the client's words.
//! const PUSH: OperationName = OperationName::send("push");
//! const POP: OperationName = OperationName::receive("pop");
//! const PROCESS: OperationName = OperationName::process("process");
//! const ACK: OperationName = OperationName::settle("ack");
//!
//! type Raw = (HeaderMap, String);
//!
//! #[derive(Clone)]
//! struct ClientTelemetry { core: Arc<Telemetry>, source: SourceId }
//!
//! impl ClientTelemetry {
//!     fn new() -> Self {
//!         let scope = scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
//!         Self { core: Arc::new(Telemetry::new(scope, "queue")), source: SourceId::new() }
//!     }
//!     fn operation(&self, name: OperationName) -> Arc<PreparedOperation> {
//!         self.core.operation(name, &["orders"], || Destination::named("orders"))
//!     }
//!     // 3. A message is delivered when it is given to the application, and not before.
//!     fn deliver(&self, name: OperationName, (headers, body): Raw) -> Message {
//!         let process = self.core.start_operation().map(|start| {
//!             let arrival = Arrival::new(self.source, Some(&headers)).awaits_settlement(true);
//!             self.core.deliver(start, self.operation(name), arrival, |attributes| {
//!                 attributes.set(attribute::MESSAGING_MESSAGE_ID, "17");
//!             })
//!         });
//!         Message { body, telemetry: self.clone(), process }
//!     }
//! }
//!
//! // 4. A received message holds its process span. So does every part of it that can outlive it.
//! struct Message { body: String, telemetry: ClientTelemetry, process: Option<Arc<ProcessSpan>> }
//!
//! impl ReceivedMessage for Message {
//!     fn process_span(&self) -> Option<&Arc<ProcessSpan>> { self.process.as_ref() }
//! }
//!
//! // 5. Send. The parent is the current context of the call, so the start is taken there and not at the first poll.
//! struct Sender { telemetry: ClientTelemetry, client: mpsc::Sender<Raw> }
//!
//! impl Sender {
//!     fn push(&self, body: &str) -> impl Future<Output = Result<(), mpsc::SendError>> {
//!         let start = self.telemetry.core.start_operation();
//!         async move {
//!             let (mut client, mut headers) = (self.client.clone(), HeaderMap::default());
//!             let span = start.map(|start| {
//!                 self.telemetry.core.send(start, &self.telemetry.operation(PUSH), Some(&mut headers), |_| ())
//!             });
//!             let sent = client.send((headers, body.to_owned())).await;
//!             if let Some(span) = span {
//!                 span.report(&sent, |_| "disconnected");
//!             }
//!             sent
//!         }
//!     }
//! }
//!
//! struct Receiver { telemetry: ClientTelemetry, client: mpsc::Receiver<Raw> }
//!
//! impl Receiver {
//!     // 6. A stream of messages that the broker pushes.
//!     fn messages(&mut self) -> impl Stream<Item = Message> {
//!         let Self { telemetry, client } = self;
//!         DeliverStream::new(telemetry.source, client, |raw| telemetry.deliver(PROCESS, raw))
//!     }
//!
//!     // 7. A read that returns several messages. An `OperationStart` that waits releases its parent.
//!     async fn pop(&mut self, most: usize) -> impl Iterator<Item = Message> {
//!         poll_started(self.telemetry.source);
//!         let start = self.telemetry.core.start_operation().map(OperationStart::release_parent);
//!         let raw = self.client.by_ref().ready_chunks(most).next().await.unwrap_or_default();
//!         let receive = start.map(|start| (start, self.telemetry.operation(POP)));
//!         let telemetry = self.telemetry.clone();
//!         let deliver = move |raw| telemetry.deliver(PROCESS.of(POP), raw);
//!         DeliverIter::new(&self.telemetry.core, receive, self.telemetry.source, raw.into_iter(), deliver)
//!     }
//! }
//!
//! // 8. Settle: one message by a child of its process span, several by one span that links each.
//! impl Message {
//!     async fn ack(&self) {
//!         let span = self.telemetry.core.start_operation().map(|start| {
//!             self.telemetry.core.settle(start, &self.telemetry.operation(ACK), self.process.as_ref().into(), |_| ())
//!         });
//!         if let Some(span) = span {
//!             span.settled(Settlement::Ack);
//!         }
//!     }
//!     async fn ack_all(telemetry: &ClientTelemetry, messages: &[Message]) {
//!         let span = telemetry.core.start_operation().map(|start| {
//!             let messages = messages.iter().map(|message| (message.process.as_ref().into(), Attributes::default()));
//!             telemetry.core.settle_batch(start, &telemetry.operation(ACK), messages, |_| ())
//!         });
//!         if let Some(span) = span {
//!             span.settled(Settlement::Ack);
//!         }
//!     }
//! }
//!
//! # block_on(async {
//! let (telemetry, (client, received)) = (ClientTelemetry::new(), mpsc::channel(8));
//! let sender = Sender { telemetry: telemetry.clone(), client };
//! let mut receiver = Receiver { telemetry: telemetry.clone(), client: received };
//! for body in ["four apples", "a pear", "six plums", "a quince"] {
//!     sender.push(body).await?;
//! }
//!
//! // In a `sequential` loop the message in hand is current: each send of the loop is a child of its process span.
//! let mut read = Vec::new();
//! sequential(async {
//!     for message in receiver.pop(2).await {
//!         sender.push(&format!("a bill for {}", message.body)).await?;
//!         read.push(message);
//!     }
//!     Ok::<_, mpsc::SendError>(())
//! }).await?;
//! Message::ack_all(&telemetry, &read).await;
//!
//! // `process_each` ends when the stream ends.
//! drop(sender);
//! receiver.messages().process_each(8, async |message| message.ack().await).await;
//! # Ok::<_, mpsc::SendError>(())
//! # })?;
//! # Ok::<_, mpsc::SendError>(())
//! ```
//!
//! # Which call for which operation
//!
//! `start` is [`Telemetry::start_operation`]; where it returns `None`, the adapter makes the client's call and nothing else.
//!
//! | the client's operation | at its call | at its answer | nothing arrived | it failed |
//! |---|---|---|---|---|
//! | send | `start`; [`send`](Telemetry::send) at the first poll | [`report`](ClientSpan::report) | | `report` |
//! | send of a batch | `start`; [`create`](Telemetry::create) for each message, then [`send_batch`](Telemetry::send_batch) | `report` | | `report` |
//! | the broker pushes a message | [`poll_started`], by [`DeliverStream`] | [`deliver`](Telemetry::deliver) | nothing | `receive` with no message, then `fail` |
//! | a poll that returns a message, in a loop | `poll_started`; a time, or `start` and [`release_parent`](OperationStart::release_parent), if [`records_polls`](Telemetry::records_polls) | `deliver`, then [`polled`](Telemetry::polled) | nothing | `receive` with no message, then `fail` |
//! | a get that returns a message | `poll_started`, `start` | `deliver`, then [`receive`](Telemetry::receive) with the message, then `succeed` | nothing | `receive` with no message, then `fail` |
//! | a read that returns several messages | `poll_started`, `start` | [`DeliverIter`], or `deliver` for each and [`receive_batch`](Telemetry::receive_batch) at the end | nothing | `receive` with no message, then `fail` |
//! | settle a message | `start`, [`settle`](Telemetry::settle) | [`settled`](ClientSpan::settled) | | `fail` |
//! | settle several messages | `start`, [`settle_batch`](Telemetry::settle_batch); [`settle_known`](Telemetry::settle_known) where others may be among them | `settled` | | `fail` |
//! | the client settles by itself | | [`Telemetry::settled`], a count | | |
//!
//! * A send takes its `start` when its method is called. A receive may take its `start` at the first poll.
//! * An operation that waits for an answer must not hold its parent span: `release_parent`.
//! * Without an SDK, `start_operation` can return a start once a second, to find an SDK that is installed late.
//!
//! An operation whose future is dropped before its answer has an unknown outcome: the drop of its [`ClientSpan`] records that.
//! Errors of the client pass through untouched. An error is recorded by its name in the protocol's spelling and by its text.
//!
//! # What the core does
//!
//! * It keeps or replaces a context that a message already carries, by the rule of [`CarriedContext`](crate::CarriedContext).
//! * It chooses parents and links, by the policy of the [`Instrumentation`](crate::Instrumentation).
//! * It puts the names and attributes of a destination together once, and caches them.
//! * It catches panics of the user's functions, propagators and exporters.

use opentelemetry::InstrumentationScope;

use crate::description::semconv::SCHEMA_URL;

/// The API that the core is built with: an adapter that uses this has no version of its own.
pub use opentelemetry;

#[doc(hidden)]
pub use crate::{__opaque_debug as opaque_debug, __wrapper as wrapper};
pub use crate::{
    deliver_iter::DeliverIter,
    description::{
        arrival::{Arrival, Clock, DeliveryHistory},
        attributes::Attributes,
        context_headers::{CONTEXT_HEADERS, ContextHeaders, context_header},
        destination::{Destination, is_uuid},
        operation_name::OperationName,
        settlement::Settlement,
        source::SourceId,
    },
    handling::{deliver_stream::DeliverStream, received_message::AtStreamError},
    propagation::header_budget::HeaderBudget,
    propagation::headers::Headers,
    recording::prepared_operation::PreparedOperation,
    spans::operation_start::OperationStart,
    spans::settlement::{SettledMessage, Settles},
    spans::{
        batch_attributes::Batch, client_span::ClientSpan, hand::poll_started, process_span::ProcessSpan,
        settlement_state::Unsettled,
    },
    telemetry::Telemetry,
};

/// The instrumentation scope of an adapter: its crate's name and version, `env!("CARGO_PKG_NAME")` and
/// `env!("CARGO_PKG_VERSION")`, with the schema URL of the convention.
pub fn scope(name: &'static str, version: &'static str) -> InstrumentationScope {
    InstrumentationScope::builder(name).with_version(version).with_schema_url(SCHEMA_URL).build()
}
