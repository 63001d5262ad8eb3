//! What an adapter holds for each client, and the operations it describes with it.

use std::{
    fmt, iter,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use opentelemetry::{
    Context, InstrumentationScope, StringValue,
    propagation::{Extractor, Injector},
    trace::{Link, SpanContext, SpanKind},
};

use crate::{
    catch_panic::{catch_panic, unwind_safe},
    description::{
        arrival::Arrival, attributes::Attributes, context_headers::context_headers, destination::Destination,
        identity::Identity, operation_name::OperationName, policy::Correlation, semconv::attribute,
        settlement::Settlement,
    },
    propagation::{header_budget::HeaderBudget, headers::Headers},
    recording::{
        discovery::TracerProbe, instrumentation::Instrumentation, operations::Used, pipeline::Pipeline,
        prepared_operation::PreparedOperation,
    },
    spans::{
        batch_attributes::{Batch, BatchAttributes},
        client_span::ClientSpan,
        context_state::{ContextState, processed_here},
        operation_start::OperationStart,
        outgoing::{ExistingContext, StoredHeaders, fits, inject_context, write_context},
        process_span::ProcessSpan,
        settlement::{SettledMessage, Settles, start_batch_settlement, start_settlement},
    },
};

/// All the telemetry of one client: an adapter makes one when the client is built and describes every operation to it.
///
/// See the [module documentation](crate::adapter) for the walk of one message.
pub struct Telemetry {
    scope: InstrumentationScope,
    system: &'static str,
    given: OnceLock<Used>,
    shared: OnceLock<Used>,
}

impl Telemetry {
    /// For a client of this messaging system. `scope` names the adapter: see [`adapter::scope`](crate::adapter::scope).
    pub fn new(scope: InstrumentationScope, system: &'static str) -> Self {
        Self { scope, system, given: OnceLock::new(), shared: OnceLock::new() }
    }

    /// Uses this instrumentation from now on. Operations in progress keep theirs. Earlier ones are dropped with this value.
    pub fn instrument(&self, instrumentation: Instrumentation) {
        let Err(new) = self.given.set(Used::new(&self.scope, instrumentation)) else { return };
        let mut new = Box::new(new);
        while let Err(refused) = self.used().newer.set(new) {
            new = refused;
        }
    }

    #[inline]
    fn used(&self) -> &Used {
        let given = self.given.get();
        let used =
            given.unwrap_or_else(|| self.shared.get_or_init(|| Used::new(&self.scope, Instrumentation::default())));
        used.newest()
    }

    #[inline]
    fn pipeline(&self) -> &Pipeline {
        &self.used().pipeline
    }

    /// The first call of every operation, in the synchronous part of the client's method.
    ///
    /// `None` if telemetry is suppressed, or if no tracer, meter or propagator is installed. It then costs a clock reading and no
    /// allocation.
    #[inline]
    pub fn start_operation(&self) -> Option<OperationStart> {
        // There is no current context any more on a thread that ends, and OpenTelemetry panics when it is asked for one.
        let current = || Context::map_current(|current| (!current.is_telemetry_suppressed()).then(|| current.clone()));
        let parent = catch_panic(current).flatten()?;
        let at = SystemTime::now();
        let probe = self.pipeline().enter(at)?;
        let (processed, has_state) = match parent.get::<ContextState>() {
            None => (processed_here().creation, false),
            Some(state) if state.suppressed => return None,
            Some(state) => (state.processed.or_else(|| processed_here().creation), true),
        };
        Some(OperationStart { at, parent, probe, processed, has_state })
    }

    /// Whether successful polls are recorded. If not, an adapter can skip taking an [`OperationStart`] before polling.
    #[inline]
    pub fn records_polls(&self) -> bool {
        let pipeline = self.pipeline();
        pipeline.settings().receive_spans || pipeline.instruments().is_some()
    }

    /// Whether the age of messages is used. If not, an adapter can skip [`Arrival::sent`].
    #[inline]
    pub fn records_age(&self) -> bool {
        let pipeline = self.pipeline();
        pipeline.instruments().is_some() || matches!(pipeline.settings().correlation, Correlation::Auto(_))
    }

    /// A message's key as it may be recorded: where [`with_kafka_captured_key`](crate::InstrumentationBuilder::with_kafka_captured_key) asks for it, if
    /// it is text, redacted and cut as the values of headers are.
    pub fn captured_key(&self, key: &[u8]) -> Option<StringValue> {
        let settings = self.pipeline().settings();
        let key = settings.capture_key.then(|| str::from_utf8(key).ok()).flatten()?;
        settings.capture.key(key)
    }

    /// Whether the sizes of messages are recorded:
    /// [`with_captured_sizes`](crate::InstrumentationBuilder::with_captured_sizes).
    #[inline]
    pub fn captures_sizes(&self) -> bool {
        self.pipeline().settings().capture_sizes
    }

    /// Sets `messaging.message.body.size`, in bytes, if [`captures_sizes`](Self::captures_sizes).
    #[inline]
    pub fn set_body_size(&self, attributes: &mut Attributes, size: usize) {
        if self.captures_sizes() {
            attributes.set_number(attribute::MESSAGING_MESSAGE_BODY_SIZE, size);
        }
    }

    /// Whether [`with_kafka_auto_commit_spans`](crate::InstrumentationBuilder::with_kafka_auto_commit_spans) is set.
    pub fn records_auto_commits(&self) -> bool {
        self.pipeline().settings().auto_commit_spans
    }

    /// The operation of this name on the destination that `key` stands for. `describe` is asked once, as long as the
    /// destination's name is within the bound and lasting.
    #[inline]
    pub fn operation(
        &self,
        name: OperationName,
        key: &[&str],
        describe: impl FnOnce() -> Destination,
    ) -> Arc<PreparedOperation> {
        let Used { pipeline, operations, newer: _ } = self.used();
        operations.get(pipeline, self.system, name, key, describe)
    }

    /// Starts the span of a send and writes its context into the message's headers.
    ///
    /// `headers` is `None` where the message cannot or must not carry a context. A context that it carries already is
    /// linked, and kept or replaced by the rule of [`CarriedContext`](crate::CarriedContext). `attributes` adds what this message alone has.
    pub fn send(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        mut headers: Option<&mut dyn Headers>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let pipeline = &operation.pipeline;
        let settings = pipeline.settings();
        let present = headers.as_deref().filter(|headers| !headers.is_empty());
        let mut existing = present.and_then(|headers| ExistingContext::read(&start, pipeline, headers));
        let captured = present.map(|headers| {
            let mut captured = Attributes::default();
            settings.capture.capture(headers, &settings.propagator, &mut captured);
            captured
        });
        if existing.as_ref().is_some_and(|existing| existing.is_kept) {
            headers = None;
        }
        // The kind is set at the span's start, and says whether the message carries the span's context.
        let budget = headers.as_deref().map_or(HeaderBudget::UNLIMITED, Headers::header_budget);
        let writes = headers.is_some()
            && start.wants_context()
            && pipeline.writes(start.probe)
            && fits(&start, pipeline, budget);
        let kind = if writes { SpanKind::Producer } else { SpanKind::Client };
        let link = existing.as_ref().map(|existing| &existing.context);
        let same = |other: &SpanContext| link.is_some_and(|link| Identity::of(link) == Identity::of(other));
        let links = link.into_iter().chain(start.republished_from().iter().filter(|other| !same(other)));
        let links = links.cloned().map(Link::with_context);
        let mut span = ClientSpan::start(&start, &start.parent, operation, kind, links, |all| {
            attributes(all);
            all.0.extend(captured.into_iter().flat_map(|captured| captured.0));
        });
        if headers.is_some() {
            pipeline.note_stand_in();
        }
        if let (true, Some(headers)) = (writes, headers) {
            let forward = existing.as_mut().map(|existing| &mut existing.forward);
            write_context(&start, span.span_context(), pipeline, (headers, budget), forward);
        }
        span.release_unrecorded();
        span
    }

    /// Records the create span of a message that is sent later, and writes its context into the headers, which the application
    /// stores until then. The send keeps the context and links it. Returns the context, for
    /// [`send_batch`](Self::send_batch); `None` without a tracer.
    pub fn create(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        headers: &mut dyn Injector,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Option<SpanContext> {
        let pipeline = &operation.pipeline;
        let links = start.republished_from().iter().cloned().map(Link::with_context);
        let span = ClientSpan::start(&start, &start.parent, operation, SpanKind::Producer, links, attributes);
        pipeline.note_stand_in();
        if start.wants_context() && pipeline.writes(start.probe) {
            let headers = (&mut StoredHeaders(headers) as &mut dyn Injector, HeaderBudget::UNLIMITED);
            inject_context(&start, span.span_context(), pipeline, headers, None);
        }
        let context = span.span_context().cloned();
        span.succeed();
        context
    }

    /// Starts the span of a send of several messages, each of which [`create`](Self::create) gave a context of its own.
    ///
    /// `messages` has, for each, that context and the attributes that it adds to the operation's: those that are the same for all
    /// are set on the span, the others on each link. `messaging.batch.message_count` and `messaging.client.sent.messages` count
    /// all, also beyond [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
    ///
    /// Source: "Batch sending" in the trace structure of the messaging spans convention.
    pub fn send_batch(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        messages: impl ExactSizeIterator<Item = (Option<SpanContext>, Attributes)>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let (count, max_links) = (messages.len(), operation.pipeline.settings().max_links);
        let shared = || {
            let mut shared = BatchAttributes::default();
            messages.for_each(|(context, own)| shared.add(context, own.0, max_links));
            shared
        };
        let span = ClientSpan::start_batch(&start, operation, shared, |all| {
            attributes(all);
            all.set_number(attribute::MESSAGING_BATCH_MESSAGE_COUNT, count);
        });
        span.messages(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Starts the span of a receive operation that is answered: it began at its call, and links the received messages.
    pub fn receive<'a>(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        messages: impl Iterator<Item = &'a Arc<ProcessSpan>>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let creations = messages.filter_map(|message| message.creation());
        let links = creations.take(operation.pipeline.settings().max_links).map(Link::with_context);
        ClientSpan::start(&start, &start.parent, operation, SpanKind::Client, links, attributes)
    }

    /// The same for an operation that receives any number of messages, which may be dropped before the operation ends.
    ///
    /// Attributes that are the same for all messages are set on the span, the others on each link.
    /// `messaging.batch.message_count` counts all, also beyond [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
    ///
    /// Source: "Batch processing" in the trace structure of the messaging spans convention.
    pub fn receive_batch(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        messages: Batch,
    ) -> ClientSpan {
        let count = messages.len();
        ClientSpan::start_batch(
            &start,
            operation,
            || messages.attributes,
            |all| all.set_number(attribute::MESSAGING_BATCH_MESSAGE_COUNT, count),
        )
    }

    /// Measures a poll that received this message, with a span if
    /// [`with_receive_spans`](crate::InstrumentationBuilder::with_receive_spans) is set.
    pub fn polled(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        message: &Arc<ProcessSpan>,
        attributes: impl FnOnce(&mut Attributes),
    ) {
        if operation.pipeline.settings().receive_spans {
            self.receive(start, operation, iter::once(message), attributes).succeed();
        } else {
            ClientSpan::without_span(&start, operation, attributes).succeed();
        }
    }

    /// Links a span to the context that the reply to its message carries, if any: a reply does not change the caller's trace.
    pub fn link_reply(&self, span: &mut ClientSpan, headers: Option<&dyn Extractor>, payload: &[u8]) {
        if !span.is_recording() {
            return;
        }
        let pipeline = self.pipeline();
        let found = headers.map(|headers| pipeline.linked(headers, &context_headers(headers), TracerProbe::NotNow));
        let read = || {
            let reader = pipeline.settings().context_reader.as_ref()?;
            pipeline.read(reader, (headers, payload), TracerProbe::NotNow)
        };
        if let Some(reply) = found.filter(SpanContext::is_valid).or_else(read) {
            span.link(reply);
        }
    }

    /// Delivers a message. Its process span starts when it is first needed. `attributes` adds what this message alone has.
    pub fn deliver(
        &self,
        start: OperationStart,
        operation: Arc<PreparedOperation>,
        arrival: Arrival<'_>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Arc<ProcessSpan> {
        let span = Arc::new(ProcessSpan::new(start, operation, arrival, attributes));
        span.consumed(&arrival);
        span.operation().pipeline.note_stand_in();
        span.take_in_hand(arrival.source);
        span
    }

    /// Starts the span of a settle operation on one message or an unknown one. On several: [`settle_batch`](Self::settle_batch).
    pub fn settle(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        settles: Settles<'_>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        start_settlement(&start, operation, settles, attributes)
    }

    /// Starts the span of a settle operation on several messages, a child of the current span.
    ///
    /// Each of `messages` has its own attributes: those that are the same for all are set on the span, the others on each link.
    /// `messaging.batch.message_count` counts all, also beyond [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
    /// [`ClientSpan::settled`] records the outcome on each process span, and counts each message.
    ///
    /// Source: "Batch processing" in the trace structure of the messaging spans convention.
    pub fn settle_batch(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        messages: impl ExactSizeIterator<Item = (SettledMessage, Attributes)>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        let count = messages.len();
        self.settle_known(start, operation, messages, |all| {
            attributes(all);
            if count > 0 {
                all.set_number(attribute::MESSAGING_BATCH_MESSAGE_COUNT, count);
            }
        })
    }

    /// [`settle_batch`](Self::settle_batch) that may settle more than the known messages: the span has no number of messages.
    pub fn settle_known(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        messages: impl ExactSizeIterator<Item = (SettledMessage, Attributes)>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        start_batch_settlement(&start, operation, messages, attributes)
    }

    /// Counts messages that the client settled by itself, without a span.
    pub fn settled(&self, operation: &PreparedOperation, outcome: Settlement, messages: u64) {
        operation.settled(outcome, messages);
    }
}

unwind_safe!(Telemetry);

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("scope", &self.scope.name())
            .field("system", &self.system)
            .finish_non_exhaustive()
    }
}
