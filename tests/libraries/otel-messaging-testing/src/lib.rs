#![doc = include_str!("../README.md")]

mod diff;
mod expected_span;
mod recorder;
mod series;
mod spans;
mod text;

pub use crate::{
    expected_span::{ExpectedSpan, SpanRef, span},
    recorder::Recorder,
    series::Series,
    spans::Spans,
    text::{attributes, describe},
};
