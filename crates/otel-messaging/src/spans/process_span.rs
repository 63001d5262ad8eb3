//! The process span of a message, or of a batch: made when it is first needed, ended exactly once.

use std::{
    borrow::Cow,
    fmt, ptr,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    global::BoxedSpan,
    trace::{Span, SpanContext},
};

use crate::{
    catch_panic::{catch_panic, unwind_safe},
    description::{
        arrival::Arrival,
        attributes::Attributes,
        semconv::{ERROR_TYPE_PANIC, extension},
        settlement::Settlement,
        source::SourceId,
    },
    recording::{discovery::TracerProbe, exceptions::Failure, metrics::between, prepared_operation::PreparedOperation},
    spans::{
        batch_outcome::BatchOutcome,
        context_state::{AtWork, Attached, Processed},
        current::{Current, SpanOwner, with_baggage},
        hand::{Hand, here},
        message_context::MessageContext,
        operation_start::OperationStart,
        process_end::ProcessEnd,
        settlement_state::{SettlementState, Unsettled},
        start_attributes::{SHORTEST_WAIT, StartAttributes},
        start_guard::StartGuard,
    },
};

/// The process span of a message that was delivered to the application.
///
/// The span starts when it is first needed, so that a batch can take over messages that have no span yet. It begins with the
/// handler where the handler needs it first: at the first poll of [`process`](crate::MessageExt::process), or the call of
/// [`in_scope`](crate::MessageExt::in_scope). Otherwise it begins at the delivery. It ends at the first of: the end of `process`
/// or `in_scope`, [`end`](Self::end), [`fail`](Self::fail), or the drop of the last `Arc`. A drop is no error, unless the thread
/// is panicking.
///
/// Every part of a message that can outlive it (an acker, a detached copy) holds the same `Arc`.
pub struct ProcessSpan {
    operation: Arc<PreparedOperation>,
    delivered_at: SystemTime,
    message: MessageContext,
    attributes: StartAttributes,
    /// The context of the handler, once it was needed or a batch took the message over. It stays after the end, for later
    /// spans of the message.
    context: OnceLock<Current>,
    settlement: SettlementState,
    end: ProcessEnd,
    /// The loop that has the message in hand.
    hand: Option<Arc<Hand>>,
}

impl ProcessSpan {
    #[inline]
    pub(crate) fn new(
        start: OperationStart,
        operation: Arc<PreparedOperation>,
        arrival: Arrival<'_>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Self {
        let (delivered_at, hand) = (start.at, here());
        let start = if hand.is_some() { start.around_hand() } else { start };
        let message = MessageContext::new(start, &operation.pipeline, &arrival);
        let mut attributes = StartAttributes::new(&operation, &arrival, attributes);
        let partition = attributes.partition(&operation);
        Self {
            delivered_at,
            message,
            attributes,
            context: OnceLock::new(),
            settlement: SettlementState::new(arrival.awaits_settlement),
            end: ProcessEnd::new(partition),
            hand,
            operation,
        }
    }

    /// The process span of a batch, which has started.
    pub(crate) fn of_batch(
        first: &Self,
        operation: Arc<PreparedOperation>,
        current: Current,
        partition: Option<KeyValue>,
    ) -> Self {
        Self {
            operation,
            delivered_at: current.began,
            message: MessageContext::of_batch(&first.message),
            attributes: StartAttributes::default(),
            context: OnceLock::from(current),
            settlement: SettlementState::new(false),
            end: ProcessEnd::new(partition),
            hand: None,
        }
    }

    /// Assigns a message that has no span yet to a batch, whose handler starts at that time.
    pub(crate) fn assign_to(&self, batch: &Self, outcome: &Arc<BatchOutcome>, now: SystemTime) {
        let (Some(batch), Some(_starting)) = (batch.context.get(), StartGuard::enter()) else { return };
        let wait = between(self.delivered_at, now);
        let context = with_baggage(&batch.context, self.handler_base().baggage());
        let span = if batch.span == SpanOwner::None { SpanOwner::None } else { SpanOwner::Batch };
        let batch = Some(outcome.clone());
        if self.context.set(Current { context, span, began: now, batch }).is_ok() {
            self.end.leave_to_batch();
            self.waited(wait);
        }
    }

    /// The attributes that the span starts with; once it has started, only those of the operation, unless a loop has the
    /// message in hand.
    pub(crate) fn start_attributes(&self) -> Vec<KeyValue> {
        self.attributes.all(&self.operation)
    }

    /// Adds the attributes of the message alone, for the span of the receive operation that returned it. They are known as long
    /// as the process span has not started, or a loop has the message in hand.
    pub fn own_attributes(&self, into: &mut Attributes) {
        self.attributes.add_message_attributes(&self.operation, into);
    }

    #[inline]
    pub(crate) fn operation(&self) -> &Arc<PreparedOperation> {
        &self.operation
    }

    pub(crate) fn probe(&self) -> TracerProbe {
        self.message.probe()
    }

    pub(crate) fn max_links(&self) -> usize {
        self.operation.pipeline.settings().max_links
    }

    /// The creation context: the context that the sender left in the message, if it is valid.
    #[inline]
    pub fn creation(&self) -> Option<SpanContext> {
        self.message.creation()
    }

    /// The context of the handler: the message's baggage and its process span, which starts now if it has not.
    #[inline]
    pub fn context(&self) -> &Context {
        self.current().map_or_else(|| self.handler_base(), |current| &current.context)
    }

    #[inline]
    fn current(&self) -> Option<&Current> {
        self.current_since(self.delivered_at, None)
    }

    /// The context of the handler. If there is none yet, the span starts with that time and that wait. `None` where this thread
    /// is starting the span: a sampler or a processor asks.
    #[inline]
    fn current_since(&self, began: SystemTime, wait: Option<Duration>) -> Option<&Current> {
        if let Some(current) = self.context.get() {
            return Some(current);
        }
        let _starting = StartGuard::enter()?;
        Some(self.context.get_or_init(|| {
            // A receive operation that returned a message in hand reads its attributes later.
            let mut attributes = self.attributes.take(self.hand.is_some());
            if let Some(wait) = wait.filter(|wait| *wait >= SHORTEST_WAIT) {
                attributes.set(extension::WAIT_TIME, wait.as_secs_f64());
            }
            match self.message.start_span(&self.operation, began, attributes) {
                Some(span) => Current::of(span, self.message.base(), began),
                None => Current::without_span(self.message.without_span(&self.operation.pipeline), began),
            }
        }))
    }

    /// The handler starts now, and with it the span, unless the span has started.
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

    /// The wait for the handler of a message that has no span yet, if it is long enough to be recorded.
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
            self.operation.waited(wait, &self.end.measurement_attributes(None));
        }
    }

    #[inline]
    fn handler_base(&self) -> &Context {
        self.message.of_handler(&self.operation.pipeline)
    }

    /// The context for other tasks: a forward of the message is recognised wherever it is attached.
    pub(crate) fn context_to_go(&self) -> Context {
        self.message.marked_as_processed(self.context().clone())
    }

    /// Makes the republishing of the message current, on top of the current context.
    pub(crate) fn republish(&self) -> Attached {
        self.message.republish(self.handler_base(), self.current().and_then(Current::which))
    }

    #[inline]
    pub(crate) fn processed(&self) -> Processed {
        self.message.processed()
    }

    /// The context to attach on this thread, around the handler.
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
    /// For clients that call the handler themselves: around the call, and around each poll of the returned future.
    #[inline]
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        // They are dropped in reverse order: the span fails while it is still current.
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

    /// Records that the message is answered with an error. The span fails with it when it ends, unless the handler fails with an
    /// error of its own. The first answer counts; an answer after the end changes nothing.
    pub fn answered_with_error(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.end.set_answer(error_type.into(), &description);
    }

    /// Ends the span with a handler's error. The user's function names it, otherwise its type does.
    pub(crate) fn fail_by(&self, type_name: &'static str, error: &dyn fmt::Display) {
        let named = self.operation.pipeline.settings().error_type.as_ref();
        let named = named.and_then(|name| catch_panic(|| name(type_name, error)).flatten());
        self.finish(Some((named.unwrap_or(Cow::Borrowed(type_name)), error)));
    }

    /// Sets the settlement outcome on the span, if the span has not ended and has no outcome yet.
    ///
    /// For messages that are settled together with others; [`ClientSpan::settled`](crate::adapter::ClientSpan::settled) does it
    /// for a single message.
    pub fn settled(&self, outcome: Settlement) {
        let current = self.current();
        if let (true, Some(current)) = (self.settlement.record(), current) {
            current.set_outcome(outcome, self.end.has_ended());
        }
    }

    /// The message is settled outside this crate, if it is: neither a drop nor a settlement is recorded from now on.
    pub fn settles_elsewhere(&self) {
        self.settlement.leave_to_others();
    }

    /// The message may be settled outside this crate: a drop is not recorded as `dropped` from now on. A settlement is.
    pub fn may_settle_elsewhere(&self) {
        self.settlement.await_no_longer();
    }

    #[inline]
    fn finish(&self, error: Option<Failure<'_>>) {
        // Re-entrant call while the span is being started.
        let Some(current) = self.current() else { return };
        if !self.end.is_first(&self.operation.pipeline) {
            return;
        }
        self.end.finish(&self.operation, current.began, current.recorded(), |_| current.which(), error);
    }

    /// Measures the delivery.
    #[inline]
    pub(crate) fn consumed(&self, arrival: &Arrival<'_>) {
        if self.operation.instruments().is_some() {
            self.operation.delivered(arrival.queue_time(self.delivered_at), &self.end.measurement_attributes(None));
        }
    }

    /// Lets the settlement outlive the message, where the message can still be settled, by its number for example. `None` where
    /// no settlement is awaited.
    ///
    /// The process span has no settlement outcome then: it ends before.
    pub fn unsettled(&self) -> Option<Unsettled> {
        self.settlement.record_dropped().then(|| Unsettled::new(self.operation.clone()))
    }

    /// Records that the last part of the message was dropped unsettled.
    #[inline]
    fn dropped(&self) {
        if !self.settlement.record_dropped() {
            return;
        }
        if let Some(span) = self.context.get().and_then(Current::recorded)
            && !self.end.has_ended()
        {
            span.set_attribute(KeyValue::new(extension::SETTLEMENT_OUTCOME, Settlement::Dropped.as_str()));
        }
        self.operation.settled(Settlement::Dropped, 1);
    }
}

/// Ends the span with the error `panic` when the handler unwinds, even where the message is kept elsewhere.
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
        let panicked =
            thread::panicking().then_some((Cow::Borrowed(ERROR_TYPE_PANIC), &"panicked" as &dyn fmt::Display));
        if self.context.get().is_some() {
            self.dropped();
            return self.finish(panicked);
        }
        // The span was not needed before: it starts and ends here.
        let mut attributes = self.attributes.take_last();
        if self.settlement.is_unsettled() {
            attributes.set(extension::SETTLEMENT_OUTCOME, Settlement::Dropped.as_str());
        }
        self.dropped();
        let span = self.message.start_span(&self.operation, self.delivered_at, attributes);
        let which = |span: Option<&BoxedSpan>| Some(span?.span_context().clone());
        self.end.finish(&self.operation, self.delivered_at, span, which, panicked);
    }
}

unwind_safe!(ProcessSpan);

impl fmt::Debug for ProcessSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpan")
            .field("operation", &self.operation.description.span_name)
            .field("creation", &self.creation())
            .finish_non_exhaustive()
    }
}
