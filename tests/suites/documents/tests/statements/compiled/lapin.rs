//! crates/otel-lapin

use std::future::Future;

use otel_lapin::{
    Channel, Connection, Consumer, Result,
    message::Delivery,
    otel::{Instrumentation, MessageStreamExt, raw},
};

fn one_line() {
    use otel_lapin::Connection;
}

fn instrumented(connection: Connection, instrumentation: Instrumentation) {
    let _ = connection.with_instrumentation(instrumentation);
}

fn each<F: Future<Output = ()>>(consumer: Consumer, handler: impl FnMut(Delivery) -> F) {
    let _ = consumer.process_each(8, handler);
}

fn raw_channel(raw: raw::Channel) {
    let _ = Channel::from(raw);
}

fn raw_consumer(raw: raw::Consumer) {
    let _ = Consumer::from(raw);
}

async fn raw_connection(raw_connection: &raw::Connection) -> Result<()> {
    let _ = Channel::from(raw_connection.create_channel().await?);
    Ok(())
}

fn without_spans(consumer: Consumer, delegate: impl raw::ConsumerDelegate + 'static) {
    let _ = consumer.get_ref().set_delegate(delegate);
    let _ = consumer.into_inner();
}
