//! crates/otel-rdkafka

use std::future::Future;

use otel_rdkafka::{
    consumer::{ConsumerContext, StreamConsumer},
    message::BorrowedMessage,
    otel::{Instrumentation, MessageStreamExt, Traced, raw},
    producer::FutureProducer,
};

fn one_line() {
    use otel_rdkafka::producer::FutureProducer;
}

fn instrumented(producer: FutureProducer, instrumentation: Instrumentation) {
    let _ = producer.with_instrumentation(instrumentation);
}

fn each<'a, F: Future<Output = ()>>(consumer: &'a StreamConsumer, handler: impl FnMut(BorrowedMessage<'a>) -> F) {
    let _ = consumer.stream().process_each(8, handler);
}

fn made_ours<C: ConsumerContext>(raw: raw::consumer::StreamConsumer<Traced<C>>) {
    let _ = StreamConsumer::from(raw);
}
