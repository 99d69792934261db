//! The gRPC services of the client port, over a [`backend::Backend`].
//!
//! A service decides nothing but what the API itself demands: it checks a request, turns it into a
//! command or a read, and turns the outcome into the answer.

pub mod admit;
pub mod backend;
pub mod permit;
pub mod streams;

mod admin;
mod auth;
mod chunks;
mod cluster;
mod convert;
mod counting;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod overlap;
mod oversize;
mod passwords;
mod queue;
mod sessions;
mod snapshot;
mod space;
mod validate;
mod watch;

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_proto::server::admin::admin_server::AdminServer;
use barque_proto::server::election::election_server::ElectionServer;
use barque_proto::server::etcd::auth_server::AuthServer;
use barque_proto::server::etcd::cluster_server::ClusterServer;
use barque_proto::server::etcd::kv_server::KvServer;
use barque_proto::server::etcd::lease_server::LeaseServer;
use barque_proto::server::etcd::maintenance_server::MaintenanceServer;
use barque_proto::server::etcd::watch_server::WatchServer;
use barque_proto::server::health::health_server::HealthServer;
use barque_proto::server::lock::lock_server::LockServer;
use tonic::service::Routes;

use backend::{Backend, Limits};

use crate::watch::{History, WatchConfig, WatchHub};
use oversize::Oversize;

/// The version of etcd that this store speaks like. Kubernetes reads from it what a store can do.
pub const VERSION: &str = "3.6.5";

/// The version of the cluster, major and minor.
pub const CLUSTER_VERSION: &str = "3.6";

/// The version of the storage schema, as etcd would call it.
pub const STORAGE_VERSION: &str = "3.6.0";

/// How much larger than the largest request a message may be: what surrounds the request.
const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// The largest message that a client may send. Answers are not limited.
#[must_use]
pub const fn max_message_bytes(limits: &Limits) -> usize {
    limits.max_request_bytes + MESSAGE_OVERHEAD_BYTES
}

/// What the Watch service needs beside the backend.
pub struct Watches {
    /// New events.
    pub hub: Arc<WatchHub>,
    /// Old events.
    pub history: Arc<dyn History>,
    /// How streams behave.
    pub config: WatchConfig,
}

/// All services of the client port.
#[must_use]
pub fn routes<B: Backend>(backend: &B, watches: Watches) -> Routes {
    let Watches { hub, history, config } = watches;
    let admin = admin::Admin::new(backend.clone(), Arc::clone(&hub));
    let watch = watch::Watch { backend: backend.clone(), hub, history, config };
    let bytes = max_message_bytes(backend.limits());
    macro_rules! service {
        ($server:ident, $service:expr) => {
            Oversize($server::new($service).max_decoding_message_size(bytes))
        };
    }
    Routes::new(service!(KvServer, kv::Kv(backend.clone())))
        .add_service(service!(WatchServer, watch))
        .add_service(service!(LeaseServer, lease::Lease(backend.clone())))
        .add_service(service!(ClusterServer, cluster::Cluster(backend.clone())))
        .add_service(service!(MaintenanceServer, maintenance::Maintenance(backend.clone())))
        .add_service(service!(AuthServer, auth::Auth(backend.clone())))
        .add_service(service!(LockServer, lock::Lock(backend.clone())))
        .add_service(service!(ElectionServer, election::Election(backend.clone())))
        .add_service(service!(HealthServer, health::Health(backend.clone())))
        .add_service(service!(AdminServer, admin))
}
