//! The start of a settle span, for one message or for several.

use std::{iter, sync::Arc};

use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};

use crate::{
    description::attributes::Attributes,
    recording::prepared_operation::PreparedOperation,
    spans::{
        batch_attributes::BatchAttributes, client_span::ClientSpan, operation_start::OperationStart,
        process_span::ProcessSpan,
    },
};

/// The message that a settle operation is about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Settles<'a> {
    /// The settle span is a child of the message's process span, and the outcome is set on the process span too.
    Message(&'a Arc<ProcessSpan>),
    /// The message was dropped, and the context of its process span is known.
    Context(&'a SpanContext),
    /// The message is unknown: the settle span is a child of the current span.
    Unknown,
}

/// A message of a settle operation on several messages.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SettledMessage {
    /// The settle span links the message's process span, and the outcome is set on the process span too.
    Message(Arc<ProcessSpan>),
    /// The message was dropped, and the context of its process span is linked.
    Context(SpanContext),
    /// The message is unknown: it is only counted.
    Unknown,
}

impl<'a> From<Option<&'a Arc<ProcessSpan>>> for Settles<'a> {
    fn from(process: Option<&'a Arc<ProcessSpan>>) -> Self {
        process.map_or(Self::Unknown, Self::Message)
    }
}

impl From<Option<&Arc<ProcessSpan>>> for SettledMessage {
    fn from(process: Option<&Arc<ProcessSpan>>) -> Self {
        process.cloned().map_or(Self::Unknown, Self::Message)
    }
}

pub(crate) fn start_settlement(
    start: &OperationStart,
    operation: &Arc<PreparedOperation>,
    settles: Settles<'_>,
    attributes: impl FnOnce(&mut Attributes),
) -> ClientSpan {
    let parent = match settles {
        Settles::Message(message) => message.context().clone(),
        Settles::Context(context) => start.parent.with_remote_span_context(context.clone()),
        Settles::Unknown => start.parent.clone(),
    };
    let span = ClientSpan::start(start, &parent, operation, SpanKind::Client, iter::empty(), attributes);
    match settles {
        Settles::Message(message) => span.settling(message.clone()),
        _ => span,
    }
}

pub(crate) fn start_batch_settlement(
    start: &OperationStart,
    operation: &Arc<PreparedOperation>,
    messages: impl ExactSizeIterator<Item = (SettledMessage, Attributes)>,
    attributes: impl FnOnce(&mut Attributes),
) -> ClientSpan {
    let (count, pipeline) = (messages.len(), &operation.pipeline);
    let max_links = pipeline.settings().max_links;
    let has_span = !operation.filtered_out && pipeline.may_start(start.probe);
    let parent = start.parent.span().span_context().clone();
    let (mut shared, mut process_spans) = (BatchAttributes::default(), Vec::new());
    for (message, own) in messages {
        if has_span {
            let context = match &message {
                SettledMessage::Message(message) => Some(message.context().span().span_context().clone()),
                SettledMessage::Context(context) => Some(context.clone()),
                SettledMessage::Unknown => None,
            };
            // Inside `process_batch`, the messages have the span of the batch, which is the parent.
            let linked = context.filter(|context| context.is_valid() && *context != parent);
            shared.add(linked, own.0, max_links);
        }
        if let SettledMessage::Message(message) = message {
            process_spans.push(message);
        }
    }
    ClientSpan::start_batch(start, operation, || shared, attributes)
        .messages(u64::try_from(count).unwrap_or(u64::MAX))
        .settling_all(process_spans)
}
