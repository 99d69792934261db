//! TLS of the node API: which certificate is shown and whose are known. Files that change are read again at the next
//! connection, and files that cannot be used change nothing. Must never judge who may.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::certificate::OwnCertificate;

/// How often it is looked whether a certificate of one's own must be made anew.
const LOOK: Duration = Duration::from_secs(24 * 3600);

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, or no PEM of what it should be.
    #[error("{flag}: {} cannot be used", file.display())]
    File {
        /// What it was given with.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate and its key do not fit, or cannot be used.
    #[error("--tls-cert-file and --tls-private-key-file cannot be used together")]
    Pair(#[source] rustls::Error),
    /// The authorities cannot be used.
    #[error("--client-ca-file: its certificates cannot be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

/// The files.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
}

/// A certificate of one's own, and when to look at it again.
type Own = (OwnCertificate, SystemTime);

/// Device, inode, length and time of a change; nothing for a file that is not there.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stamps: [Stamp; 3],
    config: Arc<ServerConfig>,
    own: Option<Own>,
}

impl Tls {
    /// `own` is the certificate in the files, for a node that makes it itself.
    pub(crate) fn load(
        files: TlsFiles,
        own: Option<OwnCertificate>,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        // Before reading: a change in between is seen as one.
        let stamps = stamps(&files);
        let config = Arc::new(config(&files)?);
        let own = own.map(|own| (own, now + LOOK));
        Ok(Self { files, state: Mutex::new(State { stamps, config, own }) })
    }

    /// For the next connection.
    pub(crate) fn current(&self, now: SystemTime) -> Arc<ServerConfig> {
        let mut state = self.state.lock();
        if let Some((own, look)) = &mut state.own
            && now >= *look
        {
            *look = now + LOOK;
            if let Err(error) = own.renew(now) {
                tracing::error!(%error, "the node's certificate cannot be renewed");
            }
        }
        let stamps = stamps(&self.files);
        if stamps != state.stamps {
            state.stamps = stamps;
            match config(&self.files) {
                Ok(config) => state.config = Arc::new(config),
                Err(error) => {
                    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%why, "changed certificates are not used: {error}");
                }
            }
        }
        state.config.clone()
    }
}

fn stamps(files: &TlsFiles) -> [Stamp; 3] {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
    };
    let authorities = files.client_ca.as_deref().and_then(stamp);
    [stamp(&files.certificate), stamp(&files.key), authorities]
}

fn certificates(flag: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::File { flag, file: file.to_owned(), source };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(error)?.collect();
    let all = all.map_err(error)?;
    if all.is_empty() { Err(error(rustls::pki_types::pem::Error::NoItemsFound)) } else { Ok(all) }
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring has both versions");
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("--client-ca-file", file)?);
            // Who shows none may have a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(TlsError::Authorities)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("--tls-cert-file", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::File {
        flag: "--tls-private-key-file",
        file: files.key.clone(),
        source,
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ones_own_is_renewed_while_it_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let own = OwnCertificate {
            directory: directory.path().join("pki"),
            node: "n1".to_owned(),
            addresses: Vec::new(),
        };
        let now = SystemTime::now();
        own.renew(now).unwrap();
        let (certificate, key) = own.files();
        let files = TlsFiles { certificate, key, client_ca: None };
        let tls = Tls::load(files, Some(own), now).unwrap();
        let first = tls.current(now);
        assert!(Arc::ptr_eq(&first, &tls.current(now + LOOK)));
        assert!(!Arc::ptr_eq(&first, &tls.current(now + LOOK * 364)));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let own = OwnCertificate {
            directory: directory.path().to_owned(),
            node: "n1".to_owned(),
            addresses: Vec::new(),
        };
        own.renew(SystemTime::now()).unwrap();
        let (certificate, key) = own.files();
        let error = |files| Tls::load(files, None, SystemTime::now()).unwrap_err().to_string();
        let gone = directory.path().join("gone");
        let told = error(TlsFiles { certificate: gone, key: key.clone(), client_ca: None });
        assert!(told.starts_with("--tls-cert-file: ") && told.contains("gone"), "{told}");
        let told =
            error(TlsFiles { certificate: certificate.clone(), key: certificate.clone(), client_ca: None });
        assert!(told.starts_with("--tls-private-key-file: "), "{told}");
        let told = error(TlsFiles { certificate, key: key.clone(), client_ca: Some(key) });
        assert!(told.starts_with("--client-ca-file: "), "{told}");
    }
}
