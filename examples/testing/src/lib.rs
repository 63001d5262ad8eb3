//! Services that use Kafka, RabbitMQ and NATS, and unit tests that assert the whole trace of a message. No test needs a broker.
//!
//! `docs/testing.md` explains the tests; its code is compiled and run here.

pub mod inventory;
pub mod payment;
pub mod shipping;

#[cfg(test)]
mod recorded;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
mod page {}
