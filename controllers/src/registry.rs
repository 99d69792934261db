//! The table of controllers. Must never hold a decision of one of them.
//!
//! One more controller is a folder with a type that implements `Controller`, and one row here; its flag for workers, the
//! choice by `--controllers`, its queue, metrics, events and caches follow from the row. One that must ask the API past the caches
//! (what is in a namespace) is a `Walker`. One that fits neither shape (it watches kinds that it does not know) has a row whose
//! `start` hands `Starter::task` a future of its own; what the API serves it learns from `Starter::discovered`.

use std::sync::Arc;

use crate::autoscaler::Autoscaler;
use crate::bootstrap_tokens::{BootstrapSigner, TokenCleaner};
use crate::certificates::{Approval, Cleaning, Signing};
use crate::clock::Clock;
use crate::cluster_role_aggregation::ClusterRoleAggregation;
use crate::controller_manager::Starter;
use crate::cron_job::CronJobs;
use crate::daemon_set::DaemonSets;
use crate::deployment::Deployments;
use crate::disruption::{Budgets, StaleDisruptions};
use crate::endpoint_mirror::Mirror;
use crate::endpoint_slice::EndpointSlices;
use crate::endpoints::LegacyEndpoints;
use crate::garbage_collector;
use crate::job::Jobs;
use crate::load_balancer::LoadBalancers;
use crate::namespace::Namespaces;
use crate::namespace_content::{RootCertificates, ServiceAccounts};
use crate::node_ipam::NodeIpam;
use crate::node_lifecycle::NodeLifecycle;
use crate::node_ttl::NodeTtl;
use crate::pod_gc::PodGarbage;
use crate::replica_set::{ReplicaSets, ReplicationControllers};
use crate::resource_quota::{self, Counts, ResourceQuotas};
use crate::service_account_token::ServiceAccountTokens;
use crate::service_cidr::ServiceCidrs;
use crate::stateful_set::StatefulSets;
use crate::taint_eviction::TaintEviction;
use crate::ttl_after_finished::FinishedJobs;
use crate::volumes::{
    Binder, ClaimProtection, EphemeralVolumes, LocalPathClaims, LocalPathVolumes, VolumeProtection,
};

/// A controller that can be started.
pub struct Row {
    /// As `--controllers` names it.
    pub name: &'static str,
    /// As it was named before 1.28; its own name for one that is younger.
    pub alias: &'static str,
    /// Whether `*` means it too.
    pub on_by_default: bool,
    /// The flag for its workers; nothing is one worker.
    pub workers: Option<WorkersFlag>,
    pub(crate) start: fn(&mut Starter<'_>),
}

/// How many workers a controller has.
#[derive(Debug, Clone, Copy)]
pub struct WorkersFlag {
    /// The flag's name.
    pub name: &'static str,
    /// Its name in the environment.
    pub env: &'static str,
    /// When nothing is said.
    pub default: usize,
}

impl Row {
    /// Whether it has this name, or had it.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.alias == name
    }
}

/// `BARQUE_CONTROLLER_MANAGER_*` of a flag stands beside it because both are constants.
macro_rules! workers {
    ($name:literal, $env:literal, $default:literal) => {
        Some(WorkersFlag { name: $name, env: concat!("BARQUE_CONTROLLER_MANAGER_", $env), default: $default })
    };
}

/// All of them; they start in this order.
pub const CONTROLLERS: &[Row] = &[
    Row {
        name: "cronjob-controller",
        alias: "cronjob",
        on_by_default: true,
        workers: workers!("concurrent-cron-job-syncs", "CONCURRENT_CRON_JOB_SYNCS", 5),
        start: |starter| starter.run(CronJobs),
    },
    Row {
        name: "deployment-controller",
        alias: "deployment",
        on_by_default: true,
        workers: workers!("concurrent-deployment-syncs", "CONCURRENT_DEPLOYMENT_SYNCS", 5),
        start: |starter| starter.run(Deployments),
    },
    Row {
        name: "endpoints-controller",
        alias: "endpoint",
        on_by_default: true,
        workers: workers!("concurrent-endpoint-syncs", "CONCURRENT_ENDPOINT_SYNCS", 5),
        start: |starter| starter.run(LegacyEndpoints::default()),
    },
    Row {
        name: "endpointslice-controller",
        alias: "endpointslice",
        on_by_default: true,
        workers: workers!("concurrent-service-endpoint-syncs", "CONCURRENT_SERVICE_ENDPOINT_SYNCS", 5),
        start: |starter| {
            let max = starter.options.endpoints_per_slice;
            starter.run(EndpointSlices::new(max));
        },
    },
    Row {
        name: "endpointslice-mirroring-controller",
        alias: "endpointslicemirroring",
        on_by_default: true,
        workers: workers!(
            "mirroring-concurrent-service-endpoint-syncs",
            "MIRRORING_CONCURRENT_SERVICE_ENDPOINT_SYNCS",
            5
        ),
        start: |starter| {
            let max = starter.options.mirrored_per_subset;
            starter.run(Mirror::new(max));
        },
    },
    Row {
        // The cloud's name, as nodes stand in for one.
        name: "service-lb-controller",
        alias: "service",
        on_by_default: true,
        workers: workers!("concurrent-service-syncs", "CONCURRENT_SERVICE_SYNCS", 1),
        start: |starter| starter.run(LoadBalancers),
    },
    Row {
        name: "job-controller",
        alias: "job",
        on_by_default: true,
        workers: workers!("concurrent-job-syncs", "CONCURRENT_JOB_SYNCS", 5),
        start: |starter| starter.run(Jobs),
    },
    Row {
        name: "node-ipam-controller",
        alias: "nodeipam",
        on_by_default: true,
        workers: None,
        start: |starter| {
            if let Some(options) = &starter.options.node_ipam {
                starter.run(NodeIpam::new(options));
            }
        },
    },
    Row {
        name: "node-lifecycle-controller",
        alias: "nodelifecycle",
        on_by_default: true,
        // As many nodes as upstream updates at once.
        workers: workers!("concurrent-node-lifecycle-syncs", "CONCURRENT_NODE_LIFECYCLE_SYNCS", 8),
        start: |starter| {
            let options = starter.options.node_lifecycle;
            starter.run(NodeLifecycle::new(options, Clock::monotonic()));
        },
    },
    Row {
        name: "pod-garbage-collector-controller",
        alias: "podgc",
        on_by_default: true,
        workers: workers!(
            "concurrent-pod-garbage-collector-syncs",
            "CONCURRENT_POD_GARBAGE_COLLECTOR_SYNCS",
            4
        ),
        start: |starter| {
            let threshold = starter.options.ended_pods_max;
            starter.run(PodGarbage::new(threshold, Clock::monotonic()));
        },
    },
    Row {
        name: "certificatesigningrequest-approving-controller",
        alias: "csrapproving",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(Approval),
    },
    Row {
        name: "certificatesigningrequest-cleaner-controller",
        alias: "csrcleaner",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(Cleaning),
    },
    Row {
        name: "certificatesigningrequest-signing-controller",
        alias: "csrsigning",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(Signing::new(starter.authorities())),
    },
    Row {
        name: "disruption-controller",
        alias: "disruption",
        on_by_default: true,
        workers: workers!("concurrent-disruption-syncs", "CONCURRENT_DISRUPTION_SYNCS", 1),
        start: |starter| {
            starter.run(Budgets);
            starter.run_with("stale_pod_disruption", StaleDisruptions);
        },
    },
    Row {
        name: "ephemeral-volume-controller",
        alias: "ephemeral-volume",
        on_by_default: true,
        workers: workers!("concurrent-ephemeralvolume-syncs", "CONCURRENT_EPHEMERALVOLUME_SYNCS", 5),
        start: |starter| starter.run(EphemeralVolumes),
    },
    Row {
        name: "horizontal-pod-autoscaler-controller",
        alias: "horizontalpodautoscaling",
        on_by_default: true,
        workers: workers!(
            "concurrent-horizontal-pod-autoscaler-syncs",
            "CONCURRENT_HORIZONTAL_POD_AUTOSCALER_SYNCS",
            5
        ),
        start: |starter| starter.run(Autoscaler::new(starter.autoscaling())),
    },
    Row {
        name: "local-path-provisioner-controller",
        alias: "local-path-provisioner",
        on_by_default: true,
        workers: None,
        start: |starter| {
            starter.run(LocalPathClaims);
            starter.run_with("local_path_volumes", LocalPathVolumes);
        },
    },
    Row {
        name: "persistentvolume-binder-controller",
        alias: "persistentvolume-binder",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(Binder),
    },
    Row {
        name: "persistentvolume-protection-controller",
        alias: "pv-protection",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(VolumeProtection),
    },
    Row {
        name: "persistentvolumeclaim-protection-controller",
        alias: "pvc-protection",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(ClaimProtection),
    },
    Row {
        name: "replicaset-controller",
        alias: "replicaset",
        on_by_default: true,
        workers: workers!("concurrent-replicaset-syncs", "CONCURRENT_REPLICASET_SYNCS", 5),
        start: |starter| starter.run(ReplicaSets::default()),
    },
    Row {
        name: "replicationcontroller-controller",
        alias: "replicationcontroller",
        on_by_default: true,
        workers: workers!("concurrent-rc-syncs", "CONCURRENT_RC_SYNCS", 5),
        start: |starter| starter.run(ReplicationControllers::default()),
    },
    Row {
        name: "statefulset-controller",
        alias: "statefulset",
        on_by_default: true,
        workers: workers!("concurrent-statefulset-syncs", "CONCURRENT_STATEFULSET_SYNCS", 5),
        start: |starter| starter.run(StatefulSets),
    },
    Row {
        name: "daemonset-controller",
        alias: "daemonset",
        on_by_default: true,
        workers: workers!("concurrent-daemonset-syncs", "CONCURRENT_DAEMONSET_SYNCS", 2),
        start: |starter| starter.run(DaemonSets),
    },
    Row {
        name: "service-cidr-controller",
        alias: "service-cidr-controller",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(ServiceCidrs),
    },
    Row {
        name: "taint-eviction-controller",
        alias: "taint-eviction-controller",
        on_by_default: true,
        // As many as upstream has.
        workers: workers!("concurrent-taint-eviction-syncs", "CONCURRENT_TAINT_EVICTION_SYNCS", 8),
        start: |starter| starter.run(TaintEviction::new(Clock::monotonic())),
    },
    Row {
        name: "ttl-controller",
        alias: "ttl",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(NodeTtl::default()),
    },
    Row {
        name: "namespace-controller",
        alias: "namespace",
        on_by_default: true,
        workers: workers!("concurrent-namespace-syncs", "CONCURRENT_NAMESPACE_SYNCS", 10),
        start: |starter| starter.walk(Namespaces),
    },
    Row {
        name: "root-ca-certificate-publisher-controller",
        alias: "root-ca-cert-publisher",
        on_by_default: true,
        workers: None,
        start: |starter| match starter.settings.root_ca.clone() {
            Some(certificates) => {
                starter.look_at_all_with(certificates.clone());
                starter.run(RootCertificates::new(certificates));
            }
            None => tracing::warn!("no certificates are given to pods: nobody told which"),
        },
    },
    Row {
        name: "serviceaccount-controller",
        alias: "serviceaccount",
        on_by_default: true,
        workers: None,
        start: |starter| {
            starter.run(ServiceAccounts);
        },
    },
    Row {
        name: "garbage-collector-controller",
        alias: "garbagecollector",
        on_by_default: true,
        workers: workers!("concurrent-gc-syncs", "CONCURRENT_GC_SYNCS", 20),
        start: |starter| {
            let discovered = starter.discovered();
            starter.task(move |parts| garbage_collector::run(parts, discovered));
        },
    },
    Row {
        name: "resourcequota-controller",
        alias: "resourcequota",
        on_by_default: true,
        workers: workers!("concurrent-resource-quota-syncs", "CONCURRENT_RESOURCE_QUOTA_SYNCS", 5),
        start: |starter| {
            let (discovered, counts) = (starter.discovered(), Arc::new(Counts::default()));
            starter.look_at_all_every(starter.settings.quota_sync);
            let queue = starter.run_with_queue(ResourceQuotas::new(counts.clone(), Clock::monotonic()));
            starter.task(move |parts| resource_quota::follow(parts, discovered, counts, queue));
        },
    },
    Row {
        name: "clusterrole-aggregation-controller",
        alias: "clusterrole-aggregation",
        on_by_default: true,
        workers: None,
        start: |starter| starter.run(ClusterRoleAggregation),
    },
    Row {
        name: "bootstrap-signer-controller",
        alias: "bootstrapsigner",
        on_by_default: false,
        workers: None,
        start: |starter| starter.run(BootstrapSigner),
    },
    Row {
        name: "token-cleaner-controller",
        alias: "tokencleaner",
        on_by_default: false,
        workers: None,
        start: |starter| starter.run(TokenCleaner),
    },
    Row {
        name: "serviceaccount-token-controller",
        alias: "serviceaccount-token",
        on_by_default: true,
        workers: workers!(
            "concurrent-serviceaccount-token-syncs",
            "CONCURRENT_SERVICEACCOUNT_TOKEN_SYNCS",
            5
        ),
        start: |starter| match starter.settings.token_key.clone() {
            Some(key) => {
                let certificates = starter.settings.root_ca.clone();
                if let Some(certificates) = &certificates {
                    starter.look_at_all_with(certificates.clone());
                }
                starter.walk(ServiceAccountTokens::new(key, certificates));
            }
            None => tracing::info!("secrets get no tokens: there is no --service-account-private-key-file"),
        },
    },
    Row {
        name: "ttl-after-finished-controller",
        alias: "ttl-after-finished",
        on_by_default: true,
        workers: workers!("concurrent-ttl-after-finished-syncs", "CONCURRENT_TTL_AFTER_FINISHED_SYNCS", 5),
        start: |starter| starter.run(FinishedJobs),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_well_formed() {
        for row in CONTROLLERS {
            assert_eq!(CONTROLLERS.iter().filter(|other| other.is_named(row.name)).count(), 1);
            assert!(row.name.ends_with("-controller"), "{}", row.name);
            assert_eq!(CONTROLLERS.iter().filter(|other| other.is_named(row.alias)).count(), 1);
            if let Some(flag) = row.workers {
                let env = flag.name.replace('-', "_").to_uppercase();
                assert_eq!(flag.env, format!("BARQUE_CONTROLLER_MANAGER_{env}"));
            }
        }
    }
}
