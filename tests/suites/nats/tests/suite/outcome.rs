//! Handlers that end in async-nats' own errors.

use every_broker::{Received, outcome::check};
use otel_async_nats::{HeaderMap, jetstream::context};

use crate::{
    headers,
    sources::{Nats, Source, Taken},
    unique,
};

/// Waits for a stream to store what arrived, and there is none.
async fn store(nats: &Nats, message: &Taken) -> Result<(), context::PublishError> {
    let pairs = Received::headers(message);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let headers: HeaderMap = headers(&pairs);
    let stored = nats.context().publish_with_headers(unique("unread"), headers, message.payload().into()).await?;
    stored.await.map(drop)
}

/// The same error where it is any of the client's.
async fn store_somehow(nats: &Nats, message: &Taken) -> Result<(), otel_async_nats::Error> {
    Ok(store(nats, message).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_client_s_errors_is_called_by_its_type() {
    let stored = "async_nats::error::Error<async_nats::jetstream::context::PublishErrorKind>";
    let any = "alloc::boxed::Box<dyn core::error::Error + core::marker::Send + core::marker::Sync>";
    check::<Nats, _>(Source::Pull, stored, store).await;
    check::<Nats, _>(Source::Pull, any, store_somehow).await;
}
