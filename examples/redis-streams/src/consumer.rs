//! Reads new entries, takes over entries that were not settled, and settles.

use std::{future::Future, iter, sync::Arc, time::Duration, time::SystemTime};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use otel_messaging::{ProcessSpan, ReceivedMessage, adapter::*, semconv::attribute::MESSAGING_MESSAGE_ID};
use redis::{AsyncCommands, RedisResult, streams::StreamReadOptions};

use crate::{Consumer, Entry, error_type};

const XREADGROUP: OperationName = OperationName::receive("xreadgroup");
const XCLAIM: OperationName = OperationName::receive("xclaim");
const PROCESS: OperationName = OperationName::process("process");
const XACK: OperationName = OperationName::settle("xack");

/// The id and the fields of each entry, as Redis answers, and how often it was delivered.
type Read = RedisResult<Vec<(RawEntry, u64)>>;
type RawEntry = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// An entry that was delivered. If it is dropped without [`ack`](Consumer::ack), it stays pending.
#[derive(Debug)]
pub struct Message {
    /// The time in milliseconds since 1970 and a number, both of Redis.
    pub id: String,
    /// The fields.
    pub entry: Entry,
    /// How often the entry was delivered, this delivery included.
    pub attempt: u64,
    process: Option<Arc<ProcessSpan>>,
}

impl ReceivedMessage for Message {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.process.as_ref()
    }
}

impl Consumer {
    /// Reads up to `count` new entries (`XREADGROUP`). Waits at most `block` milliseconds for the first; 0: without a limit.
    /// Entries stay pending that are not taken from the iterator, or that arrive after the future is dropped.
    pub async fn read(&self, count: usize, block: usize) -> RedisResult<impl Iterator<Item = Message>> {
        let read = async move {
            let options = StreamReadOptions::default().group(&self.group, &self.name).count(count).block(block);
            let read = self.reads.clone().xread_options(&[&self.stream], &[">"], &options).await?;
            let streams: Vec<(String, Vec<RawEntry>)> = Option::unwrap_or_default(read);
            Ok(streams.into_iter().flat_map(|(_, entries)| entries).map(|entry| (entry, 1)).collect())
        };
        self.receive(XREADGROUP, read).await
    }

    /// New entries one after the other, of which `count` are read at a time. Does not end, and goes on after an error.
    pub fn messages(&self, count: usize) -> impl Stream<Item = RedisResult<Message>> {
        let reads = stream::repeat(()).then(move |()| self.read(count, 0));
        reads.map_ok(|messages| stream::iter(messages.map(Ok))).try_flatten()
    }

    /// Takes over up to `count` entries that were delivered at least `idle` milliseconds ago and are not settled (`XCLAIM`).
    pub async fn reclaim(&self, count: usize, idle: usize) -> RedisResult<impl Iterator<Item = Message>> {
        let claim = async move {
            let mut commands = self.streams.commands.clone();
            let mut xpending = redis::cmd("XPENDING");
            xpending.arg(&[&self.stream, &self.group]).arg("IDLE").arg(idle).arg(&["-", "+"]).arg(count);
            let mut pending: Vec<(String, String, u64, u64)> = xpending.query_async(&mut commands).await?;
            let ids: Vec<_> = pending.iter().map(|(id, ..)| id).collect();
            let [_, ..] = ids[..] else { return Ok(Vec::new()) };
            let claimed: Vec<RawEntry> = commands.xclaim(&self.stream, &self.group, &self.name, idle, &ids).await?;
            // Both are in the same order. Entries are missing that another consumer has claimed meanwhile.
            pending.retain(|(id, ..)| claimed.iter().any(|(claimed, _)| claimed == id));
            Ok(claimed.into_iter().zip(pending).map(|(entry, (.., deliveries))| (entry, deliveries + 1)).collect())
        };
        self.receive(XCLAIM, claim).await
    }

    /// Settles messages by one `XACK`, and returns how many of them were not settled before.
    pub fn ack(&self, messages: &[Message]) -> impl Future<Output = RedisResult<usize>> {
        let telemetry = &self.streams.telemetry;
        let start = telemetry.start_operation();
        async move {
            let span = start.map(|start| (start, self.operation(XACK))).map(|(start, xack)| match messages {
                [message @ Message { process: Some(process), .. }] => {
                    telemetry.settle(start, &xack, Settles::Message(process), |own| message.describe(own))
                }
                _ => telemetry.settle_batch(start, &xack, messages.iter().map(Message::settles), |_| ()),
            });
            let ids: Vec<_> = messages.iter().map(|message| &message.id).collect();
            let acked = self.streams.commands.clone().xack(&self.stream, &self.group, &ids).await;
            match (span, &acked) {
                (Some(span), Ok(acked)) if *acked == messages.len() => span.settled(Settlement::Ack),
                (Some(span), Ok(0)) => span.settled(Settlement::AlreadySettled),
                // Redis does not say which messages were settled before.
                (Some(span), Ok(_)) => span.outcome_unknown(),
                (Some(span), Err(error)) => span.fail(error_type(error), error),
                (None, _) => {}
            }
            acked
        }
    }

    async fn receive<R: Future<Output = Read>>(
        &self,
        name: OperationName,
        read: R,
    ) -> RedisResult<impl Iterator<Item = Message>> {
        poll_started(self.source);
        let telemetry = &self.streams.telemetry;
        let receive = telemetry.start_operation().map(|start| (start.release_parent(), self.operation(name)));
        let read = read.await;
        if let (Some((start, operation)), Err(error)) = (&receive, &read) {
            telemetry.receive(start.clone(), operation, iter::empty(), |_| ()).fail(error_type(error), error);
        }
        let deliver = move |(entry, attempt)| self.deliver(PROCESS.of(name), entry, attempt);
        Ok(DeliverIter::new(telemetry, receive, self.source, read?.into_iter(), deliver))
    }

    fn deliver(&self, name: OperationName, (id, fields): RawEntry, attempt: u64) -> Message {
        let mut message = Message { id, entry: Entry(fields), attempt, process: None };
        message.process = self.streams.telemetry.start_operation().map(|start| {
            // An id that the application chose gives a time in 1970, which the core ignores.
            let milliseconds = message.id.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(0);
            let added_at = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
            let arrival = Arrival::new(self.source, Some(&message.entry)).sent(added_at, Clock::Broker);
            let arrival = arrival.attempt(attempt).redelivered(attempt > 1).awaits_settlement(true);
            self.streams.telemetry.deliver(start, self.operation(name), arrival, |own| message.describe(own))
        });
        message
    }

    fn operation(&self, name: OperationName) -> Arc<PreparedOperation> {
        self.streams.operation(name, &[&self.stream, &self.group, &self.name])
    }
}

impl Message {
    fn describe(&self, own: &mut Attributes) {
        own.set(MESSAGING_MESSAGE_ID, self.id.clone());
    }

    fn settles(&self) -> (SettledMessage, Attributes) {
        let mut own = Attributes::default();
        self.describe(&mut own);
        (self.process.as_ref().into(), own)
    }
}
