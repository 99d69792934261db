//! The keyspace in memory: every key's current version, and its history since the last compaction.
//!
//! Pure and deterministic: the same commands give the same state on every member. Nothing here waits, locks
//! or reads a clock; the only door outside is [`event::ColdHistory`], through which history that left memory is
//! read back. One writer changes a [`keyspace::Keyspace`]; readers hold [`view::View`]s, which share its
//! structure, never change and never block it.

pub mod builder;
pub mod event;
mod history;
pub mod kept;
pub mod keyspace;
mod links;
#[cfg(test)]
mod model;
mod range;
pub mod replay;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
pub mod txn;
pub mod view;
