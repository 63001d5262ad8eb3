//! Services: endpoints that answer requests.

pub mod endpoint;

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

use async_nats::{Error, HeaderMap, PublishError, Subject};
use bytes::Bytes;
use opentelemetry::{Context, trace::TraceContextExt};
use otel_messaging::{Instrumentation, MessageExt, adapter::ProcessSpan};

use crate::{
    Client, Message,
    error::service_error_type,
    receive::Source,
    send::{MessageLength, PublishSpan, SendStart},
    service::endpoint::Endpoint,
    telemetry::RESPOND,
    wrap::deref,
};

pub use async_nats::service::*;

/// What endpoints are in, where none is given.
const DEFAULT_QUEUE_GROUP: &str = "q";

/// Adds services to a client.
pub trait ServiceExt {
    /// What [`add_service`](Self::add_service) gives.
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
    /// The builder inside.
    pub fn get_ref(&self) -> &async_nats::service::ServiceBuilder {
        &self.inner
    }

    /// The builder inside, whose service's requests have no process spans.
    pub fn into_inner(self) -> async_nats::service::ServiceBuilder {
        self.inner
    }

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

impl fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder").field("queue_group", &self.queue_group).finish_non_exhaustive()
    }
}

/// A service: [`async_nats::service::Service`] whose requests have process spans.
///
/// What is not here is the client's own, through `Deref`; so are the answers to `$SRV` requests, which have no spans.
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

    /// The service inside.
    pub fn get_ref(&self) -> &async_nats::service::Service {
        &self.inner
    }

    /// The service inside, whose requests have no process spans.
    pub fn into_inner(self) -> async_nats::service::Service {
        self.inner
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

deref!(Service => async_nats::service::Service);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Endpoints whose subjects begin alike: [`async_nats::service::Group`].
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

    /// The group inside.
    pub fn get_ref(&self) -> &async_nats::service::Group {
        &self.inner
    }

    /// The group inside, whose endpoints' requests have no process spans.
    pub fn into_inner(self) -> async_nats::service::Group {
        self.inner
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

deref!(Group => async_nats::service::Group);

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Makes an endpoint: [`async_nats::service::EndpointBuilder`].
pub struct EndpointBuilder {
    inner: async_nats::service::EndpointBuilder,
    client: Client,
    prefix: Option<String>,
    queue_group: String,
}

impl EndpointBuilder {
    /// The builder inside.
    pub fn get_ref(&self) -> &async_nats::service::EndpointBuilder {
        &self.inner
    }

    /// The builder inside, whose endpoint's requests have no process spans.
    pub fn into_inner(self) -> async_nats::service::EndpointBuilder {
        self.inner
    }

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

impl fmt::Debug for EndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A request to be answered: [`async_nats::service::Request`] with its process span, which is in
/// [`message`](Self::message).
///
/// Answering makes a span `respond`, which is a child of the current one, or of the process span where there is none. The
/// answer is not touched unless it has headers already: nobody looks for a context in it otherwise.
pub struct Request {
    /// The request itself. Its answer goes to the reply subject that it came with.
    pub message: Message,
    inner: async_nats::service::Request,
    client: Arc<Client>,
}

impl Request {
    fn new(
        mut inner: async_nats::service::Request,
        client: Arc<Client>,
        wrap: impl FnOnce(async_nats::Message) -> Message,
    ) -> Self {
        // The client answers to the reply subject of its own message, and reads nothing else of it.
        let kept = async_nats::Message {
            subject: Subject::from_static(""),
            reply: inner.message.reply.clone(),
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let message = wrap(std::mem::replace(&mut inner.message, kept));
        Self { message, inner, client }
    }

    /// The request inside, whole again. The process span ends, unless another part of the request lives on.
    pub fn into_inner(self) -> async_nats::service::Request {
        let Self { message, mut inner, client: _ } = self;
        inner.message = message.into();
        inner
    }

    /// Answers the request. An answer that is an error is the error of the request's process span, unless the handler returns
    /// one of its own; `error.type` is its code if that has one to five digits, else `_OTHER`. The span `respond` says whether
    /// the answer was sent.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn respond(&self, response: Result<Bytes, error::Error>) -> impl Future<Output = Result<(), PublishError>> {
        self.respond_with_headers(response, HeaderMap::new())
    }

    /// Answers the request, with headers. Unless there are none, a context is written into them.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn respond_with_headers(
        &self,
        response: Result<Bytes, error::Error>,
        headers: HeaderMap,
    ) -> impl Future<Output = Result<(), PublishError>> {
        let start = self.start_send();
        async move {
            if let (Err(error), Some(process)) = (&response, self.process_span()) {
                process.answered_with_error(service_error_type(&error.code.to_string()), &error.status);
            }
            let Some(start) = start else { return self.inner.respond_with_headers(response, headers).await };
            let reply = self.inner.message.reply.as_deref();
            let telemetry = self.client.telemetry();
            let mut headers = Some(headers).filter(|headers| !headers.is_empty());
            let span = if headers.is_some() {
                start.span_with_context(telemetry, RESPOND, reply, &mut headers, length(&response))
            } else {
                start.span_without_context(telemetry, RESPOND, reply, None, length(&response).body)
            };
            let result = self.inner.respond_with_headers(response, headers.unwrap_or_default()).await;
            PublishSpan::end(Some(PublishSpan::Send(span)), &result);
            result
        }
    }

    /// An answer belongs to its request, also where nothing has made the process span current.
    fn start_send(&self) -> Option<SendStart> {
        let telemetry = self.client.telemetry();
        let start = telemetry.start_on_message()?;
        if Context::current().has_active_span() {
            return Some(SendStart::answer(start));
        }
        let _attached = self.message.otel_context().attach();
        telemetry.start_on_message().map(SendStart::answer)
    }
}

/// How long the answer is, and the headers that the client adds to an error.
fn length(response: &Result<Bytes, error::Error>) -> MessageLength {
    match response {
        Ok(payload) => payload.len().into(),
        Err(error) => {
            // The longest code there is, and what stands around names and values.
            const REST: usize = 20 + 8;
            let added = NATS_SERVICE_ERROR.len() + NATS_SERVICE_ERROR_CODE.len() + error.status.len() + REST;
            MessageLength { body: 0, added }
        }
    }
}

impl MessageExt for Request {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.message.process_span()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("message", &self.message).finish_non_exhaustive()
    }
}
