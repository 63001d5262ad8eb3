//! One order, one trace, three queues.

fn main() {}
