//! otel-lapin against a real RabbitMQ.
