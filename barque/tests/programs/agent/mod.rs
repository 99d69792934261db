//! The agent of a node for tests, as far as streams need one: logs, processes, ports of pods, and everything else told back.
//! It speaks to who has a certificate of its authority. Must never pretend: what it says comes from files and processes.
//!
//! What is in a container is in a directory, `node/POD/CONTAINER` below the one of its cluster: `log` and `previous.log` with
//! a time before each line, and `main`, the script that who attaches meets. A port of a pod is a script too,
//! `node/POD/port-NUMBER`; each connection runs it.

#![allow(dead_code, reason = "each test uses a part")]

mod directory;
mod logs;
mod ports;
mod process;
mod upgrade;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::certificates::Certificates;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A running agent; ends, with its processes, when it is dropped.
pub(crate) struct Agent {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    runtime: Runtime,
}

/// What every request needs.
struct Node {
    directory: PathBuf,
    /// Whether it takes WebSockets; else SPDY only, as agents before Kubernetes 1.36.
    websockets: bool,
}

impl Agent {
    /// Starts one whose containers are below `directory`, and whose certificate `certificates` have signed.
    pub(crate) fn start(directory: &Path, certificates: &Certificates, websockets: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls(certificates)));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let node = Arc::new(Node { directory: directory.join("node"), websockets });
        // All of it ends with the runtime.
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, node) = (acceptor.clone(), Arc::clone(&node));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let known = stream.get_ref().1.peer_certificates().is_some();
                    let service = service_fn(move |request| {
                        let node = Arc::clone(&node);
                        async move { Ok::<_, Infallible>(node.answer(request, known).await) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    // Whoever breaks off has been told what was to tell.
                    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        Self { address, runtime }
    }

    /// Starts barque's own node API before the same containers, which takes WebSockets too; their logs are in files of the form
    /// of CRI. It asks the API server of `kubeconfig` who may.
    pub(crate) fn ours(directory: &Path, certificates: &Certificates, kubeconfig: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = runtime.block_on(directory::serve(directory, certificates, kubeconfig));
        Self { address, runtime }
    }

    /// What a pod at this address serves: it tells back what it was asked.
    pub(crate) fn pod(&self, address: IpAddr) -> SocketAddr {
        let listener = self.runtime.block_on(TcpListener::bind((address, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service =
                        service_fn(|request| async move { Ok::<_, Infallible>(told_back(request).await) });
                    let server = hyper::server::conn::http1::Builder::new();
                    // Whoever breaks off has been told what was to tell.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        address
    }
}

/// Certificates of clients are asked for, not demanded: who shows none hears so in HTTP, as from kubelet.
fn tls(certificates: &Certificates) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificates.ca).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (cert, key) = &certificates.agent;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(cert).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap()
}

impl Node {
    async fn answer(&self, request: Request<Incoming>, known: bool) -> Answer {
        if !known {
            return text(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
        let path = request.uri().path().to_owned();
        let query = Query::of(&request);
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        match *steps.as_slice() {
            ["containerLogs", _, pod, container] => {
                logs::answer(&self.directory.join(pod).join(container), (pod, container), &query).await
            }
            ["exec", _, pod, container] => {
                let command = process::exec(&self.directory.join(pod).join(container), query.all("command"));
                upgrade::process(request, self.websockets, command, &query)
            }
            ["attach", _, pod, container] => {
                let command = process::main(&self.directory.join(pod).join(container));
                upgrade::process(request, self.websockets, command, &query)
            }
            ["portForward", _, pod] => {
                let directory = self.directory.join(pod);
                upgrade::ports(request, self.websockets, directory, pod.to_owned())
            }
            _ => told_back(request).await,
        }
    }
}

async fn told_back(request: Request<Incoming>) -> Answer {
    let told = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    text(StatusCode::OK, format!("{told}\n{}", String::from_utf8_lossy(&body)))
}

/// The query of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.one(name).is_some()
    }
}

fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = code;
    response
}
