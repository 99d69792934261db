//! What the kernel's packet filter is told: services balanced over pods, policies, ports of hosts. Must never make a link.
//!
//! Objects come in as streams ([`Streams`]), are read into lean values, and are planned one by one into fragments of two
//! tables, one for each family of addresses ([`services::plan`], [`policy::plan_policy`], [`host_ports::plan`]). A shadow of
//! the tables ([`Shadow`]) finds what a change changes, and that alone is told to the kernel, over netlink ([`Kernel`]).
//! [`Proxy`] is the task around it.

mod base;
mod check;
mod cleanup;
mod conntrack;
mod health;
pub mod host_ports;
pub mod masquerade;
mod metrics;
mod names;
pub mod nft;
mod observe;
pub mod pods;
pub mod policy;
mod proxy;
pub mod resolver;
pub mod services;
mod settings;
mod shadow;
mod state;

pub use base::plan as plan_base;
pub use check::{Feature, check};
pub use cleanup::cleanup;
pub use conntrack::{Conntrack, ConntrackError, Flow, Owners};
pub use metrics::Metrics;
pub use nft::{Block, Family, Kernel, KernelError};
pub use observe::{Events, PolicyStreams, Streams};
pub use proxy::{Proxy, ProxyError};
pub use settings::{NodeFacts, NodePortAddresses, Settings};
pub use shadow::{Fragment, Shadow, Unit};
pub use state::State;
