//! lapin with OpenTelemetry: the same RabbitMQ client, every message a span.
