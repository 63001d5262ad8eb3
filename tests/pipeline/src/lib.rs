//! The code blocks of the root README, as doctests; what crosses all three brokers is in `tests/`.

#![doc = include_str!("../../../README.md")]
