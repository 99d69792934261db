//! Services: what the API says of them, and the chains and map elements that follow. Must never talk to the kernel or the API.

mod endpoints;
mod from_api;
mod model;
pub(crate) mod plan;

pub use from_api::{HEADLESS_LABEL, PROXY_NAME_LABEL, SERVICE_NAME_LABEL, endpoints, service};
pub(crate) use from_api::{key, port_number};
pub use model::{
    Affinity, Endpoint, Protocol, Service, ServicePort, Slice, SlicePort, Slices, TrafficPolicy,
};
pub use plan::{Dispatch, Health, Planned, plan};
