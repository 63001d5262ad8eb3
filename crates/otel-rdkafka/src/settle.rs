//! Commits: a Kafka message is settled by the commit of its offset.

use std::sync::Arc;

use otel_messaging::adapter::{ClientSpan, OperationStart, PreparedOperation, ProcessSpan, Settlement, Settles};
use rdkafka::{
    Offset, TopicPartitionList,
    error::{KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Message},
    topic_partition_list::TopicPartitionListElem,
};

use crate::{
    error::error_type,
    telemetry::{COMMIT, ClientTelemetry, set_cluster_id, set_partition_and_offset},
};

/// Commits the offset of one message.
pub(crate) fn commit_message(
    telemetry: &ClientTelemetry,
    message: &BorrowedMessage<'_>,
    process: Option<&Arc<ProcessSpan>>,
    commit: impl FnOnce() -> KafkaResult<()>,
) -> KafkaResult<()> {
    let span = telemetry.start_operation().map(|start| {
        let operation = telemetry.operation(COMMIT, Some(message.topic()));
        let settles = process.map_or(Settles::Unknown, Settles::Message);
        telemetry.core.settle(start, &operation, settles, |attributes| {
            set_partition_and_offset(attributes, message.partition(), Some(message.offset()));
            set_cluster_id(attributes, telemetry.known_cluster_id());
        })
    });
    end_commit(span, commit())
}

/// Commits offsets that name no message; `None` commits those of the whole assignment. A commit without an offset commits
/// nothing and is not recorded. Only its result shows that, so the span is made after it, with the start of the call.
pub(crate) fn commit_offsets(
    telemetry: &ClientTelemetry,
    offsets: Option<&TopicPartitionList>,
    commit: impl FnOnce() -> KafkaResult<()>,
) -> KafkaResult<()> {
    let start = telemetry.start_operation();
    let result = commit();
    let Some(start) = start.filter(|_| !is_no_offset(&result)) else { return result };
    let elements = offsets.map(TopicPartitionList::elements);
    // librdkafka reports a list without an offset as an error only for a synchronous commit.
    if elements.as_ref().is_some_and(|elements| result.is_ok() && !elements.iter().any(has_offset)) {
        return result;
    }
    end_commit(Some(start_offsets_commit(telemetry, start, &elements.unwrap_or_default())), result)
}

/// Records an automatic commit, whose start librdkafka does not report. An automatic commit that finds no offset is not recorded.
pub(crate) fn record_auto_commit(telemetry: &ClientTelemetry, result: &KafkaResult<()>, offsets: &TopicPartitionList) {
    let Some(start) = telemetry.start_operation().filter(|_| !is_no_offset(result)) else { return };
    let elements = offsets.elements();
    if result.is_err() || telemetry.core.records_auto_commits() {
        let span = start_offsets_commit(telemetry, start, &elements).untimed();
        // The user's callback gets the result.
        let _ = end_commit(Some(span), result.clone());
    } else {
        telemetry.core.settled(&commit_operation(telemetry, &elements), Settlement::Commit, 1);
    }
}

fn start_offsets_commit(
    telemetry: &ClientTelemetry,
    start: OperationStart,
    elements: &[TopicPartitionListElem<'_>],
) -> ClientSpan {
    let operation = commit_operation(telemetry, elements);
    telemetry.core.settle(start, &operation, Settles::Unknown, |attributes| {
        if let [element] = elements {
            set_partition_and_offset(attributes, element.partition(), None);
        }
        set_cluster_id(attributes, telemetry.known_cluster_id());
    })
}

/// The operation names a topic only if all offsets are of that topic.
fn commit_operation(telemetry: &ClientTelemetry, elements: &[TopicPartitionListElem<'_>]) -> Arc<PreparedOperation> {
    let topic = elements.first().map(TopicPartitionListElem::topic);
    telemetry.operation(COMMIT, topic.filter(|topic| elements.iter().all(|element| element.topic() == *topic)))
}

/// Whether librdkafka had no offset to commit, neither stored nor in the list.
fn is_no_offset(result: &KafkaResult<()>) -> bool {
    result.as_ref().is_err_and(|error| error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset))
}

fn has_offset(element: &TopicPartitionListElem<'_>) -> bool {
    matches!(element.offset(), Offset::Offset(0..))
}

fn end_commit(span: Option<ClientSpan>, result: KafkaResult<()>) -> KafkaResult<()> {
    if let Some(span) = span {
        match &result {
            Ok(()) => span.settled(Settlement::Commit),
            Err(error) => span.fail(error_type(error), error),
        }
    }
    result
}
