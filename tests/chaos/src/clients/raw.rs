//! The clients alone.

mod names {
    pub(super) use ::{async_nats, lapin, rdkafka};

    /// What every client passes through when it is made. Here it stays what it is.
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
