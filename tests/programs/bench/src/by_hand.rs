//! The instrumentation that a competent user writes: a carrier over the client's headers, the global propagator, one span
//! builder with the attributes of the convention that are known at that place, ended with the client's answer.
//!
//! It is what `otel-rdkafka`, `otel-lapin` and `otel-async-nats` are measured against, so it is good where that costs a
//! user nothing: tracers are looked up once, names that last are shared and not copied, an empty `tracestate` is not
//! written, the span stays owned while a message is on its way, and late attributes are left out when nobody records
//! them. It has no metrics, no policy, and no cache. It was written before the adapters were tuned and does not change.

pub mod kafka;
pub mod nats;
pub mod rabbitmq;
