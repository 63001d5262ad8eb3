//! What an adapter for one broker's client is written with.
//!
//! An adapter knows one client's types and nothing of OpenTelemetry beyond carriers. For each client it holds one
//! [`Telemetry`]; each operation asks it for a [`OperationStart`], describes itself, and reports its outcome. One message, there
//! and back, through a queue in memory:
//!
//! ```
//! use std::{collections::{BTreeMap, VecDeque}, sync::Arc};
//!
//! use opentelemetry::propagation::{Extractor, Injector};
//! use otel_messaging::{MessageExt, ReceivedMessage, adapter::*, semconv::attribute};
//!
//! // 1. A carrier for the client's headers. Text in, text out; it never fails.
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
//! const PROCESS: OperationName = OperationName::process("process").of(OperationName::receive("pop"));
//! const ACK: OperationName = OperationName::settle("ack");
//!
//! struct Queue { telemetry: Arc<Telemetry>, source: SourceId, messages: VecDeque<(HeaderMap, String)> }
//!
//! // 3. A received message carries its process span, and so does every part of it that lives on by itself.
//! struct Message { body: String, telemetry: Arc<Telemetry>, process: Option<Arc<ProcessSpan>> }
//!
//! impl ReceivedMessage for Message {
//!     fn process_span(&self) -> Option<&Arc<ProcessSpan>> { self.process.as_ref() }
//! }
//!
//! impl Queue {
//!     fn new() -> Self {
//!         let scope = scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
//!         let telemetry = Arc::new(Telemetry::new(scope, "queue"));
//!         Self { telemetry, source: SourceId::new(), messages: VecDeque::new() }
//!     }
//!
//!     // 4. Send: ask, describe, do, report. `None` is the client's own call and nothing else.
//!     fn push(&mut self, mut headers: HeaderMap, body: String) -> Result<(), &'static str> {
//!         let span = self.telemetry.start_operation().map(|start| {
//!             let operation = self.telemetry.operation(PUSH, &["orders"], || Destination::named("orders"));
//!             self.telemetry.send(start, &operation, Some(&mut headers), |_| ())
//!         });
//!         if self.messages.len() == 2 {
//!             if let Some(span) = span { span.fail("queue_full", "the queue is full"); }
//!             return Err("the queue is full");
//!         }
//!         self.messages.push_back((headers, body));
//!         if let Some(span) = span { span.succeed(); }
//!         Ok(())
//!     }
//!
//!     // 5. Receive: when the message is handed to the application, and not before.
//!     fn pop(&mut self) -> Option<Message> {
//!         poll_started(self.source); // for `sequential`: none of it is in hand while the next is asked for
//!         let (headers, body) = self.messages.pop_front()?;
//!         let process = self.telemetry.start_operation().map(|start| {
//!             let operation = self.telemetry.operation(PROCESS, &["orders"], || Destination::named("orders"));
//!             self.telemetry.deliver(start, operation, Arrival::new(self.source, Some(&headers)), |message| {
//!                 message.set(attribute::MESSAGING_MESSAGE_ID, "17");
//!             })
//!         });
//!         Some(Message { body, telemetry: self.telemetry.clone(), process })
//!     }
//! }
//!
//! impl Message {
//!     // 6. Settle: a child of the process span, which notes the outcome too.
//!     fn ack(&self) {
//!         let span = self.telemetry.start_operation().map(|start| {
//!             let operation = self.telemetry.operation(ACK, &["orders"], || Destination::named("orders"));
//!             let settles = self.process.as_ref().map_or(Settles::Unknown, Settles::Message);
//!             self.telemetry.settle(start, &operation, settles, |_| ())
//!         });
//!         if let Some(span) = span { span.settled(Settlement::Ack); }
//!     }
//! }
//!
//! let mut queue = Queue::new();
//! queue.push(HeaderMap::default(), "four apples".to_owned()).unwrap();
//! let message = queue.pop().unwrap();
//! message.in_scope(|| assert_eq!(message.body, "four apples"));
//! message.ack();
//! ```
//!
//! What the core does with it: the parent of a send is the context at its [`OperationStart`], so an asynchronous client takes the
//! call in the synchronous part of its method and starts the span at the first poll; the header of a message that
//! carries a context already is kept or replaced by one rule; the policy of the
//! [`Instrumentation`](crate::Instrumentation) decides about parents and links; names and attributes of a destination
//! are put together once. Errors of the adapter's client pass through untouched: what is reported of one is its name in
//! the protocol's spelling and its text.

use opentelemetry::InstrumentationScope;

use crate::description::semconv::SCHEMA_URL;

pub use crate::{
    deliver_iter::DeliverIter,
    description::{
        arrival::{Arrival, Clock},
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
