//! A RabbitMQ producer and consumer, one screen each.

fn main() {}
