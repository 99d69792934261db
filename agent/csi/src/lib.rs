//! Drivers of volumes on a node (Container Storage Interface v1): which ones have told that they are there, and what they are asked to
//! do. Must never know what a pod is.

mod directory;
mod driver;
pub mod drivers;

pub use driver::{Capabilities, Driver, DriverError, NodeInfo};
pub use drivers::{Drivers, Registered};

/// The wire format of the Node service.
#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    unreachable_pub,
    unused_qualifications,
    reason = "it is generated; proto/csi.proto has the words"
)]
pub mod wire {
    tonic::include_proto!("csi.v1");
}

/// The wire format by which plugins tell that they are there.
#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    unreachable_pub,
    unused_qualifications,
    reason = "it is generated; proto/pluginregistration.proto has the words"
)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
