//! Messages that are sent again: retries and dead letters.

use std::collections::BTreeSet;

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicPublishOptions},
    types::AMQPValue,
};
use otel_lapin::otel::MessageExt;

use crate::harness::{Rabbit, long, named, next, table, traceparent};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_retries_add_no_header_and_link_the_failure() {
    const ROUNDS: usize = 100;
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let user = [("colour", long("green")), ("retries", AMQPValue::LongInt(3))];
    rabbit.publish(&queue, b"1", BasicProperties::default().with_headers(table(user.clone()))).await;
    let mut consumer = rabbit.consume(&queue).await;
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let delivery = next(&mut consumer).await;
        seen.push(delivery.properties.headers().clone().unwrap());
        delivery.fail(&"declined");
        let properties = delivery.properties.clone();
        let options = BasicPublishOptions::default();
        let again = || rabbit.channel.basic_publish("".into(), queue.as_str().into(), options, b"1", properties);
        delivery.republish(again).await.unwrap();
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
    let last = next(&mut consumer).await;
    seen.push(last.properties.headers().clone().unwrap());
    drop(last);

    let spans = rabbit.sdk.wait_for(2 + 3 * ROUNDS);
    let (publish, process) = (named(&spans, &format!("publish {queue}")), named(&spans, &format!("process {queue}")));
    assert_eq!((publish.len(), process.len()), (ROUNDS + 1, ROUNDS + 1));
    for (round, headers) in seen.into_iter().enumerate() {
        let mut expected = user.to_vec();
        expected.push(("traceparent", traceparent(publish[round])));
        assert_eq!(headers, table::<3>(expected.try_into().unwrap()), "round {round}");
        if round == 0 {
            continue;
        }
        let linked: BTreeSet<_> =
            publish[round].links.iter().map(|link| link.span_context.span_id().to_string()).collect();
        let [sender, failed] = [publish[round - 1], process[round - 1]];
        let expected = [sender, failed].map(|span| span.span_context.span_id().to_string());
        assert_eq!(linked, BTreeSet::from(expected), "round {round}");
        assert_eq!(publish[round].links.len(), 2);
    }
}
