//! The process span of a message, or of a batch: made when it is first needed, ended exactly once.

use std::{
    borrow::Cow,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue,
    global::BoxedSpan,
    propagation::Extractor,
    trace::{Link, Span, SpanBuilder, SpanContext, Status, TraceContextExt},
};

use crate::{
    client_span::Settlement,
    instrumentation::Correlation,
    live::{Live, MayLook},
    operation::{Attributes, Operation},
    semconv::{ERROR_TYPE_PANIC, attribute, ours},
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
    live: Arc<Live>,
    may_look: MayLook,
    operation: Arc<Operation>,
    start: SystemTime,
    /// What is current for the handler, but for the span: the context at the hand-out with what the headers said on top.
    /// While there is no span, its span is the creation context.
    base: Context,
    /// The context at the hand-out, if a span was active in it.
    ambient: Option<Context>,
    creation: SpanContext,
    state: Mutex<State>,
}

enum State {
    /// No span yet; the attributes it will start with.
    Waiting(Attributes),
    /// The span is in the context.
    Open { context: Context, settled: bool },
    /// A batch has it: the batch's context.
    Claimed(Context),
    /// The span ended; later spans of this message are still its children.
    Ended(Context),
}

/// In the context of a process span: the creation context of its message, by which a forward is known.
#[derive(Debug, Clone)]
pub(crate) struct CreationContext(pub(crate) SpanContext);

impl ProcessSpan {
    pub(crate) fn new(
        live: Arc<Live>,
        call: Call,
        operation: Arc<Operation>,
        headers: Option<&dyn Extractor>,
        attributes: Attributes,
    ) -> Self {
        let Call { at: start, parent, may_look } = call;
        let (base, ambient) = if parent.span().span_context().is_valid() {
            (parent.with_remote_span_context(SpanContext::NONE), Some(parent))
        } else {
            (parent, None)
        };
        let (base, creation) =
            headers.and_then(|headers| live.extract(&base, headers)).unwrap_or((base, SpanContext::NONE));
        let state = Mutex::new(State::Waiting(attributes));
        Self { live, may_look, operation, start, base, ambient, creation, state }
    }

    /// The process span of a batch, already begun.
    pub(crate) fn of_batch(first: &Self, operation: Arc<Operation>, attributes: Attributes, links: Vec<Link>) -> Self {
        let parent = Context::current();
        let start = SystemTime::now();
        let live = first.live.clone();
        let span = live.start(first.may_look, &parent, || Self::builder(&operation, start, attributes, links));
        let state = match span {
            Some(span) => State::Open { context: parent.with_span(span), settled: false },
            None => State::Ended(parent.clone()),
        };
        Self {
            live,
            may_look: first.may_look,
            operation,
            start,
            base: parent,
            ambient: None,
            creation: SpanContext::NONE,
            state: Mutex::new(state),
        }
    }

    /// Gives a message that has no span of its own yet to a batch.
    pub(crate) fn claim(&self, batch: &Context) {
        let mut state = self.state();
        if matches!(*state, State::Waiting(_)) {
            *state = State::Claimed(batch.clone());
        }
    }

    /// All attributes the span starts with, while there is none.
    pub(crate) fn waiting_attributes(&self) -> Option<Vec<KeyValue>> {
        match &*self.state() {
            State::Waiting(attributes) => Some(attributes.0.clone()),
            _ => None,
        }
    }

    pub(crate) fn operation(&self) -> &Arc<Operation> {
        &self.operation
    }

    pub(crate) fn max_links(&self) -> usize {
        self.live.settings().max_links
    }

    /// The context that the sender left in the message, if there was a valid one.
    pub fn creation(&self) -> Option<&SpanContext> {
        self.creation.is_valid().then_some(&self.creation)
    }

    /// The context to work in: the message's baggage and its process span, which is made now if there was none.
    pub fn context(&self) -> Context {
        let mut state = self.state();
        match &mut *state {
            State::Open { context, .. } | State::Claimed(context) | State::Ended(context) => context.clone(),
            State::Waiting(attributes) => {
                let span = self.start_span(mem::take(attributes));
                let (opened, context) = self.opened(span);
                *state = opened;
                context
            }
        }
    }

    /// Ends the span. Later calls change nothing.
    pub fn end(&self) {
        self.finish(None);
    }

    /// Ends the span with an error. Later calls change nothing.
    ///
    /// `error_type` is a low-cardinality name, `description` what the error says.
    pub fn fail(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.finish(Some((error_type.into(), &description)));
    }

    /// Notes on the span what became of the message, if it has not ended and nothing was noted yet.
    pub(crate) fn settled(&self, outcome: Settlement) {
        if let State::Open { context, settled } = &mut *self.state()
            && !mem::replace(settled, true)
        {
            context.span().set_attribute(KeyValue::new(ours::SETTLEMENT_OUTCOME, outcome.as_str()));
        }
    }

    fn finish(&self, error: Option<(Cow<'static, str>, &dyn fmt::Display)>) {
        self.context();
        let context = {
            let mut state = self.state();
            match &*state {
                State::Open { context, .. } => {
                    let context = context.clone();
                    *state = State::Ended(context.clone());
                    context
                }
                _ => return,
            }
        };
        // Outside the lock: processors run here.
        let span = context.span();
        if let Some((error_type, description)) = error
            && span.is_recording()
        {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type));
            span.set_status(Status::error(description.to_string()));
        }
        shield(|| span.end());
    }

    fn start_span(&self, attributes: Attributes) -> Option<BoxedSpan> {
        let creation = self.creation();
        let by_creation = match self.live.settings().correlation {
            Correlation::Link => false,
            Correlation::ParentIfNoAmbient => self.ambient.is_none(),
            Correlation::Parent => creation.is_some(),
        };
        let root = Context::new();
        let parent = if by_creation { &self.base } else { self.ambient.as_ref().unwrap_or(&root) };
        self.live.start(self.may_look, parent, || {
            let ambient =
                self.ambient.as_ref().filter(|_| by_creation).map(|ambient| ambient.span().span_context().clone());
            let links = creation.cloned().into_iter().chain(ambient).map(Link::with_context).collect();
            Self::builder(&self.operation, self.start, attributes, links)
        })
    }

    fn builder(operation: &Operation, start: SystemTime, attributes: Attributes, links: Vec<Link>) -> SpanBuilder {
        let mut builder = SpanBuilder::from_name(operation.span_name.to_string());
        builder.span_kind = Some(operation.name.kind.span_kind());
        builder.start_time = Some(start);
        builder.attributes = Some(attributes.0);
        builder.links = (!links.is_empty()).then_some(links);
        builder
    }

    fn opened(&self, span: Option<BoxedSpan>) -> (State, Context) {
        // Without a tracer there is nothing to end, and the sender's context is handed on.
        let Some(span) = span else { return (State::Ended(self.base.clone()), self.base.clone()) };
        let context = match self.creation() {
            Some(creation) => self.base.with_value(CreationContext(creation.clone())).with_span(span),
            None => self.base.with_span(span),
        };
        (State::Open { context: context.clone(), settled: false }, context)
    }

    // A panic while the lock is held can only come from a sampler or processor; what they left is still one of the states.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ProcessSpan {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut span = match state {
            // Nobody needed a context: the span alone will do.
            State::Waiting(attributes) => {
                let attributes = mem::take(attributes);
                match self.start_span(attributes) {
                    Some(span) => span,
                    None => return,
                }
            }
            State::Open { .. } if thread::panicking() => return self.fail(ERROR_TYPE_PANIC, "panicked"),
            State::Open { .. } => return self.end(),
            State::Claimed(_) | State::Ended(_) => return,
        };
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
