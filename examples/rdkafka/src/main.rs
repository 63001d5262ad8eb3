//! A Kafka producer and consumer, one screen each.

fn main() {}
