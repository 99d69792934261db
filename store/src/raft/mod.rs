//! Consensus: openraft behind a thin seam, so that an upgrade of it touches this folder alone.
//!
//! The rest of the store proposes batches of commands, waits for read barriers, changes membership and
//! hears of leadership; it never sees openraft's types.

pub mod types;
