//! The clients, raw and ours: the modules below are compiled twice, as those of the benchmarks are, once on the clients and
//! once on our crates under the clients' names.

mod ours;
mod raw;

use bytes::Bytes;
use futures::future::BoxFuture;
use otel_messaging::Instrumentation;

use crate::broker::Kind;

/// The broker's answer to a message; an error is its text.
pub(crate) type Answer = BoxFuture<'static, Result<(), String>>;

/// A service that sends to one destination and receives from it.
pub(crate) trait Client: Send + Sync {
    /// Waits until there is something to send with. Clients that connect again by themselves have it always.
    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Hands a message over; its answer may be awaited beside others.
    fn send(&self, payload: Bytes) -> BoxFuture<'_, Result<Answer, String>>;

    /// Receives a message and settles it.
    fn receive(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Where a service sends to and receives from.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// As the clients take it.
    pub(crate) address: String,
    pub(crate) destination: String,
}

/// A service on our crates with this instrumentation, or else on the raw clients.
pub(crate) async fn connect(place: &Place, ours: Option<Instrumentation>) -> Result<Box<dyn Client>, String> {
    match ours {
        Some(instrumentation) => ours::connect(place, instrumentation).await,
        None => raw::connect(place, Instrumentation::default()).await,
    }
}

/// The text of an error that the caller gets.
fn text(error: impl ToString) -> String {
    error.to_string()
}
