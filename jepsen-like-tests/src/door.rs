//! How a client comes in: with TLS or without, and as which user.
//!
//! A token is asked for when one is needed, and again when a member does not take it any more. Must never log in in the
//! middle of a request, which would send it twice.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::{Code, Request, Status};

use crate::certificates::CertificateFiles;

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub name: String,
    /// Its password.
    pub password: String,
}

/// How clients come in. The plain one has neither TLS nor a user.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// TLS with a certificate of the client's own.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who logs in with a password.
    pub user: Option<Credentials>,
}

/// What each request of a client carries, shared by all that it sends.
#[derive(Clone, Debug, Default)]
pub struct Bearer(Arc<Mutex<Login>>);

/// A token that no member takes, and that none looks at while Auth is off.
const WORTHLESS: &str = "worthless.0";

#[derive(Debug, Default)]
enum Login {
    #[default]
    Needed,
    As(AsciiMetadataValue),
}

impl Bearer {
    fn set(&self, login: Login) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = login;
    }

    /// Whether the client must log in before its next request.
    pub(crate) fn is_needed(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Login::Needed)
    }

    /// What a login brought is kept; whether it needs no other one.
    pub(crate) fn logged_in(&self, answer: Result<String, Status>) -> bool {
        match answer {
            Ok(token) => match token.parse() {
                Ok(token) => self.set(Login::As(token)),
                Err(_) => return false,
            },
            // Auth is off, perhaps only for now. Without any token, the certificate's name would count once it is on.
            Err(status) if status.message().contains("authentication is not enabled") => {
                self.set(Login::As(AsciiMetadataValue::from_static(WORTHLESS)));
            }
            Err(_) => return false,
        }
        true
    }

    /// Looks at a refusal: whether it was because of the login, which is then needed again.
    pub(crate) fn refused(&self, status: &Status) {
        let no_user =
            status.code() == Code::InvalidArgument && status.message().contains("user name is empty");
        if no_user || status.code() == Code::Unauthenticated {
            self.set(Login::Needed);
        }
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Login::As(token) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner)
            && !request.metadata().contains_key("token")
        {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// TLS that trusts one authority and shows a certificate.
///
/// # Errors
/// When a file is no proper one.
pub fn tls(authority: &Path, own: &CertificateFiles) -> io::Result<Arc<ClientConfig>> {
    let bad = io::Error::other::<String>;
    let read = |path: &Path| -> io::Result<Vec<CertificateDer<'static>>> {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        certificates.map_err(|why| bad(format!("{}: {why}", path.display())))
    };
    let mut roots = RootCertStore::empty();
    for certificate in read(authority)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let key =
        PrivateKeyDer::from_pem_file(&own.key).map_err(|why| bad(format!("{}: {why}", own.key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(read(&own.certificate)?, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Opens a connection to a member, with TLS.
pub(crate) async fn open(uri: Uri, tls: Arc<ClientConfig>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let host = uri.host().ok_or_else(|| io::Error::other("a URL without a host"))?.to_owned();
    let port = uri.port_u16().ok_or_else(|| io::Error::other("a URL without a port"))?;
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(TokioIo::new(TlsConnector::from(tls).connect(name, stream).await?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;

    #[test]
    fn a_login_is_needed_at_first_and_after_refusals_that_are_about_it() {
        let bearer = Bearer::default();
        assert!(bearer.is_needed());
        assert!(!bearer.logged_in(Err(Status::unavailable("gone"))));
        assert!(bearer.is_needed());
        assert!(bearer.logged_in(Ok("token.1".to_owned())));
        for other in
            [Status::permission_denied("no"), Status::unavailable("gone"), Status::invalid_argument("x")]
        {
            bearer.refused(&other);
            assert!(!bearer.is_needed(), "{other}");
        }
        bearer.refused(&Status::unauthenticated("etcdserver: invalid auth token"));
        assert!(bearer.is_needed());
        assert!(
            bearer.logged_in(Err(Status::failed_precondition("etcdserver: authentication is not enabled")))
        );
        assert!(!bearer.is_needed());
        bearer.refused(&Status::invalid_argument("etcdserver: user name is empty"));
        assert!(bearer.is_needed());
    }

    #[test]
    fn a_request_that_has_a_token_keeps_it() {
        let mut bearer = Bearer::default();
        assert!(bearer.call(Request::new(())).unwrap().metadata().get("token").is_none());
        bearer.logged_in(Ok("mine".to_owned()));
        assert_eq!(bearer.call(Request::new(())).unwrap().metadata().get("token").unwrap(), "mine");
        let mut request = Request::new(());
        request.metadata_mut().insert("token", "other".parse().unwrap());
        assert_eq!(bearer.call(request).unwrap().metadata().get("token").unwrap(), "other");
    }
}
