//! Who did what, written down: which requests a policy wants told, what is told of them, and the file where it goes. Must
//! never change what a request does.

mod event;
mod log;
mod policy;
mod rotation;

pub use event::{Received, Record};
pub use log::{Log, LogClosed, LogConfig};
pub use policy::{Audited, Level, Policy, PolicyError, Stage};
