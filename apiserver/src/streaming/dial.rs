//! Connections to agents, pods and services: TCP, and TLS with the right certificates. Must never send anything itself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, TlsError};
use barque_unverified_tls::Unverified;
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncWrite};

use super::plan::{Target, Trust};
use crate::dial;

/// How agents are reached; the flags of `kube-apiserver` with these names.
#[derive(Clone, Debug)]
pub struct AgentFlags {
    /// `--kubelet-preferred-address-types`
    pub preferred_address_types: Vec<String>,
    /// `--kubelet-client-certificate`
    pub client_certificate: Option<PathBuf>,
    /// `--kubelet-client-key`
    pub client_key: Option<PathBuf>,
    /// `--kubelet-certificate-authority`; without it certificates of agents are not verified.
    pub certificate_authority: Option<PathBuf>,
}

impl Default for AgentFlags {
    fn default() -> Self {
        let types = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"];
        Self {
            preferred_address_types: types.map(str::to_owned).to_vec(),
            client_certificate: None,
            client_key: None,
            certificate_authority: None,
        }
    }
}

/// A connection, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// See the module's description.
#[derive(Debug)]
pub struct Dialer {
    agents: ClientTls,
    verifies: bool,
    anybody: Arc<ClientConfig>,
    unverified: Arc<Unverified>,
}

impl Dialer {
    /// With the certificates that the flags name.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn new(flags: &AgentFlags) -> Result<Self, TlsError> {
        let files = TlsFiles {
            cert_file: flags.client_certificate.clone(),
            key_file: flags.client_key.clone(),
            trusted_ca_file: flags.certificate_authority.clone(),
            client_cert_auth: false,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unverified = Arc::new(Unverified::new(&provider));
        let mut anybody = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring has both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Unverified>::clone(&unverified))
            .with_no_client_auth();
        anybody.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            agents: ClientTls::load(&files)?,
            verifies: flags.certificate_authority.is_some(),
            anybody: Arc::new(anybody),
            unverified,
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// What Go's clients would say of it.
    pub async fn connect(&self, target: &Target) -> io::Result<Box<dyn Stream>> {
        let (host, told) = (target.host.as_str(), target.authority());
        let stream = dial::connect(host, target.port, &told).await?;
        if !target.tls {
            return Ok(Box::new(stream));
        }
        let name = dial::server_name(host, &told)?;
        Ok(Box::new(dial::handshake(self.tls(target.trust), name, stream, host).await?))
    }

    fn tls(&self, trust: Trust) -> Arc<ClientConfig> {
        if trust == Trust::Anybody {
            return Arc::clone(&self.anybody);
        }
        let mut config = (*self.agents.current()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if trust == Trust::UnverifiedAgent || !self.verifies {
            // What was taken without a look at its certificate must not count as known afterwards.
            config.resumption = Resumption::disabled();
            config.dangerous().set_certificate_verifier(Arc::<Unverified>::clone(&self.unverified));
        }
        Arc::new(config)
    }
}
