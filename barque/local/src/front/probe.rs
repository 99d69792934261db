//! Whether a server is ready, asked as clients would: `/readyz` over TLS. Must never be longer at it than told, as a paused
//! server takes connections and says nothing; or let a file of authorities that cannot be used replace one that could.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Server;

/// What is asked for.
const READY: &str = "/readyz";
/// So often on one connection, then on a new one: only that shows a certificate which clients would not believe any more.
const QUESTIONS: u32 = 60;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is no certificate.
    #[error("--certificate-authority={path} holds no certificates in PEM: {source}")]
    Certificate {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate is of no use.
    #[error("--certificate-authority={path} holds a certificate that is of no use: {source}")]
    Authority {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Asks servers.
#[derive(Clone)]
pub(super) struct Prober {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    stamp: Stamp,
    connector: TlsConnector,
}

/// A connection that is kept from one question to the next, as making it costs more than all the rest.
pub(super) struct Line {
    /// Of the authorities that it was made with.
    stamp: Stamp,
    questions: u32,
    sender: http1::SendRequest<Empty<Bytes>>,
    /// Goes on only while somebody asks. Large.
    connection: Pin<Box<http1::Connection<Tls, Empty<Bytes>>>>,
}

type Tls = TokioIo<TlsStream<TcpStream>>;

/// Inode, length and time of a change; nothing for a file that is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

impl Prober {
    /// One that believes servers with certificates of the authorities of a file, which is followed.
    pub(super) fn of(path: &Path) -> Result<Self, AuthorityError> {
        // Before reading: a change in between is then seen as one.
        let stamp = stamp(path);
        let state = State { stamp, connector: connector(path)? };
        Ok(Self { path: path.to_owned(), state: Arc::new(Mutex::new(state)) })
    }

    fn connector(&self) -> (Stamp, TlsConnector) {
        let mut state = self.state.lock();
        let stamp = stamp(&self.path);
        if stamp != state.stamp {
            state.stamp = stamp;
            match connector(&self.path) {
                Ok(connector) => state.connector = connector,
                Err(error) => tracing::error!("changed authorities are not used, the old ones stay: {error}"),
            }
        }
        (stamp, state.connector.clone())
    }

    /// Asks one, no longer than told, on the line that was kept if there is one; the reason when it is not ready.
    /// And what the next question may be asked on.
    pub(super) async fn probe(
        &self,
        server: &Server,
        kept: Option<Line>,
        longest: Duration,
    ) -> (Option<Line>, Result<(), String>) {
        // Who does not answer in time is asked on a new line the next time.
        tokio::time::timeout(longest, self.ask(server, kept))
            .await
            .unwrap_or_else(|_| (None, Err(format!("did not answer within {}s", longest.as_secs_f64()))))
    }

    async fn ask(&self, server: &Server, kept: Option<Line>) -> (Option<Line>, Result<(), String>) {
        let (stamp, connector) = self.connector();
        if let Some(mut line) = kept.filter(|line| line.stamp == stamp && line.questions < QUESTIONS)
            && let Ok(status) = line.ask(server).await
        {
            return (Some(line), judge(status));
        }
        // Also when the server has closed the line since: it may be another process by now, and ready.
        let asked = async {
            let mut line = Box::pin(connect(server, stamp, &connector)).await?;
            let status = line.ask(server).await?;
            Ok((line, status))
        };
        match asked.await {
            Ok((line, status)) => (Some(line), judge(status)),
            Err(why) => (None, Err(why)),
        }
    }
}

async fn connect(server: &Server, stamp: Stamp, connector: &TlsConnector) -> Result<Line, String> {
    let name = ServerName::try_from(server.host.clone()).map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .map_err(|error| format!("does not take connections: {error}"))?;
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    Ok(Line { stamp, questions: 0, sender, connection: Box::pin(connection) })
}

impl Line {
    async fn ask(&mut self, server: &Server) -> Result<StatusCode, String> {
        self.questions += 1;
        let request = Request::get(READY)
            .header(HOST, server.name.as_str())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let (sender, connection) = (&mut self.sender, self.connection.as_mut());
        let asking = async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            // To its end, so that the line is free for the next question.
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok(status)
        };
        tokio::select! {
            biased;
            status = asking => status.map_err(http),
            ended = connection => Err(ended.err().map_or("closed the connection".to_owned(), http)),
        }
    }
}

fn judge(status: StatusCode) -> Result<(), String> {
    match status {
        StatusCode::OK => Ok(()),
        other => Err(format!("answers {} to {READY}", other.as_u16())),
    }
}

fn connector(path: &Path) -> Result<TlsConnector, AuthorityError> {
    let wrong = |source| AuthorityError::Certificate { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
        roots
            .add(certificate.map_err(wrong)?)
            .map_err(|source| AuthorityError::Authority { path: path.to_owned(), source })?;
    }
    if roots.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn http(error: hyper::Error) -> String {
    format!("HTTP: {error}")
}
