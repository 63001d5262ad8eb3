//! NATS, through whatever has the names of async-nats.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Instant};

use bytes::Bytes;
use futures::StreamExt;
use tokio::{runtime::Runtime, task::unconstrained};

use super::clients::{
    async_nats::{self, Message, Subject, Subscriber},
    instrumented,
};
use crate::{
    peer::{PAYLOAD, PUSH, nats::start},
    subject::{Driven, Failed, PATIENCE},
};

/// The subject of all messages.
pub(crate) const SUBJECT: &str = "orders.created";

/// A connection, and the runtime it lives in: it reads and writes only while the runtime is entered and the caller waits.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    pub(crate) client: async_nats::Client,
}

pub(crate) struct Send {
    client: Client,
    payload: Bytes,
}

pub(crate) struct Receive<H> {
    client: Client,
    subscriber: Subscriber,
    handle: H,
}

impl Client {
    /// Connects to the peer at this address.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async_nats::connect(format!("nats://{address}")))?;
        Ok(Self { runtime, client: instrumented!(client) })
    }

    pub(crate) fn flush(&self) -> Result<(), Failed> {
        Ok(self.runtime.block_on(self.client.flush())?)
    }
}

impl Send {
    pub(crate) fn new() -> Result<Self, Failed> {
        Ok(Self { client: Client::new(start()?)?, payload: Bytes::from_static(&PAYLOAD) })
    }
}

impl Driven for Send {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        let Client { runtime, client, .. } = &self.client;
        runtime.block_on(unconstrained(async {
            for _ in 0..operations {
                client.publish(Subject::from_static(SUBJECT), self.payload.clone()).await?;
            }
            Ok(())
        }))
    }

    fn settle(&mut self) -> Result<(), Failed> {
        self.client.flush()
    }
}

impl<H: FnMut(&Message)> Receive<H> {
    pub(crate) fn new(address: SocketAddr, handle: H) -> Result<Self, Failed> {
        let client = Client::new(address)?;
        let subscriber = client.runtime.block_on(client.client.subscribe(SUBJECT))?;
        Ok(Self { client, subscriber, handle })
    }
}

impl<H: FnMut(&Message)> Driven for Receive<H> {
    fn prepare(&mut self, operations: u32) -> Result<(), Failed> {
        let Client { runtime, client, .. } = &self.client;
        let statistics = client.statistics();
        let expected = statistics.in_messages.load(Relaxed) + u64::from(operations);
        runtime.block_on(client.publish(PUSH, operations.to_string().into()))?;
        self.client.flush()?;
        let start = Instant::now();
        while statistics.in_messages.load(Relaxed) < expected {
            if start.elapsed() > PATIENCE {
                return Err("the messages do not arrive".into());
            }
            runtime.block_on(tokio::task::yield_now());
        }
        Ok(())
    }

    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        self.client.runtime.block_on(unconstrained(async {
            for _ in 0..operations {
                let message = self.subscriber.next().await.ok_or("no message")?;
                (self.handle)(&message);
            }
            Ok(())
        }))
    }
}
