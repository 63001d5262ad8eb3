//! The clients alone.

mod names {
    pub(super) use ::{async_nats, lapin, rdkafka};

    /// Instruments a client. The raw side leaves it unchanged.
    macro_rules! instrumented {
        ($client:expr, $instrumentation:expr) => {{
            let _ = &$instrumentation;
            $client
        }};
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
