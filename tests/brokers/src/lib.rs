//! Real brokers on demand, for tests, demo and benches.
