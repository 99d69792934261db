//! The flags that say who signs certificates.

use std::path::PathBuf;

use barque_controllers::config::{FilePair, SigningConfig};
use clap::Args;

use super::time;

/// Who signs certificates.
#[derive(Debug, Args)]
pub(super) struct SigningArgs {
    /// Certificate that signs for all signers of kubernetes.io, PEM; nothing more specific may be said then.
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_CERT_FILE", value_name = "FILE")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Key of --cluster-signing-cert-file, PEM.
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KEY_FILE", value_name = "FILE")]
    cluster_signing_key_file: Option<PathBuf>,
    /// Certificate that signs for kubernetes.io/kubelet-serving, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KUBELET_SERVING_CERT_FILE",
        value_name = "FILE"
    )]
    cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KUBELET_SERVING_KEY_FILE",
        value_name = "FILE"
    )]
    cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    /// Certificate that signs for kubernetes.io/kube-apiserver-client-kubelet, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KUBELET_CLIENT_CERT_FILE",
        value_name = "FILE"
    )]
    cluster_signing_kubelet_client_cert_file: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KUBELET_CLIENT_KEY_FILE",
        value_name = "FILE"
    )]
    cluster_signing_kubelet_client_key_file: Option<PathBuf>,
    /// Certificate that signs for kubernetes.io/kube-apiserver-client, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KUBE_APISERVER_CLIENT_CERT_FILE",
        value_name = "FILE"
    )]
    cluster_signing_kube_apiserver_client_cert_file: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_KUBE_APISERVER_CLIENT_KEY_FILE",
        value_name = "FILE"
    )]
    cluster_signing_kube_apiserver_client_key_file: Option<PathBuf>,
    /// Certificate that signs for kubernetes.io/legacy-unknown, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_LEGACY_UNKNOWN_CERT_FILE",
        value_name = "FILE"
    )]
    cluster_signing_legacy_unknown_cert_file: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_LEGACY_UNKNOWN_KEY_FILE",
        value_name = "FILE"
    )]
    cluster_signing_legacy_unknown_key_file: Option<PathBuf>,
    /// The longest time for which certificates are signed; requests may ask for less.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_SIGNING_DURATION",
        default_value = "8760h0m0s",
        value_name = "TIME"
    )]
    cluster_signing_duration: String,
}

impl SigningArgs {
    /// The configuration, to be checked.
    pub(super) fn into_config(self) -> Result<SigningConfig, String> {
        let pair = |certificate, key| FilePair { certificate, key };
        Ok(SigningConfig {
            all: pair(self.cluster_signing_cert_file, self.cluster_signing_key_file),
            kubelet_serving: pair(
                self.cluster_signing_kubelet_serving_cert_file,
                self.cluster_signing_kubelet_serving_key_file,
            ),
            kubelet_client: pair(
                self.cluster_signing_kubelet_client_cert_file,
                self.cluster_signing_kubelet_client_key_file,
            ),
            kube_apiserver_client: pair(
                self.cluster_signing_kube_apiserver_client_cert_file,
                self.cluster_signing_kube_apiserver_client_key_file,
            ),
            legacy_unknown: pair(
                self.cluster_signing_legacy_unknown_cert_file,
                self.cluster_signing_legacy_unknown_key_file,
            ),
            duration: time("cluster-signing-duration", &self.cluster_signing_duration)?,
        })
    }
}
