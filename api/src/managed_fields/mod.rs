//! Who owns which fields of an object: the field `metadata.managedFields`, kept on every write, and server-side apply, which
//! merges by it. The whole is a function of the stored object, the request and what is handed in with it. Must never do
//! anything about an object but what owners ask for: no defaults, no validation beyond what telling fields apart needs.
//!
//! From the bottom up: [`path`] and [`set`] are what owners own; [`fields_v1`] is how it is stored; `typed` sees objects
//! through their schema; [`entries`] are the owners of an object; `updater` moves fields between them; [`field_manager`] is
//! what a request does. [`scale`] carries owners over to a subresource and back.

mod conflict;
pub mod entries;
pub mod entry_check;
pub mod field_manager;
pub mod fields_v1;
mod last_applied;
pub mod manager_name;
mod overlay;
pub mod path;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
pub mod scale;
pub mod set;
#[cfg(test)]
mod tests;
mod typed;
mod updater;
pub mod versions;

pub use field_manager::{FieldManager, keep_times_of_unchanged};
pub use last_applied::LAST_APPLIED;
pub use overlay::overlay;
pub use path::{Path, PathElement};
pub use set::FieldSet;
pub use versions::{AlikeVersions, Versions};
