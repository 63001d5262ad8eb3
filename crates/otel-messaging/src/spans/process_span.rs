//! The process span of a message, or of a batch: made when it is first needed, ended exactly once.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt, mem, ptr, slice,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    global::BoxedSpan,
    trace::{Link, Span, SpanContext, SpanRef, Status, TraceContextExt},
};

use crate::{
    catch_panic::catch_panic,
    description::{
        arrival::Arrival,
        attributes::Attributes,
        context_headers::context_headers,
        identity::{Identity, ReplyAddress},
        policy::Correlation,
        semconv::{ERROR_TYPE_PANIC, attribute, extension},
        settlement::Settlement,
        source::SourceId,
    },
    propagation::propagator::of_named,
    recording::{
        discovery::TracerProbe,
        exceptions::{Failure, emit_exception},
        instrumentation::ContextReader,
        metrics::{MeasurementAttributes, between, partition_attribute},
        pipeline::{Pipeline, end},
        prepared_operation::PreparedOperation,
    },
    spans::{
        context_state::{AtWork, Attached, ContextState, Processed, answers_go_to, processed_here, with_reply_to},
        current::{Current, SpanOwner, naming_its_span, with_baggage},
        hand::{Hand, here},
        operation_start::OperationStart,
    },
};

/// A shorter wait is none that anybody would look for on a span.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What a message handed to the application carries for its process span.
///
/// The span is made when it is first needed, so that a batch can claim messages before they have spans of their own. It
/// begins when the handler starts, where that is the first to need it: at the first poll of
/// [`process`](crate::MessageExt::process), or the call of [`in_scope`](crate::MessageExt::in_scope). Otherwise it begins at
/// the delivery. It ends at the first of: the end of `process` or `in_scope`, [`end`](Self::end), [`fail`](Self::fail), or
/// when the last `Arc` of it is dropped. Dropping is no error, unless the thread is panicking.
///
/// Every part of a message that lives on by itself (an acker, a detached copy) holds the same `Arc`.
pub struct ProcessSpan {
    probe: TracerProbe,
    operation: Arc<PreparedOperation>,
    delivered_at: SystemTime,
    /// What is current for the handler, but for the span: the context at the delivery with what the headers said on top.
    /// Its own span is the creation context.
    base: Context,
    /// The same as it was before the headers were read, where they were read in the hope of a tracer.
    unread: Option<Box<Context>>,
    /// The context at the delivery, if a span was active in it. It names that span and does not hold it: a span ends when its
    /// owner lets go of it, and the message may be kept for longer.
    ambient: Option<Context>,
    /// What an untrusted sender named, which nothing continues.
    untrusted: Option<Box<SpanContext>>,
    /// Where answers to the message go.
    reply_to: Option<ReplyAddress>,
    /// What the span will start with.
    attributes: Mutex<Attributes>,
    /// How many of them are the operation's and the message's; the others are there because somebody asked for them.
    own: usize,
    /// What is current for the handler, once somebody asked or a batch claimed the message; it stays after the end, for
    /// later spans of this message.
    context: OnceLock<Current>,
    /// Nothing is left to end: it happened, or it is a batch's to end.
    ended: AtomicBool,
    settled: AtomicBool,
    /// Let go of unsettled it counts as dropped.
    awaits_settlement: AtomicBool,
    /// The policy says that it is only linked to what the sender left, and the root of a new trace.
    starts_new_trace: bool,
    /// Where its metrics tell it; most do not.
    partition: Option<Box<KeyValue>>,
    /// The error that the message was answered with. The span fails with it, unless the handler fails with one of its own.
    answer: OnceLock<Box<Answered>>,
    /// The loop that has the message in hand.
    hand: Option<Arc<Hand>>,
}

/// The type of an error in an answer, and its text.
type Answered = (Cow<'static, str>, String);

impl ProcessSpan {
    #[inline]
    pub(crate) fn new(
        start: OperationStart,
        operation: Arc<PreparedOperation>,
        arrival: Arrival<'_>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Self {
        let OperationStart { at: delivered_at, parent: mut base, probe, has_state, .. } = start;
        if has_state {
            // They are another message's.
            base = base.with_value(ContextState::default());
        }
        let ambient = base.span().span_context().is_valid().then(|| naming_its_span(&base));
        if ambient.is_some() {
            base = base.with_remote_span_context(SpanContext::NONE);
        }
        let settings = operation.pipeline.settings();
        let headers = arrival.headers.map(|headers| {
            let w3c = arrival.w3c.copied().unwrap_or_else(|| context_headers(headers));
            (headers, w3c)
        });
        let unread = operation.pipeline.hopes(probe).then(|| Box::new(base.clone()));
        let (mut base, mut untrusted) = match headers {
            Some((headers, w3c)) if settings.untrusted => {
                (base, Some(Box::new(operation.pipeline.linked(headers, &w3c, probe))))
            }
            Some((headers, w3c)) => (operation.pipeline.extract(base, headers, &w3c, probe), None),
            None => (base, None),
        };
        if let Some(reader) = &settings.context_reader {
            read_by(reader, &operation.pipeline, &arrival, probe, (&mut base, &mut untrusted));
        }
        let starts_new_trace = settings.correlation.starts_new_trace(|| arrival.history(delivered_at));
        let (mut told, mut own) = (Attributes::default(), 0);
        if !operation.filtered_out {
            told = operation.attributes(|all| {
                attributes(all);
                arrival.attributes(all);
                own = all.0.len();
                if let Some(headers) = arrival.headers {
                    settings.capture.capture(headers, &settings.propagator, all);
                }
            });
        }
        let partition = partition_attribute(settings.metric_partition, &told.0).map(Box::new);
        Self {
            probe,
            delivered_at,
            base,
            unread,
            ambient,
            untrusted,
            reply_to: arrival.reply_to,
            attributes: Mutex::new(told),
            own,
            context: OnceLock::new(),
            ended: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            awaits_settlement: AtomicBool::new(arrival.awaits_settlement),
            starts_new_trace,
            partition,
            answer: OnceLock::new(),
            hand: here(),
            operation,
        }
    }

    /// The process span of a batch, already begun: its handler starts now.
    pub(crate) fn of_batch(
        first: &Self,
        operation: Arc<PreparedOperation>,
        now: SystemTime,
        attributes: Attributes,
        links: Vec<Link>,
        reply_to: Vec<ReplyAddress>,
    ) -> Self {
        let mut parent = Context::current();
        if !reply_to.is_empty() {
            parent = with_reply_to(&parent, reply_to.into());
        }
        let partition = partition_attribute(operation.pipeline.settings().metric_partition, &attributes.0);
        let span = (!operation.filtered_out)
            .then(|| {
                operation.pipeline.start(first.probe, &parent, || {
                    operation.span(operation.description.kind().span_kind(), now, attributes, Some(links))
                })
            })
            .flatten();
        let current = match span {
            Some(span) => Current::of(span, &parent, now),
            None => Current { context: naming_its_span(&parent), span: SpanOwner::None, began: now },
        };
        Self {
            probe: first.probe,
            operation,
            delivered_at: now,
            base: Context::new(),
            unread: None,
            ambient: None,
            untrusted: None,
            // Those of its messages are in its context.
            reply_to: None,
            attributes: Mutex::default(),
            own: 0,
            context: OnceLock::from(current),
            ended: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            awaits_settlement: AtomicBool::new(false),
            starts_new_trace: false,
            partition: partition.map(Box::new),
            answer: OnceLock::new(),
            hand: None,
        }
    }

    /// Gives a message that has no span of its own yet to a batch, whose handler starts at that time.
    pub(crate) fn claim(&self, batch: &Self, now: SystemTime) {
        let (Some(batch), Some(_making)) = (batch.context.get(), Making::begin()) else { return };
        let wait = between(self.delivered_at, now);
        let context = with_baggage(&batch.context, self.handler_base().baggage());
        let span = if batch.span == SpanOwner::None { SpanOwner::None } else { SpanOwner::Batch };
        if self.context.set(Current { context, span, began: now }).is_ok() {
            self.ended.store(true, Ordering::Release);
            self.waited(wait);
        }
    }

    /// What the span starts with, or would have; only the operation's part of it once there is a span, unless the message is
    /// one in hand.
    pub(crate) fn start_attributes(&self) -> Vec<KeyValue> {
        let attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        if attributes.0.is_empty() { self.operation.fixed_attributes().0 } else { attributes.0.clone() }
    }

    /// What the message itself adds to its operation's attributes, for the span of the receive operation that brought it: known
    /// as long as the message has no span yet, or is one in hand.
    pub fn own_attributes(&self, into: &mut Attributes) {
        let attributes = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
        let own = attributes.0.get(self.operation.fixed()..self.own).unwrap_or_default();
        into.0.extend_from_slice(own);
    }

    #[inline]
    pub(crate) fn operation(&self) -> &Arc<PreparedOperation> {
        &self.operation
    }

    pub(crate) fn max_links(&self) -> usize {
        self.operation.pipeline.settings().max_links
    }

    /// The context that the sender left in the message, if there was a valid one.
    #[inline]
    pub fn creation(&self) -> Option<SpanContext> {
        self.of_creation(SpanContext::clone)
    }

    #[inline]
    fn of_creation<T>(&self, read: impl FnOnce(&SpanContext) -> T) -> Option<T> {
        match &self.untrusted {
            None => of_named(&self.base, read),
            Some(untrusted) => untrusted.is_valid().then(|| read(untrusted)),
        }
    }

    /// The context to work in: the message's baggage and its process span, which is made now if there was none.
    #[inline]
    pub fn context(&self) -> &Context {
        self.current().map_or_else(|| self.handler_base(), |current| &current.context)
    }

    #[inline]
    fn current(&self) -> Option<&Current> {
        self.current_since(self.delivered_at, None)
    }

    /// What is current for the handler. Where nothing is yet, the span begins at that time, after that wait. `None` where
    /// there is nothing yet and this thread is making it: a sampler or a processor asks.
    #[inline]
    fn current_since(&self, began: SystemTime, wait: Option<Duration>) -> Option<&Current> {
        if let Some(current) = self.context.get() {
            return Some(current);
        }
        let _making = Making::begin()?;
        Some(self.context.get_or_init(|| {
            let mut kept = self.attributes.lock().unwrap_or_else(PoisonError::into_inner);
            // The span of what is in hand starts before the receive operation that brought it has asked.
            let mut attributes = if self.hand.is_some() { kept.clone() } else { mem::take(&mut *kept) };
            drop(kept);
            if let Some(wait) = wait.filter(|wait| *wait >= SHORTEST_WAIT) {
                attributes.set(extension::WAIT_TIME, wait.as_secs_f64());
            }
            match self.start_span(began, attributes) {
                Some(span) => Current::of(span, &self.base, began),
                None => Current { context: self.without_span(), span: SpanOwner::None, began },
            }
        }))
    }

    /// The message's handler starts now, and with it the span, unless something needed it before.
    #[inline]
    pub(crate) fn handler_starts(&self) {
        if self.context.get().is_none() {
            self.start_with_handler();
        }
    }

    fn start_with_handler(&self) {
        let now = SystemTime::now();
        let wait = between(self.delivered_at, now);
        // Another thread may have been first.
        if self.current_since(now, wait).is_some_and(|current| current.began == now) {
            self.waited(wait);
        }
    }

    /// How long a message that has no span yet has waited for its handler, where that is long enough to tell.
    pub(crate) fn wait_time(&self, now: SystemTime) -> Option<KeyValue> {
        if self.context.get().is_some() {
            return None;
        }
        let wait = between(self.delivered_at, now).filter(|wait| *wait >= SHORTEST_WAIT)?;
        Some(KeyValue::new(extension::WAIT_TIME, wait.as_secs_f64()))
    }

    #[inline]
    fn waited(&self, wait: Option<Duration>) {
        if let (Some(wait), true) = (wait, self.operation.instruments().is_some()) {
            self.operation.waited(wait, &self.measurement_attributes(None));
        }
    }

    /// What is current for the handler of a message that has no span, for want of a tracer or by a filter: the span that
    /// would have been its parent stays current, or else the sender's context is handed on.
    fn without_span(&self) -> Context {
        match &self.ambient {
            Some(ambient) if self.unread_without_tracer().is_some() || !self.continues_creation() => {
                with_baggage(ambient, self.handler_base().baggage())
            }
            _ => self.handler_base().clone(),
        }
    }

    /// The base as it was before the headers were read in the hope of a tracer, as long as there is none.
    #[inline]
    fn unread_without_tracer(&self) -> Option<&Context> {
        self.unread.as_deref().filter(|_| !self.operation.pipeline.has_tracer())
    }

    /// The base for a handler, which sees nothing of what was read in vain.
    #[inline]
    fn handler_base(&self) -> &Context {
        self.unread_without_tracer().unwrap_or(&self.base)
    }

    /// The context to give away: a forward of the message is known in it, wherever it is attached.
    pub(crate) fn context_to_go(&self) -> Context {
        let Processed { creation, reply_to } = self.processed();
        let mut context = self.context().clone();
        if let Some(creation) = creation {
            let state = context.get::<ContextState>().cloned().unwrap_or_default();
            context = context.with_value(ContextState { processed: Some(creation), ..state });
        }
        match reply_to {
            // A batch has named it among those of its messages.
            Some(address) if !answers_go_to(&context, address) => with_reply_to(&context, [address].into()),
            _ => context,
        }
    }

    /// Makes current, on top of what is, that the message is sent again.
    pub(crate) fn republish(&self) -> Attached {
        let mut current = Context::current();
        let state = current.get::<ContextState>().cloned().unwrap_or_default();
        let processed = state.processed.or_else(|| processed_here().creation);
        if processed.is_none() || processed != self.identity() {
            // Outside the handler its baggage is not current, and goes with the message all the same.
            current = with_baggage(&current, self.handler_base().baggage());
        }
        let republished_from = self.creation().into_iter().chain(self.current().and_then(Current::which)).collect();
        let state = ContextState { processed: self.identity(), republished_from, ..state };
        Attached::new(current.with_value(state), self.processed())
    }

    #[inline]
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.of_creation(Identity::of)
    }

    #[inline]
    pub(crate) fn processed(&self) -> Processed {
        Processed { creation: self.identity(), reply_to: self.reply_to }
    }

    /// The context to attach for the handler, here and now.
    #[inline]
    fn handler_context(&self) -> Context {
        self.current().map_or_else(|| self.handler_base().clone(), |current| current.inside(Context::current))
    }

    /// Takes the message in hand where a loop inside [`sequential`](crate::sequential) asked for it.
    #[inline]
    pub(crate) fn take_in_hand(self: &Arc<Self>, source: SourceId) {
        // The span starts before the lock is taken: processors may call anything.
        if let Some(hand) = &self.hand
            && let Some(current) = self.current()
        {
            hand.take(Arc::as_ptr(self).addr(), source, current.share(), self.processed());
        }
    }

    /// Runs a part of the handler inside the span, without ending it; a panic is recorded as the span's error.
    ///
    /// For clients that call the handler themselves: around the call, and around each poll of what it returns.
    #[inline]
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        // In reverse order: the span fails while it is current still.
        let _attached = self.handler_context().attach();
        let _at_work = AtWork::on(self.processed());
        let _panicked = FailOnPanic(self);
        work()
    }

    /// Ends the span. Later calls change nothing.
    #[inline]
    pub fn end(&self) {
        self.finish(None);
    }

    /// Ends the span with an error. Later calls change nothing.
    ///
    /// `error_type` is a low-cardinality name, `description` what the error says.
    pub fn fail(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.finish(Some((error_type.into(), &description)));
    }

    /// The message is answered with an error. The span fails with it when it ends, unless the handler fails with an error of its
    /// own. The first answer counts; one after the end changes nothing.
    pub fn answered_with_error(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        // The description may panic, as any `Display` of others.
        if let Some(description) = catch_panic(|| description.to_string()) {
            self.answer.get_or_init(|| Box::new((error_type.into(), description)));
        }
    }

    /// The same with a handler's error, named as the user's instrumentation says, else by its type.
    pub(crate) fn fail_by(&self, type_name: &'static str, error: &dyn fmt::Display) {
        let named = self.operation.pipeline.settings().error_type.as_ref();
        let named = named.and_then(|name| catch_panic(|| name(type_name, error)).flatten());
        self.finish(Some((named.unwrap_or(Cow::Borrowed(type_name)), error)));
    }

    /// Notes on the span what became of the message, if it has not ended and nothing was noted yet.
    ///
    /// For messages that are settled together with others; a single one is noted by
    /// [`ClientSpan::settled`](crate::adapter::ClientSpan::settled).
    pub fn settled(&self, outcome: Settlement) {
        let recorded = self.current().and_then(Current::recorded);
        if let (false, Some(span)) = (self.settled.swap(true, Ordering::AcqRel), recorded)
            && !self.ended.load(Ordering::Acquire)
        {
            span.set_attribute(KeyValue::new(extension::SETTLEMENT_OUTCOME, outcome.as_str()));
        }
    }

    /// The message is settled, if it is, where nobody here sees it: letting go of it says nothing from now on.
    pub fn settles_elsewhere(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// The message may be settled where nobody here sees it: letting go of it says nothing from now on. A settlement that is
    /// seen is noted all the same.
    pub fn may_settle_elsewhere(&self) {
        self.awaits_settlement.store(false, Ordering::Release);
    }

    #[inline]
    fn finish(&self, error: Option<Failure<'_>>) {
        // There is nothing to end in what begins it.
        let Some(current) = self.current() else { return };
        if self.has_ended() {
            return;
        }
        let span = current.recorded();
        let error = error.or_else(|| self.failed_answer());
        if let Some(failure) = &error {
            let recording = span.as_ref().is_some_and(SpanRef::is_recording);
            let message = self.failed(failure, recording, current.which().as_ref());
            if let (Some(message), Some(span)) = (message, &span) {
                span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, failure.0.clone()));
                span.set_status(Status::error(message));
            }
        }
        let ended_at = self.measured_at();
        if let Some(span) = span {
            catch_panic(|| match ended_at {
                Some(time) => span.end_with_timestamp(time),
                None => span.end(),
            });
        }
        self.measure(ended_at, error.as_ref().map(|(error_type, _)| &**error_type));
    }

    #[inline]
    fn failed_answer(&self) -> Option<Failure<'_>> {
        self.answer.get().map(|answer| (answer.0.clone(), &answer.1 as &dyn fmt::Display))
    }

    /// Whether it ended before; from now on it has. Of two threads that end a span at once the span itself takes the first;
    /// only where more than a span is told need they know of each other.
    #[inline]
    fn has_ended(&self) -> bool {
        let pipeline = &self.operation.pipeline;
        if pipeline.instruments().is_some() || pipeline.exceptions.is_some() {
            return self.ended.swap(true, Ordering::AcqRel);
        }
        let ended = self.ended.load(Ordering::Acquire);
        if !ended {
            self.ended.store(true, Ordering::Release);
        }
        ended
    }

    /// Tells of a failure in an event; gives what the error says where the span is to say it too.
    fn failed(&self, failure: &Failure<'_>, recording: bool, span: Option<&SpanContext>) -> Option<String> {
        emit_exception(self.operation.exceptions(), failure, recording, span)
    }

    /// Now, if there is anything to measure: read once, so that the span and its measurement say the same.
    #[inline]
    fn measured_at(&self) -> Option<SystemTime> {
        self.operation.instruments().map(|_| SystemTime::now())
    }

    #[inline]
    fn measure(&self, ended_at: Option<SystemTime>, error_type: Option<&str>) {
        if let Some(ended_at) = ended_at {
            let began = self.context.get().map_or(self.delivered_at, |current| current.began);
            self.operation.ended(between(began, ended_at), &self.measurement_attributes(error_type));
        }
    }

    /// Measures that the message is delivered.
    #[inline]
    pub(crate) fn consumed(&self, arrival: &Arrival<'_>) {
        if self.operation.instruments().is_some() {
            self.operation.delivered(arrival.queue_time(self.delivered_at), &self.measurement_attributes(None));
        }
    }

    fn measurement_attributes<'a>(&'a self, error_type: Option<&'a str>) -> MeasurementAttributes<'a> {
        MeasurementAttributes { error_type, more: self.partition.as_deref().map(slice::from_ref).unwrap_or_default() }
    }

    /// Has the message's settlement outlive the message, where something else can settle it still: its number, for
    /// example. `None` where nothing is awaited any more.
    ///
    /// The process span says nothing of the settlement then: it ends before.
    pub fn unsettled(&self) -> Option<Unsettled> {
        let awaited = self.awaits_settlement.load(Ordering::Acquire) && !self.settled.swap(true, Ordering::AcqRel);
        awaited.then(|| Unsettled { operation: self.operation.clone(), discharged: AtomicBool::new(false) })
    }

    /// The last part of the message is gone and nobody settled it.
    #[inline]
    fn dropped(&self) {
        if !self.awaits_settlement.load(Ordering::Acquire) || self.settled.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(span) = self.context.get().and_then(Current::recorded)
            && !self.ended.load(Ordering::Acquire)
        {
            span.set_attribute(KeyValue::new(extension::SETTLEMENT_OUTCOME, Settlement::Dropped.as_str()));
        }
        self.operation.settled(Settlement::Dropped, 1);
    }

    /// Whether the span is a child of what the sender left, rather than of what was active at the delivery.
    #[inline]
    fn continues_creation(&self) -> bool {
        let settings = self.operation.pipeline.settings();
        match settings.correlation {
            _ if self.starts_new_trace || settings.untrusted => false,
            Correlation::Link => false,
            Correlation::ParentIfNoAmbient | Correlation::Auto(_) => self.ambient.is_none(),
            Correlation::Parent => self.creation().is_some(),
        }
    }

    #[inline]
    fn start_span(&self, began: SystemTime, attributes: Attributes) -> Option<BoxedSpan> {
        if self.operation.filtered_out {
            return None;
        }
        let by_creation = self.continues_creation();
        let root = Context::new();
        let ambient = self.ambient.as_ref().filter(|_| !self.starts_new_trace);
        let parent = if by_creation { &self.base } else { ambient.unwrap_or(&root) };
        let span = self.operation.pipeline.start(self.probe, parent, || {
            // Linked where it is not the parent.
            let aside = by_creation || self.starts_new_trace;
            let ambient = self.ambient.as_ref().filter(|_| aside);
            let link = |context: &SpanContext| Link::with_context(context.clone());
            let mut links = self.of_creation(|creation| vec![link(creation)]);
            if let Some(ambient) = ambient {
                links.get_or_insert_default().push(link(ambient.span().span_context()));
            }
            self.operation.span(self.operation.description.kind().span_kind(), began, attributes, links)
        })?;
        if let (false, Some(ambient)) = (by_creation, ambient) {
            let ambient = ambient.span().span_context().span_id();
            self.operation.pipeline.loops.started_in(ambient, &self.operation.description.span_name);
        }
        Some(span)
    }
}

/// Has the application's function look for the context that the propagator has not found.
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

thread_local! {
    static MAKING: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, this thread makes the context of a message. What that calls may ask for one, and would wait for ever.
struct Making;

impl Making {
    /// `None` inside another.
    #[inline]
    fn begin() -> Option<Self> {
        (!MAKING.replace(true)).then(|| Self)
    }
}

impl Drop for Making {
    #[inline]
    fn drop(&mut self) {
        MAKING.set(false);
    }
}

/// A message that was let go of and can still be settled. When this is dropped before it is
/// [`discharge`](Self::discharge)d, the message counts as dropped.
#[must_use]
pub struct Unsettled {
    operation: Arc<PreparedOperation>,
    discharged: AtomicBool,
}

impl Unsettled {
    /// The message is settled, or nobody will ever know.
    pub fn discharge(&self) {
        self.discharged.store(true, Ordering::Release);
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !*self.discharged.get_mut() {
            self.operation.settled(Settlement::Dropped, 1);
        }
    }
}

impl fmt::Debug for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsettled").field("discharged", &self.discharged).finish_non_exhaustive()
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
            hand.release(ptr::from_ref(self).addr());
        }
        if self.context.get().is_some() {
            self.dropped();
            if thread::panicking() {
                self.fail(ERROR_TYPE_PANIC, "panicked");
            } else {
                self.end();
            }
            return;
        }
        // Nobody needed a context: the span alone will do.
        let mut attributes = mem::take(self.attributes.get_mut().unwrap_or_else(PoisonError::into_inner));
        if *self.awaits_settlement.get_mut() && !*self.settled.get_mut() {
            attributes.set(extension::SETTLEMENT_OUTCOME, Settlement::Dropped.as_str());
        }
        self.dropped();
        let panicked =
            thread::panicking().then_some((Cow::Borrowed(ERROR_TYPE_PANIC), &"panicked" as &dyn fmt::Display));
        let ended_at = self.measured_at();
        let mut span = self.start_span(self.delivered_at, attributes);
        let failure = panicked.or_else(|| self.failed_answer());
        let message = failure.as_ref().and_then(|failure| {
            let recording = span.as_ref().is_some_and(Span::is_recording);
            self.failed(failure, recording, span.as_ref().map(Span::span_context))
        });
        let error_type = failure.map(|(error_type, _)| error_type);
        if let Some(span) = &mut span {
            if let (Some(message), Some(error_type)) = (message, &error_type) {
                span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type.clone()));
                span.set_status(Status::error(message));
            }
            end(span, ended_at);
        }
        self.measure(ended_at, error_type.as_deref());
    }
}

impl fmt::Debug for ProcessSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpan")
            .field("operation", &self.operation.description.span_name)
            .field("creation", &self.creation())
            .finish_non_exhaustive()
    }
}
