//! What the parts of a master are told: words, as if each were started by itself. Pure; must never read a file.

use core::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use barque_client::component::LeaseConfig;
use barque_client::leader_election::Settings;
use barque_client::servers::{Servers, Source};
use barque_cluster::leaf::{self, Master, Signer};
use barque_cluster::pki::Pki;
use barque_cluster::settings::ClusterSettings;
use barque_store::config::TlsFiles;

use crate::server_args::{Failover, MasterPlan};

/// How this master's member of the store comes into being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    /// With a new cluster, or it was there before.
    Alone,
    /// With a place among these, as `--initial-cluster` has them.
    Among(String),
}

/// A master's places.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    data_dir: PathBuf,
}

impl Places {
    pub(crate) fn of(plan: &MasterPlan) -> Self {
        Self { data_dir: plan.data_dir.clone() }
    }

    pub(crate) fn in_directory(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    pub(crate) fn pki(&self) -> Pki {
        Pki::at(self.data_dir.join("pki"))
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// What is the same for all of the cluster, as this master learned it.
    pub(crate) fn settings(&self) -> PathBuf {
        self.data_dir.join("cluster.json")
    }

    /// There as long as the cluster has not got what it begins with.
    pub(crate) fn birth(&self) -> PathBuf {
        self.data_dir.join("birth")
    }

    /// Which files the store's data was restored from.
    pub(crate) fn restored(&self) -> PathBuf {
        self.data_dir.join("restored")
    }

    pub(crate) fn master_token(&self) -> PathBuf {
        self.data_dir.join("token")
    }

    pub(crate) fn node_token(&self) -> PathBuf {
        self.data_dir.join("node-token")
    }

    /// What tells this disk from any other one that this master has had.
    pub(crate) fn manifests_key(&self) -> PathBuf {
        self.data_dir.join("manifests-key")
    }

    /// Of a part, or of the administrator.
    pub(crate) fn kubeconfig(&self, whose: &str) -> PathBuf {
        self.data_dir.join(format!("{whose}.kubeconfig"))
    }
}

/// By what this master is known to the members of the store as their client.
pub(crate) fn store_client(plan: &MasterPlan) -> TlsFiles {
    let pki = Places::of(plan).pki();
    TlsFiles {
        cert_file: Some(pki.certificate(leaf::STORE_CLIENT)),
        key_file: Some(pki.key(leaf::STORE_CLIENT)),
        trusted_ca_file: Some(pki.authority(Signer::Store)),
        client_cert_auth: false,
    }
}

/// What certificates say of the master.
pub(crate) fn identity(plan: &MasterPlan, settings: &ClusterSettings, service_address: IpAddr) -> Master {
    Master {
        name: plan.name.clone(),
        address: plan.advertise,
        service_address,
        cluster_domain: settings.cluster_domain.clone(),
        other_names: plan.other_names.clone(),
    }
}

/// What tells clusters apart whose members know each other's addresses.
pub(crate) const STORE_TOKEN: &str = "barque";

/// The URL by which members reach this one.
pub(crate) fn peer_url(plan: &MasterPlan) -> String {
    https(plan.advertise, plan.store_peer_port)
}

/// Where programs of this machine find this master's API server.
pub(crate) fn local_url(plan: &MasterPlan, settings: &ClusterSettings) -> String {
    https(local(plan), settings.api_port)
}

fn https(address: IpAddr, port: u16) -> String {
    format!("https://{}", SocketAddr::new(address, port))
}

/// The address at which this machine alone reaches what serves on it.
fn local(plan: &MasterPlan) -> IpAddr {
    match plan.bind {
        IpAddr::V4(bind) if bind.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(bind) if bind.is_unspecified() => IpAddr::from(core::net::Ipv6Addr::LOCALHOST),
        bind => bind,
    }
}

/// Where health and metrics of controllers and scheduler are served: to this machine alone.
fn private(plan: &MasterPlan) -> IpAddr {
    if plan.advertise.is_loopback() { plan.advertise } else { IpAddr::from([127, 0, 0, 1]) }
}

fn flags<const N: usize>(all: [(&str, String); N], more: &[String]) -> Vec<String> {
    let own = all.into_iter().map(|(flag, value)| format!("--{flag}={value}"));
    own.chain(more.iter().map(|flag| format!("--{}", flag.trim_start_matches('-')))).collect()
}

fn text(path: PathBuf) -> String {
    path.display().to_string()
}

/// Those of `barque store`.
pub(crate) fn store(plan: &MasterPlan, settings: &ClusterSettings, birth: &Birth) -> Vec<String> {
    let places = Places::of(plan);
    let pki = places.pki();
    let (members, state) = match birth {
        Birth::Alone => (format!("{}={}", plan.name, peer_url(plan)), "new"),
        Birth::Among(members) => (members.clone(), "existing"),
    };
    let (certificate, key) = (text(pki.certificate(leaf::STORE)), text(pki.key(leaf::STORE)));
    let authority = text(pki.authority(Signer::Store));
    flags(
        [
            ("name", plan.name.clone()),
            ("data-dir", text(places.store())),
            ("listen-client-urls", https(plan.bind, settings.store_client_port)),
            ("advertise-client-urls", https(plan.advertise, settings.store_client_port)),
            ("listen-peer-urls", https(plan.bind, plan.store_peer_port)),
            ("initial-advertise-peer-urls", peer_url(plan)),
            ("initial-cluster", members),
            ("initial-cluster-state", state.to_owned()),
            ("initial-cluster-token", STORE_TOKEN.to_owned()),
            ("cert-file", certificate.clone()),
            ("key-file", key.clone()),
            ("trusted-ca-file", authority.clone()),
            ("client-cert-auth", "true".to_owned()),
            ("peer-cert-file", certificate),
            ("peer-key-file", key),
            ("peer-trusted-ca-file", authority),
            ("peer-client-cert-auth", "true".to_owned()),
            // The API servers compact what they have written.
            ("auto-compaction-retention", "0".to_owned()),
            // Five in an election timeout. Heartbeats are most of what a master does at rest; commits do not wait for them.
            ("heartbeat-interval", "200".to_owned()),
        ],
        &plan.more.store,
    )
}

/// Those of `barque apiserver`.
pub(crate) fn apiserver(plan: &MasterPlan, settings: &ClusterSettings) -> Vec<String> {
    let pki = Places::of(plan).pki();
    let seconds = if plan.failover == Failover::Fast { "10" } else { "300" };
    flags(
        [
            ("bind-address", plan.bind.to_string()),
            ("secure-port", settings.api_port.to_string()),
            ("advertise-address", plan.advertise.to_string()),
            ("tls-cert-file", text(pki.certificate(leaf::API_SERVER))),
            ("tls-private-key-file", text(pki.key(leaf::API_SERVER))),
            ("client-ca-file", text(pki.authority(Signer::Cluster))),
            ("requestheader-client-ca-file", text(pki.authority(Signer::FrontProxy))),
            ("requestheader-allowed-names", "front-proxy-client".to_owned()),
            ("proxy-client-cert-file", text(pki.certificate(leaf::FRONT_PROXY))),
            ("proxy-client-key-file", text(pki.key(leaf::FRONT_PROXY))),
            ("enable-bootstrap-token-auth", "true".to_owned()),
            ("service-account-signing-key-file", text(pki.token_key())),
            ("service-account-issuer", format!("https://kubernetes.default.svc.{}", settings.cluster_domain)),
            ("service-cluster-ip-range", settings.service_cidr.clone()),
            ("kubelet-client-certificate", text(pki.certificate(leaf::API_SERVER_AGENTS))),
            ("kubelet-client-key", text(pki.key(leaf::API_SERVER_AGENTS))),
            ("kubelet-certificate-authority", text(pki.authority(Signer::Cluster))),
            ("kubelet-certificate-identity", "node".to_owned()),
            // Names of nodes need not be known to resolvers of masters.
            ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname".to_owned()),
            ("default-not-ready-toleration-seconds", seconds.to_owned()),
            ("default-unreachable-toleration-seconds", seconds.to_owned()),
        ],
        &plan.more.apiserver,
    )
}

/// Shorter leases: a master that dies is followed sooner.
fn lease_times(plan: &MasterPlan) -> Settings {
    let [lease_duration, renew_deadline, retry_period] =
        if plan.failover == Failover::Fast { [6, 4, 2] } else { [15, 10, 2] }.map(Duration::from_secs);
    Settings { lease_duration, renew_deadline, retry_period }
}

fn lease(plan: &MasterPlan) -> [(&'static str, String); 3] {
    let Settings { lease_duration, renew_deadline, retry_period } = lease_times(plan);
    let words = |time: Duration| format!("{}s", time.as_secs());
    [
        ("leader-elect-lease-duration", words(lease_duration)),
        ("leader-elect-renew-deadline", words(renew_deadline)),
        ("leader-elect-retry-period", words(retry_period)),
    ]
}

/// Those of `barque controller-manager`.
pub(crate) fn controller_manager(plan: &MasterPlan, settings: &ClusterSettings) -> Vec<String> {
    let places = Places::of(plan);
    let pki = places.pki();
    let failover = if plan.failover == Failover::Fast { "fast" } else { "upstream" };
    let mut all = flags(lease(plan), &[]);
    all.extend(flags(
        [
            ("kubeconfig", text(places.kubeconfig(leaf::CONTROLLER_MANAGER))),
            ("bind-address", private(plan).to_string()),
            ("allocate-node-cidrs", "true".to_owned()),
            ("cluster-cidr", settings.cluster_cidr.clone()),
            ("node-failover", failover.to_owned()),
            ("cluster-signing-cert-file", text(pki.authority(Signer::Cluster))),
            ("cluster-signing-key-file", text(pki.authority_key(Signer::Cluster))),
            ("root-ca-file", text(pki.authority(Signer::Cluster))),
            ("service-account-private-key-file", text(pki.token_key())),
        ],
        &plan.more.controller_manager,
    ));
    all
}

/// Those of `barque scheduler`.
pub(crate) fn scheduler(plan: &MasterPlan) -> Vec<String> {
    let places = Places::of(plan);
    let mut all = flags(lease(plan), &[]);
    all.extend(flags(
        [
            ("kubeconfig", text(places.kubeconfig(leaf::SCHEDULER))),
            ("bind-address", private(plan).to_string()),
        ],
        &plan.more.scheduler,
    ));
    all
}

/// What brings the manifests of its directory into the cluster.
pub(crate) fn manifests(plan: &MasterPlan, key: String) -> barque_manifests::Config {
    let source = Source::Kubeconfig(Places::of(plan).kubeconfig(leaf::MANIFESTS));
    barque_manifests::Config {
        servers: Servers { source, urls: Vec::new() },
        master: plan.name.clone(),
        directory: plan.manifests.clone(),
        key,
        lease: LeaseConfig {
            namespace: "kube-system".to_owned(),
            name: "barque-manifests".to_owned(),
            times: lease_times(plan),
        },
    }
}
