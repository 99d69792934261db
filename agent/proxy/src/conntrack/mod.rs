//! Connections that the kernel still sends to endpoints that are gone. Only protocols without connections need it: TCP's end
//! is told by the other side. Must never touch a flow that is not to a service or host port.

mod netlink;
mod plan;

pub use netlink::{Conntrack, ConntrackError};
pub(crate) use plan::matters;
pub use plan::{Flow, Owners};
