//! The certificates and keys that sign. Reads their files; must never let a bad file replace a good one, or tell a key.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::SigningConfig;

/// Schemes that certificates are signed with, each with its name in DER.
const SCHEMES: [(SignatureScheme, &[u8]); 4] = [
    (
        SignatureScheme::RSA_PKCS1_SHA256,
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00],
    ),
    (
        SignatureScheme::ECDSA_NISTP256_SHA256,
        &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
    ),
    (
        SignatureScheme::ECDSA_NISTP384_SHA384,
        &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
    ),
    (SignatureScheme::ED25519, &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]),
];

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read.
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    /// No certificate or no key stands there.
    #[error("{0} is no certificate or key in PEM")]
    Pem(PathBuf),
    /// The certificate is none.
    #[error("{0}: {1}")]
    Certificate(PathBuf, String),
    /// The key cannot sign.
    #[error("{0}")]
    Key(PathBuf, #[source] rustls::Error),
    /// Certificate and key are not of one pair.
    #[error("the key {key} is not that of {certificate}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// A certificate with its key.
#[derive(Debug)]
pub(super) struct Authority {
    /// Its subject, in DER.
    pub(super) subject: Vec<u8>,
    /// How others call its key; nothing when it does not say.
    pub(super) key_id: Option<Vec<u8>>,
    /// Until when it is good.
    pub(super) not_after: Timestamp,
    key: Arc<dyn SigningKey>,
}

impl Authority {
    fn read(files: &(PathBuf, PathBuf)) -> Result<Self, AuthorityError> {
        let (certificate_file, key_file) = files;
        let bytes =
            |path: &PathBuf| fs::read(path).map_err(|error| AuthorityError::File(path.clone(), error));
        let certificate = CertificateDer::from_pem_slice(&bytes(certificate_file)?)
            .map_err(|_| AuthorityError::Pem(certificate_file.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes(key_file)?)
            .map_err(|_| AuthorityError::Pem(key_file.clone()))?;
        let key = any_supported_type(&key).map_err(|error| AuthorityError::Key(key_file.clone(), error))?;
        let bad = |why: String| AuthorityError::Certificate(certificate_file.clone(), why);
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| bad(error.to_string()))?;
        if key.public_key().is_some_and(|public| public.as_ref() != parsed.public_key().raw) {
            let (certificate, key) = files.clone();
            return Err(AuthorityError::Pair { certificate, key });
        }
        let key_id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            subject: parsed.subject().as_raw().to_vec(),
            key_id,
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp())
                .map_err(|error| bad(error.to_string()))?,
            key,
        })
    }

    /// The name of the way it signs, in DER.
    pub(super) fn algorithm(&self) -> Result<&'static [u8], String> {
        let found = SCHEMES.iter().find(|(scheme, _)| self.key.choose_scheme(&[*scheme]).is_some());
        found
            .map(|(_, name)| *name)
            .ok_or_else(|| "the key signs in no way that certificates know".to_owned())
    }

    /// Its signature under these bytes.
    pub(super) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let signer = SCHEMES.iter().find_map(|(scheme, _)| self.key.choose_scheme(&[*scheme]));
        let signer = signer.ok_or_else(|| "the key signs in no way that certificates know".to_owned())?;
        signer.sign(bytes).map_err(|error| error.to_string())
    }
}

/// The authorities of all signers that have one.
#[derive(Debug, Clone)]
pub(crate) struct Authorities {
    signers: BTreeMap<&'static str, Arc<Followed>>,
    /// The longest time for which they sign.
    pub(super) duration: Duration,
}

#[derive(Debug)]
struct Followed {
    files: (PathBuf, PathBuf),
    last: Mutex<Arc<Authority>>,
}

impl Authorities {
    /// Reads all files.
    pub(crate) fn read(config: &SigningConfig) -> Result<Self, AuthorityError> {
        let mut signers = BTreeMap::new();
        for (signer, files) in config.files() {
            let last = Mutex::new(Arc::new(Authority::read(&files)?));
            signers.insert(signer, Arc::new(Followed { files, last }));
        }
        Ok(Self { signers, duration: config.duration })
    }

    /// The authority of a signer, as its files say now; nothing when it has none. Files that are wrong change nothing.
    pub(super) fn of(&self, signer: &str) -> Option<Arc<Authority>> {
        let followed = self.signers.get(signer)?;
        let mut last = followed.last.lock();
        // Two small files for a signature: nothing has to watch them, and whoever replaces them is heard at once.
        match Authority::read(&followed.files) {
            Ok(read) => *last = Arc::new(read),
            Err(error) => {
                tracing::warn!(signer, %error, "the files of a signer are wrong; those before stay");
            }
        }
        Some(last.clone())
    }
}
