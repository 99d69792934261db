//! The node API as clients see it: over TLS, before containers that are processes of this machine.

mod access;
mod answers;
mod containers;
mod streams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::containers::Processes;
use super::authorization::Access;
use super::config::NodeApiConfig;
use super::containers::KnownPods;
use super::reviews::{ReviewError, Reviews, User};
use super::server::{NodeApi, NodeApiListener, Parts};
use crate::metrics::Metrics;

type Client = TlsStream<TcpStream>;
type Authority = CertifiedIssuer<'static, KeyPair>;
type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A token of somebody who may everything.
const ADMIN: &str = "admin-token";

/// Tokens and rights, as API servers would know them.
#[derive(Default)]
struct Known {
    asked: Mutex<Vec<String>>,
}

impl Reviews for Known {
    fn token(&self, token: String) -> BoxFuture<'_, Result<Option<User>, ReviewError>> {
        self.asked.lock().push(format!("token {token}"));
        let answer = match token.as_str() {
            "broken" => Err(ReviewError("nobody answers".to_owned())),
            "unknown" => Ok(None),
            _ => Ok(Some(User { name: token.trim_end_matches("-token").to_owned(), ..User::default() })),
        };
        Box::pin(async { answer })
    }

    fn access<'a>(
        &'a self,
        user: &'a User,
        node: &'a str,
        access: Access,
    ) -> BoxFuture<'a, Result<bool, ReviewError>> {
        let Access { verb, subresource } = access;
        self.asked.lock().push(format!("{} {verb} {node}/{subresource}", user.name));
        let allowed = match user.name.as_str() {
            "undecided" => return Box::pin(async { Err(ReviewError("nobody answers".to_owned())) }),
            "admin" => true,
            "pods-reader" => (verb, subresource) == ("get", "pods"),
            "proxy-reader" => (verb, subresource) == ("get", "proxy"),
            _ => user.groups.iter().any(|group| group == "operators"),
        };
        Box::pin(async move { Ok(allowed) })
    }
}

struct OnePod(Arc<Pod>);

impl KnownPods for OnePod {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let metadata = &self.0.metadata;
        let is_it =
            metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name);
        is_it.then(|| self.0.clone())
    }

    fn all(&self) -> Vec<Arc<Pod>> {
        vec![self.0.clone()]
    }
}

fn pod() -> Pod {
    let state = json!({"waiting": {"reason": "ContainerCreating"}});
    let status = json!({"name": "late", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "late", "image": "i"}]},
        "status": {"containerStatuses": [status]},
    }))
    .unwrap()
}

/// A node API, and what a test holds of it.
struct Node {
    address: std::net::SocketAddr,
    containers: Arc<Processes>,
    known: Arc<Known>,
    metrics: Metrics,
    authority: Authority,
    stop: CancellationToken,
    served: AbortOnDropHandle<()>,
    directory: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut NodeApiConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority();
        std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        let mut config = NodeApiConfig {
            address: "127.0.0.1".to_owned(),
            port: 0,
            client_ca_file: Some(directory.path().join("ca.crt")),
            ..NodeApiConfig::default()
        };
        change(&mut config);
        let containers = Arc::new(Processes::new(directory.path()));
        let known = Arc::new(Known::default());
        let metrics = Metrics::new();
        let parts = Parts {
            node: "n1".to_owned(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            root: directory.path().to_owned(),
            pods: Arc::new(OnePod(Arc::new(pod()))),
            streams: containers.clone(),
            reviews: known.clone(),
            metrics: metrics.clone(),
        };
        let config = config.validate().unwrap();
        let listener = NodeApiListener::bind(&config).await.unwrap();
        let api = NodeApi::on(listener, config, parts).unwrap();
        let (address, stop) = (api.address(), CancellationToken::new());
        let served = AbortOnDropHandle::new(tokio::spawn(api.run(stop.clone())));
        Self { address, containers, known, metrics, authority, stop, served, directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Connects with a certificate, if there is one.
    async fn connect(&self, shown: Option<Shown>) -> Client {
        self.speaking(&[], shown).await
    }

    /// Connects and offers these protocols.
    async fn speaking(&self, protocols: &[&[u8]], shown: Option<Shown>) -> Client {
        let mut roots = RootCertStore::empty();
        let own: PathBuf = self.path().join("pki/kubelet.crt");
        roots.add(CertificateDer::from_pem_file(own).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("n1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Asks and reads the head of the answer.
    async fn begin(&self, method: &str, path: &str, headers: &str) -> (Client, String) {
        let mut client = self.connect(None).await;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: n1\r\n{headers}\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        let head = head_of(&mut client).await;
        (client, head)
    }

    /// Asks as somebody and reads the whole answer.
    async fn ask_as(&self, token: &str, method: &str, path: &str) -> (u16, String) {
        let token =
            if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        let (client, head) = self.begin(method, path, &format!("connection: close\r\n{token}")).await;
        (code(&head), format!("{head}{}", rest(client).await))
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask_as(ADMIN, "GET", path).await
    }

    async fn json(&self, path: &str) -> Value {
        let (code, answer) = self.get(path).await;
        assert_eq!(code, 200, "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Stops, and waits for the end.
    async fn stop(self) {
        self.stop.cancel();
        self.served.await.unwrap();
    }
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of a user with groups.
fn certified(authority: &Authority, name: &str, groups: &[&str]) -> Shown {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

async fn head_of(client: &mut Client) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

/// What comes until the server closes.
async fn rest(mut client: Client) -> String {
    let mut all = Vec::new();
    // Servers may close a connection without a goodbye of TLS.
    let _ = client.read_to_end(&mut all).await;
    String::from_utf8(all).unwrap()
}

fn code(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Headers by name.
fn headers(head: &str) -> BTreeMap<String, String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}
