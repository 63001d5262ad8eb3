//! A queue in memory and its adapter, to test the core without a broker; its expected spans, and the first steps of tests.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    sync::Arc,
};

use opentelemetry::{InstrumentationScope, propagation::text_map_propagator::FieldIter};
use opentelemetry_sdk::trace::{SamplingResult, ShouldSample};
use otel_messaging::{
    adapter::{
        Attributes, Batch, ClientSpan, Headers, OperationName, OperationStart, PreparedOperation, Settles, SourceId,
        Telemetry, poll_started, scope,
    },
    parse_traceparent,
};

/// The names that most tests use.
#[allow(unused_imports, reason = "each test binary uses some of it")]
mod prelude {
    pub(crate) use opentelemetry::{
        Context, KeyValue, SpanId, TraceId,
        baggage::BaggageExt,
        propagation::{Extractor, Injector, TextMapPropagator},
        trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceState, Tracer},
    };
    pub(crate) use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SpanData};
    pub(crate) use otel_messaging::{
        CarriedContext, Correlation, Instrumentation, InstrumentationBuilder, OperationType, Propagation,
        adapter::{Arrival, Destination, ProcessSpan, Settlement},
        prelude::*,
        process_batch,
        semconv::{attribute, extension, metric},
        sequential, sequential_blocking,
    };
    pub(crate) use support::{ExpectedSpan, Sdk, Series, SpanRef, attribute as value_of, span};
    pub(crate) use tokio::task::yield_now;
}

pub(crate) use prelude::*;

pub(crate) const PUSH: OperationName = OperationName::send("push");
pub(crate) const PROCESS: OperationName = OperationName::process("process").of(PULL);
pub(crate) const PULL: OperationName = OperationName::receive("pull");
pub(crate) const CREATE: OperationName = OperationName::create("create");
pub(crate) const ACK: OperationName = OperationName::settle("ack");

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct HeaderMap(pub(crate) BTreeMap<String, String>);

impl HeaderMap {
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl Injector for HeaderMap {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), value);
        }
    }
}

impl Extractor for HeaderMap {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Headers for HeaderMap {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) struct Queue {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) source: SourceId,
    pub(crate) messages: VecDeque<(HeaderMap, String)>,
    pub(crate) capacity: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) id: String,
    telemetry: Arc<Telemetry>,
    process: Option<Arc<ProcessSpan>>,
}

impl ReceivedMessage for Message {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.process.as_ref()
    }
}

/// A queue whose spans are recorded.
pub(crate) fn traced() -> (Sdk, Queue) {
    configured(|builder| builder)
}

/// The same, with these settings.
pub(crate) fn configured(settings: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> (Sdk, Queue) {
    let sdk = Sdk::new();
    let queue = Queue::new(settings(sdk.instrumentation_builder()).build());
    (sdk, queue)
}

/// A queue whose spans, metrics and events are recorded.
pub(crate) fn observed() -> (Sdk, Queue) {
    let sdk = Sdk::new();
    let queue = Queue::new(sdk.all_signals_builder().build());
    (sdk, queue)
}

/// One message that was pushed and popped, `1`, and its queue.
pub(crate) fn delivered() -> (Sdk, Queue, Message) {
    let (sdk, mut queue) = traced();
    let message = queue.push_and_pop("1");
    (sdk, queue, message)
}

/// Not the executor of `futures`: the SDK's simple processor exports on it, and it does not nest.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The `traceparent` of a sender elsewhere.
pub(crate) const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The span of that sender.
pub(crate) fn sender() -> SpanContext {
    parse_traceparent(SENT).expect("it is one")
}

/// The headers of that sender.
pub(crate) fn sent() -> HeaderMap {
    HeaderMap::default().with("traceparent", SENT)
}

/// The span of a push to `orders`; the others likewise.
pub(crate) fn push() -> ExpectedSpan {
    push_to("orders")
}

pub(crate) fn push_to(destination: &str) -> ExpectedSpan {
    operation("push", OperationType::Send, destination)
}

pub(crate) fn create() -> ExpectedSpan {
    operation("create", OperationType::Create, "orders")
}

pub(crate) fn pull() -> ExpectedSpan {
    operation("pull", OperationType::Receive, "orders")
}

/// Of a message with this id.
pub(crate) fn process(id: &str) -> ExpectedSpan {
    operation("process", OperationType::Process, "orders").message_id(id)
}

pub(crate) fn process_batch_of(messages: i64) -> ExpectedSpan {
    operation("process", OperationType::Process, "orders").batch_of(messages)
}

/// Of a settlement with this outcome.
pub(crate) fn ack(outcome: &str) -> ExpectedSpan {
    operation("ack", OperationType::Settle, "orders").settled(outcome)
}

/// Of the application.
pub(crate) fn app(name: &str) -> ExpectedSpan {
    span(name).scope(InstrumentationScope::builder("app").build())
}

pub(crate) fn operation(name: &str, kind: OperationType, destination: &str) -> ExpectedSpan {
    let expected = span(format!("{name} {destination}")).operation(name, kind).system("queue");
    expected.destination(destination).scope(scope("queue-adapter", "1.2.3"))
}

/// The attributes of a link to a message.
pub(crate) fn id(id: &'static str) -> [KeyValue; 1] {
    [KeyValue::new(attribute::MESSAGING_MESSAGE_ID, id)]
}

type Inject = dyn Fn(&Context, &mut dyn Injector) + Send + Sync;
type Extract = dyn Fn(&Context, &dyn Extractor) -> Context + Send + Sync;

/// A user's propagator.
pub(crate) struct Functions {
    fields: Vec<String>,
    inject: Box<Inject>,
    extract: Box<Extract>,
}

impl Functions {
    /// With these headers, and neither written nor read.
    pub(crate) fn named(fields: &[&str]) -> Self {
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        Self { fields, inject: Box::new(|_, _| ()), extract: Box::new(|context, _| context.clone()) }
    }

    pub(crate) fn inject(self, inject: impl Fn(&Context, &mut dyn Injector) + Send + Sync + 'static) -> Self {
        Self { inject: Box::new(inject), ..self }
    }

    pub(crate) fn extract(self, extract: impl Fn(&Context, &dyn Extractor) -> Context + Send + Sync + 'static) -> Self {
        Self { extract: Box::new(extract), ..self }
    }
}

impl TextMapPropagator for Functions {
    fn inject_context(&self, context: &Context, headers: &mut dyn Injector) {
        (self.inject)(context, headers);
    }

    fn extract_with_context(&self, context: &Context, headers: &dyn Extractor) -> Context {
        (self.extract)(context, headers)
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&self.fields)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Functions")
    }
}

/// A user's sampler: a function of name, kind, attributes and links.
#[derive(Clone)]
pub(crate) struct Samples<F>(pub(crate) F);

impl<F> ShouldSample for Samples<F>
where
    F: Fn(&str, &SpanKind, &[KeyValue], &[Link]) -> (SamplingDecision, TraceState) + Clone + Send + Sync + 'static,
{
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let (decision, trace_state) = self.0(name, kind, attributes, links);
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

impl<F> fmt::Debug for Samples<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Samples")
    }
}

impl HeaderMap {
    /// The span whose `traceparent` is in them.
    pub(crate) fn context(&self) -> Option<SpanContext> {
        parse_traceparent(self.0.get("traceparent")?)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Queue {
    pub(crate) fn bare() -> Self {
        let telemetry = Arc::new(Telemetry::new(scope("queue-adapter", "1.2.3"), "queue"));
        Self { telemetry, source: SourceId::new(), messages: VecDeque::new(), capacity: 1_000 }
    }

    pub(crate) fn new(instrumentation: Instrumentation) -> Self {
        let queue = Self::bare();
        queue.telemetry.instrument(instrumentation);
        queue
    }

    pub(crate) fn push(&mut self, id: &str) -> Result<(), &'static str> {
        self.push_with(HeaderMap::default(), id)
    }

    pub(crate) fn push_and_pop(&mut self, id: &str) -> Message {
        self.push(id).expect("there is room");
        self.pop().expect("it was pushed")
    }

    /// So many messages, from `1` on.
    pub(crate) fn fill(&mut self, messages: usize) {
        (1..=messages).for_each(|id| self.push(&id.to_string()).expect("there is room"));
    }

    /// All messages, without a receive span.
    pub(crate) fn pop_all(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// A message that another client sent with these headers.
    pub(crate) fn arrive(&mut self, headers: HeaderMap) -> Message {
        self.messages.push_back((headers, "1".to_owned()));
        self.pop().expect("it is there")
    }

    /// Pushes a message with the headers of one that was popped.
    pub(crate) fn forward(&mut self, message: &Message) {
        self.push_with(message.headers.clone(), &message.id).expect("there is room");
    }

    pub(crate) fn start(&self) -> OperationStart {
        self.telemetry.start_operation().expect("it is recorded")
    }

    /// On `orders`.
    pub(crate) fn operation(&self, name: OperationName) -> Arc<PreparedOperation> {
        self.telemetry.operation(name, &["orders"], || Destination::named("orders"))
    }

    /// A push whose message carries no context, without its outcome.
    pub(crate) fn begin_push(&self) -> ClientSpan {
        self.telemetry.send(self.start(), &self.operation(PUSH), None, |_| ())
    }

    pub(crate) fn push_with(&mut self, headers: HeaderMap, id: &str) -> Result<(), &'static str> {
        self.push_to("orders", headers, id, |_| ())
    }

    pub(crate) fn push_to(
        &mut self,
        destination: &str,
        mut headers: HeaderMap,
        id: &str,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Result<(), &'static str> {
        let span = self.telemetry.start_operation().map(|start| {
            let named = || Destination::named(destination);
            let operation = if start.answers(destination) {
                self.telemetry.operation(PUSH, &[destination, "reply"], || named().reply_address())
            } else {
                self.telemetry.operation(PUSH, &[destination], named)
            };
            self.telemetry.send(start, &operation, Some(&mut headers), attributes)
        });
        if self.messages.len() == self.capacity {
            if let Some(span) = span {
                span.fail("queue_full", "the queue is full");
            }
            return Err("the queue is full");
        }
        self.messages.push_back((headers, id.to_owned()));
        if let Some(span) = span {
            span.succeed();
        }
        Ok(())
    }

    /// The headers of a message that is pushed later.
    pub(crate) fn create(&self) -> HeaderMap {
        let mut headers = HeaderMap::default();
        if let Some(start) = self.telemetry.start_operation() {
            self.telemetry.create(start, &self.operation(CREATE), &mut headers, |_| ());
        }
        headers
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.pop_from("orders")
    }

    pub(crate) fn pop_from(&mut self, destination: &str) -> Option<Message> {
        self.pop_as(destination, |arrival| arrival)
    }

    /// A message of a partition.
    pub(crate) fn pop_of_partition(&mut self, partition: &str) -> Option<Message> {
        let (headers, id) = self.messages.pop_front()?;
        let process = self.telemetry.start_operation().map(|start| {
            self.telemetry.deliver(
                start,
                self.operation(PROCESS),
                Arrival::new(self.source, Some(&headers)),
                |attributes| {
                    attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition.to_owned());
                },
            )
        });
        Some(Message { headers, id, telemetry: self.telemetry.clone(), process })
    }

    /// A message with a past.
    pub(crate) fn pop_as(
        &mut self,
        destination: &str,
        past: impl for<'a> FnOnce(Arrival<'a>) -> Arrival<'a>,
    ) -> Option<Message> {
        let source = self.source.named(destination);
        poll_started(source);
        let (headers, id) = self.messages.pop_front()?;
        let process = self.telemetry.start_operation().map(|start| {
            let operation = self.telemetry.operation(PROCESS, &[destination], || Destination::named(destination));
            self.telemetry.deliver(start, operation, past(Arrival::new(source, Some(&headers))), |attributes| {
                attributes.set(attribute::MESSAGING_MESSAGE_ID, id.clone());
            })
        });
        Some(Message { headers, id, telemetry: self.telemetry.clone(), process })
    }

    /// All messages at once, with a receive span.
    pub(crate) fn pull(&mut self) -> Vec<Message> {
        let start = self.telemetry.start_operation();
        let messages = self.pop_all();
        if let Some(start) = start {
            let mut batch = Batch::default();
            messages.iter().for_each(|message| batch.add(message.process_span()));
            assert_eq!((batch.len(), batch.is_empty()), (messages.len(), messages.is_empty()));
            self.telemetry.receive_batch(start, &self.operation(PULL), batch).succeed();
        }
        messages
    }
}

impl Message {
    pub(crate) fn ack(&self) {
        self.settle(Settlement::Ack);
    }

    pub(crate) fn settle(&self, outcome: Settlement) {
        if let Some(span) = self.begin_settle() {
            span.settled(outcome);
        }
    }

    /// A settlement whose answer is out.
    pub(crate) fn begin_settle(&self) -> Option<ClientSpan> {
        self.telemetry.start_operation().map(|start| {
            let operation = self.telemetry.operation(ACK, &["orders"], || Destination::named("orders"));
            let settles = self.process.as_ref().map_or(Settles::Unknown, Settles::Message);
            self.telemetry.settle(start, &operation, settles, |_| ())
        })
    }
}
