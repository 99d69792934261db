//! A server between one client and an API server, over TLS on both sides: it passes requests and who asks on, and lets happen
//! what goes wrong.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::answers::status;
use super::faults::{Asks, Fault, Faults};
use super::watches;
use crate::cluster::Cluster;

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// It is meant to be so.
    #[error("{0}")]
    Meant(&'static str),
    /// The API server is not reached.
    #[error(transparent)]
    Connection(#[from] std::io::Error),
    /// One of both sides has gone.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

pub(crate) type Body = BoxBody<Bytes, Broken>;

/// How long a slow answer takes longer.
const SLOW: Duration = Duration::from_millis(700);

/// A proxy for one client; it ends with its owner.
pub(crate) struct Proxy {
    pub(crate) faults: Arc<Faults>,
    pub(crate) address: SocketAddr,
    /// Tells connections that they break.
    cut: watch::Sender<()>,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Listens before the cluster's first API server.
    pub(crate) async fn start(cluster: &Cluster, faults: Faults) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = &cluster.certificates.agent;
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&cluster.certificates.ca).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults = Arc::new(faults);
        let cut = watch::Sender::new(());
        let way = Way {
            cut: cut.subscribe(),
            server: cluster.servers[0],
            connector: TlsConnector::from(Arc::new(client)),
            faults: faults.clone(),
        };
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(server)), way));
        Self { faults, address, cut, serving }
    }

    /// All connections break.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// A kubeconfig for a client that shows a token.
    pub(crate) fn kubeconfig(&self, cluster: &Cluster, token: &str) -> PathBuf {
        let path = cluster.directory.path().join(format!("kubeconfig-of-{}", self.faults.client()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.address,
            cluster.certificates.ca.display(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Writes the file by which API servers know clients: each by its name, as an administrator.
pub(crate) fn tokens(directory: &Path, names: &[&str]) -> PathBuf {
    let path = directory.join("tokens.csv");
    let line = |name: &&str| format!("{name},system:{name},{name},\"system:masters\"\n");
    std::fs::write(&path, names.iter().map(line).collect::<String>()).unwrap();
    path
}

/// The way to the API server.
#[derive(Clone)]
struct Way {
    server: SocketAddr,
    connector: TlsConnector,
    faults: Arc<Faults>,
    cut: watch::Receiver<()>,
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, way: Way) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, way) = (acceptor.clone(), way.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            way.serve(stream).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The other half of a client's connection: made for its first request, and ended with it.
#[derive(Default)]
struct Onward {
    sender: Option<SendRequest<Full<Bytes>>>,
    driver: JoinSet<()>,
}

impl Way {
    async fn serve(&self, stream: TlsStream<TcpStream>) {
        let mut cut = self.cut.clone();
        cut.mark_unchanged();
        let onward = Arc::new(Mutex::new(Onward::default()));
        let answers = service_fn(move |request| {
            let (way, onward) = (self.clone(), onward.clone());
            async move { way.answer(request, &mut *onward.lock().await).await }
        });
        tokio::select! {
            // It ends when the other side does, or when something breaks.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answers) => {}
            _ = cut.changed() => {}
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        onward: &mut Onward,
    ) -> Result<Response<Body>, Broken> {
        let asks = asks(&request);
        self.faults.asked(told(&request, asks));
        let chosen = self.faults.choose(asks);
        let fault = chosen.map(|chosen| chosen.fault);
        // The body first: a client that is refused while it still sends sees a broken connection.
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let refused = match fault {
            Some(Fault::Conflict) => {
                Some((StatusCode::CONFLICT, "Conflict", "Operation cannot be fulfilled; try again", None))
            }
            Some(Fault::TooMany) => {
                Some((StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "later", Some(1)))
            }
            Some(Fault::TooManyUnsaid) => {
                Some((StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "later", None))
            }
            Some(Fault::Internal) => {
                Some((StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "broken", None))
            }
            Some(Fault::Unavailable) => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "no", None))
            }
            Some(Fault::TimedOut) => Some((StatusCode::GATEWAY_TIMEOUT, "Timeout", "timed out", None)),
            _ => None,
        };
        if let (Some(fault), Some((code, reason, message, retry_after_s))) = (fault, refused) {
            self.faults.happened(fault);
            return Ok(status(code, reason, message, retry_after_s));
        }
        if fault == Some(Fault::Lost) {
            self.faults.happened(Fault::Lost);
            return Err(Broken::Meant("the request is lost"));
        }
        let response = self.pass_on(Request::from_parts(parts, Full::new(body)), onward).await?;
        match chosen {
            Some(chosen)
                if asks == Asks::Watch && chosen.fault != Fault::Slow && response.status().is_success() =>
            {
                let faults = self.faults.clone();
                Ok(response.map(|body| watches::with_fault(body, chosen, faults)))
            }
            Some(chosen) => self.spoil(response, chosen.fault).await,
            None => Ok(response.map(|body| body.map_err(Broken::from).boxed())),
        }
    }

    async fn pass_on(
        &self,
        request: Request<Full<Bytes>>,
        onward: &mut Onward,
    ) -> Result<Response<Incoming>, Broken> {
        if onward.sender.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(self.server).await?;
            stream.set_nodelay(true)?;
            let stream = self.connector.connect(ServerName::from(self.server.ip()), stream).await?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            onward.driver.spawn(async {
                // Whoever sent something hears of it.
                let _ = connection.await;
            });
            onward.sender = Some(sender);
        }
        let sender = onward.sender.as_mut().unwrap();
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }

    /// What was done is told wrongly, late, or not at all.
    async fn spoil(&self, response: Response<Incoming>, fault: Fault) -> Result<Response<Body>, Broken> {
        let (parts, body) = response.into_parts();
        if fault == Fault::Slow {
            self.faults.happened(fault);
            tokio::time::sleep(SLOW).await;
            return Ok(Response::from_parts(parts, body.map_err(Broken::from).boxed()));
        }
        let body = body.collect().await?.to_bytes();
        let done = parts.status.is_success();
        match fault {
            Fault::DoneTimedOut if done => {
                self.faults.happened(fault);
                Ok(status(StatusCode::GATEWAY_TIMEOUT, "Timeout", "timed out, and done", None))
            }
            Fault::DoneLost if done => {
                self.faults.happened(fault);
                Err(Broken::Meant("the answer is lost"))
            }
            Fault::Cut => {
                self.faults.happened(fault);
                let half = Frame::data(body.slice(..body.len() / 2));
                let frames = [Ok(half), Err(Broken::Meant("the answer is cut"))];
                let body = StreamBody::new(futures::stream::iter(frames));
                Ok(Response::from_parts(parts, body.boxed()))
            }
            _ => {
                let body = Full::new(body).map_err(|never| match never {}).boxed();
                Ok(Response::from_parts(parts, body))
            }
        }
    }
}

fn asks(request: &Request<Incoming>) -> Asks {
    let query = request.uri().query().unwrap_or_default();
    match *request.method() {
        Method::GET if query.split('&').any(|part| part == "watch=true") => Asks::Watch,
        Method::GET => Asks::Read,
        _ => Asks::Write,
    }
}

/// A request in words: the verb and the path; of a watch also what it selects, whatever version it begins with.
fn told(request: &Request<Incoming>, asks: Asks) -> String {
    let path = request.uri().path();
    if asks != Asks::Watch {
        return format!("{} {path}", request.method());
    }
    let parts = request.uri().query().unwrap_or_default().split('&');
    let selects: Vec<_> = parts.filter(|part| !part.starts_with("resourceVersion=")).collect();
    format!("WATCH {path}?{}", selects.join("&"))
}
