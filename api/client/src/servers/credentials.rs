//! A client for each server, made anew when a file with a certificate, a key or a token changes. Must never let files that
//! cannot be used replace what works.
//!
//! Files are looked at when a request comes and they were not for a while; between requests nothing happens.
//! Streams that run go on with what they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ConnectError, Servers, Source};

/// How long files are trusted to be as they were.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a connection may take to come about; then the next server is asked.
const CONNECT: Duration = Duration::from_secs(5);

/// What tells one content of a file from another: size and time of change; nothing of one that is not there.
type Stamp = Option<(u64, Option<SystemTime>)>;

/// What was made of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files(Vec<(PathBuf, Stamp)>);

struct Loaded {
    clients: Arc<[Client]>,
    namespace: String,
    files: Files,
}

struct State {
    clients: Arc<[Client]>,
    files: Files,
    looked: Option<Instant>,
}

/// The clients of all servers, in their order.
pub(super) struct Credentials {
    servers: Servers,
    state: Mutex<State>,
}

impl Credentials {
    /// Reads what is told; with it the namespace that is meant when none is named.
    pub(super) async fn load(servers: Servers) -> Result<(Self, String), ConnectError> {
        let loaded = load(&servers).await?;
        let state = State { clients: loaded.clients, files: loaded.files, looked: Some(Instant::now()) };
        Ok((Self { servers, state: Mutex::new(state) }, loaded.namespace))
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.state.lock().clients.len()
    }

    /// The clients, with what the files say now.
    pub(super) async fn clients(&self) -> Arc<[Client]> {
        let files = {
            let mut state = self.state.lock();
            if state.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
                return state.clients.clone();
            }
            // Whoever comes meanwhile takes what there is.
            state.looked = Some(Instant::now());
            state.files.clone()
        };
        if stamps(files.0.iter().map(|(path, _)| path.clone())).await != files {
            match load(&self.servers).await {
                Ok(loaded) => {
                    tracing::info!("certificates and tokens for the API servers are read again");
                    let mut state = self.state.lock();
                    state.clients = loaded.clients;
                    state.files = loaded.files;
                }
                // Half written, perhaps. What is known goes on; the files are looked at again.
                Err(error) => {
                    tracing::warn!(%error, "changed certificates or tokens for the API servers cannot be used");
                }
            }
        }
        self.state.lock().clients.clone()
    }

    /// A server does not know who asks: the files are looked at before the next request.
    pub(super) fn doubt(&self) {
        self.state.lock().looked = None;
    }
}

async fn load(servers: &Servers) -> Result<Loaded, ConnectError> {
    let mut paths = Vec::new();
    let (mut config, files) = match &servers.source {
        Source::Kubeconfig(path) => {
            let wrong = |error| ConnectError::Kubeconfig { path: path.clone(), error: Box::new(error) };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            paths.push(path.clone());
            let authorities = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
            paths.extend(authorities.filter_map(|it| it.certificate_authority.as_deref().map(PathBuf::from)));
            for user in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
                let named = [&user.client_certificate, &user.client_key, &user.token_file];
                paths.extend(named.into_iter().flatten().map(PathBuf::from));
            }
            // Before they are read: what changes in between is then seen as a change.
            let files = stamps(paths.into_iter()).await;
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
    // Sent again is what `verdict` allows, by this crate alone.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    let urls = if servers.urls.is_empty() { vec![config.cluster_url.clone()] } else { servers.urls.clone() };
    let clients: Result<Vec<_>, _> = urls.into_iter().map(|url| client(&config, url)).collect();
    Ok(Loaded { clients: clients?.into(), namespace: config.default_namespace, files })
}

fn client(config: &Config, url: Uri) -> Result<Client, ConnectError> {
    let mut config = config.clone();
    config.cluster_url = url;
    Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
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
