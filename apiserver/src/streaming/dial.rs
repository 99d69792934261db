//! Connections to agents, pods and services: TCP, and TLS with the right certificates. Must never send anything itself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use barque_api::node_certificate::own_name;
use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, TlsError};
use barque_unverified_tls::Unverified;
use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncWrite};

use super::node_verifier::NodeVerifier;
use super::plan::{Target, Trust};
use crate::dial;

/// What the certificate of an agent must be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentIdentity {
    /// The name or address that is connected to, as with `kube-apiserver`.
    Address,
    /// The user that its node is, where the node says that its agent has one of the cluster's; others are not verified.
    Node,
}

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
    /// `--kubelet-certificate-identity`, which is Barque's own.
    pub certificate_identity: AgentIdentity,
}

impl Default for AgentFlags {
    fn default() -> Self {
        let types = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"];
        Self {
            preferred_address_types: types.map(str::to_owned).to_vec(),
            client_certificate: None,
            client_key: None,
            certificate_authority: None,
            certificate_identity: AgentIdentity::Address,
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
    /// Nothing when certificates of agents are not verified.
    verified: Option<AgentIdentity>,
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
        let verified = flags.certificate_authority.as_ref().map(|_| flags.certificate_identity);
        Ok(Self {
            agents: match verified {
                Some(AgentIdentity::Node) => ClientTls::with_verifier(&files, NodeVerifier::new)?,
                Some(AgentIdentity::Address) | None => ClientTls::load(&files)?,
            },
            verified,
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
        let judged = judged(&target.trust, self.verified);
        let config = self.tls(&judged);
        let Judged::AsNode(node) = judged else {
            let name = dial::server_name(host, &told)?;
            return Ok(Box::new(dial::handshake(config, name, stream, host).await?));
        };
        let name = dial::server_name(&own_name(node), &told)?;
        let shaken = dial::handshake(config, name, stream, host).await;
        Ok(Box::new(shaken.map_err(|error| not_the_node(&error, node, &told))?))
    }

    fn tls(&self, judged: &Judged<'_>) -> Arc<ClientConfig> {
        if *judged == Judged::Anybodys {
            return Arc::clone(&self.anybody);
        }
        let mut config = (*self.agents.current()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if *judged == Judged::Not {
            // What was taken without a look at its certificate must not count as known afterwards.
            config.resumption = Resumption::disabled();
            config.dangerous().set_certificate_verifier(Arc::<Unverified>::clone(&self.unverified));
        }
        Arc::new(config)
    }
}

/// How a certificate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged<'a> {
    /// Not, and none is shown.
    Anybodys,
    /// Not.
    Not,
    /// It must be for what is connected to.
    ByAddress,
    /// It must be this node's.
    AsNode(&'a str),
}

const fn judged(trust: &Trust, verified: Option<AgentIdentity>) -> Judged<'_> {
    match (trust, verified) {
        (Trust::Anybody, _) => Judged::Anybodys,
        (Trust::UnverifiedAgent, _) | (_, None) => Judged::Not,
        (_, Some(AgentIdentity::Address)) => Judged::ByAddress,
        (Trust::Agent { node, is_certified: true }, Some(AgentIdentity::Node)) => {
            Judged::AsNode(node.as_str())
        }
        // Agents of before, and kubelets: they stay reachable while nodes are replaced one after the other.
        (Trust::Agent { .. }, Some(AgentIdentity::Node)) => Judged::Not,
    }
}

/// The handshake failed; where that was for the certificate, what is to be done about it.
fn not_the_node(error: &io::Error, node: &str, told: &str) -> io::Error {
    let mut why = error.to_string();
    if why.contains("x509:") {
        why += &format!(
            ": who answers at {told} does not prove to be node {node}, whose agent gets a certificate from the cluster once the node is \
             registered; its log and `kubectl get csr` tell what became of that"
        );
    }
    io::Error::new(error.kind(), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_certified_is_taken_for_nobody_else() {
        let agent = |is_certified| Trust::Agent { node: "n".to_owned(), is_certified };
        let (address, node) = (Some(AgentIdentity::Address), Some(AgentIdentity::Node));
        let table = [
            (agent(true), None, Judged::Not),
            (agent(true), address, Judged::ByAddress),
            (agent(false), address, Judged::ByAddress),
            (agent(true), node, Judged::AsNode("n")),
            (agent(false), node, Judged::Not),
            (Trust::UnverifiedAgent, node, Judged::Not),
            (Trust::UnverifiedAgent, address, Judged::Not),
            (Trust::Anybody, node, Judged::Anybodys),
            (Trust::Anybody, None, Judged::Anybodys),
        ];
        for (trust, verified, expected) in table {
            assert_eq!(judged(&trust, verified), expected, "{trust:?} {verified:?}");
        }
    }
}
