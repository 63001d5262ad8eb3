//! The code blocks of the root README and of the pages beside it, as doctests; what crosses all three brokers is in `tests/`.

#![doc = include_str!("../../../../README.md")]

#[doc = include_str!("../../../../docs/handling.md")]
pub mod handling {}

#[doc = include_str!("../../../../docs/operation.md")]
pub mod operation {}

#[doc = include_str!("../../../../docs/spans.md")]
pub mod spans {}
