//! The span of one send, receive or settle operation.

use std::{borrow::Cow, cell::Cell, fmt, iter, mem, sync::Arc, thread, time::SystemTime};

use opentelemetry::{
    Context, KeyValue, Value,
    global::BoxedSpan,
    trace::{Link, Span, SpanContext, SpanKind},
};

use crate::{
    catch_panic::unwind_safe,
    description::{
        attributes::Attributes,
        destination::server_attributes,
        semconv::{ERROR_TYPE_PANIC, attribute, extension},
        settlement::Settlement,
    },
    recording::{
        ending::EndingSpan,
        exceptions::{Failure, record_failure},
        metrics::{MeasurementAttributes, between, partition_attribute},
        prepared_operation::PreparedOperation,
    },
    spans::{batch_attributes::BatchAttributes, operation_start::OperationStart, process_span::ProcessSpan},
};

/// The span of one operation of a client, and its measurements. The span ends once, when the adapter reports the outcome.
///
/// A `ClientSpan` that is dropped without a report ends too. Its outcome is then unknown, which is no error, and the span has
/// `otel_messaging.delivery.outcome_unknown`. If the thread is panicking, the span has the error `panic`.
#[must_use = "the span needs the outcome of its operation"]
pub struct ClientSpan {
    /// `None` if there is no span, or once a non-recording span was ended.
    span: Option<BoxedSpan>,
    /// A box, because without metrics and events there is no measurement, and thousands of operations may await their answers.
    measurement: Option<Box<Measurement>>,
    ended_at: Option<SystemTime>,
    settles: SettledMessages,
}

/// The process spans of the messages that the operation settles.
#[derive(Default)]
enum SettledMessages {
    #[default]
    None,
    One(Arc<ProcessSpan>),
    Many(Vec<Arc<ProcessSpan>>),
}

/// The facts about an operation that metrics and events need.
struct Measurement {
    operation: Arc<PreparedOperation>,
    /// The context of a non-recording span that was ended early. The event of a failure refers to it.
    unrecorded: Option<SpanContext>,
    /// `None` if the start time is unknown.
    start: Option<SystemTime>,
    /// The number of messages of the operation.
    messages: u64,
    /// Attributes of this operation alone that metrics have too.
    more: Vec<KeyValue>,
}

impl ClientSpan {
    /// Starts the span of an operation.
    #[inline]
    pub(crate) fn start(
        start: &OperationStart,
        parent: &Context,
        operation: &Arc<PreparedOperation>,
        kind: SpanKind,
        mut links: impl Iterator<Item = Link>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Self {
        let pipeline = &operation.pipeline;
        if operation.filtered_out || !pipeline.may_start(start.probe) || !start.wants_span() {
            return Self::without_span(start, operation, attributes);
        }
        let mut partition = None;
        let span = pipeline.start(start.probe, parent, || {
            let all = operation.attributes(attributes);
            partition = partition_attribute(pipeline.settings().metric_partition, &all.0);
            let links = links.next().map(|first| iter::once(first).chain(links).collect());
            operation.span(kind, start.at, all, links)
        });
        Self::new(span, operation, start.at).measured_with(partition)
    }

    /// The measurements of an operation that has no span.
    pub(crate) fn without_span(
        start: &OperationStart,
        operation: &Arc<PreparedOperation>,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Self {
        let settings = operation.pipeline.settings();
        let mut own = Attributes::default();
        if settings.metric_partition && !operation.filtered_out {
            attributes(&mut own);
        }
        Self::new(None, operation, start.at).measured_with(partition_attribute(settings.metric_partition, &own.0))
    }

    /// Starts the span of an operation on several messages. `shared` is called only if the span is recorded.
    pub(crate) fn start_batch(
        start: &OperationStart,
        operation: &Arc<PreparedOperation>,
        shared: impl FnOnce() -> BatchAttributes,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Self {
        // The links depend on the span's attributes, so the attributes are computed first.
        let links = Cell::new(Vec::new());
        let taken = iter::once_with(|| links.take()).flatten();
        Self::start(start, &start.parent, operation, SpanKind::Client, taken, |all| {
            attributes(all);
            links.set(shared().into_links(all));
        })
    }

    #[inline]
    pub(crate) fn new(span: Option<BoxedSpan>, operation: &Arc<PreparedOperation>, start: SystemTime) -> Self {
        let pipeline = &operation.pipeline;
        let measured = !operation.filtered_out && (pipeline.instruments().is_some() || pipeline.exceptions.is_some());
        let measurement = measured.then(|| {
            Box::new(Measurement {
                operation: operation.clone(),
                unrecorded: None,
                start: Some(start),
                messages: 1,
                more: Vec::new(),
            })
        });
        Self { span, measurement, ended_at: None, settles: SettledMessages::None }
    }

    /// Ends a non-recording span once its context is in the message, because thousands of sends may await their answers.
    #[inline]
    pub(crate) fn release_unrecorded(&mut self) {
        let Some(mut span) = self.span.take_if(|span| !span.is_recording()) else { return };
        if let Some(measurement) =
            self.measurement.as_mut().filter(|measurement| measurement.operation.pipeline.exceptions.is_some())
        {
            measurement.unrecorded = Some(span.span_context().clone());
        }
        span.end_at(None);
    }

    /// Records an attribute of the start that metrics have too.
    #[inline]
    pub(crate) fn measured_with(mut self, attribute: Option<KeyValue>) -> Self {
        if let (Some(measurement), Some(attribute)) = (&mut self.measurement, attribute) {
            measurement.more.push(attribute);
        }
        self
    }

    pub(crate) fn settling(mut self, message: Arc<ProcessSpan>) -> Self {
        self.settles = SettledMessages::One(message);
        self
    }

    pub(crate) fn settling_all(mut self, messages: Vec<Arc<ProcessSpan>>) -> Self {
        self.settles = SettledMessages::Many(messages);
        self
    }

    /// Sets the number of messages of the operation, for metrics that count messages. Default: 1.
    pub fn messages(mut self, messages: u64) -> Self {
        if let Some(measurement) = &mut self.measurement {
            measurement.messages = messages;
        }
        self
    }

    /// Marks the start time as unknown: no duration is measured.
    pub fn untimed(mut self) -> Self {
        if let Some(measurement) = &mut self.measurement {
            measurement.start = None;
        }
        self
    }

    /// Whether nothing of the operation is recorded: it has no recording span, and is not measured. An adapter can then drop this
    /// `ClientSpan` before the answer arrives.
    pub fn is_noop(&self) -> bool {
        self.span.is_none() && self.measurement.is_none()
    }

    /// Whether attributes that are set are recorded. If not, an adapter can skip computing costly attributes.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.span.as_ref().is_some_and(Span::is_recording)
    }

    /// The context that the message carries; `None` without a tracer.
    #[inline]
    pub(crate) fn span_context(&self) -> Option<&SpanContext> {
        self.span.as_ref().map(Span::span_context)
    }

    /// Adds an attribute of the answer. The key must be new: an earlier value is not replaced.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let recording = self.is_recording();
        if !recording && self.measurement.is_none() {
            return;
        }
        let attribute = KeyValue::new(key, value);
        if let Some(measurement) = &mut self.measurement {
            measurement.note(attribute.clone());
        }
        if let (true, Some(span)) = (recording, &mut self.span) {
            span.set_attribute(attribute);
        }
    }

    /// Sets `server.address` and `server.port`, and `network.peer.address` and `network.peer.port` if the host is an IP address.
    /// For a server that is known only from the answer.
    pub fn set_server(&mut self, host: Arc<str>, port: u16) {
        server_attributes(host, port, true).for_each(|(key, value)| self.set(key, value));
    }

    pub(crate) fn link(&mut self, context: SpanContext) {
        if let Some(span) = &mut self.span {
            span.add_link(context, Vec::new());
        }
    }

    /// Sets the time when the operation ended. Default: the time of the report.
    pub fn ended_at(mut self, time: SystemTime) -> Self {
        self.ended_at = Some(time);
        self
    }

    /// Ends the span with the client's result: [`succeed`](Self::succeed), or [`fail`](Self::fail) with the `error.type` that
    /// `error_type` returns for the error.
    #[inline]
    pub fn report<T, E: fmt::Display, N: Into<Cow<'static, str>>>(
        self,
        result: &Result<T, E>,
        error_type: impl FnOnce(&E) -> N,
    ) {
        match result {
            Ok(_) => self.succeed(),
            Err(error) => self.fail(error_type(error), error),
        }
    }

    /// Ends the span with success: the broker accepted, as far as the operation waits for its answer. The span status stays
    /// unset.
    #[inline]
    pub fn succeed(mut self) {
        self.end(None);
    }

    /// Ends the span with an error. `error_type` is a low-cardinality name in the protocol's spelling, `description` is the text
    /// of the client's error.
    pub fn fail(mut self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        self.end(Some((error_type.into(), &description)));
    }

    /// Ends the span of a settlement that succeeded. Sets the outcome on this span, and on the process span of each settled
    /// message, if that span has not ended.
    pub fn settled(mut self, outcome: Settlement) {
        if let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) {
            span.set_attribute(KeyValue::new(extension::SETTLEMENT_OUTCOME, outcome.as_str()));
        }
        match (mem::take(&mut self.settles), outcome) {
            // Another settlement, which may still wait for its answer, records the outcome of the message.
            (SettledMessages::One(message), Settlement::AlreadySettled) => message.may_settle_elsewhere(),
            (SettledMessages::One(message), _) => message.settled(outcome),
            (SettledMessages::Many(_), Settlement::AlreadySettled) | (SettledMessages::None, _) => {}
            (SettledMessages::Many(messages), _) => messages.iter().for_each(|message| message.settled(outcome)),
        }
        if let Some(Measurement { operation, messages, .. }) = self.measurement.as_deref() {
            operation.settled(outcome, *messages);
        }
        self.end(None);
    }

    /// Ends the span of an operation that ended before its answer arrived.
    pub fn outcome_unknown(mut self) {
        self.leave_to_the_broker();
        self.set(extension::DELIVERY_OUTCOME_UNKNOWN, true);
        self.end(None);
    }

    /// The broker may have settled the messages, so drops of messages are not recorded as `dropped`.
    fn leave_to_the_broker(&mut self) {
        match mem::take(&mut self.settles) {
            SettledMessages::None => {}
            SettledMessages::One(message) => message.may_settle_elsewhere(),
            SettledMessages::Many(messages) => messages.iter().for_each(|message| message.may_settle_elsewhere()),
        }
    }

    #[inline]
    fn end(&mut self, error: Option<Failure<'_>>) {
        let measurement = self.measurement.take();
        // The clock is read once, so that the span and its measurements agree.
        let ended_at = self.ended_at.or_else(|| measurement.is_some().then(SystemTime::now));
        let mut span = self.span.take();
        if let Some(failure) = &error {
            let exceptions = measurement.as_ref().and_then(|measurement| measurement.operation.exceptions());
            let unrecorded = measurement.as_ref().and_then(|measurement| measurement.unrecorded.as_ref());
            let which = span.as_ref().map(Span::span_context).or(unrecorded).cloned();
            record_failure(failure, exceptions, which.as_ref(), span.as_mut());
        }
        if let Some(span) = &mut span {
            span.end_at(ended_at);
        }
        if let Some(measurement) = measurement {
            measurement.measure(ended_at, error.as_ref().map(|(error_type, _)| &**error_type));
        }
        self.settles = SettledMessages::None;
    }
}

impl Measurement {
    /// Records an attribute if metrics have it too.
    fn note(&mut self, attribute: KeyValue) {
        let wanted = match attribute.key.as_str() {
            attribute::SERVER_ADDRESS | attribute::SERVER_PORT => true,
            attribute::MESSAGING_DESTINATION_PARTITION_ID => self.operation.pipeline.settings().metric_partition,
            _ => false,
        };
        if wanted {
            self.more.push(attribute);
        }
    }

    fn measure(&self, ended_at: Option<SystemTime>, error_type: Option<&str>) {
        let took = self.start.zip(ended_at).and_then(|(start, end)| between(start, end));
        self.operation.ended(took, self.messages, &MeasurementAttributes { error_type, more: &self.more });
    }
}

impl Drop for ClientSpan {
    fn drop(&mut self) {
        self.leave_to_the_broker();
        if self.is_noop() {
            return;
        }
        if thread::panicking() {
            self.end(Some((ERROR_TYPE_PANIC.into(), &"panicked")));
        } else {
            self.set(extension::DELIVERY_OUTCOME_UNKNOWN, true);
            self.end(None);
        }
    }
}

unwind_safe!(ClientSpan);

impl fmt::Debug for ClientSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSpan").field("span_context", &self.span_context()).finish_non_exhaustive()
    }
}
