//! What the adapter emits, and what it leaves alone, on a real server.

use std::{fs, pin::pin};

use brokers::Redis;
use example_redis_streams::{Consumer, Entry, HEADER_PREFIX, Message, Streams};
use futures::{StreamExt, poll};
use opentelemetry::{SpanId, propagation::Injector, trace::TraceContextExt};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::{
    Correlation, Instrumentation, InstrumentationBuilder, MessageExt, ReceivedMessage, process_batch, sequential,
};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, Value, aio::MultiplexedConnection, cmd};
use support::{Sdk, attribute, describe};

const OUTCOME: &str = "otel_messaging.settlement.outcome";
const ATTEMPT: &str = "otel_messaging.delivery.attempt";
const UNKNOWN: &str = "otel_messaging.delivery.outcome_unknown";

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A server, the adapter, and the client without it.
struct Fixture {
    sdk: Sdk,
    streams: Streams,
    raw: MultiplexedConnection,
    redis: Redis,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> Self {
        let sdk = Sdk::new();
        let instrumentation = configure(sdk.all_signals_builder()).build();
        let redis = Redis::own().unwrap();
        let client = Client::open(&*redis.url).unwrap();
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut raw = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let () = raw.xgroup_create_mkstream("orders", "shipping", "0").await.unwrap();
        Self { sdk, streams: Streams::connect(client, instrumentation).await.unwrap(), raw, redis }
    }

    async fn consumer(&self, name: &str) -> Consumer {
        self.streams.consumer("orders", "shipping", name).await.unwrap()
    }

    async fn add(&self, count: usize) {
        for number in 0..count {
            self.streams.add("orders", order(&number.to_string())).await.unwrap();
        }
    }

    /// All entries of the stream, by the client without the adapter.
    async fn stored(&self) -> Vec<Fields> {
        let stored: Vec<(String, Fields)> = self.raw.clone().xrange_all("orders").await.unwrap();
        stored.into_iter().map(|(_, fields)| fields).collect()
    }

    /// How many entries are delivered and not settled.
    async fn pending(&self) -> usize {
        let pending: Vec<Value> = self.raw.clone().xpending_count("orders", "shipping", "-", "+", 100).await.unwrap();
        pending.len()
    }

    fn named(&self, name: &str) -> Vec<SpanData> {
        self.sdk.spans().into_iter().filter(|span| span.name == name).collect()
    }

    fn one(&self, name: &str) -> SpanData {
        let [span] = self.named(name).try_into().unwrap_or_else(|_| panic!("{name}:\n{}", self.sdk.described()));
        span
    }
}

fn order(number: &str) -> Entry {
    Entry(vec![(b"order".into(), number.into())])
}

fn id(span: &SpanData) -> SpanId {
    span.span_context.span_id()
}

fn links(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

fn ids(spans: &[SpanData]) -> Vec<SpanId> {
    spans.iter().map(id).collect()
}

fn text(span: &SpanData, key: &str) -> Option<String> {
    attribute(span, key).map(ToString::to_string)
}

/// The value of `traceparent` in stored fields, as the ids of a trace and a span.
fn traceparent(fields: &Fields) -> String {
    let name = format!("{HEADER_PREFIX}traceparent");
    let (_, value) = fields.iter().find(|(field, _)| field == name.as_bytes()).unwrap();
    String::from_utf8(value.clone()).unwrap()
}

fn context_of(span: &SpanData) -> String {
    format!("00-{}-{}-01", span.span_context.trace_id(), span.span_context.span_id())
}

#[tokio::test]
async fn producer_and_consumer_are_one_trace() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Parent)).await;
    let request = fixture.sdk.app_span("request");
    let adding = {
        let _current = request.clone().attach();
        fixture.streams.add("orders", order("17"))
    };
    // The parent is the span that was current at the call.
    let added = adding.await.unwrap();
    request.span().end();

    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&*message.id, message.attempt), (&*added, 1));
    assert_eq!(message.entry.0[0], (b"order".to_vec(), b"17".to_vec()));
    message.process(|| async { Ok::<_, std::io::Error>(()) }).await.unwrap();
    assert_eq!(consumer.ack(&messages).await.unwrap(), 1);
    assert_eq!(fixture.pending().await, 0);
    drop(messages);

    let port = fixture.redis.url.rsplit(':').next().unwrap();
    let described = describe(&fixture.sdk.wait_for(5)).replace(port, "PORT").replace(&added, "ID");
    assert_eq!(described, ONE_TRACE, "{described}");
}

const ONE_TRACE: &str = r#"request
  kind INTERNAL
  scope app
  root
  status unset
xadd orders
  kind PRODUCER
  scope example-redis-streams https://opentelemetry.io/schemas/1.44.0
  parent request
  status unset
  messaging.destination.name = "orders"
  messaging.message.id = "ID"
  messaging.operation.name = "xadd"
  messaging.operation.type = "send"
  messaging.system = "redis"
  network.peer.address = "127.0.0.1"
  network.peer.port = PORT
  server.address = "127.0.0.1"
  server.port = PORT
xreadgroup orders
  kind CLIENT
  scope example-redis-streams https://opentelemetry.io/schemas/1.44.0
  root
  link xadd orders
  status unset
  messaging.batch.message_count = 1
  messaging.client.id = "worker"
  messaging.consumer.group.name = "shipping"
  messaging.destination.name = "orders"
  messaging.message.id = "ID"
  messaging.operation.name = "xreadgroup"
  messaging.operation.type = "receive"
  messaging.system = "redis"
  network.peer.address = "127.0.0.1"
  network.peer.port = PORT
  otel_messaging.delivery.attempt = 1
  server.address = "127.0.0.1"
  server.port = PORT
process orders
  kind CONSUMER
  scope example-redis-streams https://opentelemetry.io/schemas/1.44.0
  parent xadd orders
  link xadd orders
  status unset
  messaging.client.id = "worker"
  messaging.consumer.group.name = "shipping"
  messaging.destination.name = "orders"
  messaging.message.id = "ID"
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "redis"
  otel_messaging.delivery.attempt = 1
  server.address = "127.0.0.1"
  server.port = PORT
xack orders
  kind CLIENT
  scope example-redis-streams https://opentelemetry.io/schemas/1.44.0
  parent process orders
  status unset
  messaging.client.id = "worker"
  messaging.consumer.group.name = "shipping"
  messaging.destination.name = "orders"
  messaging.message.id = "ID"
  messaging.operation.name = "xack"
  messaging.operation.type = "settle"
  messaging.system = "redis"
  network.peer.address = "127.0.0.1"
  network.peer.port = PORT
  otel_messaging.settlement.outcome = "ack"
  server.address = "127.0.0.1"
  server.port = PORT
"#;

#[tokio::test]
async fn link_begins_a_trace_and_links_the_producers() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    fixture.add(1).await;
    drop(fixture.consumer("worker").await.read(1, 0).await.unwrap().collect::<Vec<_>>());
    let (sent, process) = (fixture.one("xadd orders"), fixture.one("process orders"));
    assert_eq!(process.parent_span_id, SpanId::INVALID);
    assert_ne!(process.span_context.trace_id(), sent.span_context.trace_id());
    assert_eq!(links(&process), [id(&sent)]);
}

#[tokio::test]
async fn auto_continues_the_trace_once_and_links_a_redelivery() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Auto(Default::default()))).await;
    fixture.add(2).await;
    // Settles one, and stops before the other.
    let stops = fixture.consumer("stops").await;
    let mut messages: Vec<_> = stops.read(10, 0).await.unwrap().collect();
    let unsettled = messages.pop().unwrap();
    stops.ack(&messages).await.unwrap();
    drop((messages, unsettled));

    let claims = fixture.consumer("claims").await;
    let claimed: Vec<_> = claims.reclaim(10, 0).await.unwrap().collect();
    let [message] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!((message.attempt, &message.entry.0[0].1[..]), (2, &b"1"[..]));
    claims.ack(&claimed).await.unwrap();
    drop(claimed);
    assert_eq!(claims.reclaim(10, 0).await.unwrap().count(), 0);

    let (sent, process) = (fixture.named("xadd orders"), fixture.named("process orders"));
    let [settled, dropped, again] = &process[..] else { panic!("{}", fixture.sdk.described()) };
    for (process, sent) in [(settled, &sent[0]), (dropped, &sent[1])] {
        assert_eq!(process.parent_span_id, id(sent));
        assert_eq!(text(process, ATTEMPT).as_deref(), Some("1"));
    }
    assert_eq!(again.parent_span_id, SpanId::INVALID);
    assert_eq!(links(again), [id(&sent[1])]);
    assert_eq!(text(again, ATTEMPT).as_deref(), Some("2"));
    let outcomes = process.iter().map(|span| text(span, OUTCOME).unwrap());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["ack", "dropped", "ack"]);
    // The second claim found no entry: no span.
    assert_eq!(links(&fixture.one("xclaim orders")), [id(&sent[1])]);
}

#[tokio::test]
async fn a_claim_without_a_deleted_entry_counts_the_attempts_of_the_others() {
    let fixture = Fixture::new().await;
    fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let ids: Vec<_> = consumer.read(10, 0).await.unwrap().map(|message| message.id).collect();
    let mut raw = fixture.raw.clone();
    let _: Value = raw.xclaim("orders", "shipping", "other", 0, &ids[1..2]).await.unwrap();
    let _: Value = raw.xdel("orders", &ids[..1]).await.unwrap();
    let claimed = consumer.reclaim(10, 0).await.unwrap().map(|message| (message.id, message.attempt));
    assert_eq!(claimed.collect::<Vec<_>>(), [(ids[1].clone(), 3), (ids[2].clone(), 2)]);
}

/// Each order is worked on in a span of its own, which is a child of the message's process span and no other's.
fn assert_sequential(fixture: &Fixture, count: usize) {
    let (process, work) = (fixture.named("process orders"), fixture.named("work"));
    assert_eq!((process.len(), work.len()), (count, count), "{}", fixture.sdk.described());
    for (process, work) in process.iter().zip(&work) {
        assert_eq!(process.parent_span_id, SpanId::INVALID, "{}", fixture.sdk.described());
        assert_eq!(work.parent_span_id, id(process), "{}", fixture.sdk.described());
    }
}

fn work(fixture: &Fixture, message: &Message) {
    assert!(message.process_span().is_some());
    fixture.sdk.app_span_in("work", &opentelemetry::Context::current()).span().end();
}

#[tokio::test]
async fn no_message_of_a_batch_inside_sequential_is_a_child_of_another() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    sequential(async {
        for message in consumer.read(10, 0).await.unwrap() {
            work(&fixture, &message);
            consumer.ack(&[message]).await.unwrap();
        }
    })
    .await;
    assert_sequential(&fixture, 3);
    let process = fixture.named("process orders");
    assert_eq!(fixture.named("xack orders").iter().map(|ack| ack.parent_span_id).collect::<Vec<_>>(), ids(&process));
}

#[tokio::test]
async fn a_stream_inside_sequential_delivers_one_message_after_the_other() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    fixture.add(5).await;
    let consumer = fixture.consumer("worker").await;
    sequential(async {
        let mut messages = pin!(consumer.messages(2).take(5));
        let mut held = None;
        while let Some(message) = messages.next().await {
            // Alive while the next message is asked for, also where that needs a read.
            work(&fixture, held.insert(message.unwrap()));
        }
    })
    .await;
    assert_sequential(&fixture, 5);
    // Reads of two, two and one entries link what they received.
    let reads = fixture.named("xreadgroup orders");
    assert_eq!(reads.iter().flat_map(links).collect::<Vec<_>>(), ids(&fixture.named("xadd orders")));
    assert_eq!(reads.iter().map(|read| read.parent_span_id).collect::<Vec<_>>(), [SpanId::INVALID; 3]);
}

#[tokio::test]
async fn a_read_inside_sequential_is_no_child_of_a_message_that_is_held() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    fixture.add(2).await;
    let consumer = fixture.consumer("worker").await;
    sequential(async {
        let mut held = None;
        for _ in 0..2 {
            let message = consumer.read(1, 0).await.unwrap().next();
            work(&fixture, held.insert(message.unwrap()));
        }
    })
    .await;
    assert_sequential(&fixture, 2);
    let reads = fixture.named("xreadgroup orders");
    assert_eq!(reads.iter().map(|read| read.parent_span_id).collect::<Vec<_>>(), [SpanId::INVALID; 2]);
}

#[tokio::test]
async fn one_xack_settles_a_batch() {
    let fixture = Fixture::new().await;
    fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    for message in &messages {
        message.in_scope(|| ());
    }
    assert_eq!(consumer.ack(&messages).await.unwrap(), 3);
    let again = consumer.ack(&messages).await.unwrap();
    assert_eq!((again, fixture.pending().await), (0, 0));
    drop(messages);

    let process = fixture.named("process orders");
    let [acked, again] = &fixture.named("xack orders")[..] else { panic!("{}", fixture.sdk.described()) };
    assert_eq!((links(acked), links(again)), (ids(&process), ids(&process)));
    assert_eq!(text(acked, "messaging.batch.message_count").as_deref(), Some("3"));
    assert_eq!(text(acked, OUTCOME).as_deref(), Some("ack"));
    assert_eq!(text(again, OUTCOME).as_deref(), Some("already_settled"));
}

#[tokio::test]
async fn a_settled_batch_has_its_outcome_on_each_process_span() {
    let fixture = Fixture::new().await;
    fixture.add(4).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(2, 0).await.unwrap().collect();
    consumer.ack(&messages).await.unwrap();
    drop(messages);
    let outcomes = fixture.named("process orders").iter().map(|span| text(span, OUTCOME)).collect::<Vec<_>>();
    assert_eq!(outcomes, [Some("ack".to_owned()), Some("ack".to_owned())]);

    // A batch that is processed together: its span has the outcome.
    fixture.sdk.forget();
    let messages: Vec<_> = consumer.read(2, 0).await.unwrap().collect();
    process_batch(&messages, || async { consumer.ack(&messages).await.map(drop) }).await.unwrap();
    drop(messages);
    let (process, ack) = (fixture.one("process orders"), fixture.one("xack orders"));
    assert_eq!(text(&process, OUTCOME).as_deref(), Some("ack"));
    assert_eq!((ack.parent_span_id, links(&ack).len()), (id(&process), 0));
    let deliveries = fixture.sdk.measured();
    assert!(deliveries.contains("otel_messaging.deliveries") && !deliveries.contains("dropped"), "{deliveries}");
}

#[tokio::test]
async fn a_batch_of_which_some_were_settled_before_has_no_known_outcome() {
    let fixture = Fixture::new().await;
    fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    let first: usize = fixture.raw.clone().xack("orders", "shipping", &[&messages[0].id]).await.unwrap();
    assert_eq!((first, consumer.ack(&messages).await.unwrap()), (1, 2));
    drop(messages);
    let ack = fixture.one("xack orders");
    assert_eq!((text(&ack, UNKNOWN).as_deref(), text(&ack, OUTCOME)), (Some("true"), None));
    // Redis has settled all of them: none is said to be dropped.
    let process = fixture.named("process orders");
    assert_eq!(process.iter().map(|span| text(span, OUTCOME)).collect::<Vec<_>>(), [None, None, None]);
    assert!(!fixture.sdk.measured().contains("dropped"));
}

#[tokio::test]
async fn a_batch_send_links_the_creation_of_each_entry() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Parent)).await;
    let request = fixture.sdk.app_span("request");
    let orders = vec![order("1"), order("2"), order("3")];
    let adding = {
        let _current = request.clone().attach();
        fixture.streams.add_all("orders", orders)
    };
    let added = adding.await.unwrap();
    request.span().end();
    let (created, sent) = (fixture.named("create orders"), fixture.one("xadd orders"));
    assert_eq!((created.len(), added.len()), (3, 3));
    assert_eq!(links(&sent), ids(&created));
    assert_eq!(text(&sent, "messaging.batch.message_count").as_deref(), Some("3"));
    assert!(created.iter().chain([&sent]).all(|span| span.parent_span_id == request.span().span_context().span_id()));
    let stored = fixture.stored().await;
    assert_eq!(stored.iter().map(traceparent).collect::<Vec<_>>(), created.iter().map(context_of).collect::<Vec<_>>());
    let sent = "messaging.client.sent.messages";
    assert!(fixture.sdk.measured().lines().any(|line| line.starts_with(sent) && line.ends_with(" 3")));

    drop(fixture.consumer("worker").await.read(10, 0).await.unwrap().collect::<Vec<_>>());
    let process = fixture.named("process orders");
    assert_eq!(process.iter().map(|span| span.parent_span_id).collect::<Vec<_>>(), ids(&created));
}

#[tokio::test]
async fn an_error_of_redis_is_named_by_its_code() {
    let mut fixture = Fixture::new().await;
    let () = fixture.raw.set("text", "no stream").await.unwrap();
    fixture.streams.add("text", order("1")).await.unwrap_err();
    fixture.streams.add_all("text", vec![order("1"), order("2")]).await.unwrap_err();
    let nowhere = fixture.streams.consumer("orders", "nobody", "worker").await.unwrap();
    assert_eq!(nowhere.read(1, 0).await.err().unwrap().code(), Some("NOGROUP"));
    assert_eq!(nowhere.reclaim(1, 0).await.err().unwrap().code(), Some("NOGROUP"));
    let types = |name| fixture.named(name).iter().map(|span| text(span, "error.type").unwrap()).collect::<Vec<_>>();
    assert_eq!(types("xadd text"), ["WRONGTYPE", "WRONGTYPE"]);
    assert_eq!((types("xreadgroup orders"), types("xclaim orders")), (vec!["NOGROUP".into()], vec!["NOGROUP".into()]));
}

#[tokio::test]
async fn a_server_that_is_killed_or_silent_fails_each_operation() {
    let mut fixture = Fixture::new().await;
    fixture.add(1).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(1, 0).await.unwrap().collect();
    fixture.sdk.forget();

    fixture.redis.pause();
    assert!(fixture.streams.add("orders", order("2")).await.unwrap_err().is_timeout());
    fixture.redis.resume();
    assert_eq!(text(&fixture.one("xadd orders"), "error.type").as_deref(), Some("timeout"));
    fixture.sdk.forget();

    fixture.redis.kill();
    let add = fixture.streams.add("orders", order("3")).await.unwrap_err();
    fixture.streams.add_all("orders", vec![order("4")]).await.unwrap_err();
    consumer.read(1, 0).await.err().unwrap();
    consumer.reclaim(1, 0).await.err().unwrap();
    consumer.ack(&messages).await.unwrap_err();
    assert!(add.is_connection_dropped(), "{add}");
    let errors: Vec<_> =
        fixture.sdk.spans().iter().map(|span| (span.name.to_string(), text(span, "error.type"))).collect();
    let failed = |name: &str| (name.to_owned(), Some("I/O error".to_owned()));
    let names = ["xadd orders", "xadd orders", "xreadgroup orders", "xclaim orders", "xack orders"];
    assert_eq!(errors.into_iter().filter(|(name, _)| name != "create orders").collect::<Vec<_>>(), names.map(failed));
    // None of them is settled as far as is known, and the server is not asked again.
    drop(messages);
    assert!(Streams::connect(Client::open(&*fixture.redis.url).unwrap(), Instrumentation::default()).await.is_err());
}

#[tokio::test]
async fn without_an_sdk_entries_are_those_of_the_client() {
    let fixture = Fixture::new().await;
    let client = Client::open(&*fixture.redis.url).unwrap();
    let streams = Streams::connect(client, Instrumentation::default()).await.unwrap();
    let entry =
        Entry(vec![(b"\xff\0".into(), b"\0\xfe".into()), (b"a".into(), b"".into()), (b"a".into(), b"2".into())]);
    // The first operation may look for an SDK, the second one does not.
    streams.add("orders", entry.clone()).await.unwrap();
    streams.add("orders", entry.clone()).await.unwrap();
    streams.add_all("orders", vec![entry.clone(), entry.clone()]).await.unwrap();
    let _: String = fixture.raw.clone().xadd("orders", "*", &entry.0).await.unwrap();
    assert_eq!(fixture.stored().await, vec![entry.0.clone(); 5]);

    let consumer = streams.consumer("orders", "shipping", "worker").await.unwrap();
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    assert!(messages.iter().all(|message| message.entry == entry && message.process_span().is_none()));
    assert_eq!((consumer.ack(&messages).await.unwrap(), fixture.pending().await), (5, 0));
    assert!(fixture.sdk.spans().is_empty());
}

#[tokio::test]
async fn an_entry_that_redis_refuses_is_refused_with_telemetry_too() {
    let fixture = Fixture::new().await;
    let raw = fixture.raw.clone().xadd::<_, _, Vec<u8>, Vec<u8>, String>("orders", "*", &[]).await.unwrap_err();
    let add = fixture.streams.add("orders", Entry::default()).await.unwrap_err();
    assert_eq!((add.code(), add.code()), (raw.code(), Some("ERR")));
    fixture.streams.add_all("orders", vec![order("1"), Entry::default()]).await.unwrap_err();
    assert_eq!(fixture.streams.add_all("orders", Vec::new()).await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.stored().await, Vec::<Fields>::new());
}

#[tokio::test]
async fn a_malformed_header_is_ignored_and_its_entry_arrives() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Parent)).await;
    let headers: [(&[u8], &[u8]); 4] = [
        (b"header:traceparent", b"00-nonsense"),
        (b"header:traceparent", b"\xff"),
        (b"header:\xff", b"value"),
        (b"traceparent", b"00-00000000000000000000000000000001-0000000000000001-01"),
    ];
    for header in headers {
        let _: String = fixture.raw.clone().xadd("orders", "*", &[header]).await.unwrap();
    }
    let messages: Vec<_> = fixture.consumer("worker").await.read(10, 0).await.unwrap().collect();
    let arrived = messages.iter().map(|message| message.entry.0.clone()).collect::<Vec<_>>();
    assert_eq!(arrived, headers.map(|(name, value)| vec![(name.to_vec(), value.to_vec())]));
    drop(messages);
    let process = fixture.named("process orders");
    assert_eq!(process.len(), 4);
    assert!(process.iter().all(|span| span.parent_span_id == SpanId::INVALID && links(span).is_empty()));
}

#[tokio::test]
async fn fields_of_the_body_are_no_headers() {
    let fixture = Fixture::with(|builder| builder.with_captured_headers(["*"])).await;
    let mut entry = order("secret");
    entry.set("tenant", "apples".to_owned());
    fixture.streams.add("orders", entry).await.unwrap();
    drop(fixture.consumer("worker").await.read(10, 0).await.unwrap().collect::<Vec<_>>());
    let everything = fixture.sdk.everything();
    assert!(everything.contains("apples") && !everything.contains("secret"), "{everything}");
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let fixture = Fixture::new().await;
    let consumer = fixture.consumer("worker").await;
    {
        let mut read = pin!(consumer.read(1, 0));
        // Until it waits at the server.
        loop {
            assert!(poll!(read.as_mut()).is_pending());
            let info: String = cmd("INFO").arg("clients").query_async(&mut fixture.raw.clone()).await.unwrap();
            if info.contains("blocked_clients:1") {
                break;
            }
        }
    }
    fixture.add(1).await;
    assert_eq!(fixture.pending().await, 1);
    let claimed: Vec<_> = fixture.consumer("claims").await.reclaim(10, 0).await.unwrap().collect();
    assert_eq!((claimed.len(), claimed[0].attempt), (1, 2));
    assert_eq!(fixture.named("xreadgroup orders").len(), 0);
}

#[tokio::test]
async fn what_is_not_taken_from_a_read_stays_pending() {
    let fixture = Fixture::new().await;
    fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let taken = consumer.read(10, 0).await.unwrap().next().unwrap();
    consumer.ack(&[taken]).await.unwrap();
    assert_eq!(fixture.pending().await, 2);
    assert_eq!(links(&fixture.one("xreadgroup orders")), ids(&fixture.named("xadd orders")[..1]));
    assert_eq!(consumer.reclaim(10, 0).await.unwrap().count(), 2);
}

#[test]
fn the_adapter_has_at_most_300_lines() {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    let lines = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().lines().count());
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().sum::<usize>() <= 300, "{lines:?}");
}
