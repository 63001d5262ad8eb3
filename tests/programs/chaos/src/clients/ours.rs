//! Our crates in the clients' place.

mod names {
    pub(super) use {otel_async_nats as async_nats, otel_lapin as lapin, otel_rdkafka as rdkafka};

    macro_rules! instrumented {
        ($client:expr, $instrumentation:expr) => {
            $client.with_instrumentation($instrumentation.clone())
        };
    }
    pub(super) use instrumented;
}

#[path = "kafka.rs"]
mod kafka;
#[path = "nats.rs"]
mod nats;
#[path = "rabbitmq.rs"]
mod rabbitmq;
#[path = "side.rs"]
mod side;

pub(super) use side::connect;
