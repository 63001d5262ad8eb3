//! What travels through the queues.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The exchange that paid orders go to.
pub(crate) const ORDERS_EXCHANGE: &str = "orders";
/// The routing key of a paid order.
pub(crate) const PAID: &str = "paid";
/// The queue of what is to be shipped.
pub(crate) const SHIPPING_QUEUE: &str = "shipping";
/// Orders whose payment is looked at again before they are given up. What is rejected here goes to the dead letters.
pub(crate) const REVIEW_QUEUE: &str = "orders.review";
/// Where orders end that could not be paid.
pub(crate) const DEAD_LETTER_QUEUE: &str = "orders.dlq";
/// The topic of new orders.
pub(crate) const ORDERS_TOPIC: &str = "orders";
/// The topic of orders whose payment is tried again.
pub(crate) const RETRY_TOPIC: &str = "orders.retry";
/// Requests to the inventory.
pub(crate) const RESERVE_SUBJECT: &str = "inventory.reserve";
/// The stream of what customers are to be told.
pub(crate) const NOTIFICATIONS_STREAM: &str = "NOTIFICATIONS";
/// The subject of what customers are to be told about their orders.
pub(crate) const NOTIFICATIONS_SUBJECT: &str = "notifications.order";

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Counted from 1.
    pub(crate) id: u32,
    /// What was bought.
    pub(crate) item: String,
    /// What it is paid with.
    pub(crate) card: Card,
}

impl Order {
    /// As it travels.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an order has nothing that JSON cannot say")
    }
}

/// A test card, as payment providers have them: the card says how its payment will go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Card {
    /// Paid at once.
    Paid,
    /// Paid after a while.
    Slow,
    /// Declined, however often it is tried.
    Declined,
}

impl Card {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Paid, Self::Slow, Self::Declined];

    /// The name of this kind of order.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Slow => "slow",
            Self::Declined => "declined",
        }
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
