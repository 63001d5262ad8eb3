//! Endpoints of services.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use async_nats::service::endpoint;
use futures_core::Stream;
use otel_messaging::{
    Instrumentation,
    adapter::{opaque_debug, poll_started, wrapper},
};

use crate::{Client, Message, receive::Source, service::request::Request};

pub use async_nats::service::endpoint::*;

/// Requests to be answered: [`async_nats::service::endpoint::Endpoint`] whose requests have process spans.
pub struct Endpoint {
    inner: endpoint::Endpoint,
    client: Arc<Client>,
    source: Arc<Source>,
}

impl Endpoint {
    pub(super) fn new(inner: endpoint::Endpoint, client: Client, source: Arc<Source>) -> Self {
        Self { inner, client: Arc::new(client), source }
    }

    /// Reports requests that are delivered from now on, and the answers to them, to this instrumentation.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        let client = Client::clone(&self.client).with_instrumentation(instrumentation);
        let source = Arc::new(self.source.with_telemetry(client.telemetry().clone()));
        Self { client: Arc::new(client), source, ..self }
    }

    /// See [`async_nats::service::endpoint::Endpoint::stop`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn stop(&mut self) -> Result<(), io::Error> {
        self.inner.stop().await
    }
}

wrapper! {
    [] Endpoint => endpoint::Endpoint, inner:
    /// The endpoint inside.
    get_ref
    /// The endpoint inside, whose requests have no process spans.
    into_inner
    deref deref_mut
}

opaque_debug! { [] Endpoint, "Endpoint", |endpoint| source: endpoint.source }

impl Stream for Endpoint {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        poll_started(self.source.id());
        let next = Pin::new(&mut self.inner).poll_next(cx);
        next.map(|request| {
            request.map(|request| {
                Request::new(request, self.client.clone(), |message| Message::delivered(message, &self.source))
            })
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
