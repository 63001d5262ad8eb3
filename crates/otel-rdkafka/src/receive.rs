//! Receive: a message is delivered to the application with its process span.

use std::{
    iter,
    sync::Arc,
    time::{Duration, SystemTime},
};

use otel_messaging::adapter::{Arrival, Clock, OperationStart, ProcessSpan, SourceId, poll_started};
use rdkafka::{
    error::{KafkaError, KafkaResult},
    message::{self as raw, BorrowedHeaders, Message, OwnedHeaders, Timestamp},
};

use crate::{
    brokers::BrokerAddress,
    error::error_type,
    headers::{HeaderExtractor, ReceivedHeaders},
    message::{BorrowedMessage, OwnedMessage},
    telemetry::{ClientTelemetry, POLL, PROCESS, set_cluster_id, set_partition_and_offset},
};

/// Polls rdkafka once, and delivers the result.
#[inline]
pub(crate) fn poll_once<'a>(
    telemetry: &ClientTelemetry,
    source: SourceId,
    cluster_id: impl FnOnce() -> Option<String>,
    poll: impl FnOnce() -> Option<KafkaResult<raw::BorrowedMessage<'a>>>,
) -> Option<KafkaResult<BorrowedMessage<'a>>> {
    poll_started(source);
    let since = SystemTime::now();
    let result = poll()?;
    let start = telemetry.start_operation();
    Some(deliver_result(telemetry, source, (start, Some(since)), cluster_id, result))
}

/// Delivers the result of a poll. The times are the delivery, if there is something to record, and the start of the wait.
#[inline]
pub(crate) fn deliver_result<'a>(
    telemetry: &ClientTelemetry,
    source: SourceId,
    (start, since): (Option<OperationStart>, Option<SystemTime>),
    cluster_id: impl FnOnce() -> Option<String>,
    result: KafkaResult<raw::BorrowedMessage<'a>>,
) -> KafkaResult<BorrowedMessage<'a>> {
    match result {
        Ok(message) => {
            // A received message shows that librdkafka has heard from a broker; an error does not.
            if start.is_some() {
                telemetry.cluster_id(cluster_id);
            }
            Ok(deliver_borrowed(telemetry, source, start, since, message))
        }
        Err(error) => {
            record_failed_poll(telemetry, start, since, &error);
            Err(error)
        }
    }
}

/// Delivers a message, and records its poll if there is a start of the wait, `since`.
#[inline]
pub(crate) fn deliver_borrowed<'a>(
    telemetry: &ClientTelemetry,
    source: SourceId,
    start: Option<OperationStart>,
    since: Option<SystemTime>,
    message: raw::BorrowedMessage<'a>,
) -> BorrowedMessage<'a> {
    let process = start.map(|start| {
        let broker = telemetry.broker(&message);
        let poll = since.filter(|_| telemetry.core.records_polls()).map(|since| start.clone().since(since));
        let process = new_process_span(telemetry, source, start, &message, message.headers(), broker.as_ref());
        if let Some(poll) = poll {
            let operation = telemetry.operation_at(POLL, Some(message.topic()), broker.as_ref());
            telemetry.core.polled(poll, &operation, &process, |attributes| {
                set_partition_and_offset(attributes, message.partition(), Some(message.offset()));
                set_cluster_id(attributes, telemetry.known_cluster_id());
                telemetry.set_content(attributes, message.key(), message.payload());
            });
        }
        process
    });
    BorrowedMessage::received(message, process)
}

/// Delivers a message that owns its data.
pub(crate) fn deliver_owned(telemetry: &ClientTelemetry, message: raw::OwnedMessage) -> OwnedMessage {
    let process = telemetry.start_operation().map(|start| {
        let headers = message.headers().map(OwnedHeaders::as_borrowed);
        new_process_span(telemetry, telemetry.source, start, &message, headers, None)
    });
    OwnedMessage::received(message, process)
}

#[inline]
fn new_process_span(
    telemetry: &ClientTelemetry,
    source: SourceId,
    start: OperationStart,
    message: &impl Message,
    headers: Option<&BorrowedHeaders>,
    broker: Option<&BrokerAddress>,
) -> Arc<ProcessSpan> {
    let operation = telemetry.operation_at(PROCESS, Some(message.topic()), broker);
    let mut received = ReceivedHeaders::default();
    if let Some(headers) = headers {
        received.read(headers);
    }
    let headers = headers.map(HeaderExtractor);
    let payload = message.payload();
    if telemetry.core.records_age() {
        received.history.sent = sent_at(message.timestamp());
    }
    let arrival = Arrival::new(source, headers.as_ref().map(|headers| headers as _))
        .context_headers(&received.contexts)
        .payload(payload.unwrap_or_default())
        .history(received.history);
    telemetry.core.deliver(start, operation, arrival, |attributes| {
        set_partition_and_offset(attributes, message.partition(), Some(message.offset()));
        telemetry.set_content(attributes, message.key(), payload);
    })
}

/// Records a poll that failed. The end of a partition is not a failure.
fn record_failed_poll(
    telemetry: &ClientTelemetry,
    start: Option<OperationStart>,
    since: Option<SystemTime>,
    error: &KafkaError,
) {
    if let (Some(start), false) = (start, matches!(error, KafkaError::PartitionEOF(_))) {
        let began = since.unwrap_or(start.at());
        let start = start.since(began);
        let operation = telemetry.operation(POLL, None);
        let span = telemetry.core.receive(start, &operation, iter::empty(), |attributes| {
            set_cluster_id(attributes, telemetry.known_cluster_id());
        });
        span.fail(error_type(error), error);
    }
}

/// The time of a message and the clock that it is of; `None` if the time is missing or negative.
#[inline]
fn sent_at(timestamp: Timestamp) -> Option<(SystemTime, Clock)> {
    let (millis, clock) = match timestamp {
        Timestamp::CreateTime(millis) => (millis, Clock::CreateTime),
        Timestamp::LogAppendTime(millis) => (millis, Clock::LogAppendTime),
        Timestamp::NotAvailable => return None,
    };
    let since = Duration::from_millis(u64::try_from(millis).ok()?);
    Some((SystemTime::UNIX_EPOCH.checked_add(since)?, clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_none_is_left_out() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(sent_at(Timestamp::CreateTime(5)), Some((at(5), Clock::CreateTime)));
        assert_eq!(sent_at(Timestamp::LogAppendTime(7)), Some((at(7), Clock::LogAppendTime)));
        for none in [Timestamp::NotAvailable, Timestamp::CreateTime(-1), Timestamp::LogAppendTime(i64::MIN)] {
            assert_eq!(sent_at(none), None);
        }
        // A time too far in the future does not panic.
        sent_at(Timestamp::CreateTime(i64::MAX));
    }
}
