//! Beside `tracing`, which async-nats itself uses. In a process of its own, as the subscriber is global: the client's tasks know
//! no other.

#[path = "suite/harness.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod harness;
#[path = "suite/sources.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod sources;

use harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_span_closed_while_its_message_is_kept_is_its_parent() {
    every_broker::tracing::a_span_closed_while_its_message_is_kept_is_its_parent::<sources::Nats>().await;
}
