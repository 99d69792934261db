//! Connections to services that serve groups: TLS, with this server's certificate shown and theirs judged. Must never send
//! anything itself.

use std::io;
use std::sync::{Arc, LazyLock};

use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, TlsError};
use barque_unverified_tls::Unverified;
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::endpoints::Address;
use super::registration::Trust;
use crate::dial;

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
        Arc::new(Unverified::new(&self.provider))
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
        let stream = dial::connect(&address.host, address.port, address).await?;
        let name = dial::server_name(host, address)?;
        let mut config = (*self.client.current()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // What was taken without a look at its certificate must not count as known afterwards.
        config.resumption = Resumption::disabled();
        config.dangerous().set_certificate_verifier(Arc::clone(verifier));
        dial::handshake(Arc::new(config), name, stream, host).await
    }
}
