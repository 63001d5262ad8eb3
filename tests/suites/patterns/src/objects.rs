//! One interface over several clients, as trait objects: what an application sends through is decided when it runs.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use lapin::{BasicProperties, Channel, options::BasicPublishOptions};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// Errors of any client.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Where messages can go.
pub trait Outlet: fmt::Debug + Send + Sync {
    /// Sends a message and waits for what the broker answers, if it does.
    fn send<'a>(&'a self, destination: &'a str, payload: &'a [u8]) -> BoxFuture<'a, Result<(), BoxError>>;
}

/// A NATS client.
#[derive(Debug)]
pub struct Nats(pub async_nats::Client);

/// A Kafka producer, which has no `Debug`.
pub struct Kafka(pub FutureProducer);

impl Outlet for Nats {
    fn send<'a>(&'a self, destination: &'a str, payload: &'a [u8]) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            self.0.publish(destination.to_owned(), Bytes::copy_from_slice(payload)).await?;
            Ok(self.0.flush().await?)
        })
    }
}

impl Outlet for Kafka {
    fn send<'a>(&'a self, destination: &'a str, payload: &'a [u8]) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            let record = FutureRecord::<(), _>::to(destination).payload(payload);
            let sent = self.0.send(record, std::time::Duration::from_secs(20)).await;
            sent.map(drop).map_err(|(error, _record)| error.into())
        })
    }
}

impl Outlet for Channel {
    fn send<'a>(&'a self, destination: &'a str, payload: &'a [u8]) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let confirm = self.basic_publish("".into(), destination.into(), options, payload, properties).await?;
            confirm.await?;
            Ok(())
        })
    }
}

/// Sends the same to all of them at a time.
///
/// # Errors
///
/// The first there is.
pub async fn send_to_all(outlets: &[Arc<dyn Outlet>], destination: &str, payload: &[u8]) -> Result<(), BoxError> {
    let sends = outlets.iter().map(|outlet| outlet.send(destination, payload));
    futures::future::try_join_all(sends).await.map(drop)
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kafka").finish_non_exhaustive()
    }
}
