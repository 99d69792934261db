//! The cluster's names, answered from watches; all others forwarded. Must never ask the API server for one answer.
//!
//! [`Names`] is what the cluster has, kept by [`follow`]; [`answer`] is the Kubernetes DNS specification, version 1.1.0, as
//! a function of it; [`Dns`] serves that, forwards what is not the cluster's, and remembers what others answered.

mod answer;
mod cache;
mod dns;
mod follow;
mod forward;
mod metrics;
mod names;
mod reply;
mod serve;
mod upstreams;

pub use answer::{Answer, answer};
pub use cache::CacheSettings;
pub use dns::{Dns, DnsError, Settings, Upstreams};
pub use follow::{Watched, follow};
pub use metrics::Metrics;
pub use names::{Names, Zone};
pub use upstreams::nameservers;
