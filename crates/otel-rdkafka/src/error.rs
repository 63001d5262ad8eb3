//! Errors: `rdkafka::error`, unchanged.
//!
//! `error.type` of a span is the protocol's name for a broker's error, `UNKNOWN_TOPIC_OR_PARTITION`, and librdkafka's name for
//! a local error, `_MSG_TIMED_OUT`. One name is this crate's: a send that the application purged, by `purge` or
//! `abort_transaction`, has `_PURGE_REQUESTED`. librdkafka's names do not distinguish it from the purge of a dropped producer.

use crate::native;

pub use rdkafka::error::{IsError, KafkaError, KafkaResult, RDKafkaError, RDKafkaErrorCode};

/// The convention's `error.type` for an error without a name.
const OTHER: &str = "_OTHER";

/// The low-cardinality name of an error: `UNKNOWN_TOPIC_OR_PARTITION`, `_MSG_TIMED_OUT`.
pub(crate) fn error_type(error: &KafkaError) -> &'static str {
    match error {
        KafkaError::AdminOp(code) => code_name(*code),
        KafkaError::Canceled => "_DESTROY",
        KafkaError::ClientConfig(..) | KafkaError::Nul(_) => "_INVALID_ARG",
        KafkaError::NoMessageReceived => "_TIMED_OUT",
        KafkaError::PartitionEOF(_) => "_PARTITION_EOF",
        error => error.rdkafka_error_code().map_or(OTHER, code_name),
    }
}

fn code_name(code: RDKafkaErrorCode) -> &'static str {
    // The codes for which librdkafka's name is not the protocol's.
    match code {
        RDKafkaErrorCode::Unknown => "UNKNOWN_SERVER_ERROR",
        RDKafkaErrorCode::InvalidMessage => "CORRUPT_MESSAGE",
        RDKafkaErrorCode::UnknownTopicOrPartition => "UNKNOWN_TOPIC_OR_PARTITION",
        RDKafkaErrorCode::InvalidMessageSize => "INVALID_FETCH_SIZE",
        RDKafkaErrorCode::NotLeaderForPartition => "NOT_LEADER_OR_FOLLOWER",
        RDKafkaErrorCode::MessageSizeTooLarge => "MESSAGE_TOO_LARGE",
        RDKafkaErrorCode::StaleControllerEpoch => "STALE_CONTROLLER_EPOCH",
        RDKafkaErrorCode::InvalidTopic => "INVALID_TOPIC_EXCEPTION",
        code => native::error_name(code).unwrap_or(OTHER),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::{error::KafkaError, types::RDKafkaRespErr};

    use super::*;

    /// The names of `org.apache.kafka.common.protocol.Errors`, for the codes that librdkafka has.
    #[rustfmt::skip]
    const PROTOCOL: &[(i32, &str)] = &[
        (-1, "UNKNOWN_SERVER_ERROR"), (1, "OFFSET_OUT_OF_RANGE"), (2, "CORRUPT_MESSAGE"),
        (3, "UNKNOWN_TOPIC_OR_PARTITION"), (4, "INVALID_FETCH_SIZE"), (5, "LEADER_NOT_AVAILABLE"),
        (6, "NOT_LEADER_OR_FOLLOWER"), (7, "REQUEST_TIMED_OUT"), (8, "BROKER_NOT_AVAILABLE"),
        (9, "REPLICA_NOT_AVAILABLE"), (10, "MESSAGE_TOO_LARGE"), (11, "STALE_CONTROLLER_EPOCH"),
        (12, "OFFSET_METADATA_TOO_LARGE"), (13, "NETWORK_EXCEPTION"), (14, "COORDINATOR_LOAD_IN_PROGRESS"),
        (15, "COORDINATOR_NOT_AVAILABLE"), (16, "NOT_COORDINATOR"), (17, "INVALID_TOPIC_EXCEPTION"),
        (18, "RECORD_LIST_TOO_LARGE"), (19, "NOT_ENOUGH_REPLICAS"), (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
        (21, "INVALID_REQUIRED_ACKS"), (22, "ILLEGAL_GENERATION"), (23, "INCONSISTENT_GROUP_PROTOCOL"),
        (24, "INVALID_GROUP_ID"), (25, "UNKNOWN_MEMBER_ID"), (26, "INVALID_SESSION_TIMEOUT"),
        (27, "REBALANCE_IN_PROGRESS"), (28, "INVALID_COMMIT_OFFSET_SIZE"), (29, "TOPIC_AUTHORIZATION_FAILED"),
        (30, "GROUP_AUTHORIZATION_FAILED"), (31, "CLUSTER_AUTHORIZATION_FAILED"), (32, "INVALID_TIMESTAMP"),
        (33, "UNSUPPORTED_SASL_MECHANISM"), (34, "ILLEGAL_SASL_STATE"), (35, "UNSUPPORTED_VERSION"),
        (36, "TOPIC_ALREADY_EXISTS"), (37, "INVALID_PARTITIONS"), (38, "INVALID_REPLICATION_FACTOR"),
        (39, "INVALID_REPLICA_ASSIGNMENT"), (40, "INVALID_CONFIG"), (41, "NOT_CONTROLLER"), (42, "INVALID_REQUEST"),
        (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT"), (44, "POLICY_VIOLATION"), (45, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
        (46, "DUPLICATE_SEQUENCE_NUMBER"), (47, "INVALID_PRODUCER_EPOCH"), (48, "INVALID_TXN_STATE"),
        (49, "INVALID_PRODUCER_ID_MAPPING"), (50, "INVALID_TRANSACTION_TIMEOUT"), (51, "CONCURRENT_TRANSACTIONS"),
        (52, "TRANSACTION_COORDINATOR_FENCED"), (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
        (54, "SECURITY_DISABLED"), (55, "OPERATION_NOT_ATTEMPTED"), (56, "KAFKA_STORAGE_ERROR"),
        (57, "LOG_DIR_NOT_FOUND"), (58, "SASL_AUTHENTICATION_FAILED"), (59, "UNKNOWN_PRODUCER_ID"),
        (60, "REASSIGNMENT_IN_PROGRESS"), (61, "DELEGATION_TOKEN_AUTH_DISABLED"), (62, "DELEGATION_TOKEN_NOT_FOUND"),
        (63, "DELEGATION_TOKEN_OWNER_MISMATCH"), (64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"),
        (65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED"), (66, "DELEGATION_TOKEN_EXPIRED"),
        (67, "INVALID_PRINCIPAL_TYPE"), (68, "NON_EMPTY_GROUP"), (69, "GROUP_ID_NOT_FOUND"),
        (70, "FETCH_SESSION_ID_NOT_FOUND"), (71, "INVALID_FETCH_SESSION_EPOCH"), (72, "LISTENER_NOT_FOUND"),
        (73, "TOPIC_DELETION_DISABLED"), (74, "FENCED_LEADER_EPOCH"), (75, "UNKNOWN_LEADER_EPOCH"),
        (76, "UNSUPPORTED_COMPRESSION_TYPE"), (77, "STALE_BROKER_EPOCH"), (78, "OFFSET_NOT_AVAILABLE"),
        (79, "MEMBER_ID_REQUIRED"), (80, "PREFERRED_LEADER_NOT_AVAILABLE"), (81, "GROUP_MAX_SIZE_REACHED"),
        (82, "FENCED_INSTANCE_ID"), (83, "ELIGIBLE_LEADERS_NOT_AVAILABLE"), (84, "ELECTION_NOT_NEEDED"),
        (85, "NO_REASSIGNMENT_IN_PROGRESS"), (86, "GROUP_SUBSCRIBED_TO_TOPIC"), (87, "INVALID_RECORD"),
        (88, "UNSTABLE_OFFSET_COMMIT"), (89, "THROTTLING_QUOTA_EXCEEDED"), (90, "PRODUCER_FENCED"),
        (91, "RESOURCE_NOT_FOUND"), (92, "DUPLICATE_RESOURCE"), (93, "UNACCEPTABLE_CREDENTIAL"),
        (94, "INCONSISTENT_VOTER_SET"), (95, "INVALID_UPDATE_VERSION"), (96, "FEATURE_UPDATE_FAILED"),
        (97, "PRINCIPAL_DESERIALIZATION_FAILURE"), (100, "UNKNOWN_TOPIC_ID"), (110, "FENCED_MEMBER_EPOCH"),
        (111, "UNRELEASED_INSTANCE_ID"), (112, "UNSUPPORTED_ASSIGNOR"), (113, "STALE_MEMBER_EPOCH"),
        (117, "UNKNOWN_SUBSCRIPTION_ID"), (118, "TELEMETRY_TOO_LARGE"), (129, "REBOOTSTRAP_REQUIRED"),
    ];

    #[test]
    fn a_brokers_code_has_the_protocols_name() {
        let mut known = 0;
        for code in (-1..=i32::from(u8::MAX)).filter(|&code| code != 0) {
            let Ok(native) = RDKafkaRespErr::try_from(code) else { continue };
            let name = code_name(RDKafkaErrorCode::from(native));
            let expected = PROTOCOL.iter().find(|(number, _)| *number == code).map_or(OTHER, |(_, name)| name);
            assert_eq!(name, expected, "code {code}");
            known += 1;
        }
        // One more: the end marker of the codes.
        assert_eq!(known, PROTOCOL.len() + 1);
    }

    #[test]
    fn a_local_code_has_librdkafkas_name() {
        for code in -199..-1 {
            let Ok(native) = RDKafkaRespErr::try_from(code) else { continue };
            let name = code_name(RDKafkaErrorCode::from(native));
            assert!(name.starts_with('_'), "code {code}: {name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "code {code}: {name}");
        }
        assert_eq!(error_type(&KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue)), "_PURGE_QUEUE");
        assert_eq!(error_type(&KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded)), "_MAX_POLL_EXCEEDED");
    }

    #[test]
    fn an_error_without_a_code_has_a_name_too() {
        assert_eq!(error_type(&KafkaError::Canceled), "_DESTROY");
        assert_eq!(error_type(&KafkaError::PartitionEOF(3)), "_PARTITION_EOF");
        assert_eq!(error_type(&KafkaError::Subscription("whatever it says".to_owned())), OTHER);
        let nul = std::ffi::CString::new("a\0b").expect_err("has a zero");
        assert_eq!(error_type(&KafkaError::Nul(nul)), "_INVALID_ARG");
    }
}
