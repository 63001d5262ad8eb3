//! otel-async-nats against a real nats-server.
