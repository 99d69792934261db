//! Which files sign certificates, checked. Must never read them.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;

/// A certificate and its key; either both are said or none.
#[derive(Debug, Clone, Default)]
pub struct FilePair {
    /// The certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// The key, PEM.
    pub key: Option<PathBuf>,
}

/// The signers of kubernetes.io.
#[derive(Debug, Clone, Default)]
pub struct SigningConfig {
    /// For all signers; then none has its own.
    pub all: FilePair,
    /// `kubernetes.io/kubelet-serving`.
    pub kubelet_serving: FilePair,
    /// `kubernetes.io/kube-apiserver-client-kubelet`.
    pub kubelet_client: FilePair,
    /// `kubernetes.io/kube-apiserver-client`.
    pub kube_apiserver_client: FilePair,
    /// `kubernetes.io/legacy-unknown`.
    pub legacy_unknown: FilePair,
    /// The longest time for which they sign.
    pub duration: Duration,
}

impl FilePair {
    fn both(&self) -> Option<(PathBuf, PathBuf)> {
        self.certificate.clone().zip(self.key.clone())
    }

    fn is_said(&self) -> bool {
        self.certificate.is_some() || self.key.is_some()
    }
}

impl SigningConfig {
    fn own(&self) -> [(&'static str, &'static str, &FilePair); 4] {
        [
            ("kubernetes.io/kubelet-serving", "cluster-signing-kubelet-serving", &self.kubelet_serving),
            (
                "kubernetes.io/kube-apiserver-client-kubelet",
                "cluster-signing-kubelet-client",
                &self.kubelet_client,
            ),
            (
                "kubernetes.io/kube-apiserver-client",
                "cluster-signing-kube-apiserver-client",
                &self.kube_apiserver_client,
            ),
            ("kubernetes.io/legacy-unknown", "cluster-signing-legacy-unknown", &self.legacy_unknown),
        ]
    }

    /// The files of each signer that has some.
    pub(crate) fn files(&self) -> Vec<(&'static str, (PathBuf, PathBuf))> {
        let own = self.own().into_iter();
        own.filter_map(|(signer, _, files)| Some((signer, files.both().or_else(|| self.all.both())?)))
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let own = self.own();
        let all = ("", "cluster-signing", &self.all);
        for (_, flag, files) in own.into_iter().chain([all]) {
            if files.is_said() && files.both().is_none() {
                return Err(ConfigError::SigningPair(flag));
            }
        }
        if self.all.is_said() && own.iter().any(|(.., files)| files.is_said()) {
            return Err(ConfigError::SigningTwice);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> FilePair {
        FilePair { certificate: Some(name.into()), key: Some(name.into()) }
    }

    #[test]
    fn one_pair_is_for_all_or_each_has_its_own() {
        let all = SigningConfig { all: pair("a"), ..SigningConfig::default() };
        assert!(all.check().is_ok());
        assert_eq!(all.files().len(), 4);
        let own = SigningConfig { legacy_unknown: pair("b"), ..SigningConfig::default() };
        assert!(own.check().is_ok());
        assert_eq!(own.files().len(), 1);
        assert!(SigningConfig { all: pair("a"), ..own }.check().is_err());
        let half = FilePair { certificate: Some("a".into()), key: None };
        assert!(SigningConfig { kubelet_client: half, ..SigningConfig::default() }.check().is_err());
        assert_eq!(SigningConfig::default().files(), []);
    }
}
