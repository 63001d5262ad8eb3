//! Messages and headers: `rdkafka::message`, with messages that carry their process span.

use std::{any::Any, fmt, ops::Deref, sync::Arc};

use otel_messaging::{
    ReceivedMessage,
    adapter::{AtStreamError, ProcessSpan, wrapper},
};
use rdkafka::{error::KafkaError, message as raw};

use crate::error::error_type;

pub use rdkafka::message::{
    BorrowedHeaders, FromBytes, Header, Headers, HeadersIter, Message, OwnedHeaders, Timestamp, ToBytes,
};

/// A zero-copy Kafka message; see `rdkafka::message::BorrowedMessage`.
///
/// A received message carries its process span: see [`MessageExt`](crate::otel::MessageExt). The span ends when the message and all its
/// [detached](Self::detach) copies are dropped, unless it was ended before.
pub struct BorrowedMessage<'a> {
    inner: Inner<'a>,
    process: Option<Arc<ProcessSpan>>,
}

enum Inner<'a> {
    Received(raw::BorrowedMessage<'a>),
    Reported(&'a raw::DeliveryResult<'a>),
}

impl<'a> BorrowedMessage<'a> {
    pub(crate) fn received(message: raw::BorrowedMessage<'a>, process: Option<Arc<ProcessSpan>>) -> Self {
        Self { inner: Inner::Received(message), process }
    }

    /// The message of a delivery report.
    pub(crate) fn reported(result: &'a raw::DeliveryResult<'a>) -> Self {
        Self { inner: Inner::Reported(result), process: None }
    }

    /// The delivery report that contains this message.
    pub(crate) fn report(&self) -> Option<&'a raw::DeliveryResult<'a>> {
        match self.inner {
            Inner::Received(_) => None,
            Inner::Reported(result) => Some(result),
        }
    }

    /// The raw message.
    pub fn get_ref(&self) -> &raw::BorrowedMessage<'a> {
        match &self.inner {
            Inner::Received(message) => message,
            Inner::Reported(result) => match result {
                Ok(message) | Err((_, message)) => message,
            },
        }
    }

    /// The raw message. Its process span ends, unless a detached copy carries it.
    ///
    /// # Errors
    ///
    /// The message of a delivery report is returned unchanged: rdkafka only lends it, see [`get_ref`](Self::get_ref).
    #[allow(clippy::result_large_err, reason = "the error is the message")]
    pub fn into_inner(self) -> Result<raw::BorrowedMessage<'a>, Self> {
        match self.inner {
            Inner::Received(message) => Ok(message),
            Inner::Reported(_) => Err(self),
        }
    }

    /// Clones the content into a message that can outlive the consumer. It shares the process span.
    pub fn detach(&self) -> OwnedMessage {
        OwnedMessage { inner: self.get_ref().detach(), process: self.process.clone() }
    }
}

impl<'a> From<raw::BorrowedMessage<'a>> for BorrowedMessage<'a> {
    /// The message has no process span. [`Incoming`](crate::otel::Incoming) delivers raw messages with one.
    fn from(message: raw::BorrowedMessage<'a>) -> Self {
        Self::received(message, None)
    }
}

impl<'a> Deref for BorrowedMessage<'a> {
    type Target = raw::BorrowedMessage<'a>;

    fn deref(&self) -> &raw::BorrowedMessage<'a> {
        self.get_ref()
    }
}

impl fmt::Debug for BorrowedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get_ref().fmt(f)
    }
}

impl ReceivedMessage for BorrowedMessage<'_> {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.process.as_ref()
    }

    fn at_stream_error(error: &dyn Any) -> AtStreamError {
        at_stream_error(error)
    }
}

/// librdkafka recovers by itself after an error of a topic or a broker. After a fatal error the consumer cannot be used.
fn at_stream_error(error: &dyn Any) -> AtStreamError {
    match error.downcast_ref() {
        None | Some(KafkaError::MessageConsumptionFatal(_)) => AtStreamError::End,
        Some(KafkaError::PartitionEOF(_)) => AtStreamError::Ignore,
        Some(error) => AtStreamError::GoOn(error_type(error)),
    }
}

/// The safe methods of [`Message`], by the raw message.
macro_rules! content {
    () => {
        content! {
            key: Option<&[u8]>, payload: Option<&[u8]>, topic: &str, partition: i32, offset: i64, timestamp: Timestamp,
            headers: Option<&Self::Headers>
        }
    };
    ($($name:ident: $type:ty),*) => {$(
        fn $name(&self) -> $type {
            self.get_ref().$name()
        }
    )*};
}

/// The payload of a delivery report's message cannot be changed: rdkafka only lends it.
impl Message for BorrowedMessage<'_> {
    type Headers = BorrowedHeaders;

    #[allow(unsafe_code, reason = "the trait's method is unsafe")]
    unsafe fn payload_mut(&mut self) -> Option<&mut [u8]> {
        match &mut self.inner {
            // SAFETY: the caller's promise.
            Inner::Received(message) => unsafe { message.payload_mut() },
            Inner::Reported(_) => None,
        }
    }

    content!();
}

/// A Kafka message that owns its data; see `rdkafka::message::OwnedMessage`.
///
/// A message that was detached from a received one carries its process span, and so does each clone. The span ends with the last
/// of them, unless it was ended before.
#[derive(Clone)]
pub struct OwnedMessage {
    inner: raw::OwnedMessage,
    process: Option<Arc<ProcessSpan>>,
}

impl OwnedMessage {
    /// Creates a message with this content and without a process span.
    pub fn new(
        payload: Option<Vec<u8>>,
        key: Option<Vec<u8>>,
        topic: String,
        timestamp: Timestamp,
        partition: i32,
        offset: i64,
        headers: Option<OwnedHeaders>,
    ) -> Self {
        raw::OwnedMessage::new(payload, key, topic, timestamp, partition, offset, headers).into()
    }

    pub(crate) fn received(inner: raw::OwnedMessage, process: Option<Arc<ProcessSpan>>) -> Self {
        Self { inner, process }
    }

    fn map(self, change: impl FnOnce(raw::OwnedMessage) -> raw::OwnedMessage) -> Self {
        Self { inner: change(self.inner), process: self.process }
    }

    /// Removes the headers and returns them.
    pub fn detach_headers(&mut self) -> Option<OwnedHeaders> {
        self.inner.detach_headers()
    }

    /// Replaces the headers.
    pub fn replace_headers(self, headers: Option<OwnedHeaders>) -> Self {
        self.map(|inner| inner.replace_headers(headers))
    }

    /// Sets the payload.
    pub fn set_payload(self, payload: Option<Vec<u8>>) -> Self {
        self.map(|inner| inner.set_payload(payload))
    }

    /// Sets the key.
    pub fn set_key(self, key: Option<Vec<u8>>) -> Self {
        self.map(|inner| inner.set_key(key))
    }

    /// Sets the topic.
    pub fn set_topic(self, topic: String) -> Self {
        self.map(|inner| inner.set_topic(topic))
    }

    /// Sets the timestamp.
    pub fn set_timestamp(self, timestamp: Timestamp) -> Self {
        self.map(|inner| inner.set_timestamp(timestamp))
    }

    /// Sets the partition.
    pub fn set_partition(self, partition: i32) -> Self {
        self.map(|inner| inner.set_partition(partition))
    }

    /// Sets the offset.
    pub fn set_offset(self, offset: i64) -> Self {
        self.map(|inner| inner.set_offset(offset))
    }
}

wrapper! {
    [] OwnedMessage => raw::OwnedMessage, inner:
    /// The raw message.
    get_ref
    /// The raw message. Its process span ends, unless the received message or a clone carries it.
    into_inner
    into deref debug
}

impl From<raw::OwnedMessage> for OwnedMessage {
    /// The message has no process span. [`Incoming`](crate::otel::Incoming) delivers raw messages with one.
    fn from(inner: raw::OwnedMessage) -> Self {
        Self { inner, process: None }
    }
}

impl ReceivedMessage for OwnedMessage {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.process.as_ref()
    }

    fn at_stream_error(error: &dyn Any) -> AtStreamError {
        at_stream_error(error)
    }
}

impl Message for OwnedMessage {
    type Headers = OwnedHeaders;

    #[allow(unsafe_code, reason = "the trait's method is unsafe")]
    unsafe fn payload_mut(&mut self) -> Option<&mut [u8]> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.payload_mut() }
    }

    content!();
}

/// The result of a send, as a delivery callback gets it; see `rdkafka::message::DeliveryResult`.
///
/// The message is as it was given to `send`: the injected headers are removed.
pub type DeliveryResult<'a> = Result<BorrowedMessage<'a>, (KafkaError, BorrowedMessage<'a>)>;
