//! The context of an outgoing message: an existing context is read, kept or replaced; a new context is measured and written.

use opentelemetry::{
    SpanId, TraceId, otel_debug,
    propagation::Injector,
    trace::{SpanContext, TraceContextExt},
};

use crate::{
    catch_panic::catch_panic,
    description::{identity::Identity, policy::CarriedContext},
    propagation::{
        forward::Forward,
        header_budget::{HeaderBudget, HeaderBuffer},
        headers::Headers,
    },
    recording::pipeline::Pipeline,
    spans::operation_start::OperationStart,
};

/// Headers that the application stores until it sends the message. They must not have a header with an empty value.
pub(crate) struct StoredHeaders<'a>(pub(crate) &'a mut dyn Injector);

impl Injector for StoredHeaders<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.set(key, value);
        }
    }
}

/// A context that a message carries already.
pub(crate) struct ExistingContext {
    pub(crate) context: SpanContext,
    /// If false, the send replaces the context.
    pub(crate) is_kept: bool,
    pub(crate) forward: Forward,
}

impl ExistingContext {
    pub(crate) fn read(start: &OperationStart, pipeline: &Pipeline, headers: &dyn Headers) -> Option<Self> {
        let (context, forward) = pipeline.carried(headers, start.probe);
        if !context.is_valid() {
            return None;
        }
        let is_kept = match pipeline.settings().carried_context {
            // The context was copied from the message that is being republished.
            _ if !start.republished_from().is_empty() => false,
            CarriedContext::Keep => true,
            CarriedContext::Replace => false,
            CarriedContext::Auto => {
                let existing = Identity::of(&context);
                existing != Identity::of(start.parent.span().span_context()) && Some(existing) != start.processed
            }
        };
        Some(Self { context, is_kept, forward })
    }
}

/// Whether a context fits into a message. This is decided before the span starts, because the span kind depends on it.
pub(crate) fn fits(start: &OperationStart, pipeline: &Pipeline, budget: HeaderBudget) -> bool {
    budget.is_large() || {
        let parent = start.parent.span();
        // All ids have the same length, so any ids can stand in for the ids of the future span.
        let (trace, span) = (TraceId::from(u128::MAX), SpanId::from(u64::MAX));
        let flags = parent.span_context().trace_flags();
        let span = SpanContext::new(trace, span, flags, true, parent.span_context().trace_state().clone());
        let mut headers = HeaderBuffer::default();
        let or_w3c = pipeline.may_start(start.probe);
        let _ = pipeline.settings().propagator.inject(&span, &start.parent, &mut headers, None, or_w3c);
        budget.fits(&headers)
    }
}

/// Writes the context of a span into the headers of a message, in place of an existing context.
#[inline]
pub(crate) fn write_context(
    start: &OperationStart,
    span: Option<&SpanContext>,
    pipeline: &Pipeline,
    (headers, budget): (&mut dyn Headers, HeaderBudget),
    replaces: Option<&mut Forward>,
) {
    match replaces {
        None => inject_context(start, span, pipeline, (headers, budget), None),
        Some(forward) => {
            inject_context(start, span, pipeline, (&mut *headers, budget), Some(forward));
            remove_stale(start, span, pipeline, headers, forward);
        }
    }
}

/// Writes the context of a span into headers, or the context of its parent if there is no span. Without either, an existing
/// context stays.
#[inline]
pub(crate) fn inject_context(
    start: &OperationStart,
    span: Option<&SpanContext>,
    pipeline: &Pipeline,
    (headers, budget): (&mut dyn Injector, HeaderBudget),
    replaces: Option<&mut Forward>,
) {
    let parent = start.parent.span();
    let span = span.unwrap_or(parent.span_context());
    if replaces.is_some() && !span.is_valid() {
        return;
    }
    if budget.is_large() {
        pipeline.inject(span, &start.parent, headers, replaces);
        return;
    }
    // The context is measured again, because a sampler may have extended the tracestate.
    let mut buffer = HeaderBuffer::default();
    pipeline.inject(span, &start.parent, &mut buffer, replaces);
    if budget.fits(&buffer) {
        buffer.write(headers);
    } else {
        catch_panic(|| {
            otel_debug!(name: "messaging.inject.left_out", message = "context not injected: it exceeds the size limit");
        });
    }
}

/// Removes headers of a forwarded message that the next reader would read in place of the written context.
fn remove_stale(
    start: &OperationStart,
    span: Option<&SpanContext>,
    pipeline: &Pipeline,
    headers: &mut dyn Headers,
    forward: &Forward,
) {
    if !forward.keeps_any() {
        return;
    }
    let parent = start.parent.span();
    let written = span.unwrap_or(parent.span_context());
    if !written.is_valid() {
        return;
    }
    let stale = pipeline.settings().propagator.stale(forward, written, headers);
    stale.into_iter().for_each(|name| headers.set(&name, String::new()));
}
