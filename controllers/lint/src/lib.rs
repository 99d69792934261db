//! Whether what a cluster says of itself holds together: a picture of all its objects is read, and rules find what cannot be right.
//! Works over any API server. Must never change anything, nor share decisions with the controllers that it judges.
//!
//! A cluster that is correct and at rest has no findings. While something changes there may be some: lists are read one after the
//! other, and controllers need time; [`confirm()`] keeps what two pictures show.

mod bindings;
mod confirm;
mod finding;
mod objects;
mod pods;
mod read;
mod report;
mod rules;
mod services;
mod snapshot;
#[cfg(test)]
mod test_snapshot;

pub use bindings::Bindings;
pub use confirm::confirm;
pub use finding::{Finding, Object, Rule};
pub use read::{ReadError, read};
pub use report::Report;
pub use rules::{lint, notes};
pub use snapshot::{Kept, Meta, Snapshot};
