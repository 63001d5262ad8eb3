//! otel-rdkafka against a real Apache Kafka.
