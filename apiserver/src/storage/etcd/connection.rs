//! The endpoints of a cluster and the one connection that stands. Must never connect to what is not configured.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use barque_store::tls::{ClientTls, PeerConnector, TlsError};
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint, Uri};

use super::EtcdConfig;
use crate::storage::StorageError;

/// Whether the other end still lives is asked so often; etcd hangs up on who asks more often than every 5 s.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be on its way without being taken.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdConfigError {
    /// There is none.
    #[error("--etcd-servers names no endpoint, such as http://127.0.0.1:2379")]
    NoEndpoint,
    /// Not an address.
    #[error("--etcd-servers={0:?} must read http://host:port or https://host:port")]
    Endpoint(String),
    /// https, and nobody to trust.
    #[error("--etcd-servers={0} is https: --etcd-cafile must name the authorities of etcd's certificates")]
    NoAuthorities(String),
    /// Half a pair.
    #[error("--etcd-certfile and --etcd-keyfile must be given together")]
    HalfPair,
    /// A file of --etcd-cafile, --etcd-certfile or --etcd-keyfile.
    #[error("--etcd-cafile, --etcd-certfile or --etcd-keyfile cannot be used")]
    Tls(#[from] TlsError),
}

/// A connection that stands.
#[derive(Clone)]
pub(super) struct Live {
    at: usize,
    /// Counts connections, so that a failure of an old one does not end a new one.
    number: u64,
    name: Arc<str>,
    channel: Channel,
}

impl Live {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// All endpoints.
pub(super) struct Endpoints {
    all: Vec<(Arc<str>, Endpoint)>,
    connector: PeerConnector,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// Which endpoint is tried first.
    at: usize,
    made: u64,
    live: Option<Live>,
}

impl Endpoints {
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, EtcdConfigError> {
        if config.endpoints.is_empty() {
            return Err(EtcdConfigError::NoEndpoint);
        }
        if config.tls.cert_file.is_some() != config.tls.key_file.is_some() {
            return Err(EtcdConfigError::HalfPair);
        }
        let mut all = Vec::with_capacity(config.endpoints.len());
        for text in &config.endpoints {
            let uri = endpoint(text)?;
            if uri.scheme_str() == Some("https") && config.tls.trusted_ca_file.is_none() {
                return Err(EtcdConfigError::NoAuthorities(text.clone()));
            }
            let dial = Endpoint::from(uri)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
            all.push((Arc::from(text.as_str()), dial));
        }
        let tls = match config.tls.trusted_ca_file {
            Some(_) => Some(Arc::new(ClientTls::load(&config.tls)?)),
            None => None,
        };
        let connector = PeerConnector::new(tls, config.dial_timeout);
        Ok(Self { all, connector, now: Mutex::default() })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them, as they were configured.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.iter().map(|(name, _)| name)
    }

    /// How they are connected to.
    pub(super) const fn connector(&self) -> &PeerConnector {
        &self.connector
    }

    /// The connection that stands, or one to the first endpoint that takes it. Nothing was sent when this fails.
    pub(super) async fn live(&self) -> Result<Live, StorageError> {
        // Those who wait here want the same connection.
        let mut now = self.now.lock().await;
        if let Some(live) = &now.live {
            return Ok(live.clone());
        }
        let mut failures = Vec::new();
        for at in (0..self.all.len()).map(|step| (now.at + step) % self.all.len()) {
            let (name, dial) = &self.all[at];
            match dial.connect_with_connector(self.connector.clone()).await {
                Ok(channel) => {
                    now.made += 1;
                    now.at = at;
                    let live = Live { at, number: now.made, name: Arc::clone(name), channel };
                    now.live = Some(live.clone());
                    return Ok(live);
                }
                Err(why) => failures.push(causes(&why)),
            }
        }
        Err(StorageError::unavailable(failures.join("; ")))
    }

    /// Gives this connection up for the next endpoint, unless somebody has already.
    pub(super) async fn leave(&self, live: &Live) {
        let mut now = self.now.lock().await;
        if now.live.as_ref().is_some_and(|current| current.number == live.number) {
            now.live = None;
            now.at = (live.at + 1) % self.all.len();
        }
    }
}

fn endpoint(text: &str) -> Result<Uri, EtcdConfigError> {
    let wrong = || EtcdConfigError::Endpoint(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known || uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(wrong());
    }
    Ok(uri)
}

/// All texts of an error and its causes, each once.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let this = error.to_string();
        if !text.contains(&this) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&this);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn error_of(config: &EtcdConfig) -> String {
        Endpoints::new(config).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_wrong_configuration_names_its_flag() {
        let config = |endpoints: &[&str]| {
            EtcdConfig::new(endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect())
        };
        assert!(error_of(&config(&[])).contains("--etcd-servers"));
        for wrong in ["127.0.0.1:2379", "http://a", "ftp://a:1", "http://:1", ""] {
            assert!(error_of(&config(&[wrong])).contains("http://host:port"), "{wrong}");
        }
        assert!(error_of(&config(&["https://a:1"])).contains("--etcd-cafile"));
        let mut half = config(&["http://a:1"]);
        half.tls.cert_file = Some(PathBuf::from("x"));
        assert!(error_of(&half).contains("--etcd-keyfile"));
        let mut missing = config(&["https://a:1"]);
        missing.tls.trusted_ca_file = Some(PathBuf::from("/nowhere/ca.pem"));
        assert!(error_of(&missing).contains("--etcd-cafile"));
        assert_eq!(error_of(&config(&["http://a:1", "http://[::1]:2"])), "");
    }
}
