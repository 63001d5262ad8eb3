//! A queue in memory and its adapter, to test the core without a broker.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use opentelemetry::propagation::{Extractor, Injector};
use otel_messaging::{
    Instrumentation, ReceivedMessage,
    adapter::{
        Arrival, Attributes, Batch, ClientSpan, Destination, Headers, OperationName, ProcessSpan, Settlement, Settles,
        SourceId, Telemetry, poll_started, scope,
    },
    semconv::attribute,
};

pub(crate) const PUSH: OperationName = OperationName::send("push");
pub(crate) const PROCESS: OperationName = OperationName::process("process").of(PULL);
pub(crate) const PULL: OperationName = OperationName::receive("pull");
pub(crate) const CREATE: OperationName = OperationName::create("create");
pub(crate) const ACK: OperationName = OperationName::settle("ack");

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct HeaderMap(pub(crate) BTreeMap<String, String>);

impl HeaderMap {
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl Injector for HeaderMap {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), value);
        }
    }
}

impl Extractor for HeaderMap {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Headers for HeaderMap {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) struct Queue {
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) source: SourceId,
    pub(crate) messages: VecDeque<(HeaderMap, String)>,
    pub(crate) capacity: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) id: String,
    telemetry: Arc<Telemetry>,
    process: Option<Arc<ProcessSpan>>,
}

impl ReceivedMessage for Message {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.process.as_ref()
    }
}

impl Queue {
    pub(crate) fn bare() -> Self {
        let telemetry = Arc::new(Telemetry::new(scope("queue-adapter", "1.2.3"), "queue"));
        Self { telemetry, source: SourceId::new(), messages: VecDeque::new(), capacity: 1_000 }
    }

    pub(crate) fn new(instrumentation: Instrumentation) -> Self {
        let queue = Self::bare();
        queue.telemetry.instrument(instrumentation);
        queue
    }

    pub(crate) fn push(&mut self, id: &str) -> Result<(), &'static str> {
        self.push_with(HeaderMap::default(), id)
    }

    pub(crate) fn push_with(&mut self, headers: HeaderMap, id: &str) -> Result<(), &'static str> {
        self.push_to("orders", headers, id, |_| ())
    }

    pub(crate) fn push_to(
        &mut self,
        destination: &str,
        mut headers: HeaderMap,
        id: &str,
        attributes: impl FnOnce(&mut Attributes),
    ) -> Result<(), &'static str> {
        let span = self.telemetry.start_operation().map(|start| {
            let named = || Destination::named(destination);
            let operation = if start.answers(destination) {
                self.telemetry.operation(PUSH, &[destination, "reply"], || named().reply_address())
            } else {
                self.telemetry.operation(PUSH, &[destination], named)
            };
            self.telemetry.send(start, &operation, Some(&mut headers), attributes)
        });
        if self.messages.len() == self.capacity {
            if let Some(span) = span {
                span.fail("queue_full", "the queue is full");
            }
            return Err("the queue is full");
        }
        self.messages.push_back((headers, id.to_owned()));
        if let Some(span) = span {
            span.succeed();
        }
        Ok(())
    }

    /// The headers of a message that is pushed later.
    pub(crate) fn create(&self) -> HeaderMap {
        let mut headers = HeaderMap::default();
        if let Some(start) = self.telemetry.start_operation() {
            let operation = self.telemetry.operation(CREATE, &["orders"], || Destination::named("orders"));
            self.telemetry.create(start, &operation, &mut headers, |_| ());
        }
        headers
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.pop_from("orders")
    }

    pub(crate) fn pop_from(&mut self, destination: &str) -> Option<Message> {
        self.pop_as(destination, |arrival| arrival)
    }

    /// A message of a partition.
    pub(crate) fn pop_of_partition(&mut self, partition: &str) -> Option<Message> {
        let (headers, id) = self.messages.pop_front()?;
        let process = self.telemetry.start_operation().map(|start| {
            let operation = self.telemetry.operation(PROCESS, &["orders"], || Destination::named("orders"));
            self.telemetry.deliver(start, operation, Arrival::new(self.source, Some(&headers)), |attributes| {
                attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition.to_owned());
            })
        });
        Some(Message { headers, id, telemetry: self.telemetry.clone(), process })
    }

    /// A message with a past.
    pub(crate) fn pop_as(
        &mut self,
        destination: &str,
        past: impl for<'a> FnOnce(Arrival<'a>) -> Arrival<'a>,
    ) -> Option<Message> {
        let source = self.source.named(destination);
        poll_started(source);
        let (headers, id) = self.messages.pop_front()?;
        let process = self.telemetry.start_operation().map(|start| {
            let operation = self.telemetry.operation(PROCESS, &[destination], || Destination::named(destination));
            self.telemetry.deliver(start, operation, past(Arrival::new(source, Some(&headers))), |attributes| {
                attributes.set(attribute::MESSAGING_MESSAGE_ID, id.clone());
            })
        });
        Some(Message { headers, id, telemetry: self.telemetry.clone(), process })
    }

    /// All messages at once, with a receive span.
    pub(crate) fn pull(&mut self) -> Vec<Message> {
        let start = self.telemetry.start_operation();
        let messages: Vec<_> = std::iter::from_fn(|| self.pop()).collect();
        if let Some(start) = start {
            let operation = self.telemetry.operation(PULL, &["orders"], || Destination::named("orders"));
            let mut batch = Batch::default();
            messages.iter().for_each(|message| batch.add(message.process_span()));
            assert_eq!((batch.len(), batch.is_empty()), (messages.len(), messages.is_empty()));
            self.telemetry.receive_batch(start, &operation, batch).succeed();
        }
        messages
    }
}

impl Message {
    pub(crate) fn ack(&self) {
        self.settle(Settlement::Ack);
    }

    pub(crate) fn settle(&self, outcome: Settlement) {
        if let Some(span) = self.begin_settle() {
            span.settled(outcome);
        }
    }

    /// A settlement whose answer is out.
    pub(crate) fn begin_settle(&self) -> Option<ClientSpan> {
        self.telemetry.start_operation().map(|start| {
            let operation = self.telemetry.operation(ACK, &["orders"], || Destination::named("orders"));
            let settles = self.process.as_ref().map_or(Settles::Unknown, Settles::Message);
            self.telemetry.settle(start, &operation, settles, |_| ())
        })
    }
}
