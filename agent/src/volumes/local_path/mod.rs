//! Directories of this node that were given out as volumes by classes whose provisioner is `barque.dev/local-path`. The controller
//! manager makes and deletes the objects; a directory is made when a pod mounts it, and removed here when its volume is given up.
//! Must never remove a directory that is not called after its volume, or one whose claim may still want it.
//!
//! Beyond what nodes may do anyway, this needs to list, watch and patch `persistentvolumes`.

mod plan;
mod task;

pub use plan::{Action, FINALIZER, plan};
pub use task::LocalPathTask;
