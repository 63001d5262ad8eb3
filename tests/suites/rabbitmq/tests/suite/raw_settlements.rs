//! In which order lapin, without us, writes settlements of which the earlier one is not awaited. `docs/operation.md` and
//! the documentation of our `Acker` tell users of it: where one of these tests fails after an update of lapin, both are to
//! be corrected.

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use support::DEADLINE;

use crate::{
    cancellation::abandon,
    harness::{unique, uri},
};

const ONE: BasicAckOptions = BasicAckOptions { multiple: false };
const ALL_UP_TO: BasicAckOptions = BasicAckOptions { multiple: true };

/// A consumer of lapin's that has two messages to settle.
struct Raw {
    _connection: Connection,
    channel: Channel,
    queue: String,
    consumer: Consumer,
    first: Delivery,
    second: Delivery,
}

impl Raw {
    async fn new() -> Self {
        let connection = Connection::connect(uri(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let queue = unique("orders");
        let name = || queue.as_str().into();
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name(), exclusive, FieldTable::default()).await.unwrap();
        for _ in 0..2 {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish("".into(), name(), options, b"1", properties).await.unwrap().await.unwrap();
        }
        let options = BasicConsumeOptions::default();
        let mut consumer = channel.basic_consume(name(), "".into(), options, FieldTable::default()).await.unwrap();
        let (first, second) = (next(&mut consumer).await.unwrap(), next(&mut consumer).await.unwrap());
        Self { _connection: connection, channel, queue, consumer, first, second }
    }

    /// The broker took both settlements: it handles what a channel sends in turn.
    async fn assert_both_are_taken(&self) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(self.queue.as_str().into(), passive, FieldTable::default()).await.unwrap();
    }

    /// The broker closed the channel: the second settlement came first and settled both messages.
    async fn assert_the_first_came_last(&mut self) {
        let error = next(&mut self.consumer).await.unwrap_err().to_string();
        assert!(error.contains("PRECONDITION_FAILED - unknown delivery tag 1"), "{error}");
    }
}

async fn next(consumer: &mut Consumer) -> lapin::Result<Delivery> {
    tokio::time::timeout(DEADLINE, consumer.next()).await.expect("something in time").expect("not the end")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_channel_settles_is_written_in_turn_also_when_it_is_given_up() {
    let raw = Raw::new().await;
    let _ = abandon(raw.channel.basic_ack(raw.first.delivery_tag, ONE));
    raw.channel.basic_ack(raw.second.delivery_tag, ALL_UP_TO).await.unwrap();
    raw.assert_both_are_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_channel_settles_is_written_before_what_an_acker_settles_after_it() {
    let raw = Raw::new().await;
    let _ = abandon(raw.channel.basic_ack(raw.first.delivery_tag, ONE));
    assert!(raw.second.ack(ALL_UP_TO).await.unwrap());
    raw.assert_both_are_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_acker_settled_is_written_once_it_was_awaited() {
    let raw = Raw::new().await;
    assert!(raw.first.ack(ONE).await.unwrap());
    raw.channel.basic_ack(raw.second.delivery_tag, ALL_UP_TO).await.unwrap();
    raw.assert_both_are_taken().await;
}

/// An acker sends a command to lapin's own task, which spawns another one that writes. With one thread neither runs before
/// the test waits for something, and then the channel has its settlement written already.
#[tokio::test]
async fn what_an_acker_settles_is_overtaken_by_the_channel() {
    let mut raw = Raw::new().await;
    assert!(abandon(raw.first.ack(ONE)).is_pending());
    raw.channel.basic_ack(raw.second.delivery_tag, ALL_UP_TO).await.unwrap();
    raw.assert_the_first_came_last().await;
}

/// Both ackers' commands spawn a task each. Which one runs first is the runtime's choice: a worker of Tokio begins with the
/// one that was spawned last (the LIFO slot in Tokio's documentation), and with several workers it is a matter of chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_an_acker_settles_is_overtaken_by_another_acker() {
    let on_the_worker = tokio::spawn(async {
        let mut raw = Raw::new().await;
        assert!(abandon(raw.first.ack(ONE)).is_pending());
        assert!(raw.second.ack(ALL_UP_TO).await.unwrap());
        raw.assert_the_first_came_last().await;
    });
    on_the_worker.await.unwrap();
}
