//! Which span a process span is a child of and which it links: every policy, for every kind of message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};
use opentelemetry::{
    Context, KeyValue, SpanId,
    baggage::BaggageExt,
    trace::{FutureExt, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{
    Consumer,
    message::Delivery,
    otel::{Auto, Correlation, MessageExt, process_batch},
};

use crate::common::{Rabbit, long, next, table};

const POLICIES: [&str; 5] = ["Link", "ParentIfNoAmbient", "Parent", "Auto", "untrusted"];

const MESSAGES: [&str; 9] =
    ["valid", "unsampled", "foreign", "absent", "malformed", "old", "redelivered", "dead-lettered", "batch"];

/// A cell is the parent, then what is linked: `sender` is the creation context of the message (of each, for a batch),
/// `ambient` the span that was active around the consumer.
const EXPECTED: &str = "
ambient  message        Link            ParentIfNoAmbient  Parent                 Auto                 untrusted
no       valid          root+sender     sender+sender      sender+sender          sender+sender        root+sender
no       unsampled      root+sender     sender+sender      sender+sender          sender+sender        root+sender
no       foreign        root+sender     sender+sender      sender+sender          sender+sender        root+sender
no       absent         root            root               root                   root                 root
no       malformed      root            root               root                   root                 root
no       old            root+sender     sender+sender      sender+sender          root+sender          root+sender
no       redelivered    root+sender     sender+sender      sender+sender          root+sender          root+sender
no       dead-lettered  root+sender     sender+sender      sender+sender          root+sender          root+sender
no       batch          root+sender+sender  root+sender+sender  root+sender+sender  root+sender+sender  root+sender+sender
yes      valid          ambient+sender  ambient+sender     sender+sender+ambient  ambient+sender       ambient+sender
yes      unsampled      ambient+sender  ambient+sender     sender+sender+ambient  ambient+sender       ambient+sender
yes      foreign        ambient+sender  ambient+sender     sender+sender+ambient  ambient+sender       ambient+sender
yes      absent         ambient         ambient            ambient                ambient              ambient
yes      malformed      ambient         ambient            ambient                ambient              ambient
yes      old            ambient+sender  ambient+sender     sender+sender+ambient  root+sender+ambient  ambient+sender
yes      redelivered    ambient+sender  ambient+sender     sender+sender+ambient  root+sender+ambient  ambient+sender
yes      dead-lettered  ambient+sender  ambient+sender     sender+sender+ambient  root+sender+ambient  ambient+sender
yes      batch          ambient+sender+sender  ambient+sender+sender  ambient+sender+sender  ambient+sender+sender  ambient+sender+sender
";

/// One consumer of each policy, with a queue of its own.
struct Column<'a> {
    rabbit: &'a Rabbit,
    policy: &'static str,
    queue: String,
    /// What expires here is dead-lettered to the queue.
    parked: String,
    consumer: Consumer,
    /// So that each message has ids and baggage of its own.
    sent: u64,
}

impl<'a> Column<'a> {
    async fn new(rabbit: &'a Rabbit, policy: &'static str) -> Self {
        let builder = rabbit.sdk.instrumentation_builder();
        let builder = match policy {
            "Link" => builder.correlation(Correlation::Link),
            "Parent" => builder.correlation(Correlation::Parent),
            "Auto" => builder.correlation(Correlation::Auto(Auto::default())),
            "untrusted" => builder.untrusted_source(true),
            _ => builder,
        };
        let queue = rabbit.queue("orders").await;
        let dead_letters = table([
            ("x-message-ttl", AMQPValue::LongInt(1)),
            ("x-dead-letter-exchange", long("")),
            ("x-dead-letter-routing-key", long(&queue)),
        ]);
        let parked = rabbit.queue_with("parked", dead_letters).await;
        let consumer = rabbit.consume(&queue).await.with_instrumentation(builder.build());
        Self { rabbit, policy, queue, parked, consumer, sent: 0 }
    }

    /// Sends a message of this kind and receives it; gives its sender's span beside it.
    async fn received(&mut self, message: &str) -> (Delivery, Option<SpanId>) {
        self.sent += 1;
        let Self { rabbit, queue, parked, sent, .. } = self;
        let sender = SpanId::from(0xabcd_0000 + *sent);
        let flags = if message == "unsampled" { "00" } else { "01" };
        let traceparent = match message {
            "malformed" => long("00-not-a-traceparent"),
            _ => long(&format!("00-{:032x}-{sender}-{flags}", u128::from(*sent) << 64 | 7)),
        };
        let mut headers = table([("traceparent", traceparent), ("baggage", long(&format!("number={sent}")))]);
        if message == "foreign" {
            headers.insert("tracestate".into(), long("vendor=opaque"));
        }
        let mut properties = BasicProperties::default().with_headers(headers);
        let mut sender = Some(sender);
        match message {
            "valid" => {
                let baggage = Context::new().with_baggage([KeyValue::new("number", sent.to_string())]);
                let publish = {
                    let _current = baggage.attach();
                    let options = BasicPublishOptions::default();
                    let (queue, properties) = (queue.as_str().into(), BasicProperties::default());
                    rabbit.channel.basic_publish("".into(), queue, options, b"1", properties)
                };
                publish.await.unwrap();
                let spans = rabbit.sdk.spans();
                let publish = spans.iter().rfind(|span| span.name == format!("publish {queue}")).unwrap();
                sender = Some(publish.span_context.span_id());
            }
            "absent" => {
                sender = None;
                rabbit.publish_raw(queue, b"1", BasicProperties::default()).await;
            }
            // Never delivered before, so that this alone is its past.
            "dead-lettered" => rabbit.publish_raw(parked, b"1", properties).await,
            "old" => {
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(2 * 3_600);
                properties = properties.with_timestamp(at.as_secs());
                rabbit.publish_raw(queue, b"1", properties).await;
            }
            "redelivered" => {
                rabbit.publish_raw(queue, b"1", properties).await;
                let back = next(&mut self.consumer).await.into_inner();
                assert!(back.reject(BasicRejectOptions { requeue: true }).await.unwrap());
            }
            _ => rabbit.publish_raw(queue, b"1", properties).await,
        }
        if message == "malformed" {
            sender = None;
        }
        let delivery = next(&mut self.consumer).await;
        assert_eq!(delivery.redelivered, message == "redelivered");
        let died = |headers: &FieldTable| matches!(headers.inner().get("x-death"), Some(AMQPValue::FieldArray(_)));
        assert_eq!(delivery.properties.headers().as_ref().is_some_and(died), message == "dead-lettered");
        (delivery, sender)
    }

    async fn cell(&mut self, message: &'static str, ambient: Option<SpanId>) -> String {
        let mut senders = Vec::new();
        let mut deliveries = Vec::new();
        for _ in 0..if message == "batch" { 2 } else { 1 } {
            let (delivery, sender) = self.received(message).await;
            senders.extend(sender);
            deliveries.push(delivery);
        }
        if message == "batch" {
            process_batch(&deliveries, async {}).await;
        } else {
            deliveries[0].process(async {}).await;
            // Its own baggage, whatever came before it.
            let expected = (self.policy != "untrusted" && message != "absent").then(|| self.sent.to_string());
            let context = deliveries[0].otel_context();
            let baggage: Vec<_> = context.baggage().iter().map(|(key, (value, _))| format!("{key}={value}")).collect();
            let expected: Vec<_> = expected.iter().map(|number| format!("number={number}")).collect();
            assert_eq!(baggage, expected, "{} {message}", self.policy);
        }
        let process = deliveries[0].otel_context().span().span_context().span_id();
        for delivery in deliveries {
            assert!(delivery.into_inner().ack(Default::default()).await.unwrap());
        }
        let spans = self.rabbit.sdk.spans();
        let process = spans.iter().find(|span| span.span_context.span_id() == process).unwrap();
        if message == "foreign" {
            let state = process.links.iter().next().unwrap().span_context.trace_state().header();
            assert_eq!(state, if self.policy == "untrusted" { "" } else { "vendor=opaque" });
        }
        relations(process, &senders, ambient)
    }
}

fn relations(process: &SpanData, senders: &[SpanId], ambient: Option<SpanId>) -> String {
    let name = |span: SpanId| match span {
        SpanId::INVALID => "root",
        span if senders.contains(&span) => "sender",
        span if ambient == Some(span) => "ambient",
        _ => "unknown",
    };
    let links = process.links.iter().map(|link| link.span_context.span_id());
    [process.parent_span_id].into_iter().chain(links).map(name).collect::<Vec<_>>().join("+")
}

#[tokio::test(flavor = "multi_thread")]
async fn p02_p09_p10_each_policy_relates_each_kind_of_message() {
    let rabbit = Rabbit::new().await;
    let mut columns = Vec::new();
    for policy in POLICIES {
        columns.push(Column::new(&rabbit, policy).await);
    }
    let mut rows = vec![vec!["ambient".to_owned(), "message".to_owned()]];
    rows[0].extend(POLICIES.map(str::to_owned));
    for inside in ["no", "yes"] {
        for message in MESSAGES {
            let mut row = vec![inside.to_owned(), message.to_owned()];
            for column in &mut columns {
                let around = rabbit.sdk.app_span("around");
                row.push(if inside == "yes" {
                    let ambient = around.span().span_context().span_id();
                    column.cell(message, Some(ambient)).with_context(around).await
                } else {
                    column.cell(message, None).await
                });
            }
            rows.push(row);
        }
    }
    // As the table above, whose columns are as wide as is good to read.
    let found: Vec<_> = rows.iter().map(|row| row.join("  ")).collect();
    let expected: Vec<_> =
        EXPECTED.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("  ")).collect();
    assert_eq!(found, expected, "\n{}", found.join("\n"));
}
