//! A member's data directory, and the state that is restored from it at start.

pub mod data_dir;
pub(crate) mod names;
pub mod restore;
