//! The contents of TLS files, and what can be said of them before anybody connects.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use super::TlsError;
use crate::config::TlsFiles;

/// The bytes of the files of one side.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    pub(super) cert: Option<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) trusted_ca: Option<Vec<u8>>,
}

impl Material {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |file: &Option<std::path::PathBuf>| match file {
            Some(file) => match std::fs::read(file) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(source) => Err(TlsError::Read { file: file.clone(), source }),
            },
            None => Ok(None),
        };
        Ok(Self {
            cert: read(&files.cert_file)?,
            key: read(&files.key_file)?,
            trusted_ca: read(&files.trusted_ca_file)?,
        })
    }

    /// The certificate with its key, if files name one: a pair, and valid now.
    pub(super) fn certified_key(
        &self,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<CertifiedKey>, TlsError> {
        let (Some(cert_file), Some(cert_pem), Some(key_file), Some(key_pem)) =
            (&files.cert_file, &self.cert, &files.key_file, &self.key)
        else {
            return Ok(None);
        };
        let chain = certificates(cert_file, cert_pem)?;
        check_time(cert_file, &chain, provider)?;
        let key = private_key(key_file, key_pem)?;
        match CertifiedKey::from_der(chain, key, provider) {
            Ok(certified) => Ok(Some(certified)),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(TlsError::KeyMismatch { cert: cert_file.clone(), key: key_file.clone() })
            }
            Err(Error::InvalidCertificate(error)) => {
                Err(TlsError::Certificate { file: cert_file.clone(), reason: error.to_string() })
            }
            Err(error) => Err(TlsError::Key { file: key_file.clone(), reason: error.to_string() }),
        }
    }
}

/// All certificates of a PEM file; at least one.
pub(super) fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certs = certs.map_err(|error| TlsError::Pem { file: file.into(), reason: error.to_string() })?;
    if certs.is_empty() {
        return Err(TlsError::NoCertificate { file: file.into() });
    }
    Ok(certs)
}

fn private_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(TlsError::NoKey { file: file.into() }),
        Err(error) => Err(TlsError::Pem { file: file.into(), reason: error.to_string() }),
    }
}

/// Whether the certificate is valid now.
///
/// rustls tells the time of validity only as the reason of a refusal. So the certificate is verified with itself
/// as the only trusted one: time is looked at first, and every other refusal is none of our business here,
/// because whether callers trust it is theirs.
fn check_time(
    file: &Path,
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<(), TlsError> {
    let unusable = |reason: String| TlsError::Certificate { file: file.into(), reason };
    let (leaf, rest) = chain.split_first().ok_or_else(|| TlsError::NoCertificate { file: file.into() })?;
    let mut roots = RootCertStore::empty();
    roots.add(leaf.clone()).map_err(|error| unusable(error.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let anybody = ServerName::try_from("localhost").expect("a name");
    match verifier.verify_server_cert(leaf, rest, &anybody, &[], UnixTime::now()) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
            let ago_s = time.as_secs().saturating_sub(not_after.as_secs());
            Err(TlsError::Expired { file: file.into(), ago_s })
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before })) => {
            let in_s = not_before.as_secs().saturating_sub(time.as_secs());
            Err(TlsError::NotYetValid { file: file.into(), in_s })
        }
        Err(Error::InvalidCertificate(CertificateError::BadEncoding)) => {
            Err(unusable("it is not an X.509 certificate".into()))
        }
        _ => Ok(()),
    }
}
