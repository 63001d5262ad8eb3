//! The core's promises, on a queue in memory.

#[path = "../queue/mod.rs"]
mod queue;

mod ambient;
mod any_names;
mod batch;
mod batches;
mod capture;
mod carried;
mod context_reader;
mod correlation;
mod destinations;
mod events;
mod forward;
mod hooks;
mod hostile_sdk;
mod metrics;
mod outcome;
mod process;
mod process_each;
mod reply;
mod republish;
mod send;
mod sequential;
mod settle_batch;
mod vocabulary;
mod w3c;
mod wait;
mod ways_out;
