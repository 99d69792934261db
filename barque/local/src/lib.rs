//! A whole cluster on one machine, and the front that clients reach it by. Must never do what `barque server` and `barque agent`
//! do: it starts them, and says with which words.
//!
//! [`plan`] decides who is where; [`up`], [`down`] and [`fault`] do it, over a file that tells what there is ([`state`]). With
//! root each member has a network namespace on a bridge ([`ground`]), without it an address of loopback.

mod apply;
pub mod convergence;
pub mod down;
pub mod fault;
pub mod front;
pub mod ground;
mod kubeconfig;
mod leftovers;
mod log_file;
pub mod manifests;
pub mod plan;
mod process;
mod progress;
mod replacement;
pub mod state;
pub mod up;

pub use apply::ApplyError;
pub use kubeconfig::KubeconfigError;
pub use process::ProcessError;
pub use progress::Progress;
