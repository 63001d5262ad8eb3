//! The telemetry of one client, and the operations that its adapter describes.

use std::{
    iter,
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

/// The telemetry of one client. An adapter creates a `Telemetry` when the client is built, and describes every operation to it.
///
/// The [module documentation](crate::adapter) contains a complete adapter.
pub struct Telemetry {
    scope: InstrumentationScope,
    system: &'static str,
    given: OnceLock<Used>,
    shared: OnceLock<Used>,
}

impl Telemetry {
    /// Creates the telemetry of a client of this messaging system. `scope` names the adapter: see
    /// [`adapter::scope`](crate::adapter::scope).
    pub fn new(scope: InstrumentationScope, system: &'static str) -> Self {
        Self { scope, system, given: OnceLock::new(), shared: OnceLock::new() }
    }

    /// Uses this instrumentation for all later operations. Operations in progress keep their instrumentation. Earlier
    /// instrumentations are dropped together with this `Telemetry`.
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

    /// Starts an operation. An adapter calls this first, in the synchronous part of the client's method.
    ///
    /// Returns `None` if telemetry is suppressed, or if there is no tracer, meter, logger or propagator. A call that returns
    /// `None` costs at most a clock reading, and no allocation.
    #[inline]
    pub fn start_operation(&self) -> Option<OperationStart> {
        // On a thread that is ending, OpenTelemetry has no current context and panics.
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

    /// Returns a message's key in the form that may be recorded: redacted and truncated like the values of captured headers.
    /// Returns `None` if [`with_kafka_captured_key`](crate::InstrumentationBuilder::with_kafka_captured_key) is not set, if the
    /// key is not UTF-8, or if the redaction hides the key.
    #[inline]
    pub fn captured_key(&self, key: &[u8]) -> Option<StringValue> {
        let settings = self.pipeline().settings();
        settings.capture_key.then(|| settings.capture.key(key)).flatten()
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

    /// Returns the operation of this name on the destination that `key` identifies. The core calls `describe` once for each
    /// cached destination. A destination is cached if its name is within the
    /// [limit](crate::InstrumentationBuilder::with_destination_limit), and if it is neither temporary nor anonymous.
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

    /// Starts the span of a send and writes the span's context into the message's headers.
    ///
    /// `headers` is `None` if the message cannot or must not carry a context. If the message already carries a context, the span
    /// links that context, and [`CarriedContext`](crate::CarriedContext) decides whether the send keeps or replaces it.
    /// `attributes` adds the attributes of this message.
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
        // The span kind must be set at the span's start. It is PRODUCER only if the message carries the span's context.
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

    /// Records the create span of a message that is sent later, and writes the span's context into the headers. The application
    /// stores the headers until it sends the message. The send keeps the context and links it.
    ///
    /// Returns the context, for [`send_batch`](Self::send_batch); `None` without a tracer.
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

    /// Starts the span of a send of several messages. [`create`](Self::create) gave each message its own context.
    ///
    /// Each item of `messages` is the context of a message and the attributes that the message adds to the operation's.
    /// Attributes that are the same for all messages are set on the span, the others on each link.
    /// `messaging.batch.message_count` and `messaging.client.sent.messages` count all messages, also beyond
    /// [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
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

    /// Starts the span of a receive operation that the broker has answered. The start time is that of `start`. The span links the
    /// received messages.
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

    /// Starts the span of a receive operation that returned any number of messages. The messages may be dropped before the
    /// operation ends.
    ///
    /// Attributes that are the same for all messages are set on the span, the others on each link.
    /// `messaging.batch.message_count` counts all messages, also beyond
    /// [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
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

    /// Measures a poll that returned this message. Records a receive span too if
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

    /// Links a span to the context that the reply to its message carries, if there is one. The reply does not change the caller's
    /// trace.
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

    /// Delivers a message to the application. The message's process span starts when it is first needed. `attributes` adds the
    /// attributes of this message.
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

    /// Starts the span of a settle operation on one message, known or unknown. For several messages, use
    /// [`settle_batch`](Self::settle_batch).
    pub fn settle(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        settles: Settles<'_>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        start_settlement(&start, operation, settles, attributes)
    }

    /// Starts the span of a settle operation on several messages. The span is a child of the current span.
    ///
    /// Each item of `messages` is a message and its attributes. Attributes that are the same for all messages are set on the
    /// span, the others on each link. `messaging.batch.message_count` counts all messages, also beyond
    /// [`with_max_links`](crate::InstrumentationBuilder::with_max_links). [`ClientSpan::settled`] records the outcome on each
    /// process span, and counts each message.
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

    /// [`settle_batch`](Self::settle_batch) for an operation that may settle more than the known messages. The span has no
    /// `messaging.batch.message_count`.
    pub fn settle_known(
        &self,
        start: OperationStart,
        operation: &Arc<PreparedOperation>,
        messages: impl ExactSizeIterator<Item = (SettledMessage, Attributes)>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> ClientSpan {
        start_batch_settlement(&start, operation, messages, attributes)
    }

    /// Counts messages that the client settled by itself. Records no span.
    pub fn settled(&self, operation: &PreparedOperation, outcome: Settlement, messages: u64) {
        operation.settled(outcome, messages);
    }
}

unwind_safe!(Telemetry);

__opaque_debug!([] Telemetry, "Telemetry", |this| scope: this.scope.name());
