//! Services: endpoints that answer requests.

pub mod endpoint;
mod request;

use std::{collections::HashMap, future::Future, pin::Pin};

use async_nats::Error;
use otel_messaging::{
    Instrumentation,
    adapter::{opaque_debug, wrapper},
};

use crate::{Client, receive::Source, service::endpoint::Endpoint};

pub use crate::service::request::Request;
pub use async_nats::service::*;

/// The queue group of endpoints for which none is given.
const DEFAULT_QUEUE_GROUP: &str = "q";

/// Adds services to a client.
pub trait ServiceExt {
    /// The future of [`add_service`](Self::add_service).
    type Output: Future<Output = Result<Service, Error>>;

    /// Adds a service with this configuration.
    fn add_service(&self, config: Config) -> Self::Output;

    /// Makes a service step by step.
    fn service_builder(&self) -> ServiceBuilder;
}

impl ServiceExt for Client {
    type Output = Pin<Box<dyn Future<Output = Result<Service, Error>> + Send>>;

    fn add_service(&self, config: Config) -> Self::Output {
        let client = self.clone();
        Box::pin(async move {
            let queue_group = config.queue_group.clone();
            let inner = async_nats::service::ServiceExt::add_service(client.get_ref(), config).await?;
            Ok(Service::new(inner, client, queue_group))
        })
    }

    fn service_builder(&self) -> ServiceBuilder {
        let inner = async_nats::service::ServiceExt::service_builder(self.get_ref());
        ServiceBuilder { inner, client: self.clone(), queue_group: None }
    }
}

/// Makes a service: [`async_nats::service::ServiceBuilder`].
pub struct ServiceBuilder {
    inner: async_nats::service::ServiceBuilder,
    client: Client,
    queue_group: Option<String>,
}

impl ServiceBuilder {
    /// See [`async_nats::service::ServiceBuilder::description`].
    pub fn description<S: ToString>(self, description: S) -> Self {
        Self { inner: self.inner.description(description), ..self }
    }

    /// See [`async_nats::service::ServiceBuilder::stats_handler`].
    pub fn stats_handler<F>(self, handler: F) -> Self
    where
        F: FnMut(String, endpoint::Stats) -> serde_json::Value + Send + Sync + 'static,
    {
        Self { inner: self.inner.stats_handler(handler), ..self }
    }

    /// See [`async_nats::service::ServiceBuilder::metadata`].
    pub fn metadata(self, metadata: HashMap<String, String>) -> Self {
        Self { inner: self.inner.metadata(metadata), ..self }
    }

    /// See [`async_nats::service::ServiceBuilder::queue_group`].
    pub fn queue_group<S: ToString>(self, queue_group: S) -> Self {
        let queue_group = queue_group.to_string();
        Self { inner: self.inner.queue_group(&queue_group), queue_group: Some(queue_group), ..self }
    }

    /// See [`async_nats::service::ServiceBuilder::start`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn start<N: ToString, V: ToString>(self, name: N, version: V) -> Result<Service, Error> {
        let inner = self.inner.start(name, version).await?;
        Ok(Service::new(inner, self.client, self.queue_group))
    }
}

wrapper! {
    [] ServiceBuilder => async_nats::service::ServiceBuilder, inner:
    /// The builder inside.
    get_ref
    /// The builder inside, whose service's requests have no process spans.
    into_inner
}

opaque_debug! { [] ServiceBuilder, "ServiceBuilder", |builder| queue_group: builder.queue_group }

/// A service: [`async_nats::service::Service`] whose requests have process spans.
///
/// All other methods are the client's, through `Deref`. The answers to `$SRV` requests have no spans.
pub struct Service {
    inner: async_nats::service::Service,
    client: Client,
    queue_group: String,
}

impl Service {
    fn new(inner: async_nats::service::Service, client: Client, queue_group: Option<String>) -> Self {
        Self { inner, client, queue_group: queue_group.unwrap_or_else(|| DEFAULT_QUEUE_GROUP.to_owned()) }
    }

    /// Reports to this instrumentation from now on, as do the groups and endpoints made of this value.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self { client: self.client.with_instrumentation(instrumentation), ..self }
    }

    /// See [`async_nats::service::Service::stop`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn stop(self) -> Result<(), Error> {
        self.inner.stop().await
    }

    /// See [`async_nats::service::Service::group`].
    pub fn group<S: ToString>(&self, prefix: S) -> Group {
        self.group_with_queue_group(prefix, self.queue_group.clone())
    }

    /// See [`async_nats::service::Service::group_with_queue_group`].
    pub fn group_with_queue_group<S: ToString, Z: ToString>(&self, prefix: S, queue_group: Z) -> Group {
        let (prefix, queue_group) = (prefix.to_string(), queue_group.to_string());
        let inner = self.inner.group_with_queue_group(&prefix, &queue_group);
        Group { inner, client: self.client.clone(), prefix, queue_group }
    }

    /// See [`async_nats::service::Service::endpoint_builder`].
    pub fn endpoint_builder(&self) -> EndpointBuilder {
        EndpointBuilder {
            inner: self.inner.endpoint_builder(),
            client: self.client.clone(),
            prefix: None,
            queue_group: self.queue_group.clone(),
        }
    }

    /// An endpoint on this subject. Each request has a process span, `process {subject}`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn endpoint<S: ToString>(&self, subject: S) -> Result<Endpoint, Error> {
        self.endpoint_builder().add(subject).await
    }
}

wrapper! {
    [] Service => async_nats::service::Service, inner:
    /// The service inside.
    get_ref
    /// The service inside, whose requests have no process spans.
    into_inner
    deref deref_mut debug
}

/// Endpoints with a common subject prefix: [`async_nats::service::Group`].
pub struct Group {
    inner: async_nats::service::Group,
    client: Client,
    prefix: String,
    queue_group: String,
}

impl Group {
    /// Reports to this instrumentation from now on, as do the groups and endpoints made of this value.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self { client: self.client.with_instrumentation(instrumentation), ..self }
    }

    /// See [`async_nats::service::Group::group`].
    pub fn group<S: ToString>(&self, prefix: S) -> Group {
        self.group_with_queue_group(prefix, self.queue_group.clone())
    }

    /// See [`async_nats::service::Group::group_with_queue_group`].
    pub fn group_with_queue_group<S: ToString, Z: ToString>(&self, prefix: S, queue_group: Z) -> Group {
        let (prefix, queue_group) = (prefix.to_string(), queue_group.to_string());
        let inner = self.inner.group_with_queue_group(&prefix, &queue_group);
        Group { inner, client: self.client.clone(), prefix: format!("{}.{prefix}", self.prefix), queue_group }
    }

    /// An endpoint on this subject, after the prefix. Each request has a process span, `process {subject}`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn endpoint<S: ToString>(&self, subject: S) -> Result<Endpoint, Error> {
        self.endpoint_builder().add(subject).await
    }

    /// See [`async_nats::service::Group::endpoint_builder`].
    pub fn endpoint_builder(&self) -> EndpointBuilder {
        EndpointBuilder {
            inner: self.inner.endpoint_builder(),
            client: self.client.clone(),
            prefix: Some(self.prefix.clone()),
            queue_group: self.queue_group.clone(),
        }
    }
}

wrapper! {
    [] Group => async_nats::service::Group, inner:
    /// The group inside.
    get_ref
    /// The group inside, whose endpoints' requests have no process spans.
    into_inner
    deref deref_mut
}

opaque_debug! { [] Group, "Group", |group| prefix: group.prefix }

/// Makes an endpoint: [`async_nats::service::EndpointBuilder`].
pub struct EndpointBuilder {
    inner: async_nats::service::EndpointBuilder,
    client: Client,
    prefix: Option<String>,
    queue_group: String,
}

impl EndpointBuilder {
    /// See [`async_nats::service::EndpointBuilder::name`].
    pub fn name<S: ToString>(self, name: S) -> Self {
        Self { inner: self.inner.name(name), ..self }
    }

    /// See [`async_nats::service::EndpointBuilder::metadata`].
    pub fn metadata(self, metadata: HashMap<String, String>) -> Self {
        Self { inner: self.inner.metadata(metadata), ..self }
    }

    /// See [`async_nats::service::EndpointBuilder::queue_group`].
    pub fn queue_group<S: ToString>(self, queue_group: S) -> Self {
        let queue_group = queue_group.to_string();
        Self { inner: self.inner.queue_group(&queue_group), queue_group, ..self }
    }

    /// Adds the endpoint. Each request has a process span, `process {subject}`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn add<S: ToString>(self, subject: S) -> Result<Endpoint, Error> {
        let Self { inner, client, prefix, queue_group } = self;
        let subject = subject.to_string();
        let whole = prefix.map_or_else(|| subject.clone(), |prefix| format!("{prefix}.{subject}"));
        let source = Source::subscription(client.telemetry(), &whole, Some(&queue_group));
        Ok(Endpoint::new(inner.add(subject).await?, client, source))
    }
}

wrapper! {
    [] EndpointBuilder => async_nats::service::EndpointBuilder, inner:
    /// The builder inside.
    get_ref
    /// The builder inside, whose endpoint's requests have no process spans.
    into_inner
}

opaque_debug! { [] EndpointBuilder, "EndpointBuilder", |builder| prefix: builder.prefix }
