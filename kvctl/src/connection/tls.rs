//! TLS towards members: which authorities are trusted, which certificate this client shows.
//!
//! Never trusts an unknown certificate unless it was told to in so many words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_unverified_tls::Unverified;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::Failure;

/// The flags about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFlags {
    /// `--cert`.
    pub(crate) cert: Option<PathBuf>,
    /// `--key`.
    pub(crate) key: Option<PathBuf>,
    /// `--cacert`; without it the system's authorities are trusted.
    pub(crate) cacert: Option<PathBuf>,
    /// `--insecure-skip-tls-verify`.
    pub(crate) skip_verify: bool,
    /// `--insecure-transport=false`.
    pub(crate) always: bool,
}

impl TlsFlags {
    /// Whether an endpoint without a scheme means TLS.
    pub(super) fn ask_for_tls(&self) -> bool {
        self.always || self.skip_verify || self.cert.is_some() || self.key.is_some() || self.cacert.is_some()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub(super) fn config(&self) -> Result<ClientConfig, Failure> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|why| Failure::Connection(format!("TLS: {why}")))?;
        let builder = if self.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(&provider)))
        } else {
            builder.with_root_certificates(self.authorities()?)
        };
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "--cert")?;
                let wrong = |why: String| Failure::Arguments(format!("--key {}: {why}", key.display()));
                let key = PrivateKeyDer::from_pem_file(key).map_err(|why| wrong(pem_error(&why)))?;
                builder.with_client_auth_cert(chain, key).map_err(|why| wrong(why.to_string()))
            }
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(_), None) => {
                Err(Failure::Arguments("--cert needs --key, the certificate's private key".into()))
            }
            (None, Some(_)) => Err(Failure::Arguments("--key needs --cert, the key's certificate".into())),
        }
    }

    fn authorities(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        match &self.cacert {
            Some(path) => {
                for certificate in certificates(path, "--cacert")? {
                    let added = roots.add(certificate);
                    added.map_err(|why| Failure::Arguments(format!("--cacert {}: {why}", path.display())))?;
                }
            }
            // What cannot be read of the system's store is not trusted; a refusal then says so.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |why: String| Failure::Arguments(format!("{flag} {}: {why}", path.display()));
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| wrong(pem_error(&why)))?;
    if chain.is_empty() {
        return Err(wrong("there is no certificate in it (PEM is expected)".into()));
    }
    Ok(chain)
}

fn pem_error(why: &rustls::pki_types::pem::Error) -> String {
    match why {
        rustls::pki_types::pem::Error::Io(why) => why.to_string(),
        other => format!("not PEM: {other}"),
    }
}
