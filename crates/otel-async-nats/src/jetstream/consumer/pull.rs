//! Pull consumers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::{Duration, SystemTime},
};

use async_nats::jetstream::consumer::{self, StreamError};
use otel_messaging::{
    Instrumentation,
    adapter::{OperationStart, opaque_debug, poll_started, wrapper},
};

use crate::{
    error::ErrorType,
    jetstream::{
        Message,
        consumer::{Consumer, messages},
        receive::{ConsumerSource, Fetch},
    },
    wrap::setters,
};

pub use async_nats::jetstream::consumer::pull::*;

messages! {
    /// The messages of a pull consumer, requested in the background.
    Stream of consumer::pull::Stream, MessagesError
}

messages! {
    /// The messages of an ordered pull consumer.
    Ordered of consumer::pull::Ordered, OrderedError
}

impl Consumer<Config> {
    /// The messages, requested in the background. Each has a process span, `process {subject}`; the wait for it is measured,
    /// and has a span `fetch` where it failed, or where `with_receive_spans` asks for one.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn messages(&self) -> Result<Stream, StreamError> {
        Ok(Stream::new(self.inner.messages().await?, self.source()))
    }

    /// As [`messages`](Self::messages), with options.
    pub fn stream(&self) -> StreamBuilder<'_> {
        StreamBuilder::new(self)
    }

    /// Requests the messages that are available now: see [`FetchBuilder::messages`].
    pub fn fetch(&self) -> FetchBuilder<'_> {
        FetchBuilder::new(self)
    }

    /// Requests a number of messages and waits for them: see [`BatchBuilder::messages`].
    pub fn batch(&self) -> BatchBuilder<'_> {
        BatchBuilder::new(self)
    }

    /// Requests one batch after the other, each of which is a `fetch`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn sequence(&self, batch: usize) -> Result<Sequence, BatchError> {
        Ok(Sequence { inner: self.inner.sequence(batch)?, source: self.source().clone(), poll_start: None })
    }
}

impl Consumer<OrderedConfig> {
    /// The messages. Each has a process span, `process {subject}`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn messages(self) -> Result<Ordered, StreamError> {
        let source = self.source().clone();
        Ok(Ordered::new(self.inner.messages().await?, &source))
    }
}

/// A batch of messages, which ends: [`async_nats::jetstream::consumer::pull::Batch`].
///
/// The span `fetch {filter}` starts when the batch is requested, ends with the batch, and links its messages, each of which has
/// its process span too. Attributes that all messages share are on the span, the others on each link. An empty batch has no
/// span. Without a filter the span is named after the subject that all messages have.
pub struct Batch {
    inner: consumer::pull::Batch,
    fetch: Fetch,
}

impl Batch {
    fn new<E: ErrorType + fmt::Display>(
        result: Result<consumer::pull::Batch, E>,
        source: Arc<ConsumerSource>,
        start: Option<OperationStart>,
    ) -> Result<Self, E> {
        let mut fetch = Fetch::new(source, start);
        match result {
            Ok(inner) => Ok(Self { inner, fetch }),
            Err(error) => {
                fetch.end(Err(&error));
                Err(error)
            }
        }
    }

    /// Reports messages that are delivered from now on, and the batch, to this instrumentation.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        Arc::make_mut(&mut self.fetch.source).instrument(instrumentation);
        self
    }
}

wrapper! {
    [] Batch => consumer::pull::Batch, inner:
    /// The batch inside.
    get_ref
    /// The batch inside, whose messages have no process spans. The span `fetch` ends now.
    into_inner
    deref deref_mut
}

opaque_debug! { [] Batch, "Batch", |batch| source: batch.fetch.source.inner }

impl futures_core::Stream for Batch {
    type Item = Result<Message, async_nats::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        poll_started(self.fetch.source.id());
        let this = &mut *self;
        let next = ready!(Pin::new(&mut this.inner).poll_next(cx));
        let next = next.map(|result| result.map(|message| this.fetch.deliver_next(message)));
        match &next {
            Some(Ok(_)) => (),
            Some(Err(error)) => this.fetch.end(Err(error)),
            None => this.fetch.end::<async_nats::Error>(Ok(())),
        }
        Poll::Ready(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

/// A sequence of batches: [`async_nats::jetstream::consumer::pull::Sequence`].
pub struct Sequence {
    inner: consumer::pull::Sequence,
    source: Arc<ConsumerSource>,
    /// When the poll for the next batch started.
    poll_start: Option<SystemTime>,
}

impl Sequence {
    /// Reports batches that are delivered from now on to this instrumentation.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        Arc::make_mut(&mut self.source).instrument(instrumentation);
        self
    }
}

wrapper! {
    [] Sequence => consumer::pull::Sequence, inner:
    /// The sequence inside.
    get_ref
    /// The sequence inside, whose messages have no process spans.
    into_inner
    deref deref_mut
}

opaque_debug! { [] Sequence, "Sequence" }

impl futures_core::Stream for Sequence {
    type Item = Result<Batch, MessagesError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        poll_started(self.source.id());
        let this = &mut *self;
        let poll_start = *this.poll_start.get_or_insert_with(SystemTime::now);
        let next = ready!(Pin::new(&mut this.inner).poll_next(cx));
        this.poll_start = None;
        let start = this.source.start_poll(Some(poll_start)).map(OperationStart::release_parent);
        Poll::Ready(next.map(|result| Batch::new(result, this.source.clone(), start)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

/// A wrapper of the client's builder, with its setters.
macro_rules! builder {
    ($(#[$docs:meta])* $name:ident { $($(#[$attribute:meta])* $setter:ident($argument:ident: $type:ty);)* }) => {
        $(#[$docs])*
        pub struct $name<'a> {
            inner: consumer::pull::$name<'a>,
            consumer: &'a Consumer<Config>,
        }

        impl<'a> $name<'a> {
            /// Starts from the defaults.
            pub fn new(consumer: &'a Consumer<Config>) -> Self {
                Self { inner: consumer::pull::$name::new(&consumer.inner), consumer }
            }

            setters! {
                concat!("jetstream::consumer::pull::", stringify!($name));
                heartbeat(heartbeat: Duration);
                expires(expires: Duration);
                min_pending(min_pending: usize);
                min_ack_pending(min_ack_pending: usize);
                $($(#[$attribute])* $setter($argument: $type);)*
            }

            #[doc = concat!("See [`async_nats::jetstream::consumer::pull::", stringify!($name), "::group`].")]
            pub fn group<T: Into<String>>(self, group: T) -> Self {
                Self { inner: self.inner.group(group), ..self }
            }
        }

        wrapper! {
            ['a] $name<'a> => consumer::pull::$name<'a>, inner:
            /// The builder inside.
            get_ref
            /// The builder inside, whose messages have no process spans.
            into_inner
        }

        opaque_debug! { [] $name<'_>, stringify!($name) }
    };
}

builder! {
    /// Options of [`Consumer::stream`].
    StreamBuilder {
        max_bytes_per_batch(max_bytes: usize);
        max_messages_per_batch(batch: usize);
        #[cfg(feature = "server_2_12")]
        priority(priority: usize);
    }
}

builder! {
    /// Options of [`Consumer::fetch`].
    FetchBuilder {
        max_bytes(max_bytes: usize);
        max_messages(batch: usize);
        #[cfg(feature = "server_2_12")]
        priority(priority: usize);
    }
}

builder! {
    /// Options of [`Consumer::batch`].
    BatchBuilder {
        max_bytes(max_bytes: usize);
        max_messages(batch: usize);
    }
}

impl StreamBuilder<'_> {
    /// The messages, requested in the background. Each has a process span, `process {subject}`; the wait for it is measured,
    /// and has a span `fetch` where it failed, or where `with_receive_spans` asks for one.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn messages(self) -> Result<Stream, StreamError> {
        Ok(Stream::new(self.inner.messages().await?, self.consumer.source()))
    }
}

impl<'a> FetchBuilder<'a> {
    /// The messages that are available. See [`Batch`] for the span `fetch`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn messages(self) -> impl Future<Output = Result<Batch, BatchError>> + use<'a> {
        self.consumer.fetched(self.inner.messages())
    }
}

impl<'a> BatchBuilder<'a> {
    /// The requested number of messages, as they arrive. See [`Batch`] for the span `fetch`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn messages(self) -> impl Future<Output = Result<Batch, BatchError>> + use<'a> {
        self.consumer.fetched(self.inner.messages())
    }
}

impl Consumer<Config> {
    fn fetched(
        &self,
        batch: impl Future<Output = Result<consumer::pull::Batch, BatchError>>,
    ) -> impl Future<Output = Result<Batch, BatchError>> {
        poll_started(self.source().id());
        let start = self.client.telemetry().start_on_message().map(OperationStart::release_parent);
        async move { Batch::new(batch.await, self.source().clone(), start) }
    }
}
