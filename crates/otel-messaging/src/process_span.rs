//! The process span of a message, or of a batch: made when it is first needed, ended exactly once.

use std::{
    borrow::Cow,
    fmt, mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue,
    global::BoxedSpan,
    propagation::Extractor,
    trace::{Link, Span, SpanBuilder, SpanContext, SpanRef, Status, TraceContextExt},
};

use crate::{
    client_span::Settlement,
    instrumentation::Correlation,
    live::MayLook,
    operation::{Attributes, Operation},
    processed::{Attached, Identity},
    semconv::{ERROR_TYPE_PANIC, attribute, ours},
    sequential::{self, Hand},
    shield::shield,
    telemetry::Call,
};

/// What a message handed to the application carries for its process span.
///
/// The span begins at the hand-out and is made when it is first needed, so that a batch can claim messages before they
/// have spans of their own. It ends at the first of: the end of [`process`](crate::MessageExt::process) or
/// [`in_scope`](crate::MessageExt::in_scope), [`end`](Self::end), [`fail`](Self::fail), or when the last `Arc` of it is
/// dropped. Dropping is no error, unless the thread is panicking.
///
/// Every part of a message that lives on by itself (an acker, a detached copy) holds the same `Arc`.
pub struct ProcessSpan {
    may_look: MayLook,
    operation: Arc<Operation>,
    start: SystemTime,
    /// What is current for the handler, but for the span: the context at the hand-out with what the headers said on top.
    /// Its own span is the creation context.
    base: Context,
    /// The context at the hand-out, if a span was active in it.
    ambient: Option<Context>,
    creation: SpanContext,
    /// What the span will start with.
    attributes: Mutex<Attributes>,
    /// What is current for the handler, once somebody asked or a batch claimed the message; it stays after the end, for
    /// later spans of this message.
    context: OnceLock<Context>,
    /// Nothing is left to end: it happened, or the span in the context is not ours.
    ended: AtomicBool,
    settled: AtomicBool,
    /// The loop that has the message in hand.
    pub(crate) hand: Option<Arc<Hand>>,
}

impl ProcessSpan {
    #[inline]
    pub(crate) fn new(
        call: Call,
        operation: Arc<Operation>,
        headers: Option<&dyn Extractor>,
        attributes: Attributes,
    ) -> Self {
        let Call { at: start, parent, may_look, .. } = call;
        let (base, ambient) = if parent.span().span_context().is_valid() {
            (parent.with_remote_span_context(SpanContext::NONE), Some(parent))
        } else {
            (parent, None)
        };
        let (base, creation) = match headers {
            Some(headers) => operation.live.extract(base, headers),
            None => (base, SpanContext::NONE),
        };
        Self {
            may_look,
            operation,
            start,
            base,
            ambient,
            creation,
            attributes: Mutex::new(attributes),
            context: OnceLock::new(),
            ended: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            hand: sequential::here(),
        }
    }

    /// The process span of a batch, already begun.
    pub(crate) fn of_batch(first: &Self, operation: Arc<Operation>, attributes: Attributes, links: Vec<Link>) -> Self {
        let parent = Context::current();
        let start = SystemTime::now();
        let span =
            operation.live.start(first.may_look, &parent, || Self::builder(&operation, start, attributes, links));
        let ended = AtomicBool::new(span.is_none());
        let context = span.map_or_else(|| parent.clone(), |span| parent.with_span(span));
        Self {
            may_look: first.may_look,
            operation,
            start,
            base: parent,
            ambient: None,
            creation: SpanContext::NONE,
            attributes: Mutex::default(),
            context: OnceLock::from(context),
            ended,
            settled: AtomicBool::new(false),
            hand: None,
        }
    }

    /// Gives a message that has no span of its own yet to a batch.
    pub(crate) fn claim(&self, batch: &Context) {
        if self.context.set(batch.clone()).is_ok() {
            self.ended.store(true, Ordering::Release);
        }
    }

    /// What the span starts with, or would have; only the operation's part of it once there is a span.
    pub(crate) fn start_attributes(&self) -> Vec<KeyValue> {
        let attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        if attributes.0.is_empty() { self.operation.attributes(|_| ()).0 } else { attributes.0.clone() }
    }

    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.operation
    }

    pub(crate) fn max_links(&self) -> usize {
        self.operation.live.settings().max_links
    }

    /// The context that the sender left in the message, if there was a valid one.
    pub fn creation(&self) -> Option<&SpanContext> {
        self.creation.is_valid().then_some(&self.creation)
    }

    /// The context to work in: the message's baggage and its process span, which is made now if there was none.
    pub fn context(&self) -> &Context {
        self.context.get_or_init(|| {
            let attributes = mem::take(&mut *self.attributes.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(span) = self.start_span(attributes) else {
                // Without a tracer there is nothing to end, and the sender's context is handed on.
                self.ended.store(true, Ordering::Release);
                return self.base.clone();
            };
            self.base.with_span(span)
        })
    }

    /// The context to give away: a forward of the message is known in it, wherever it is attached.
    pub(crate) fn context_to_go(&self) -> Context {
        match self.identity() {
            Some(creation) => self.context().with_value(creation),
            None => self.context().clone(),
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.creation().map(Identity::of)
    }

    /// Runs a part of the handler inside the span, without ending it; a panic is recorded as the span's error.
    ///
    /// For clients that call the handler themselves: around the call, and around each poll of what it returns.
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let attached = Attached::new(self.context().clone(), self.identity());
        let panicked = FailOnPanic(self);
        let outcome = work();
        drop(panicked);
        drop(attached);
        outcome
    }

    /// Ends the span. Later calls change nothing.
    pub fn end(&self) {
        self.finish(|_| ());
    }

    /// Ends the span with an error. Later calls change nothing.
    ///
    /// `error_type` is a low-cardinality name, `description` what the error says.
    pub fn fail(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.finish(|span| {
            if span.is_recording() {
                span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type.into()));
                span.set_status(Status::error(description.to_string()));
            }
        });
    }

    /// Notes on the span what became of the message, if it has not ended and nothing was noted yet.
    ///
    /// For messages that are settled together with others; a single one is noted by
    /// [`ClientSpan::settled`](crate::adapter::ClientSpan::settled).
    pub fn settled(&self, outcome: Settlement) {
        let context = self.context();
        if !self.ended.load(Ordering::Acquire) && !self.settled.swap(true, Ordering::AcqRel) {
            context.span().set_attribute(KeyValue::new(ours::SETTLEMENT_OUTCOME, outcome.as_str()));
        }
    }

    fn finish(&self, note: impl FnOnce(&SpanRef<'_>)) {
        let context = self.context();
        if !self.ended.swap(true, Ordering::AcqRel) {
            let span = context.span();
            note(&span);
            shield(|| span.end());
        }
    }

    fn start_span(&self, attributes: Attributes) -> Option<BoxedSpan> {
        let creation = self.creation();
        let by_creation = match self.operation.live.settings().correlation {
            Correlation::Link => false,
            Correlation::ParentIfNoAmbient => self.ambient.is_none(),
            Correlation::Parent => creation.is_some(),
        };
        let root = Context::new();
        let parent = if by_creation { &self.base } else { self.ambient.as_ref().unwrap_or(&root) };
        self.operation.live.start(self.may_look, parent, || {
            let ambient =
                self.ambient.as_ref().filter(|_| by_creation).map(|ambient| ambient.span().span_context().clone());
            let mut links = Vec::new();
            if let Some(creation) = creation {
                links.reserve_exact(1 + usize::from(ambient.is_some()));
                links.push(Link::with_context(creation.clone()));
            }
            links.extend(ambient.map(Link::with_context));
            Self::builder(&self.operation, self.start, attributes, links)
        })
    }

    fn builder(operation: &Operation, start: SystemTime, attributes: Attributes, links: Vec<Link>) -> SpanBuilder {
        let mut builder = SpanBuilder::from_name(operation.span_name.clone());
        builder.span_kind = Some(operation.name.kind.span_kind());
        builder.start_time = Some(start);
        builder.attributes = Some(attributes.0);
        builder.links = (!links.is_empty()).then_some(links);
        builder
    }
}

/// Ends the span as a panic when the handler unwinds, even where the message itself is kept elsewhere.
struct FailOnPanic<'a>(&'a ProcessSpan);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(ERROR_TYPE_PANIC, "panicked");
        }
    }
}

impl Drop for ProcessSpan {
    fn drop(&mut self) {
        if let Some(hand) = self.hand.take() {
            hand.release(self);
        }
        if self.context.get().is_some() {
            if thread::panicking() {
                self.fail(ERROR_TYPE_PANIC, "panicked");
            } else {
                self.end();
            }
            return;
        }
        // Nobody needed a context: the span alone will do.
        let attributes = mem::take(self.attributes.get_mut().unwrap_or_else(PoisonError::into_inner));
        let Some(mut span) = self.start_span(attributes) else { return };
        if thread::panicking() {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, ERROR_TYPE_PANIC));
            span.set_status(Status::error("panicked"));
        }
        shield(|| span.end());
    }
}

impl fmt::Debug for ProcessSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpan")
            .field("operation", &self.operation.span_name)
            .field("creation", &self.creation)
            .finish_non_exhaustive()
    }
}
