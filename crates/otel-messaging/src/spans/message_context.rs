//! The contexts that a message's process span and handler may continue: the creation context, and the current context of the
//! delivery.

use std::time::SystemTime;

use opentelemetry::{
    Context,
    baggage::BaggageExt,
    global::BoxedSpan,
    trace::{Link, SpanContext, TraceContextExt},
};

use crate::{
    description::{
        arrival::Arrival,
        attributes::Attributes,
        context_headers::context_headers,
        identity::{Identity, ReplyAddress},
        policy::Correlation,
    },
    propagation::propagator::of_named,
    recording::{
        discovery::TracerProbe,
        pipeline::Pipeline,
        prepared_operation::PreparedOperation,
        settings::{ContextReader, Settings},
    },
    spans::{
        context_state::{Attached, ContextState, Processed, answers_go_to, processed_here, with_reply_to},
        current::{naming_its_span, with_baggage},
        operation_start::OperationStart,
    },
};

pub(crate) struct MessageContext {
    probe: TracerProbe,
    /// The context of the handler without the process span: the context at the delivery, with the values from the headers on top.
    /// Its span is the creation context.
    base: Context,
    /// `base` before the headers were read, if the headers were read before a tracer was found.
    unread: Option<Box<Context>>,
    /// The context at the delivery, if a span was active in it. It has the span's context and no handle: OpenTelemetry ends a
    /// span when the last handle is dropped, and the message may be kept for longer.
    ambient: Option<Context>,
    /// The span that an untrusted sender named. It is linked and never continued.
    untrusted: Option<Box<SpanContext>>,
    /// The address that answers to the message are sent to.
    reply_to: Option<ReplyAddress>,
    /// The correlation policy starts a new trace for the message.
    starts_new_trace: bool,
}

impl MessageContext {
    #[inline]
    pub(crate) fn new(start: OperationStart, pipeline: &Pipeline, arrival: &Arrival<'_>) -> Self {
        let OperationStart { at: delivered_at, parent: mut base, probe, has_state, .. } = start;
        if has_state {
            // The state belongs to another message.
            base = base.with_value(ContextState::default());
        }
        let ambient = base.span().span_context().is_valid().then(|| naming_its_span(&base));
        if ambient.is_some() {
            base = base.with_remote_span_context(SpanContext::NONE);
        }
        let settings = pipeline.settings();
        let headers = arrival.headers.map(|headers| {
            let w3c = arrival.w3c.copied().unwrap_or_else(|| context_headers(headers));
            (headers, w3c)
        });
        let unread = pipeline.hopes(probe).then(|| Box::new(base.clone()));
        let (mut base, mut untrusted) = match headers {
            Some((headers, w3c)) if settings.untrusted => (base, Some(Box::new(pipeline.linked(headers, &w3c, probe)))),
            Some((headers, w3c)) => (pipeline.extract(base, headers, &w3c, probe), None),
            None => (base, None),
        };
        if let Some(reader) = &settings.context_reader {
            read_by(reader, pipeline, arrival, probe, (&mut base, &mut untrusted));
        }
        let starts_new_trace = settings.correlation.starts_new_trace(&arrival.history, delivered_at);
        Self { probe, base, unread, ambient, untrusted, reply_to: arrival.reply_to, starts_new_trace }
    }

    /// The context of a batch. The messages of the batch have their own contexts.
    pub(crate) fn of_batch(first: &Self) -> Self {
        Self {
            probe: first.probe,
            base: Context::new(),
            unread: None,
            ambient: None,
            untrusted: None,
            reply_to: None,
            starts_new_trace: false,
        }
    }

    pub(crate) fn probe(&self) -> TracerProbe {
        self.probe
    }

    /// The context that the sender left in the message, if it is valid.
    #[inline]
    pub(crate) fn creation(&self) -> Option<SpanContext> {
        self.of_creation(SpanContext::clone)
    }

    #[inline]
    fn of_creation<T>(&self, read: impl FnOnce(&SpanContext) -> T) -> Option<T> {
        match &self.untrusted {
            None => of_named(&self.base, read),
            Some(untrusted) => untrusted.is_valid().then(|| read(untrusted)),
        }
    }

    #[inline]
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.of_creation(Identity::of)
    }

    #[inline]
    pub(crate) fn processed(&self) -> Processed {
        Processed { creation: self.identity(), reply_to: self.reply_to }
    }

    /// Marks a context, so that a forward of the message is recognised in it.
    pub(crate) fn marked_as_processed(&self, mut context: Context) -> Context {
        let Processed { creation, reply_to } = self.processed();
        if let Some(creation) = creation {
            let state = context.get::<ContextState>().cloned().unwrap_or_default();
            context = context.with_value(ContextState { processed: Some(creation), ..state });
        }
        match reply_to {
            // The context of a batch already has the reply addresses of its messages.
            Some(address) if !answers_go_to(&context, address) => with_reply_to(&context, [address].into()),
            _ => context,
        }
    }

    /// Makes the republishing of the message current, on top of the current context. `of_handler` is the context of the message's
    /// handler, `process_span` is the context of its span.
    pub(crate) fn republish(&self, of_handler: &Context, process_span: Option<SpanContext>) -> Attached {
        let mut current = Context::current();
        let state = current.get::<ContextState>().cloned().unwrap_or_default();
        let processed = state.processed.or_else(|| processed_here().creation);
        if processed.is_none() || processed != self.identity() {
            // Outside the handler, the message's baggage is not current, but the republished message must carry it.
            current = with_baggage(&current, of_handler.baggage());
        }
        let republished_from = self.creation().into_iter().chain(process_span).collect();
        let state = ContextState { processed: self.identity(), republished_from, ..state };
        Attached::new(current.with_value(state), self.processed())
    }

    /// The context that a started process span is put on top of.
    #[inline]
    pub(crate) fn base(&self) -> &Context {
        &self.base
    }

    /// The context of a handler. Without a tracer, it has no values from the headers.
    #[inline]
    pub(crate) fn of_handler(&self, pipeline: &Pipeline) -> &Context {
        self.unread_without_tracer(pipeline).unwrap_or(&self.base)
    }

    #[inline]
    fn unread_without_tracer(&self, pipeline: &Pipeline) -> Option<&Context> {
        self.unread.as_deref().filter(|_| !pipeline.has_tracer())
    }

    /// The context of a handler whose message has no span, because there is no tracer or a filter excludes the operation. The
    /// span that would have been the parent stays current, otherwise the sender's context.
    pub(crate) fn without_span(&self, pipeline: &Pipeline) -> Context {
        let is_unread = self.unread_without_tracer(pipeline).is_some();
        match &self.ambient {
            Some(ambient) if is_unread || !self.continues_creation(pipeline.settings()) => {
                with_baggage(ambient, self.of_handler(pipeline).baggage())
            }
            _ => self.of_handler(pipeline).clone(),
        }
    }

    /// Whether the process span is a child of the creation context, and not of the span that was active at the delivery.
    #[inline]
    fn continues_creation(&self, settings: &Settings) -> bool {
        match settings.correlation {
            _ if self.starts_new_trace || settings.untrusted => false,
            Correlation::Link => false,
            Correlation::ParentIfNoAmbient | Correlation::Auto(_) => self.ambient.is_none(),
            Correlation::Parent => self.creation().is_some(),
        }
    }

    /// Starts the process span, with the parent and the links of the correlation policy.
    #[inline]
    pub(crate) fn start_span(
        &self,
        operation: &PreparedOperation,
        began: SystemTime,
        attributes: Attributes,
    ) -> Option<BoxedSpan> {
        if operation.filtered_out {
            return None;
        }
        let pipeline = &operation.pipeline;
        let by_creation = self.continues_creation(pipeline.settings());
        let ambient = self.ambient.as_ref().filter(|_| !self.starts_new_trace);
        let root;
        let parent = match ambient {
            _ if by_creation => &self.base,
            Some(ambient) => ambient,
            None => {
                root = Context::new();
                &root
            }
        };
        let span = pipeline.start(self.probe, parent, || {
            // The ambient span is linked if it is not the parent.
            let is_linked = by_creation || self.starts_new_trace;
            let ambient = self.ambient.as_ref().filter(|_| is_linked);
            let link = |context: &SpanContext| Link::with_context(context.clone());
            let mut links = self.of_creation(|creation| vec![link(creation)]);
            if let Some(ambient) = ambient {
                links.get_or_insert_default().push(link(ambient.span().span_context()));
            }
            operation.span(operation.kind().span_kind(), began, attributes, links)
        })?;
        if let (false, Some(ambient)) = (by_creation, ambient) {
            let ambient = ambient.span().span_context().span_id();
            pipeline.loops.started_in(ambient, operation.description.span_name.clone());
        }
        Some(span)
    }
}

/// Calls the application's context reader, if the propagator has found no context.
#[cold]
fn read_by(
    reader: &ContextReader,
    pipeline: &Pipeline,
    arrival: &Arrival<'_>,
    probe: TracerProbe,
    (base, untrusted): (&mut Context, &mut Option<Box<SpanContext>>),
) {
    if of_named(base, |_| ()).is_some() || untrusted.as_ref().is_some_and(|found| found.is_valid()) {
        return;
    }
    match pipeline.read(reader, (arrival.headers, arrival.payload), probe) {
        Some(read) if pipeline.settings().untrusted => *untrusted = Some(Box::new(read)),
        Some(read) => *base = base.with_remote_span_context(read),
        None => (),
    }
}
