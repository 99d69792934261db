//! NetworkPolicy: what pods may be reached by, and what they may reach. Must never talk to the kernel or the API.

mod from_api;
mod model;
mod plan;

pub use from_api::{PolicyError, policy};
pub use model::{AddressBlock, Direction, Peer, Policy, PortRange, Ports, RuleOf, Selects};
pub use plan::{Cluster, plan_pod, plan_policy};
