//! rdkafka with OpenTelemetry: the same Kafka client, every message a span.
