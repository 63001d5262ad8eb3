//! All instrumented sides do the same work: the same spans, with the same attributes. Of a NATS publish, ours tells
//! the peer too.

use std::{collections::BTreeMap, time::Duration};

use bench::{Failed, Mode, Path, Side, Subject};
use conventions::Convention;
use opentelemetry::{
    Value, global,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};

/// `traceparent` of every message and request: its span, and the trace's id.
const UPSTREAM: (&str, &str) = ("b7ad6b7169203331", "0af7651916cd43dd8448eb211c80319c");

#[test]
fn sides_make_the_same_spans() -> Result<(), Failed> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter.clone()).build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());

    for path in Path::ALL {
        let sides = Side::ALL.map(|side| (side, Mode::Recorded));
        for (side, mode) in sides.into_iter().chain([(Side::Ours, Mode::RecordedW3c)]) {
            let mut subject = Subject::new(path, side, mode)?;
            provider.force_flush()?;
            exporter.reset();
            subject.batch(7, |_| Duration::ZERO)?;
            provider.force_flush()?;
            let spans = exporter.get_finished_spans()?;
            // The first message of a batch that is received is one of the preparation.
            let expected = match (side, path) {
                (Side::Raw, _) => 0,
                (_, Path::KafkaReceive) => 8,
                _ => 7,
            };
            // What asked for the messages is instrumented too.
            let spans: Vec<_> = spans.iter().filter(|span| !span.name.ends_with(" push")).collect();
            assert_eq!(spans.len(), expected, "{path}, {side}");
            for span in spans {
                assert_is(path, side, span);
            }
        }
    }
    Ok(())
}

fn assert_is(path: Path, side: Side, span: &SpanData) {
    let (name, kind, mut attributes) = expected(path);
    let about = format!("{path}, {side}: {span:#?}");
    assert_eq!(span.name, name, "{about}");
    assert_eq!(span.span_kind, kind, "{about}");
    assert_eq!(span.status, Status::Unset, "{about}");
    assert_eq!(span.parent_span_id, SpanId::from_hex(UPSTREAM.0).unwrap(), "{about}");
    assert_eq!(span.span_context.trace_id().to_string(), UPSTREAM.1, "{about}");
    let links: Vec<_> = span.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
    assert_eq!(links, if path.is_send() { vec![] } else { vec![UPSTREAM.0.to_owned()] }, "{about}");

    let mut actual: BTreeMap<_, _> =
        span.attributes.iter().map(|attribute| (attribute.key.as_str(), shown(&attribute.value))).collect();
    assert_eq!(actual.len(), span.attributes.len(), "an attribute twice: {about}");
    for key in actual.keys() {
        assert_eq!(Convention::get().knows(key), Ok(()), "{about}");
    }
    // More than the side by hand tells; the wait only where it took a millisecond, as on a busy machine.
    actual.remove("messaging.kafka.cluster.id");
    if side == Side::Ours && !path.is_send() {
        actual.remove("otel_messaging.wait_time");
    }
    if side == Side::Ours && [Path::NatsSend, Path::RabbitSend].contains(&path) {
        // The hand-written side leaves out what only tells more of a server that is connected by its address.
        attributes.extend([("network.peer.address", "127.0.0.1"), ("network.peer.port", "i64")]);
    }
    assert_eq!(actual, attributes.into_iter().map(|(key, value)| (key, value.to_owned())).collect(), "{about}");
}

/// Numbers depend on the run.
fn shown(value: &Value) -> String {
    match value {
        Value::I64(_) => "i64".to_owned(),
        value => value.to_string(),
    }
}

fn expected(path: Path) -> (&'static str, SpanKind, Vec<(&'static str, &'static str)>) {
    let (name, kind, operation, operation_type) = match path {
        Path::KafkaSend | Path::KafkaSendFuture => ("send orders", SpanKind::Producer, "send", "send"),
        Path::KafkaReceive => ("process created", SpanKind::Consumer, "process", "process"),
        Path::RabbitSend => ("publish orders:created", SpanKind::Producer, "publish", "send"),
        Path::RabbitReceive => ("process orders:created:billing", SpanKind::Consumer, "process", "process"),
        Path::NatsSend => ("publish orders.created", SpanKind::Producer, "publish", "send"),
        Path::NatsReceive => ("process orders.created", SpanKind::Consumer, "process", "process"),
    };
    let mut attributes = vec![
        ("messaging.operation.name", operation),
        ("messaging.operation.type", operation_type),
        ("messaging.destination.name", name.split_once(' ').unwrap().1),
    ];
    match path {
        Path::KafkaSend | Path::KafkaSendFuture | Path::KafkaReceive => attributes.extend([
            ("messaging.system", "kafka"),
            ("messaging.client.id", "checkout-1"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.kafka.offset", "i64"),
        ]),
        Path::RabbitSend | Path::RabbitReceive => attributes.extend([
            ("messaging.system", "rabbitmq"),
            ("messaging.rabbitmq.destination.routing_key", "created"),
            ("server.address", "127.0.0.1"),
            ("server.port", "i64"),
        ]),
        Path::NatsSend | Path::NatsReceive => {
            attributes.extend([("messaging.system", "nats"), ("server.address", "127.0.0.1"), ("server.port", "i64")])
        }
    }
    match path {
        Path::KafkaReceive => attributes.push(("messaging.consumer.group.name", "billing")),
        Path::RabbitReceive => attributes.push(("messaging.rabbitmq.message.delivery_tag", "i64")),
        _ => {}
    }
    (name, kind, attributes)
}
