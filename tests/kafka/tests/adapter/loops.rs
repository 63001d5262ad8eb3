//! The warning about a span that is held open around a consumer's loop.

use std::time::Duration;

use otel_rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    otel::{MessageExt, process_batch},
    producer::BaseRecord,
};
use rdkafka::producer::Producer as _;

use crate::broker::Test;

#[test]
fn a_loop_inside_one_span_is_warned_of_once_and_a_request_that_takes_some_messages_is_not() {
    const MESSAGES: usize = 251;
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for _ in 0..MESSAGES {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let warnings = |messages: usize, batch: bool| {
        let heard = support::heard(|| {
            let consumer: BaseConsumer = test.consumer_config().create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
            consumer.assign(&list).unwrap();
            let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
            let _attached = test.sdk.app_span("loop").attach();
            let received = (0..messages).map(|_| consumer.poll(support::DEADLINE).unwrap().unwrap());
            if batch {
                let all: Vec<_> = received.collect();
                runtime.block_on(process_batch(&all, async {}));
            } else {
                received.for_each(|message| message.in_scope(|| ()));
            }
        });
        heard.matches("messaging.consumer.ambient_span").count()
    };
    assert_eq!([(MESSAGES, false), (MESSAGES - 1, false), (MESSAGES, true)].map(|(m, b)| warnings(m, b)), [1, 0, 0]);
}
