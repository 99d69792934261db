//! ResourceQuotas: what an object uses of what a quota bounds. The API server charges by it, the controller counts by it. Must
//! never know what is left.

pub mod amounts;
mod scopes;
mod usage;

pub use scopes::cover;
pub use usage::{Meter, OLD_STORAGE_CLASS, class_of};
