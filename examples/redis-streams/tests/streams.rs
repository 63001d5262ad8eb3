//! The spans that the adapter records, and the data that it leaves alone, on a real server.

use std::{fs, pin::pin};

use brokers::Redis;
use example_redis_streams::{Consumer, Entry, Message, Streams};
use futures::{StreamExt, poll};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue, StringValue,
    propagation::Injector,
    trace::{SpanKind, TraceContextExt},
};
use otel_messaging::{
    Correlation, Instrumentation, InstrumentationBuilder, MessageExt, OperationType, ReceivedMessage, process_batch,
    semconv::extension, sequential,
};
use otel_messaging_testing::{ExpectedSpan, Recorder, span};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, RedisError, Value, aio::MultiplexedConnection, cmd};

/// A server, the adapter, and the client without it.
struct Fixture {
    recorder: Recorder,
    streams: Streams,
    raw: MultiplexedConnection,
    redis: Redis,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> Self {
        let recorder = Recorder::new();
        let instrumentation = configure(recorder.instrumentation_builder()).build();
        let redis = Redis::own().unwrap();
        let client = Client::open(&*redis.url).unwrap();
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut raw = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let () = raw.xgroup_create_mkstream("orders", "shipping", "0").await.unwrap();
        Self { recorder, streams: Streams::connect(client, instrumentation).await.unwrap(), raw, redis }
    }

    async fn consumer(&self, name: &str) -> Consumer {
        self.streams.consumer("orders", "shipping", name).await.unwrap()
    }

    /// Adds so many orders, and returns their ids.
    async fn add(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(self.streams.add("orders", order(&number.to_string())).await.unwrap());
        }
        ids
    }

    /// All entries of the stream, by the client without the adapter.
    async fn stored(&self) -> Vec<Entry> {
        let stored: Vec<(String, _)> = self.raw.clone().xrange_all("orders").await.unwrap();
        stored.into_iter().map(|(_, fields)| Entry(fields)).collect()
    }

    /// How many entries are delivered and not settled.
    async fn pending(&self) -> usize {
        let pending: Vec<Value> = self.raw.clone().xpending_count("orders", "shipping", "-", "+", 100).await.unwrap();
        pending.len()
    }

    /// The value of an attribute, and the count, of each series of a metric.
    fn counts(&self, metric: &str, attribute: &str) -> Vec<(String, u64)> {
        let series = self.recorder.series().into_iter().filter(|series| series.name == metric);
        series.map(|series| (series.attribute(attribute).unwrap().to_string(), series.count)).collect()
    }

    /// Expects the sends of these messages, and after them the other spans, and no more.
    #[track_caller]
    fn assert(&self, sent: &[String], others: impl IntoIterator<Item = ExpectedSpan>) {
        self.recorder.spans().assert(sent.iter().map(|id| self.operation("xadd").message_id(id)).chain(others));
    }

    /// A successful operation on `orders`, without the attributes of its messages.
    fn operation(&self, name: &str) -> ExpectedSpan {
        let port = self.redis.url.rsplit(':').next().unwrap().parse().unwrap();
        let scope = InstrumentationScope::builder("example-redis-streams").with_version(env!("CARGO_PKG_VERSION"));
        let scope = scope.with_schema_url("https://opentelemetry.io/schemas/1.44.0").build();
        let (of, has_peer, is_consumer) = match name {
            "create" => (OperationType::Create, false, false),
            "xadd" => (OperationType::Send, true, false),
            "process" => (OperationType::Process, false, true),
            "xack" => (OperationType::Settle, true, true),
            _ => (OperationType::Receive, true, true),
        };
        let expected = span(format!("{name} orders")).operation(name, of).scope(scope);
        let expected = expected.system("redis").destination("orders").server("127.0.0.1", port);
        let expected = if has_peer { expected.peer("127.0.0.1", port) } else { expected };
        if is_consumer { expected.consumer_group("shipping").client_id("worker") } else { expected }
    }

    /// The receive of these messages; `first` is the position of the span that sent the first of them.
    fn receive(&self, name: &str, first: usize, ids: &[String], attempt: i64) -> ExpectedSpan {
        let expected = delivered(self.operation(name), attempt);
        let [id] = ids else { return of_messages(expected, first, ids) };
        expected.batch_of(1).message_id(id).link(first)
    }

    /// The process span of a message, which continues the trace of the span at the position `sent`.
    fn process(&self, sent: usize, id: &str, attempt: i64) -> ExpectedSpan {
        delivered(self.operation("process"), attempt).message_id(id).child_of(sent).link(sent)
    }

    fn ack(&self, process: usize, id: &str) -> ExpectedSpan {
        self.operation("xack").child_of(process).message_id(id).settled("ack")
    }
}

fn delivered(expected: ExpectedSpan, attempt: i64) -> ExpectedSpan {
    let expected = expected.attempt(attempt);
    if attempt == 1 { expected } else { expected.attribute(extension::DELIVERY_REDELIVERED, true) }
}

/// Links the span of each message; `first` is the position of the first span.
fn of_messages(expected: ExpectedSpan, first: usize, ids: &[String]) -> ExpectedSpan {
    let expected = expected.batch_of(ids.len() as i64);
    (first..).zip(ids).fold(expected, |expected, (at, id)| expected.link_of_message(at, id))
}

fn order(number: &str) -> Entry {
    Entry(vec![(b"order".into(), number.into())])
}

#[tokio::test]
async fn producer_and_consumer_are_one_trace() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Parent)).await;
    let request = fixture.recorder.start_span("request");
    let adding = {
        let _current = request.clone().attach();
        fixture.streams.add("orders", order("17"))
    };
    // The parent is the span that was current at the call.
    let ids = [adding.await.unwrap()];
    request.span().end();

    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&message.id, message.attempt), (&ids[0], 1));
    assert_eq!(message.entry.0[0], (b"order".to_vec(), b"17".to_vec()));
    message.process(|| async { Ok::<_, std::io::Error>(()) }).await.unwrap();
    assert_eq!(consumer.ack(&messages).await.unwrap(), 1);
    assert_eq!(fixture.pending().await, 0);
    drop(messages);

    let expected = [
        span("request"),
        fixture.operation("xadd").child_of("request").message_id(&ids[0]),
        fixture.receive("xreadgroup", 1, &ids, 1),
        fixture.process(1, &ids[0], 1),
        fixture.ack(3, &ids[0]),
    ];
    fixture.assert(&[], expected);
}

#[tokio::test]
async fn link_begins_a_trace_and_links_the_producers() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    let ids = fixture.add(1).await;
    drop(fixture.consumer("worker").await.read(1, 0).await.unwrap().collect::<Vec<_>>());
    let process = fixture.process(0, &ids[0], 1).root().settled("dropped");
    fixture.assert(&ids, [fixture.receive("xreadgroup", 0, &ids, 1), process]);
    let spans = fixture.recorder.spans();
    assert_ne!(spans[2].span_context.trace_id(), spans[0].span_context.trace_id());
}

#[tokio::test]
async fn auto_continues_the_trace_once_and_links_a_redelivery() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Auto(Default::default()))).await;
    let ids = fixture.add(2).await;
    // Settles one, and stops before the other.
    let stops = fixture.consumer("worker").await;
    let messages: Vec<_> = stops.read(10, 0).await.unwrap().collect();
    stops.ack(&messages[..1]).await.unwrap();
    drop(messages);

    let claims = fixture.consumer("claims").await;
    let claimed: Vec<_> = claims.reclaim(10, 0).await.unwrap().collect();
    assert_eq!((claimed.len(), claimed[0].attempt, &*claimed[0].entry.0[0].1), (1, 2, &b"1"[..]));
    claims.ack(&claimed).await.unwrap();
    drop(claimed);
    // This claim finds no entry: no span.
    assert_eq!(claims.reclaim(10, 0).await.unwrap().count(), 0);

    let expected = [
        fixture.receive("xreadgroup", 0, &ids, 1),
        fixture.process(0, &ids[0], 1).settled("ack"),
        fixture.process(1, &ids[1], 1).settled("dropped"),
        fixture.ack(3, &ids[0]),
        fixture.receive("xclaim", 1, &ids[1..], 2).client_id("claims"),
        fixture.process(1, &ids[1], 2).root().settled("ack").client_id("claims"),
        fixture.ack(7, &ids[1]).client_id("claims"),
    ];
    fixture.assert(&ids, expected);
}

#[tokio::test]
async fn a_claim_without_a_deleted_entry_counts_the_attempts_of_the_others() {
    let fixture = Fixture::new().await;
    let ids = fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    assert_eq!(consumer.read(10, 0).await.unwrap().count(), 3);
    let mut raw = fixture.raw.clone();
    let _: Value = raw.xclaim("orders", "shipping", "other", 0, &ids[1..2]).await.unwrap();
    let _: Value = raw.xdel("orders", &ids[..1]).await.unwrap();
    let claimed = consumer.reclaim(10, 0).await.unwrap().map(|message| (message.id, message.attempt));
    assert_eq!(claimed.collect::<Vec<_>>(), [(ids[1].clone(), 3), (ids[2].clone(), 2)]);

    let attempt = |sent: usize, number: i64| {
        [KeyValue::new("messaging.message.id", ids[sent].clone()), KeyValue::new(extension::DELIVERY_ATTEMPT, number)]
    };
    let claim = fixture.operation("xclaim").batch_of(2).attribute(extension::DELIVERY_REDELIVERED, true);
    let claim = claim.link_with(1, attempt(1, 3)).link_with(2, attempt(2, 2));
    let process = |sent: usize, attempt| fixture.process(sent, &ids[sent], attempt).settled("dropped");
    let read = fixture.receive("xreadgroup", 0, &ids, 1);
    fixture.assert(&ids, [read, process(0, 1), process(1, 1), process(2, 1), claim, process(1, 3), process(2, 2)]);
}

/// The process span of a message, which is the span at the position `process`, and its child: the span of the work.
fn worked(fixture: &Fixture, process: usize, sent: usize, ids: &[String], outcome: &str) -> [ExpectedSpan; 2] {
    [fixture.process(sent, &ids[sent], 1).root().settled(outcome), span("work").child_of(process)]
}

fn work(fixture: &Fixture, message: &Message) {
    assert!(message.process_span().is_some());
    drop(fixture.recorder.start_span_in("work", &Context::current()));
}

#[tokio::test]
async fn no_message_of_a_batch_inside_sequential_is_a_child_of_another() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    let ids = fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    sequential(async {
        for message in consumer.read(10, 0).await.unwrap() {
            work(&fixture, &message);
            consumer.ack(&[message]).await.unwrap();
        }
    })
    .await;
    let of_message = |sent| {
        let at = 4 + 3 * sent;
        worked(&fixture, at, sent, &ids, "ack").into_iter().chain([fixture.ack(at, &ids[sent])])
    };
    let read = fixture.receive("xreadgroup", 0, &ids, 1);
    fixture.assert(&ids, [read].into_iter().chain((0..3).flat_map(of_message)));
}

#[tokio::test]
async fn a_stream_inside_sequential_delivers_one_message_after_the_other() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    let ids = fixture.add(5).await;
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
    // Reads of two, two and one entries link the entries that they received.
    let read = |first: usize, count| vec![fixture.receive("xreadgroup", first, &ids[first..first + count], 1)];
    let worked = |process, sent| worked(&fixture, process, sent, &ids, "dropped").to_vec();
    let firsts = [read(0, 2), worked(6, 0), worked(8, 1), read(2, 2), worked(11, 2), worked(13, 3)];
    fixture.assert(&ids, [firsts.concat(), read(4, 1), worked(16, 4)].concat());
}

#[tokio::test]
async fn a_read_inside_sequential_is_no_child_of_a_message_that_is_held() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Link)).await;
    let ids = fixture.add(2).await;
    let consumer = fixture.consumer("worker").await;
    sequential(async {
        let mut held = None;
        for _ in 0..2 {
            let message = consumer.read(1, 0).await.unwrap().next();
            work(&fixture, held.insert(message.unwrap()));
        }
    })
    .await;
    let read_one = |sent: usize| {
        let read = fixture.receive("xreadgroup", sent, &ids[sent..=sent], 1);
        [read].into_iter().chain(worked(&fixture, 3 + 3 * sent, sent, &ids, "dropped"))
    };
    fixture.assert(&ids, (0..2).flat_map(read_one));
}

#[tokio::test]
async fn one_xack_settles_a_batch() {
    let fixture = Fixture::new().await;
    let ids = fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    messages.iter().for_each(|message| message.in_scope(|| ()));
    assert_eq!(consumer.ack(&messages).await.unwrap(), 3);
    assert_eq!((consumer.ack(&messages).await.unwrap(), fixture.pending().await), (0, 0));
    drop(messages);

    let process = (0..3).map(|sent| fixture.process(sent, &ids[sent], 1));
    let ack = of_messages(fixture.operation("xack"), 4, &ids);
    let acks = [ack.clone().settled("ack"), ack.settled("already_settled")];
    fixture.assert(&ids, [fixture.receive("xreadgroup", 0, &ids, 1)].into_iter().chain(process).chain(acks));
}

#[tokio::test]
async fn a_settled_batch_has_its_outcome_on_each_process_span() {
    let fixture = Fixture::new().await;
    let ids = fixture.add(4).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(2, 0).await.unwrap().collect();
    consumer.ack(&messages).await.unwrap();
    drop(messages);
    // A batch that is processed together: its span has the outcome.
    let messages: Vec<_> = consumer.read(2, 0).await.unwrap().collect();
    process_batch(&messages, || async { consumer.ack(&messages).await.map(drop) }).await.unwrap();
    drop(messages);

    let expected = [
        fixture.receive("xreadgroup", 0, &ids[..2], 1),
        fixture.process(0, &ids[0], 1).settled("ack"),
        fixture.process(1, &ids[1], 1).settled("ack"),
        of_messages(fixture.operation("xack"), 5, &ids[..2]).settled("ack"),
        fixture.receive("xreadgroup", 2, &ids[2..], 1),
        of_messages(fixture.operation("process"), 2, &ids[2..]).attempt(1).settled("ack"),
        fixture.operation("xack").child_of(9).batch_of(2).settled("ack"),
    ];
    fixture.assert(&ids, expected);
    assert_eq!(fixture.counts(extension::DELIVERIES, extension::SETTLEMENT_OUTCOME), [("ack".to_owned(), 4)]);
}

#[tokio::test]
async fn a_batch_of_which_some_were_settled_before_has_no_known_outcome() {
    let fixture = Fixture::new().await;
    let ids = fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    let first: usize = fixture.raw.clone().xack("orders", "shipping", &[&messages[0].id]).await.unwrap();
    assert_eq!((first, consumer.ack(&messages).await.unwrap()), (1, 2));
    drop(messages);
    // Redis has settled all of them: no outcome is recorded, and none is dropped.
    let process = (0..3).map(|sent| fixture.process(sent, &ids[sent], 1));
    let ack = of_messages(fixture.operation("xack"), 4, &ids).attribute(extension::DELIVERY_OUTCOME_UNKNOWN, true);
    fixture.assert(&ids, [fixture.receive("xreadgroup", 0, &ids, 1)].into_iter().chain(process).chain([ack]));
    assert_eq!(fixture.counts(extension::DELIVERIES, extension::SETTLEMENT_OUTCOME), []);
}

#[tokio::test]
async fn a_batch_send_links_the_creation_of_each_entry() {
    let fixture = Fixture::with(|builder| builder.with_correlation(Correlation::Parent)).await;
    let request = fixture.recorder.start_span("request");
    let mut orders = ["1", "2", "3"].map(order);
    let adding = {
        let _current = request.clone().attach();
        fixture.streams.add_all("orders", orders.to_vec())
    };
    let added = adding.await.unwrap();
    request.span().end();
    let sent = fixture.counts("messaging.client.sent.messages", "messaging.operation.name");
    assert_eq!(sent, [("xadd".to_owned(), 3)]);

    drop(fixture.consumer("worker").await.read(10, 0).await.unwrap().collect::<Vec<_>>());
    let create = fixture.operation("create").child_of("request");
    let sent = fixture.operation("xadd").kind(SpanKind::Client).child_of("request").links(1..4).batch_of(3);
    let process = (1..4).map(|sent| fixture.process(sent, &added[sent - 1], 1).settled("dropped"));
    let operations = [create.clone(), create.clone(), create, sent, fixture.receive("xreadgroup", 1, &added, 1)];
    fixture.assert(&[], [span("request")].into_iter().chain(operations).chain(process));
    for (order, create) in orders.iter_mut().zip(fixture.recorder.spans().named("create orders")) {
        let (trace, span) = (create.span_context.trace_id(), create.span_context.span_id());
        order.0.push((b"header:traceparent".into(), format!("00-{trace}-{span}-01").into()));
    }
    assert_eq!(fixture.stored().await, orders);
}

#[tokio::test]
async fn an_error_of_redis_is_named_by_its_code() {
    let mut fixture = Fixture::new().await;
    let () = fixture.raw.set("text", "no stream").await.unwrap();
    let add = fixture.streams.add("text", order("1")).await.unwrap_err();
    let add_all = fixture.streams.add_all("text", vec![order("1"), order("2")]).await.unwrap_err();
    let nowhere = fixture.streams.consumer("orders", "unknown", "worker").await.unwrap();
    let read = nowhere.read(1, 0).await.err().unwrap();
    let claim = nowhere.reclaim(1, 0).await.err().unwrap();
    assert_eq!((read.code(), claim.code()), (Some("NOGROUP"), Some("NOGROUP")));

    let text = |name: &str| fixture.operation(name).named(format!("{name} text")).destination("text");
    let send_all = text("xadd").kind(SpanKind::Client).links([1, 2]).batch_of(2);
    let expected = [
        text("xadd").error("WRONGTYPE", &add.to_string()),
        text("create"),
        text("create"),
        send_all.error("WRONGTYPE", &add_all.to_string()),
        fixture.operation("xreadgroup").consumer_group("unknown").error("NOGROUP", &read.to_string()),
        fixture.operation("xclaim").consumer_group("unknown").error("NOGROUP", &claim.to_string()),
    ];
    fixture.assert(&[], expected);
    let events: Vec<_> = fixture.recorder.logs().iter().filter_map(|log| log.record.event_name()).collect();
    let (send, receive) = ("messaging.send.exception", "messaging.receive.exception");
    assert_eq!(events, [send, send, receive, receive]);
}

#[tokio::test]
async fn a_server_that_is_killed_or_silent_fails_each_operation() {
    let mut fixture = Fixture::new().await;
    let ids = fixture.add(1).await;
    let consumer = fixture.consumer("worker").await;
    let messages: Vec<_> = consumer.read(1, 0).await.unwrap().collect();

    fixture.redis.pause();
    let silent = fixture.streams.add("orders", order("2")).await.unwrap_err();
    assert!(silent.is_timeout(), "{silent}");
    fixture.redis.resume();

    fixture.redis.kill();
    let add = fixture.streams.add("orders", order("3")).await.unwrap_err();
    let add_all = fixture.streams.add_all("orders", vec![order("4")]).await.unwrap_err();
    let read = consumer.read(1, 0).await.err().unwrap();
    let claim = consumer.reclaim(1, 0).await.err().unwrap();
    let ack = consumer.ack(&messages).await.unwrap_err();
    assert!(add.is_connection_dropped(), "{add}");
    // None of them is settled as far as is known, and the server is not asked again.
    drop(messages);
    assert!(Streams::connect(Client::open(&*fixture.redis.url).unwrap(), Instrumentation::default()).await.is_err());

    let failed = |expected: ExpectedSpan, error: &RedisError| expected.error("I/O error", &error.to_string());
    let expected = [
        fixture.receive("xreadgroup", 0, &ids, 1),
        fixture.process(0, &ids[0], 1).settled("dropped"),
        fixture.operation("xadd").error("timeout", &silent.to_string()),
        failed(fixture.operation("xadd"), &add),
        fixture.operation("create"),
        failed(fixture.operation("xadd").kind(SpanKind::Client).link("create orders").batch_of(1), &add_all),
        failed(fixture.operation("xreadgroup"), &read),
        failed(fixture.operation("xclaim"), &claim),
        failed(fixture.operation("xack").child_of("process orders").message_id(&ids[0]), &ack),
    ];
    fixture.assert(&ids, expected);
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
    assert_eq!(fixture.stored().await, vec![entry.clone(); 5]);

    let consumer = streams.consumer("orders", "shipping", "worker").await.unwrap();
    let messages: Vec<_> = consumer.read(10, 0).await.unwrap().collect();
    assert!(messages.iter().all(|message| message.entry == entry && message.process_span().is_none()));
    assert_eq!((consumer.ack(&messages).await.unwrap(), fixture.pending().await), (5, 0));
    fixture.assert(&[], []);
}

#[tokio::test]
async fn an_entry_that_redis_refuses_is_refused_with_telemetry_too() {
    let fixture = Fixture::new().await;
    let raw = fixture.raw.clone().xadd::<_, _, Vec<u8>, Vec<u8>, String>("orders", "*", &[]).await.unwrap_err();
    let add = fixture.streams.add("orders", Entry::default()).await.unwrap_err();
    assert_eq!((add.code(), add.code()), (raw.code(), Some("ERR")));
    fixture.streams.add_all("orders", vec![order("1"), Entry::default()]).await.unwrap_err();
    assert_eq!(fixture.streams.add_all("orders", Vec::new()).await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.stored().await, []);
    fixture.assert(&[], []);
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
    let ids: Vec<_> = messages.into_iter().map(|message| message.id).collect();
    let read = fixture.operation("xreadgroup").batch_of(4).attempt(1);
    let process = ids.iter().map(|id| fixture.operation("process").message_id(id).attempt(1).settled("dropped"));
    fixture.assert(&[], [read].into_iter().chain(process));
}

#[tokio::test]
async fn fields_of_the_body_are_no_headers() {
    let fixture = Fixture::with(|builder| builder.with_captured_headers(["*"])).await;
    let mut entry = order("secret");
    entry.set("tenant", "apples".to_owned());
    let ids = [fixture.streams.add("orders", entry).await.unwrap()];
    drop(fixture.consumer("worker").await.read(10, 0).await.unwrap().collect::<Vec<_>>());
    let tenant = opentelemetry::Value::Array(vec![StringValue::from("apples")].into());
    let captured = |expected: ExpectedSpan| expected.attribute("otel_messaging.header.tenant", tenant.clone());
    let send = captured(fixture.operation("xadd").message_id(&ids[0]));
    let process = captured(fixture.process(0, &ids[0], 1).settled("dropped"));
    fixture.assert(&[], [send, fixture.receive("xreadgroup", 0, &ids, 1), process]);
    let others = format!("{:?}{:?}", fixture.recorder.metrics(), fixture.recorder.logs());
    assert!(!others.contains("secret"), "{others}");
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
    let ids = fixture.add(1).await;
    assert_eq!(fixture.pending().await, 1);
    let claimed: Vec<_> = fixture.consumer("claims").await.reclaim(10, 0).await.unwrap().collect();
    assert_eq!((claimed.len(), claimed[0].attempt), (1, 2));
    drop(claimed);
    let process = fixture.process(0, &ids[0], 2).settled("dropped");
    fixture.assert(&ids, [fixture.receive("xclaim", 0, &ids, 2), process].map(|span| span.client_id("claims")));
}

#[tokio::test]
async fn what_is_not_taken_from_a_read_stays_pending() {
    let fixture = Fixture::new().await;
    let ids = fixture.add(3).await;
    let consumer = fixture.consumer("worker").await;
    let taken = consumer.read(10, 0).await.unwrap().next().unwrap();
    consumer.ack(&[taken]).await.unwrap();
    assert_eq!(fixture.pending().await, 2);
    assert_eq!(consumer.reclaim(10, 0).await.unwrap().count(), 2);
    let expected = [
        fixture.receive("xreadgroup", 0, &ids[..1], 1),
        fixture.process(0, &ids[0], 1).settled("ack"),
        fixture.ack(4, &ids[0]),
        fixture.receive("xclaim", 1, &ids[1..], 2),
        fixture.process(1, &ids[1], 2).settled("dropped"),
        fixture.process(2, &ids[2], 2).settled("dropped"),
    ];
    fixture.assert(&ids, expected);
}

#[test]
fn the_adapter_has_at_most_300_lines() {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    let lines = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().lines().count());
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().sum::<usize>() <= 300, "{lines:?}");
}
