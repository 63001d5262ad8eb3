//! What a broker refuses stays where it came from; what is no order is given up, and stops no service.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use brokers::{Kafka, Nats, RabbitMq};
use otel_async_nats::jetstream::{self, consumer::PullConsumer};
use otel_lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use otel_rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// One of the demo's services, as a process of its own.
struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts it, and waits until it works.
    async fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo"))
            .arg(name)
            .envs(environment.iter().copied())
            .env("DEMO_STOP_AT_END_OF_INPUT", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the demo starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut service = Self { child, lines };
        assert_eq!(service.says().await.as_deref(), Some("ready -"), "{name}");
        service
    }

    async fn says(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("it says something").expect("a line")
    }

    /// How it ends, and its log.
    async fn ended(&mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        let end = async {
            self.child.stderr.take().expect("a pipe").read_to_string(&mut log).await.expect("text");
            self.child.wait().await.expect("it is our child")
        };
        let status = timeout(PATIENCE, end).await.expect("it ends");
        (status, log)
    }
}

async fn connected(rabbitmq: &RabbitMq) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbitmq.uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn publish(channel: &Channel, exchange: &str, routing_key: &str, payload: &str) {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish(exchange.into(), routing_key.into(), options, payload.as_bytes(), properties).await.unwrap();
}

/// Into the first partition.
async fn send(kafka: &Kafka, payload: &str) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap_servers).create().unwrap();
    let record = FutureRecord::<(), _>::to("orders").partition(0).payload(payload);
    producer.send(record, PATIENCE).await.unwrap();
}

/// How far payment is with the first partition.
fn committed(kafka: &Kafka) -> Offset {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("group.id", "payment")
        .create()
        .unwrap();
    let mut partition = TopicPartitionList::new();
    partition.add_partition("orders", 0);
    let committed = consumer.committed_offsets(partition, PATIENCE).unwrap();
    committed.find_partition("orders", 0).unwrap().offset()
}

fn order(id: u32, card: &str) -> String {
    format!(r#"{{"id":{id},"item":"teapot","card":"{card}"}}"#)
}

#[tokio::test]
async fn what_is_no_order_is_settled_and_stops_nobody() {
    let (kafka, rabbitmq, nats) = (Kafka::mock().unwrap(), RabbitMq::own().unwrap(), Nats::own().unwrap());
    let environment = [
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers.as_str()),
        ("RABBITMQ_URI", &rabbitmq.uri),
        ("NATS_URL", &nats.url),
    ];
    let mut services = Vec::new();
    for name in ["inventory", "payment", "shipping", "notification"] {
        services.push(Service::start(name, &environment).await);
    }

    let (connection, channel) = connected(&rabbitmq).await;
    publish(&channel, "orders", "paid", "no order").await;
    publish(&channel, "", "orders.review", "no order").await;
    let context = jetstream::new(otel_async_nats::connect(&nats.url).await.unwrap());
    context.publish("notifications.order", "no order".into()).await.unwrap().await.unwrap();
    for payload in ["no order", &order(7, "paid"), &order(8, "declined"), "no order"] {
        send(&kafka, payload).await;
    }

    let notification = services.last_mut().unwrap();
    let mut recorded = [notification.says().await, notification.says().await].map(Option::unwrap_or_default);
    recorded.sort();
    assert_eq!(recorded, ["notified 7", "notified 8"]);
    let all = async {
        while committed(&kafka) != Offset::Offset(4) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("payment commits what is no order");
    for mut service in services {
        drop(service.child.stdin.take());
        let (status, log) = service.ended().await;
        assert!(status.success(), "{log}");
    }

    // What was not settled is there again.
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    for queue in ["shipping", "orders.review", "orders.dlq"] {
        let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
        assert_eq!(queue.message_count(), 0, "{}", queue.name());
    }
    let mut consumer: PullConsumer = context.get_consumer_from_stream("notification", "NOTIFICATIONS").await.unwrap();
    let info = consumer.info().await.unwrap();
    assert_eq!((info.num_ack_pending, info.num_pending), (0, 0));
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test]
async fn an_order_that_rabbitmq_refuses_is_not_committed() {
    let (kafka, rabbitmq) = (Kafka::mock().unwrap(), RabbitMq::own().unwrap());
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers.as_str()), ("RABBITMQ_URI", &rabbitmq.uri)];
    let mut payment = Service::start("payment", &environment).await;

    // A message that one of its queues has no room for is refused.
    let (connection, channel) = connected(&rabbitmq).await;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(0));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    channel.queue_declare("full".into(), QueueDeclareOptions::durable(), full).await.unwrap();
    let bind = QueueBindOptions::default();
    channel.queue_bind("full".into(), "orders".into(), "paid".into(), bind, FieldTable::default()).await.unwrap();
    send(&kafka, &order(7, "paid")).await;

    let (status, log) = payment.ended().await;
    assert!(!status.success() && log.contains("RabbitMQ does not take the order"), "{status}: {log}");
    assert_eq!(committed(&kafka), Offset::Invalid);
    connection.close(200, "done".into()).await.unwrap();
}
