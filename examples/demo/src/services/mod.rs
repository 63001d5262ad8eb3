//! The services, in the order in which an order meets them. Each reads like a service of its own.

pub(crate) mod analytics;
pub(crate) mod inventory;
pub(crate) mod notification;
pub(crate) mod orders;
pub(crate) mod payment;
pub(crate) mod shipping;
pub(crate) mod shopper;

mod kafka;
mod rabbitmq;
