//! A NATS producer and consumer, one screen each.

fn main() {}
