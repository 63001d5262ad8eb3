//! The code blocks of the root README and of the pages beside it, as doctests; what crosses all three brokers is in `tests/`.

#![doc = include_str!("../../../../README.md")]

#[doc = include_str!("../../../../docs/operation.md")]
pub mod operation {}
