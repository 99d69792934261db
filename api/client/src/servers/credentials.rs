//! A client for each server, made anew when a file with a certificate, a key or a token changes. Must never let files that
//! cannot be used replace what works.
//!
//! Files are looked at when a request comes and they were not for a while; between requests nothing happens.
//! Streams that run go on with what they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use http::Uri;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::util::option_layer;
use tower::{BoxError, ServiceExt as _};

use super::{ConnectError, Servers, Source};

/// How long files are trusted to be as they were.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a connection may take to come about; then the next server is asked.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may be silent until its other end is asked whether it is there; it has as long again to answer.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// What tells one content of a file from another: size and time of change; nothing of one that is not there.
type Stamp = Option<(u64, Option<SystemTime>)>;

/// What was made of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files(Vec<(PathBuf, Stamp)>);

/// A server.
pub(super) struct Server {
    /// Its name or address with the port, as metrics tell it.
    pub(super) host: String,
    pub(super) client: Client,
}

struct Loaded {
    servers: Arc<[Server]>,
    namespace: String,
    files: Files,
}

struct State {
    servers: Arc<[Server]>,
    files: Files,
    looked: Option<Instant>,
}

/// The clients of all servers, in their order.
pub(super) struct Credentials {
    told: Servers,
    state: Mutex<State>,
}

impl Credentials {
    /// Reads what is told; with it the namespace that is meant when none is named.
    pub(super) async fn load(servers: Servers) -> Result<(Self, String), ConnectError> {
        let loaded = load(&servers).await?;
        let state = State { servers: loaded.servers, files: loaded.files, looked: Some(Instant::now()) };
        Ok((Self { told: servers, state: Mutex::new(state) }, loaded.namespace))
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.state.lock().servers.len()
    }

    /// The servers, with what the files say now.
    pub(super) async fn servers(&self) -> Arc<[Server]> {
        let files = {
            let mut state = self.state.lock();
            if state.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
                return state.servers.clone();
            }
            // Whoever comes meanwhile takes what there is.
            state.looked = Some(Instant::now());
            state.files.clone()
        };
        if stamps(files.0.iter().map(|(path, _)| path.clone())).await != files {
            match load(&self.told).await {
                Ok(loaded) => {
                    tracing::info!("certificates and tokens for the API servers are read again");
                    let mut state = self.state.lock();
                    state.servers = loaded.servers;
                    state.files = loaded.files;
                }
                // Half written, perhaps. What is known goes on; the files are looked at again.
                Err(error) => {
                    tracing::warn!(%error, "changed certificates or tokens for the API servers cannot be used");
                }
            }
        }
        self.state.lock().servers.clone()
    }

    /// A server does not know who asks: the files are looked at before the next request.
    pub(super) fn doubt(&self) {
        self.state.lock().looked = None;
    }
}

async fn load(servers: &Servers) -> Result<Loaded, ConnectError> {
    let mut paths = Vec::new();
    let mut urls = servers.urls.clone();
    let (config, files) = match &servers.source {
        Source::Kubeconfig(path) | Source::Joined { kubeconfig: path, .. } => {
            let wrong = |error| ConnectError::Kubeconfig { path: path.clone(), error: Box::new(error) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            if wants_proxy(&kubeconfig) {
                return Err(ConnectError::Proxy);
            }
            paths.push(path.clone());
            let authorities = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
            paths.extend(authorities.filter_map(|it| it.certificate_authority.as_deref().map(PathBuf::from)));
            for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
                let named = [&user.client_certificate, &user.client_key, &user.token_file];
                paths.extend(named.into_iter().flatten().map(PathBuf::from));
            }
            if let Source::Joined { servers, .. } = &servers.source {
                paths.push(servers.clone());
            }
            // Before they are read: what changes in between is then seen as a change.
            let files = stamps(paths.into_iter()).await;
            if let (true, Source::Joined { servers, .. }) = (urls.is_empty(), &servers.source) {
                urls = listed(servers).await?;
            }
            let options = KubeConfigOptions::default();
            (Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?, files)
        }
        Source::InCluster => {
            let config = Config::incluster()?;
            paths.extend(config.root_cert_file.clone());
            paths.extend(config.auth_info.token_file.as_ref().map(PathBuf::from));
            let files = stamps(paths.into_iter()).await;
            (Config::incluster()?, files)
        }
    };
    if urls.is_empty() {
        urls.push(config.cluster_url.clone());
    }
    let servers: Result<Vec<_>, _> = urls.into_iter().map(|url| server(&config, url)).collect();
    Ok(Loaded { servers: servers?.into(), namespace: config.default_namespace, files })
}

/// The URLs of a file, one a line; none when it is not there.
async fn listed(path: &Path) -> Result<Vec<Uri>, ConnectError> {
    let wrong = |problem: String| ConnectError::ServersFile { path: path.to_owned(), problem };
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let urls = lines.map(|line| {
        let uri: Option<Uri> = line.parse().ok();
        let whole = uri.filter(|uri| uri.scheme().is_some() && uri.authority().is_some());
        whole.ok_or_else(|| wrong(format!("{line:?} is not a URL")))
    });
    urls.collect()
}

/// What a source trusts servers by, as PEM.
pub(super) async fn authorities(source: &Source) -> Result<String, ConnectError> {
    let config = match source {
        Source::Kubeconfig(path) | Source::Joined { kubeconfig: path, .. } => {
            let wrong = |error| ConnectError::Kubeconfig { path: path.clone(), error: Box::new(error) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrong)?
        }
        Source::InCluster => Config::incluster()?,
    };
    Ok(config.root_cert.iter().flatten().map(|der| pem(der)).collect())
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    let body: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

/// Whether the current cluster is behind a proxy. One that the environment tells is for the world, not for API servers.
fn wants_proxy(kubeconfig: &Kubeconfig) -> bool {
    let current = kubeconfig.current_context.as_ref();
    let context = kubeconfig.contexts.iter().find(|named| Some(&named.name) == current);
    let Some(context) = context.and_then(|named| named.context.as_ref()) else { return false };
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
    cluster.and_then(|named| named.cluster.as_ref()).is_some_and(|cluster| cluster.proxy_url.is_some())
}

fn server(config: &Config, url: Uri) -> Result<Server, ConnectError> {
    let host = url.authority().map_or_else(String::new, ToString::to_string);
    Ok(Server { host, client: client(config, url)? })
}

/// kube's own stack, but over connections that notice a machine that is gone: a stream would wait for it for ever.
fn client(config: &Config, url: Uri) -> Result<Client, ConnectError> {
    let mut config = config.clone();
    config.cluster_url = url;
    let wrong = |error| ConnectError::Client(Box::new(error));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(KEEPALIVE * 2));
    let tls = config.rustls_https_connector_with_connector(tcp).map_err(wrong)?;
    let http = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(tls).map_err(BoxError::from);
    let builder = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&config.extra_headers_layer().map_err(wrong)?)
        .with_layer(&option_layer(config.auth_layer().map_err(wrong)?))
        .with_layer(&config.base_uri_layer());
    Ok(builder.build())
}

async fn stamps(paths: impl Iterator<Item = PathBuf>) -> Files {
    let mut files = Vec::new();
    for path in paths {
        let stamp = stamp(&path).await;
        files.push((path, stamp));
    }
    Files(files)
}

async fn stamp(path: &Path) -> Stamp {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
