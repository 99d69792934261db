//! TLS for clients and members, with certificates that are replaced while the member runs.
//!
//! Files are looked at when a connection begins (three `stat` calls beside a handshake's milliseconds), so that
//! there is no watcher to miss a change and no moment at which an old certificate lingers. Files that cannot be
//! used never replace ones that could: the old certificate stays and the log says why.
//! Keys never reach a log or an error.

mod client_name;
mod connector;
mod files;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use thiserror::Error;

pub use self::client_name::ClientName;
pub use self::connector::{ConnectError, PeerConnector, PeerStream};
use self::files::Material;
use self::reload::Reloading;
use crate::config::TlsFiles;

/// Why files cannot be used. The text names the file and what is wrong with it.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Missing, not readable.
    #[error("{} cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not what PEM looks like.
    #[error("{} is not a PEM file: {reason}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// Where it breaks.
        reason: String,
    },
    /// No `CERTIFICATE` block.
    #[error("{} has no certificate in it", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// No `PRIVATE KEY` block.
    #[error("{} has no private key in it", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// A kind of key that cannot sign here.
    #[error("{} has a private key that cannot be used: {reason}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key are not a pair.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error("the certificate in {} expired {ago_s} s ago", file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// Seconds since then.
        ago_s: u64,
    },
    /// The certificate's time has not come.
    #[error("the certificate in {} becomes valid in {in_s} s", file.display())]
    NotYetValid {
        /// The file.
        file: PathBuf,
        /// Seconds until then.
        in_s: u64,
    },
    /// A certificate that is none.
    #[error("{} has a certificate that cannot be used: {reason}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A server without a certificate was asked for.
    #[error("a server needs a certificate and its key")]
    NoServerCertificate,
}

/// The server side: a certificate to show, and whose certificates are accepted. Cheap to share.
#[derive(Debug)]
pub struct ServerTls(Reloading<ServerConfig>);

impl ServerTls {
    /// Reads the files. Callers must show a certificate if `client_cert_auth` or a `trusted_ca_file` asks for
    /// it, as in etcd.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(Reloading::load(files.clone(), server_config)?))
    }

    /// Reads certificate and key; what `verifier` makes judges the certificates of callers, whatever the files say of authorities.
    /// It is asked again when any of the files changes.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn with_verifier<V: ClientCertVerifier + 'static>(
        files: &TlsFiles,
        verifier: impl Fn() -> Arc<V> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let make = move |files: &TlsFiles, material: &Material| {
            let provider = provider();
            let Some(certified) = material.certified_key(files, &provider)? else {
                return Err(TlsError::NoServerCertificate);
            };
            let builder = versions(provider).with_client_cert_verifier(verifier());
            Ok(finish(builder, certified))
        };
        Ok(Self(Reloading::load(files.clone(), make)?))
    }

    /// The configuration for one connection: the current files, or the last good ones.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}

/// The client side towards other members: whom to trust, and which certificate to show. Cheap to share.
#[derive(Debug)]
pub struct ClientTls(Reloading<ClientConfig>);

impl ClientTls {
    /// Reads the files. Without a `trusted_ca_file` no server is trusted.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(Reloading::load(files.clone(), client_config)?))
    }

    /// Reads the files; what `verifier` makes of the authorities judges the certificates of servers. It is asked again when any of
    /// the files changes.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn with_verifier<V: ServerCertVerifier + 'static>(
        files: &TlsFiles,
        verifier: impl Fn(RootCertStore) -> V + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let make = move |files: &TlsFiles, material: &Material| {
            let roots =
                trusted(files, material)?.map(|(_, roots)| roots).unwrap_or_else(RootCertStore::empty);
            let mut config = client_config(files, material)?;
            config.dangerous().set_certificate_verifier(Arc::new(verifier(roots)));
            Ok(config)
        };
        Ok(Self(Reloading::load(files.clone(), make)?))
    }

    /// The configuration for one connection: the current files, or the last good ones.
    #[must_use]
    pub fn current(&self) -> Arc<ClientConfig> {
        self.0.current()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

fn server_config(files: &TlsFiles, material: &Material) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let Some(certified) = material.certified_key(files, &provider)? else {
        return Err(TlsError::NoServerCertificate);
    };
    let builder = versions(Arc::clone(&provider));
    let builder = match trusted(files, material)? {
        Some((file, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| TlsError::Certificate { file: file.into(), reason: error.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    Ok(finish(builder, certified))
}

fn versions(provider: Arc<CryptoProvider>) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring has both versions")
}

fn finish(builder: ConfigBuilder<ServerConfig, WantsServerCert>, certified: CertifiedKey) -> ServerConfig {
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config
}

fn client_config(files: &TlsFiles, material: &Material) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let certified = material.certified_key(files, &provider)?;
    let roots = trusted(files, material)?.map(|(_, roots)| roots).unwrap_or_else(RootCertStore::empty);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring has both versions")
        .with_root_certificates(roots);
    let mut config = match certified {
        Some(certified) => {
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn trusted<'a>(
    files: &'a TlsFiles,
    material: &Material,
) -> Result<Option<(&'a Path, RootCertStore)>, TlsError> {
    let (Some(file), Some(pem)) = (&files.trusted_ca_file, &material.trusted_ca) else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for cert in files::certificates(file, pem)? {
        roots
            .add(cert)
            .map_err(|error| TlsError::Certificate { file: file.clone(), reason: error.to_string() })?;
    }
    Ok(Some((file, roots)))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod test_certificates;
