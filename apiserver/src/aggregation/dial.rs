//! Connections to services that serve groups: TLS, with this server's certificate shown and theirs judged. Must never send
//! anything itself.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, TlsError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoints::Address;
use super::registration::Trust;

/// TCP must be there within this time.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// And TLS within this.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Whom this machine trusts.
static MACHINE: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
});

/// Judges certificates of services.
pub type Verifier = Arc<dyn ServerCertVerifier>;

/// See the module's description.
#[derive(Debug)]
pub struct Dialer {
    client: ClientTls,
    provider: Arc<CryptoProvider>,
}

impl Dialer {
    /// With the certificate that is shown (`--proxy-client-cert-file`), if there is one.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self { client: ClientTls::load(files)?, provider })
    }

    /// Takes any certificate whose key the service has.
    #[must_use]
    pub fn anybody(&self) -> Verifier {
        Arc::new(Unverified(self.provider.signature_verification_algorithms))
    }

    /// Judges as an `APIService` says.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn verifier(&self, trust: &Trust) -> Result<Verifier, String> {
        let roots = match trust {
            Trust::Anybody => return Ok(self.anybody()),
            Trust::Authorities(pem) if pem.is_empty() => MACHINE.clone(),
            Trust::Authorities(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
                roots
            }
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        verifier
            .map(|verifier| verifier as Verifier)
            .map_err(|error| format!("unable to load root certificates: {error}"))
    }

    /// Connects. The certificate must be for `host`.
    ///
    /// # Errors
    /// What Go's clients would say of it.
    pub async fn connect(
        &self,
        address: &Address,
        host: &str,
        verifier: &Verifier,
    ) -> io::Result<TlsStream<TcpStream>> {
        let told =
            |kind: io::ErrorKind, why: &str| io::Error::new(kind, format!("dial tcp {address}: {why}"));
        let connect = TcpStream::connect((address.host.as_str(), address.port));
        let stream = match tokio::time::timeout(CONNECT_DEADLINE, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(told(error.kind(), &cause(&error))),
            Err(_) => return Err(told(io::ErrorKind::TimedOut, "i/o timeout")),
        };
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| told(io::ErrorKind::InvalidInput, &error.to_string()))?;
        let mut config = (*self.client.current()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // What was taken without a look at its certificate must not count as known afterwards.
        config.resumption = Resumption::disabled();
        config.dangerous().set_certificate_verifier(Arc::clone(verifier));
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), tls_cause(&error, host))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")),
        }
    }
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

fn tls_cause(error: &io::Error, host: &str) -> String {
    const PREFIX: &str = "tls: failed to verify certificate: x509:";
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else { return format!("tls: {error}") };
    match why {
        // An authority of the same name with another key is another authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("{PREFIX} certificate signed by unknown authority")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{PREFIX} certificate is not valid for {host}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{PREFIX} certificate has expired or is not yet valid")
        }
        why => format!("{PREFIX} {why}"),
    }
}

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
