//! For tests: a pipeline over objects in memory, and a server that knows one administrator.

use std::sync::Arc;
use std::time::Duration;

use barque_store::config::TlsFiles;
use futures::FutureExt as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, DefaultTolerations};
use crate::authentication;
use crate::authentication::static_tokens::StaticTokens;
use crate::authorization::Decision;
use crate::authorization::chain::AllowedPaths;
use crate::bootstrap;
use crate::flow_control::limits;
use crate::metrics::{Metrics, PartMetrics};
use crate::registry::allocation::ServiceAllocator;
use crate::registry::allocation::settings::ServiceNetwork;
use crate::registry::collections::{Collections, Settings};
use crate::registry::pipeline::Pipeline;
use crate::rights::Authorization;
use crate::server::ServerSettings;
use crate::storage::encryption::Encryption;
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Storage as _, Write};
use crate::streaming::dial::AgentFlags;

/// The token of the administrator.
pub(crate) const ADMIN: &str = "the-administrators-token";

/// The namespaces that there are from the start.
const NAMESPACES: [&str; 3] = ["a", "b", "default"];

/// Where objects are kept; there are some namespaces.
pub(crate) fn in_memory(storage: Memory) -> Settings<Memory> {
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name},
            "status": {"phase": "Active"}});
        let write = Write {
            key: format!("/registry/namespaces/{name}").into(),
            expected: Expected::Absent,
            action: Action::Put { value: object.to_string().into(), lease: None },
        };
        // Memory does not wait; where there are several servers over one, the first has written it.
        let written = storage.write(&write).now_or_never().expect("memory answers at once");
        written.expect("memory takes everything");
    }
    Settings {
        storage,
        root: "/registry".to_owned(),
        encryption: Encryption::none(),
        event_ttl: Duration::from_secs(3600),
    }
}

/// A pipeline over these objects, where nobody is asked about rights but those in `system:masters`.
pub(crate) fn pipeline(
    collections: &Collections<Memory>,
    network: &ServiceNetwork,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Pipeline<Memory> {
    let authorize = Arc::new(|_: &_, _: &_, _: &_| Decision::NoOpinion(String::new()));
    Pipeline {
        services: ServiceAllocator::new(collections.clone(), network),
        collections: collections.clone(),
        admission: Admission::new(collections.clone(), authorize, Metrics::new().admission),
        authorization: Authorization::start(collections, AllowedPaths::default(), tasks, stop),
    }
}

/// A server on a port of its own, with this certificate.
pub(crate) fn server(tls: TlsFiles, agents: AgentFlags) -> ServerSettings {
    let services = ServiceNetwork::parse("10.0.0.0/24", "30000-30010").expect("both are ranges");
    let tokens = format!("{ADMIN},admin,1,system:masters");
    ServerSettings {
        bind: "127.0.0.1:0".parse().expect("it is an address"),
        tls,
        advertise: "127.0.0.1".parse().expect("it is an address"),
        hostname: "127.0.0.1".to_owned(),
        always_allowed: AllowedPaths::default(),
        authentication: authentication::Settings {
            static_tokens: StaticTokens::of_csv(&tokens).expect("it is a line"),
            ..authentication::Settings::default()
        },
        limits: limits::Settings::default(),
        request_timeout: Duration::from_secs(60),
        audit: None,
        compaction_interval: None,
        tolerations: DefaultTolerations::default(),
        agents,
        parts: PartMetrics::default(),
        proxy_client: TlsFiles::default(),
        start: bootstrap::Settings {
            service_ranges: services.networks(),
            secure_port: 0,
            authentication: bootstrap::AuthenticationConfig::default(),
        },
        services,
    }
}
