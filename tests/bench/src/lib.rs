//! What the instrumentation costs, beside the raw client and a hand-written one.
//!
//! Seven paths, each in three modes, each on three sides; see [`Path`], [`Mode`] and [`Side`]. A [`Subject`] is one path on
//! one side. The raw client and ours are the same source, compiled twice. What is measured is [`measured`] and nothing
//! else: messages to receive are with the client before, and what the client still has to write is written after.

#![allow(missing_debug_implementations, reason = "nothing here is printed for debugging")]

pub mod by_hand;
mod by_hand_subjects;
pub mod counting;
pub mod cpu_time;
mod mode;
#[cfg(feature = "ours")]
mod ours;
mod path;
mod peer;
mod raw;
mod subject;

pub use crate::{
    mode::Mode,
    path::{Path, Side},
    subject::{BATCH, Failed, Subject, Threads},
};

/// Whether `BENCH_QUICK` is set: few samples, to see that everything runs.
pub fn is_quick() -> bool {
    std::env::var_os("BENCH_QUICK").is_some()
}
