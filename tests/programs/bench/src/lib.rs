//! What the instrumentation costs, beside the raw client and a hand-written one.
//!
//! ```text
//! make bench                                    all of it but the bounds: criterion, then the tables for the README
//! cargo bench -p bench --bench table            only what it costs, beside the other sides
//! cargo bench -p bench --bench bounds           only whether it costs more than it may
//! cargo bench -p bench --bench prices           only what each feature costs that is switched on
//! cargo bench -p bench --bench paths -- NATS    some paths, by criterion
//! BENCH_QUICK=1 make bench                      few samples, to see that everything runs
//! ```
//!
//! Seven paths, each in five modes, each on three sides; see [`Path`], [`Mode`] and [`Side`]. A [`Subject`] is one path on
//! one side. The raw client and ours are the same source, compiled twice. The caller's path is measured and nothing else:
//! messages to receive are with the client before, what the client still has to write is written after, and time is
//! processor time, so that waiting for the peer costs none. `tests/spans.rs` proves that the instrumented sides make the same
//! spans.

#![allow(clippy::duplicate_mod, reason = "the same source, under the clients' names and under ours, is the comparison")]
#![allow(missing_debug_implementations, reason = "nothing here is printed for debugging")]

pub mod by_hand;
mod by_hand_subjects;
pub mod counting;
pub mod cpu_time;
mod feature;
mod mode;
mod ours;
mod path;
mod peer;
pub mod printed;
mod raw;
mod subject;

pub use crate::{
    feature::Feature,
    mode::Mode,
    path::{Path, Side},
    subject::{BATCH, Failed, Subject, Threads},
};

/// Whether `BENCH_QUICK` is set: few samples, to see that everything runs.
pub fn is_quick() -> bool {
    std::env::var_os("BENCH_QUICK").is_some()
}
