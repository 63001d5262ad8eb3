//! crates/otel-async-nats

use std::future::Future;

use bytes::Bytes;
use otel_async_nats::{
    Client, HeaderMap, Message, Subject, Subscriber,
    jetstream::{
        Context,
        consumer::{Consumer, IntoConsumerConfig},
        stream::Stream,
    },
    otel::{MessageExt, MessageStreamExt, Outcome, raw},
};

fn one_line() {
    use otel_async_nats::jetstream;
}

fn one<F: Future<Output: Outcome>>(message: &Message, handler: impl FnOnce() -> F) {
    let _ = message.process(handler);
}

fn each<F: Future<Output = ()>>(messages: Subscriber, handler: impl FnMut(Message) -> F) {
    let _ = messages.process_each(8, handler);
}

fn with_headers(client: &Client, subject: &'static str, headers: HeaderMap, payload: Bytes) {
    let _ = client.publish_with_headers(subject, headers, payload);
}

fn acknowledged_by_hand(context: &Context, reply: Subject) {
    let _ = context.publish(reply, "+ACK".into());
}

fn raw_client(raw: raw::Client) {
    let _ = Client::from(raw);
}

fn raw_context(raw: raw::jetstream::Context) {
    let _ = Context::from(raw);
}

fn raw_stream(raw: raw::jetstream::stream::Stream, context: Context) {
    let _ = Stream::from((raw, &context));
}

fn raw_consumer<T: IntoConsumerConfig>(raw: raw::jetstream::consumer::Consumer<T>, context: Context) {
    let _ = Consumer::from((raw, &context));
}

fn without_spans(client: Client) {
    let _ = client.into_inner();
}
