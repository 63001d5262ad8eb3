//! async-nats with OpenTelemetry: the same NATS client, every message a span.
