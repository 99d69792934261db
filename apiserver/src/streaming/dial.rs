//! Connections to agents, pods and services: TCP, and TLS with the right certificates. Must never send anything itself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, TlsError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::plan::{Target, Trust};

/// TCP must be there within this time.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// And TLS within this.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

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
        let unverified = Arc::new(Unverified(provider.signature_verification_algorithms));
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
        let host = target.host.as_str();
        let connect = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect((host, target.port)));
        let stream = match connect.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(told(target, error.kind(), &cause(&error))),
            Err(_) => return Err(told(target, io::ErrorKind::TimedOut, "i/o timeout")),
        };
        stream.set_nodelay(true)?;
        if !target.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| told(target, io::ErrorKind::InvalidInput, &error.to_string()))?;
        let handshake = TlsConnector::from(self.tls(target.trust)).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("tls: {error}"))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")),
        }
    }

    fn tls(&self, trust: Trust) -> Arc<ClientConfig> {
        if trust == Trust::Anybody {
            return Arc::clone(&self.anybody);
        }
        let mut config = (*self.agents.current()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if trust == Trust::UnverifiedAgent || !self.verifies {
            config.dangerous().set_certificate_verifier(Arc::<Unverified>::clone(&self.unverified));
        }
        Arc::new(config)
    }
}

fn told(target: &Target, kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, format!("dial tcp {}: {why}", target.authority()))
}

fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// Takes any certificate whose key the server has, as Kubernetes does where it is told of no authority.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
