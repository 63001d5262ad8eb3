//! Kafka: functions over any producer and any consumer, by rdkafka's traits.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset,
    client::ClientContext,
    config::FromClientConfigAndContext,
    consumer::{Consumer, ConsumerContext},
    error::KafkaResult,
    producer::{Partitioner, Producer, ProducerContext},
    util::Timeout,
};

/// Does some work in a transaction, which is aborted where the work fails.
///
/// # Errors
///
/// Those of the work and of the transaction.
pub fn in_transaction<P, C, Part>(producer: &P, work: impl FnOnce(&P) -> KafkaResult<()>) -> KafkaResult<()>
where
    P: Producer<C, Part>,
    C: ProducerContext<Part>,
    Part: Partitioner,
{
    const TIMEOUT: Timeout = Timeout::After(Duration::from_secs(20));
    producer.init_transactions(TIMEOUT)?;
    producer.begin_transaction()?;
    match work(producer).and_then(|()| producer.flush(TIMEOUT)) {
        Ok(()) => producer.commit_transaction(TIMEOUT),
        Err(error) => producer.abort_transaction(TIMEOUT).and(Err(error)),
    }
}

/// How far a consumer is behind, in all partitions it has.
///
/// # Errors
///
/// Those of the client.
pub fn lag<C: Consumer<X>, X: ConsumerContext>(consumer: &C, timeout: impl Into<Timeout> + Copy) -> KafkaResult<i64> {
    let mut lag = 0;
    for element in consumer.position()?.elements() {
        let (first, last) = consumer.fetch_watermarks(element.topic(), element.partition(), timeout)?;
        let Offset::Offset(next) = element.offset() else { continue };
        lag += last - next.max(first);
    }
    Ok(lag)
}

/// Any client that can be made of a configuration and a context.
///
/// # Errors
///
/// Those of the configuration.
pub fn connect<C: ClientContext, T: FromClientConfigAndContext<C>>(
    bootstrap_servers: &str,
    options: &[(&str, &str)],
    context: C,
) -> KafkaResult<T> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers);
    for (option, value) in options {
        config.set(*option, *value);
    }
    config.create_with_context(context)
}
