//! Headers that others may write, by the raw client: the message always arrives.

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions},
    types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString, ShortString},
};
use opentelemetry::trace::SpanId;
use otel_lapin::otel::MessageExt;

use crate::harness::{Rabbit, long, named, next, table};

const TRACE: &str = "0123456789abcdef0123456789abcdef";
const SPAN: &str = "0123456789abcdef";

fn valid() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

fn bytes(bytes: &[u8]) -> AMQPValue {
    AMQPValue::ByteArray(ByteArray::from(bytes))
}

/// Sends such headers raw; gives the span that the message was understood to come from.
async fn received(rabbit: &Rabbit, headers: FieldTable) -> Option<SpanId> {
    let queue = rabbit.queue("hostile").await;
    let properties = BasicProperties::default().with_headers(headers);
    rabbit.publish_raw(&queue, b"payload", properties.clone()).await;
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    assert_eq!(delivery.data, b"payload");
    assert_eq!(delivery.properties, properties, "headers are shown as they arrived");
    delivery.in_scope(|| ());
    assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    drop(delivery);
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"));
    assert_eq!(process.len(), 1);
    let links: Vec<_> = process[0].links.iter().map(|link| link.span_context.span_id()).collect();
    assert!(links.len() <= 1);
    assert_eq!(process[0].parent_span_id, links.first().copied().unwrap_or(SpanId::INVALID));
    links.first().copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_encoding_and_spelling_is_understood() {
    let rabbit = Rabbit::new().await;
    let found = Some(SpanId::from_hex(SPAN).unwrap());
    let random = format!("00-{TRACE}-{SPAN}-03");
    let cases = [
        table([("traceparent", long(&valid()))]),
        table([("traceparent", bytes(valid().as_bytes()))]),
        table([("Traceparent", long(&valid()))]),
        table([("TRACEPARENT", bytes(valid().as_bytes()))]),
        table([("traceparent", long(&random))]),
        // Of two spellings the exact one; of two that say nothing usable, the one that does.
        table([
            ("Traceparent", long("00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-01")),
            ("traceparent", long(&valid())),
        ]),
        table([("Traceparent", long(&valid())), ("traceparent", AMQPValue::LongInt(1))]),
        table([("traceparent", long(&valid())), ("tracestate", long("")), ("baggage", long(""))]),
        table([("traceparent", long(&valid())), ("tracestate", AMQPValue::Void), ("baggage", bytes(b"\xff\xfe"))]),
    ];
    for headers in cases {
        assert_eq!(received(&rabbit, headers.clone()).await, found, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_cannot_be_read_is_treated_as_absent() {
    let rabbit = Rabbit::new().await;
    let nested = table([("traceparent", long(&valid()))]);
    let many: FieldArray = vec![long(&valid())].into();
    let values = [
        long(""),
        long("garbage"),
        long("00-00000000000000000000000000000000-0000000000000000-01"),
        long(&format!("ff-{TRACE}-{SPAN}-01")),
        long(&format!("00-{TRACE}-{SPAN}")),
        long(&"0".repeat(64 * 1024)),
        bytes(b"\xff\xfe\x00"),
        bytes(&[format!("cc-{TRACE}-{SPAN}-01-").as_bytes(), b"\xff"].concat()),
        bytes(b""),
        AMQPValue::LongString(LongString::from(&b"00-\xc3\x28"[..])),
        AMQPValue::Void,
        AMQPValue::Boolean(true),
        AMQPValue::Timestamp(7),
        AMQPValue::Double(1.5),
        AMQPValue::FieldArray(many),
        AMQPValue::FieldTable(nested),
    ];
    for value in values {
        let shown = format!("{value:?}");
        let headers = table([("traceparent", value)]);
        assert_eq!(received(&rabbit, headers).await, None, "{}", &shown[..shown.len().min(80)]);
    }
    for name in ["Xraceparent", "", &"n".repeat(255), "tracep\u{e4}rent", "traceparent\0", "trace\r\nparent"] {
        let name = ShortString::try_new(name).unwrap();
        let mut headers = FieldTable::default();
        headers.insert(name, long(&valid()));
        assert_eq!(received(&rabbit, headers).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_and_a_forward_cope_with_them_too() {
    let rabbit = Rabbit::new().await;
    let (queue, on) = (rabbit.queue("hostile").await, rabbit.queue("on").await);
    let headers =
        table([("traceparent", bytes(b"\xff\xfe")), ("Baggage", AMQPValue::Void), ("kept", bytes(b"\x00\xff"))]);
    rabbit.publish_raw(&queue, b"1", BasicProperties::default().with_headers(headers)).await;
    let message = rabbit.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    let properties = message.properties.clone();
    message.process(|| async { rabbit.publish(&on, b"1", properties).await }).await;
    drop(message);
    let forwarded = rabbit.take_raw(&on).await;
    let spans = rabbit.sdk.wait_for(3);
    let publish = named(&spans, &format!("publish {on}"))[0];
    let expected = table([
        ("Baggage", AMQPValue::Void),
        ("kept", bytes(b"\x00\xff")),
        ("traceparent", crate::harness::traceparent(publish)),
    ]);
    assert_eq!(*forwarded.properties.headers(), Some(expected));
}

/// The raw client cannot write these: a frame by hand does.
mod by_hand {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    /// How long lapin gets to answer what it may never answer.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

    /// One AMQP connection, as far as needed to publish one message with a header table of our own making.
    struct Wire(TcpStream);

    impl Wire {
        fn open() -> Self {
            let uri: lapin::uri::AMQPUri = crate::harness::uri().parse().unwrap();
            let mut wire = Self(TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).unwrap());
            wire.0.set_read_timeout(Some(support::DEADLINE)).unwrap();
            wire.0.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
            wire.expect(10, 10);
            let login = format!("\0{}\0{}", uri.authority.userinfo.username, uri.authority.userinfo.password);
            let start_ok =
                [&0_u32.to_be_bytes()[..], b"\x05PLAIN", &long_text(login.as_bytes()), b"\x05en_US"].concat();
            wire.method(0, 10, 11, &start_ok);
            let tune = wire.expect(10, 30);
            wire.method(0, 10, 31, &tune);
            wire.method(0, 10, 40, b"\x01/\x00\x00");
            wire.expect(10, 41);
            wire.method(1, 20, 10, b"\x00");
            wire.expect(20, 11);
            wire.method(1, 85, 10, b"\x00");
            wire.expect(85, 11);
            wire
        }

        fn publish(&mut self, queue: &str, headers: &[u8], payload: &[u8]) {
            let key = [&[u8::try_from(queue.len()).unwrap()], queue.as_bytes()].concat();
            self.method(1, 60, 40, &[&[0, 0, 0][..], &key, &[0]].concat());
            let header = [
                &60_u16.to_be_bytes()[..],
                &[0, 0],
                &u64::try_from(payload.len()).unwrap().to_be_bytes(),
                &(1_u16 << 13).to_be_bytes(),
                &long_text(headers),
            ]
            .concat();
            self.frame(2, 1, &header);
            self.frame(3, 1, payload);
            self.expect(60, 80);
        }

        fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
            self.frame(1, channel, &[&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat());
        }

        fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
            let length = u32::try_from(payload.len()).unwrap();
            let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[0xce]].concat();
            self.0.write_all(&frame).unwrap();
        }

        /// The arguments of the next method, which has to be this one.
        fn expect(&mut self, class: u16, method: u16) -> Vec<u8> {
            loop {
                let mut head = [0; 7];
                self.0.read_exact(&mut head).unwrap();
                let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
                self.0.read_exact(&mut payload).unwrap();
                payload.pop();
                if head[0] != 1 {
                    continue;
                }
                let got = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
                assert_eq!(got, (class, method), "{}", String::from_utf8_lossy(&payload));
                return payload.split_off(4);
            }
        }
    }

    fn long_text(text: &[u8]) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
    }

    fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
        [&[u8::try_from(name.len()).unwrap()][..], name, &[kind], value].concat()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_header_that_stands_there_twice_is_taken_once() {
        let rabbit = Rabbit::new().await;
        let queue = rabbit.queue("hostile").await;
        let other = "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-01";
        let headers = [
            entry(b"traceparent", b'S', &long_text(other.as_bytes())),
            entry(b"traceparent", b'S', &long_text(valid().as_bytes())),
        ]
        .concat();
        let on = queue.clone();
        tokio::task::spawn_blocking(move || Wire::open().publish(&on, &headers, b"payload")).await.unwrap();
        let delivery = next(&mut rabbit.consume(&queue).await).await;
        assert_eq!(delivery.data, b"payload");
        drop(delivery);
        let spans = rabbit.sdk.wait_for(1);
        assert_eq!(
            spans[0].links.iter().map(|link| link.span_context.span_id().to_string()).collect::<Vec<_>>(),
            [SPAN]
        );
    }

    /// What lapin makes of a name that is not UTF-8 is lapin's; ours makes the same of it.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_that_is_not_text_meets_lapin_and_us_alike() {
        let rabbit = Rabbit::new().await;
        let (ours, theirs) = (rabbit.queue("hostile").await, rabbit.queue("hostile").await);
        let headers =
            [entry(b"\xff\xfe", b'S', &long_text(b"x")), entry(b"traceparent", b'S', &long_text(valid().as_bytes()))]
                .concat();
        let queues = [ours.clone(), theirs.clone()];
        tokio::task::spawn_blocking(move || {
            let mut wire = Wire::open();
            queues.iter().for_each(|queue| wire.publish(queue, &headers, b"payload"));
        })
        .await
        .unwrap();
        let no_ack = BasicGetOptions { no_ack: true };
        let (raw, message) = futures::join!(
            tokio::time::timeout(PATIENCE, rabbit.raw.basic_get(theirs.as_str().into(), no_ack)),
            tokio::time::timeout(PATIENCE, rabbit.channel.basic_get(ours.as_str().into(), no_ack)),
        );
        match (raw, message) {
            (Ok(Ok(Some(raw))), Ok(Ok(Some(message)))) => {
                assert_eq!(
                    (raw.delivery.properties, raw.delivery.data),
                    (message.properties.clone(), message.data.clone())
                );
            }
            (Ok(Err(raw)), Ok(Err(ours))) => assert_eq!(raw.to_string(), ours.to_string()),
            // As of lapin 4.12: the frame cannot be parsed, the connection breaks, and the call stays without an answer.
            (Err(_), Err(_)) => {}
            (raw, ours) => panic!("{raw:?} and {ours:?}"),
        }
    }
}
