//! Code as users of the three clients write it: nothing here is ours but the rename in `Cargo.toml`.

pub mod generic;
pub mod objects;
pub mod pool;
pub mod spawned;
