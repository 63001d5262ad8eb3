//! The same code on our crates and, with the feature `raw`, on the raw clients: see `examples/switch`.
