//! A front for the API servers of a cluster: TCP is passed through to a server that is ready, so that TLS and what is in it stay
//! between client and server. Must never read what is passed.

mod choice;
mod probe;
mod relay;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use probe::AuthorityError;

use self::probe::{Line, Prober};
use self::relay::Relay;

/// How often each server is asked whether it is ready.
const PROBES: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How long it takes to try again when the system has no connection for us.
const RECOVER: Duration = Duration::from_millis(100);

/// What a front is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// URLs of API servers.
    pub servers: Vec<String>,
    /// Whose certificates servers have, PEM.
    pub certificate_authority: PathBuf,
    /// As many connections are passed at once; others wait.
    pub max_connections: usize,
    /// How long connections may go on when the front stops.
    pub drain: Duration,
}

/// Why there is no front.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Nobody to pass connections to.
    #[error("--server is missing; name the URL of each API server, such as --server=https://192.0.2.1:6443")]
    NoServer,
    /// Not a server.
    #[error("--server={0} is no URL of an API server; one looks like https://192.0.2.1:6443")]
    Server(String),
    /// Nowhere to listen.
    #[error("--listen is missing; name the address where clients connect, such as 127.0.0.1:6443")]
    NoListen,
    /// No connections at all.
    #[error("--max-connections=0 lets nobody in; name how many connections may be passed at once")]
    NoConnections,
    /// The authority is of no use.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The port is not ours.
    #[error("--listen={address}: cannot listen there")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An API server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    /// Host and port, as text.
    name: String,
    host: String,
    port: u16,
}

impl Server {
    fn parse(url: &str) -> Result<Self, FrontError> {
        let wrong = || FrontError::Server(url.to_owned());
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Ok(Self { name, host, port })
    }
}

/// Passes connections on until it is told to stop.
///
/// # Errors
/// When what it is told is wrong, or a port is not ours.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), FrontError> {
    if config.servers.is_empty() {
        return Err(FrontError::NoServer);
    }
    if config.listen.is_empty() {
        return Err(FrontError::NoListen);
    }
    if config.max_connections == 0 {
        return Err(FrontError::NoConnections);
    }
    let servers: Vec<Server> =
        config.servers.iter().map(|url| Server::parse(url)).collect::<Result<_, _>>()?;
    let prober = Prober::of(&config.certificate_authority)?;
    let mut listeners = Vec::new();
    for address in &config.listen {
        let wrong = |source| FrontError::Listen { address: *address, source };
        listeners.push(TcpListener::bind(address).await.map_err(wrong)?);
    }
    let relay = Arc::new(Relay::new(servers));
    // So that who comes first finds somebody.
    let lines = (0..relay.count()).map(|number| probe_once(&relay, &prober, number, None));
    let lines = futures::future::join_all(lines).await;
    let mut tasks = JoinSet::new();
    for (number, line) in lines.into_iter().enumerate() {
        let (relay, prober, stop) = (relay.clone(), prober.clone(), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(keep_probing(&relay, &prober, number, line)).await;
        });
    }
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, servers = %relay.names().join(","), "the front is ready");
        }
        let (relay, stop, connections) = (relay.clone(), stop.clone(), connections.clone());
        let permits = permits.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(accept(&listener, &relay, &connections, &permits)).await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!("a task of the front has ended: {error}");
        }
    }
    connections.close();
    if tokio::time::timeout(config.drain, connections.wait()).await.is_err() {
        tracing::info!(connections = connections.len(), "connections that did not end are cut");
        relay.cut_all();
        connections.wait().await;
    }
    Ok(())
}

/// Gives back what the next question may be asked on.
async fn probe_once(relay: &Relay, prober: &Prober, number: usize, line: Option<Line>) -> Option<Line> {
    let (line, outcome) = prober.probe(relay.server(number), line, ANSWER).await;
    relay.probed(number, outcome);
    line
}

async fn keep_probing(relay: &Relay, prober: &Prober, number: usize, mut line: Option<Line>) {
    let mut ticks = tokio::time::interval(PROBES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        line = probe_once(relay, prober, number, line).await;
    }
}

async fn accept(
    listener: &TcpListener,
    relay: &Arc<Relay>,
    connections: &TaskTracker,
    permits: &Arc<Semaphore>,
) {
    loop {
        // Who is too many waits in the listener's queue.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let relay = relay.clone();
                connections.spawn(async move {
                    relay.pass(client).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("a connection was not taken: {error}");
                tokio::time::sleep(RECOVER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn servers_are_urls() {
        let parse = |url: &str| Server::parse(url).map(|server| (server.host, server.port, server.name));
        let of = |host: &str, port, name: &str| (host.to_owned(), port, name.to_owned());
        assert_eq!(parse("https://192.0.2.1:6443").unwrap(), of("192.0.2.1", 6443, "192.0.2.1:6443"));
        assert_eq!(
            parse("https://[2001:db8::1]:6443/").unwrap(),
            of("2001:db8::1", 6443, "[2001:db8::1]:6443")
        );
        assert_eq!(parse("https://api.example").unwrap(), of("api.example", 443, "api.example:443"));
        for wrong in ["192.0.2.1:6443", "http://192.0.2.1:6443", "https://a/b", "https://", "a b"] {
            assert!(parse(wrong).unwrap_err().to_string().contains("https://192.0.2.1:6443"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn mistakes_are_told_with_their_flag() {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            servers: vec!["https://192.0.2.1:6443".to_owned()],
            certificate_authority: "/nowhere/ca.crt".into(),
            max_connections: 1,
            drain: Duration::ZERO,
        };
        for (config, flag) in [
            (Config { servers: Vec::new(), ..config.clone() }, "--server"),
            (Config { listen: Vec::new(), ..config.clone() }, "--listen"),
            (Config { max_connections: 0, ..config.clone() }, "--max-connections"),
            (config, "--certificate-authority=/nowhere/ca.crt"),
        ] {
            let told = run(config, CancellationToken::new()).await.unwrap_err().to_string();
            assert!(told.contains(flag), "{told}");
        }
    }
}
