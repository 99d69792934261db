//! How the node API is served: the kubelet's flags of these names, checked. Must never read a file.

use core::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What was said.
#[derive(Clone, Debug)]
pub struct NodeApiConfig {
    /// `--address`
    pub address: String,
    /// `--port`
    pub port: u16,
    /// `--tls-cert-file`; without it a certificate is made that signs itself.
    pub tls_cert_file: Option<PathBuf>,
    /// `--tls-private-key-file`
    pub tls_private_key_file: Option<PathBuf>,
    /// `--client-ca-file`: who shows a certificate of its authorities is known by that.
    pub client_ca_file: Option<PathBuf>,
    /// `--anonymous-auth`: who proves nothing is `system:anonymous`, and not refused at once.
    pub anonymous_auth: bool,
    /// `--authentication-token-webhook`: API servers say whose a bearer token is.
    pub authentication_token_webhook: bool,
    /// `--authorization-mode`: `Webhook` (API servers say who may) or `AlwaysAllow`.
    pub authorization_mode: String,
}

impl Default for NodeApiConfig {
    fn default() -> Self {
        Self {
            address: "0.0.0.0".to_owned(),
            port: 10250,
            tls_cert_file: None,
            tls_private_key_file: None,
            client_ca_file: None,
            anonymous_auth: false,
            authentication_token_webhook: true,
            authorization_mode: "Webhook".to_owned(),
        }
    }
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeApiConfigError {
    /// No address.
    #[error("--address: {0:?} is not an IP address")]
    Address(String),
    /// No mode.
    #[error("--authorization-mode: {0:?} is neither \"Webhook\" nor \"AlwaysAllow\"")]
    Mode(String),
    /// A certificate without its key, or the other way round.
    #[error(
        "--tls-cert-file and --tls-private-key-file belong together; give both, or none for a certificate of its own"
    )]
    HalfOfAPair,
    /// Nobody can prove who they are.
    #[error(
        "nobody could ask: give --client-ca-file, --authentication-token-webhook=true or --anonymous-auth=true"
    )]
    Nobody,
}

/// A configuration that can be started.
#[derive(Clone, Debug)]
pub struct ValidNodeApi {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) anonymous: bool,
    pub(crate) tokens: bool,
    pub(crate) allow_all: bool,
}

impl ValidNodeApi {
    /// Where clients find it.
    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }
}

impl NodeApiConfig {
    /// Checks it.
    ///
    /// # Errors
    /// What is wrong, with the flag's name.
    pub fn validate(self) -> Result<ValidNodeApi, NodeApiConfigError> {
        let Ok(address) = self.address.parse::<IpAddr>() else {
            return Err(NodeApiConfigError::Address(self.address));
        };
        let allow_all = match &*self.authorization_mode {
            "Webhook" => false,
            "AlwaysAllow" => true,
            _ => return Err(NodeApiConfigError::Mode(self.authorization_mode)),
        };
        let certificate = match (self.tls_cert_file, self.tls_private_key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(NodeApiConfigError::HalfOfAPair),
        };
        if self.client_ca_file.is_none() && !self.authentication_token_webhook && !self.anonymous_auth {
            return Err(NodeApiConfigError::Nobody);
        }
        Ok(ValidNodeApi {
            address: SocketAddr::new(address, self.port),
            certificate,
            client_ca: self.client_ca_file,
            anonymous: self.anonymous_auth,
            tokens: self.authentication_token_webhook,
            allow_all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut NodeApiConfig)) -> Option<NodeApiConfigError> {
        let mut config = NodeApiConfig::default();
        change(&mut config);
        config.validate().err()
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(error(|_| {}), None);
        assert!(matches!(error(|config| config.address = "x".into()), Some(NodeApiConfigError::Address(_))));
        assert!(matches!(
            error(|config| config.authorization_mode = "RBAC".into()),
            Some(NodeApiConfigError::Mode(_))
        ));
        assert_eq!(
            error(|config| config.tls_cert_file = Some("x".into())),
            Some(NodeApiConfigError::HalfOfAPair)
        );
        assert_eq!(
            error(|config| config.authentication_token_webhook = false),
            Some(NodeApiConfigError::Nobody)
        );
    }
}
