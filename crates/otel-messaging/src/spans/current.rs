//! The context of a message's handler, and the owner of its span.

use std::{sync::Arc, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    baggage::{Baggage, BaggageExt, KeyValueMetadata},
    global::BoxedSpan,
    trace::{Span, SpanContext, SpanRef, TraceContextExt},
};

use crate::{
    description::semconv::extension,
    description::settlement::Settlement,
    recording::ending::EndingSpan,
    spans::{
        batch_outcome::BatchOutcome,
        context_state::{ContextState, with_reply_to},
    },
};

/// The context of a message's handler, and the owner of the span in it.
pub(crate) struct Current {
    pub(crate) context: Context,
    pub(crate) span: SpanOwner,
    /// The start time of the span, or the time at which it would have started.
    pub(crate) began: SystemTime,
    /// Set if the message has the span of its batch.
    pub(crate) batch: Option<Arc<BatchOutcome>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanOwner {
    /// The message, or the batch, owns the span, and the span is recording.
    Message,
    /// The message owns the span, and the span is not recording. It has ended, and only its context is used.
    NonRecording,
    /// The batch of the message owns the span.
    Batch,
    /// The message has no span. The context is the one that was current at the delivery.
    None,
}

impl Current {
    /// Puts a started span on top of a context. A non-recording span is ended immediately, because only its span context is used.
    #[inline]
    pub(crate) fn of(mut span: BoxedSpan, base: &Context, began: SystemTime) -> Self {
        if span.is_recording() {
            return Self { context: base.with_span(span), span: SpanOwner::Message, began, batch: None };
        }
        let which = span.span_context().clone();
        span.end_at(None);
        Self { context: base.with_remote_span_context(which), span: SpanOwner::NonRecording, began, batch: None }
    }

    pub(crate) fn without_span(context: Context, began: SystemTime) -> Self {
        Self { context, span: SpanOwner::None, began, batch: None }
    }

    /// The span, if it belongs to the message and is recording.
    #[inline]
    pub(crate) fn recorded(&self) -> Option<SpanRef<'_>> {
        (self.span == SpanOwner::Message).then(|| self.context.span())
    }

    /// The context of the span, if there is a span.
    #[inline]
    pub(crate) fn which(&self) -> Option<SpanContext> {
        (self.span != SpanOwner::None).then(|| self.context.span().span_context().clone())
    }

    /// The context to attach for a handler that is called inside `outer`.
    ///
    /// A message without a span of its own has the context of the span that was active at its delivery. If that span is still
    /// current, the handler runs in the span itself, and not in a context that only names it.
    #[inline]
    pub(crate) fn inside(&self, outer: impl FnOnce() -> Context) -> Context {
        match self.span {
            SpanOwner::Message | SpanOwner::NonRecording | SpanOwner::Batch => self.context.clone(),
            SpanOwner::None => {
                let outer = outer();
                let named = self.context.span();
                let is_same = named.span_context().is_valid() && outer.span().span_context() == named.span_context();
                if !is_same {
                    return self.context.clone();
                }
                let inside = with_baggage(&outer, self.context.baggage());
                match self.context.get::<ContextState>().filter(|state| !state.reply_to.is_empty()) {
                    Some(state) => with_reply_to(&inside, state.reply_to.clone()),
                    None => inside,
                }
            }
        }
    }

    /// Sets the settlement outcome of the message on its span, or on the span of its batch when all messages have it.
    pub(crate) fn set_outcome(&self, outcome: Settlement, has_ended: bool) {
        let is_shown = match &self.batch {
            Some(batch) => batch.is_common(outcome),
            None => !has_ended && self.span == SpanOwner::Message,
        };
        if is_shown {
            let outcome = KeyValue::new(extension::SETTLEMENT_OUTCOME, outcome.as_str());
            self.context.span().set_attribute(outcome);
        }
    }

    pub(crate) fn share(&self) -> Self {
        Self { context: self.context.clone(), batch: self.batch.clone(), ..*self }
    }
}

/// Returns the context with this baggage.
pub(crate) fn with_baggage(context: &Context, baggage: &Baggage) -> Context {
    if baggage.is_empty() && context.baggage().is_empty() {
        return context.clone();
    }
    let entries = baggage
        .iter()
        .map(|(key, (value, metadata))| KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone()));
    context.with_baggage(entries)
}

/// Returns the context with only the span context of its span. OpenTelemetry ends a span when the last handle is dropped, so a
/// value that outlives a call must not hold a handle.
pub(crate) fn naming_its_span(context: &Context) -> Context {
    let span = context.span().span_context().clone();
    if span.is_valid() { context.with_remote_span_context(span) } else { context.clone() }
}
