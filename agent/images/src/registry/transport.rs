//! Connections to registries: HTTP/1.1 over TCP or TLS, through the proxy of the environment where there is one. Must never follow a
//! redirect or know a password: that is for those above.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use barque_unverified_tls::Unverified;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower::Service;

use crate::error::{Error, Result};
use crate::registries::Tls;

const CONNECT: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(30);
/// Registries that fetch from elsewhere first take their time.
const ANSWER: Duration = Duration::from_secs(60);

type HttpClient = Client<HttpsConnector<Dialer>, Full<Bytes>>;

/// All connections, kept for a while, by how the other side is known.
pub(crate) struct Transport {
    clients: Mutex<HashMap<Tls, HttpClient>>,
    proxy: Arc<Matcher>,
    system: OnceLock<RootCertStore>,
}

impl Transport {
    pub(crate) fn new() -> Self {
        Self { clients: Mutex::default(), proxy: Arc::new(Matcher::from_env()), system: OnceLock::new() }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(&self, tls: &Tls, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let client = self.client(tls)?;
        let url = request.uri().to_string();
        let method = if request.method() == http::Method::POST { "POST" } else { "GET" };
        let unreachable = |source| Error::Unreachable { method, url: url.clone(), source };
        match tokio::time::timeout(ANSWER, client.request(request)).await {
            Ok(answer) => answer.map_err(|error| unreachable(Box::new(error))),
            Err(_) => Err(unreachable(format!("no answer within {} s", ANSWER.as_secs()).into())),
        }
    }

    fn client(&self, tls: &Tls) -> Result<HttpClient> {
        if let Some(client) = self.clients.lock().get(tls) {
            return Ok(client.clone());
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        let dialer = Dialer { http, proxy: self.proxy.clone() };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls_config(tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialer);
        let client: HttpClient = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        self.clients.lock().insert(tls.clone(), client.clone());
        Ok(client)
    }

    fn tls_config(&self, tls: &Tls) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| configuration("TLS", &error))?;
        let builder = if tls.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(&provider)))
        } else {
            let mut roots = self.system.get_or_init(system_roots).clone();
            if let Some(file) = &tls.ca_file {
                let name = file.display().to_string();
                for certificate in
                    CertificateDer::pem_file_iter(file).map_err(|error| configuration(&name, &error))?
                {
                    let certificate = certificate.map_err(|error| configuration(&name, &error))?;
                    roots.add(certificate).map_err(|error| configuration(&name, &error))?;
                }
            }
            builder.with_root_certificates(roots)
        };
        let (Some(chain_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) else {
            return Ok(builder.with_no_client_auth());
        };
        let name = chain_file.display().to_string();
        let chain = CertificateDer::pem_file_iter(chain_file)
            .and_then(Iterator::collect)
            .map_err(|error| configuration(&name, &error))?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| configuration(&key_file.display().to_string(), &error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| configuration(&name, &error))
    }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("certificates of the system: {error}");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

fn configuration(file: &str, error: &dyn std::error::Error) -> Error {
    Error::Configuration { file: file.to_owned(), why: error.to_string() }
}

/// Connects, directly or through the proxy that the environment names (`HTTPS_PROXY` and its relatives).
#[derive(Clone)]
struct Dialer {
    http: HttpConnector,
    proxy: Arc<Matcher>,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        // Nobody reaches this machine through a proxy.
        let local = destination.host().is_some_and(|host| {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        });
        let proxy = if local { None } else { self.proxy.intercept(&destination) };
        match proxy {
            None => {
                let connecting = self.http.call(destination);
                Box::pin(async move { connecting.await.map_err(Into::into) })
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.http.clone());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                // A tunnel needs a port to lead to.
                let destination = with_port(destination);
                Box::pin(async move { tunnel.call(destination?).await.map_err(Into::into) })
            }
        }
    }
}

fn with_port(uri: Uri) -> io::Result<Uri> {
    if uri.port().is_some() {
        return Ok(uri);
    }
    let port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    let mut parts = uri.into_parts();
    let host = parts.authority.as_ref().map(|authority| authority.as_str()).unwrap_or_default();
    parts.authority = Some(format!("{host}:{port}").parse().map_err(io::Error::other)?);
    Uri::from_parts(parts).map_err(io::Error::other)
}
