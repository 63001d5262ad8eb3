//! What is current for the handler of a message, and whose span that is.

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

/// What is current for a handler, and whose the span in it is.
pub(crate) struct Current {
    pub(crate) context: Context,
    pub(crate) span: SpanOwner,
    /// When the span began, or would have.
    pub(crate) began: SystemTime,
    /// Of a message whose span is that of its batch.
    pub(crate) batch: Option<Arc<BatchOutcome>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanOwner {
    /// The span is the message's own, or the batch's own, and recording.
    Message,
    /// The span is the message's own and not recording: it has ended, and only its context is handed on.
    NonRecording,
    /// The span is that of the batch which the message belongs to.
    Batch,
    /// There is no span of a message: the context is the one that was current before.
    None,
}

impl Current {
    /// With a span that has just started, on top of a context. A non-recording span is ended at once: only its span context is
    /// ever used.
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

    /// Which span it is, if there is one.
    #[inline]
    pub(crate) fn which(&self) -> Option<SpanContext> {
        (self.span != SpanOwner::None).then(|| self.context.span().span_context().clone())
    }

    /// The context to attach for a handler that is called inside `outer`.
    ///
    /// A message without a span of its own names the span that was active at its delivery. Where that very span is still
    /// current, the handler works in the span itself and not in a context that only names it.
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

/// A context with other baggage.
pub(crate) fn with_baggage(context: &Context, baggage: &Baggage) -> Context {
    if baggage.is_empty() && context.baggage().is_empty() {
        return context.clone();
    }
    let entries = baggage
        .iter()
        .map(|(key, (value, metadata))| KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone()));
    context.with_baggage(entries)
}

/// The same context, with the name of its span in place of the span. A span ends when its last handle is dropped, and what
/// is kept for longer than a call must not be one of them.
pub(crate) fn naming_its_span(context: &Context) -> Context {
    let span = context.span().span_context().clone();
    if span.is_valid() { context.with_remote_span_context(span) } else { context.clone() }
}
