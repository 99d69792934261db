//! The secrets and config maps that pods of the node name: each is followed by a watch of its own, as the Node authorizer allows,
//! for as long as a pod names it. Must never list what no pod names, or keep it longer.

mod follow;
mod named;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use follow::{ReferenceError, References};
pub use named::{Kind, Reference, named};
