//! The process span of a message or of a batch.

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
/// The span starts when it is first needed, so that a batch can take over messages that have no span yet. If the handler needs
/// the span first, the span's start time is the start of the handler: the first poll of [`process`](crate::MessageExt::process),
/// or the call of [`in_scope`](crate::MessageExt::in_scope). Otherwise its start time is the delivery. The span ends at the first
/// of: the end of `process` or `in_scope`, [`end`](Self::end), [`fail`](Self::fail), or the drop of the last `Arc`. A drop is no
/// error, unless the thread is panicking.
///
/// Every part of a message that can outlive it (an acker, a detached copy) holds the same `Arc`.
pub struct ProcessSpan {
    operation: Arc<PreparedOperation>,
    delivered_at: SystemTime,
    message: MessageContext,
    attributes: StartAttributes,
    /// The context of the handler, set when it is first needed or when a batch takes the message over. It stays after the end of
    /// the span, for later spans of the message.
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

    /// Creates the process span of a batch, whose span has started.
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

    /// Assigns a message that has no span yet to a batch, whose handler starts at `now`.
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

    /// The attributes that the span starts with. Once the span has started, only those of the operation, unless a loop has the
    /// message in hand.
    pub(crate) fn start_attributes(&self) -> Vec<KeyValue> {
        self.attributes.all(&self.operation)
    }

    /// Adds the attributes of the message alone, for the span of the receive operation that returned the message. They are
    /// available until the process span starts, and later too if a loop has the message in hand.
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

    /// The context of the handler: the message's baggage and its process span. The call starts the span if it has not started.
    #[inline]
    pub fn context(&self) -> &Context {
        self.current().map_or_else(|| self.handler_base(), |current| &current.context)
    }

    #[inline]
    fn current(&self) -> Option<&Current> {
        self.current_since(self.delivered_at, None)
    }

    /// The context of the handler. If there is none yet, the span starts with this start time and this wait. `None` if this
    /// thread is already starting the span, because a sampler or a processor calls this function.
    #[inline]
    fn current_since(&self, began: SystemTime, wait: Option<Duration>) -> Option<&Current> {
        if let Some(current) = self.context.get() {
            return Some(current);
        }
        let _starting = StartGuard::enter()?;
        Some(self.context.get_or_init(|| {
            // A receive operation that returned the message in hand reads its attributes later.
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

    /// Starts the span with the handler, unless the span has started.
    #[inline]
    pub(crate) fn handler_starts(&self) {
        if self.context.get().is_none() {
            self.start_with_handler();
        }
    }

    fn start_with_handler(&self) {
        let now = SystemTime::now();
        let wait = between(self.delivered_at, now);
        // Another thread may have started the span.
        if self.current_since(now, wait).is_some_and(|current| current.began == now) {
            self.waited(wait);
        }
    }

    /// The wait of a message that has no span yet for its handler, if the wait is long enough to be recorded.
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

    /// The context for other tasks. A forward of the message is recognised wherever this context is attached.
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

    /// Takes the message in hand, if a loop inside [`sequential`](crate::sequential) polled for it.
    #[inline]
    pub(crate) fn take_in_hand(self: &Arc<Self>, source: SourceId) {
        // The span starts before the lock is taken, because processors may call any function.
        if let Some(hand) = &self.hand
            && let Some(current) = self.current()
        {
            hand.take(Arc::as_ptr(self).addr(), source, current.share(), self.processed());
        }
    }

    /// Runs a part of the handler inside the span, without ending the span. A panic is recorded as the span's error.
    ///
    /// For clients that call the handler themselves: around the call, and around each poll of the returned future.
    #[inline]
    pub fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        // Guards are dropped in reverse order, so the span is still current when a panic is recorded.
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
    /// `error_type` is a low-cardinality name, `description` is the text of the error.
    pub fn fail(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.finish(Some((error_type.into(), &description)));
    }

    /// Records that the message was answered with an error. The span fails with this error when it ends, unless the handler fails
    /// with an error of its own. Only the first answer counts. An answer after the end of the span has no effect.
    pub fn answered_with_error(&self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.end.set_answer(error_type.into(), &description);
    }

    /// Ends the span with a handler's error. The user's function names the error; otherwise the error's type does.
    pub(crate) fn fail_by(&self, type_name: &'static str, error: &dyn fmt::Display) {
        let named = self.operation.pipeline.settings().error_type.as_ref();
        let named = named.and_then(|name| catch_panic(|| name(type_name, error)).flatten());
        self.finish(Some((named.unwrap_or(Cow::Borrowed(type_name)), error)));
    }

    /// Sets the settlement outcome on the span, if the span has not ended and has no outcome yet.
    ///
    /// For messages that are settled together with others. For a single message,
    /// [`ClientSpan::settled`](crate::adapter::ClientSpan::settled) sets the outcome.
    pub fn settled(&self, outcome: Settlement) {
        let current = self.current();
        if let (true, Some(current)) = (self.settlement.record(), current) {
            current.set_outcome(outcome, self.end.has_ended());
        }
    }

    /// Marks the message as settled outside this crate, if it is settled at all: from now on, neither a drop nor a settlement is
    /// recorded.
    pub fn settles_elsewhere(&self) {
        self.settlement.leave_to_others();
    }

    /// Marks the message as possibly settled outside this crate: from now on, a drop is not recorded as `dropped`, but a
    /// settlement is.
    pub fn may_settle_elsewhere(&self) {
        self.settlement.await_no_longer();
    }

    #[inline]
    fn finish(&self, error: Option<Failure<'_>>) {
        // A re-entrant call while the span is being started.
        let Some(current) = self.current() else { return };
        if !self.end.is_first(&self.operation.pipeline) {
            return;
        }
        self.end.finish(&self.operation, current.began, current.recorded(), |_| current.which(), error);
    }

    /// Records the delivery in metrics.
    #[inline]
    pub(crate) fn consumed(&self, arrival: &Arrival<'_>) {
        if self.operation.instruments().is_some() {
            self.operation
                .delivered(arrival.history.queue_time(self.delivered_at), &self.end.measurement_attributes(None));
        }
    }

    /// Returns a value with which the settlement outlives the message, if the message can still be settled after its drop, for
    /// example by its number. `None` if no settlement is awaited.
    ///
    /// The process span then has no settlement outcome, because it ends before the settlement.
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

/// Ends the span with the error `panic` when the handler unwinds, even if the message is kept elsewhere.
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
        // The span was not needed earlier: it starts and ends here.
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

__opaque_debug!([] ProcessSpan, "ProcessSpan", |this| operation: this.operation.description.span_name);
