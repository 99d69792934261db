//! The way to a cluster: its endpoints, TLS, who this client is, and calls that move on to the next member.
//!
//! The only part of `kvctl` that knows gRPC, sockets and certificates. A call that may have changed something is
//! never sent twice.

mod certificate;
mod connector;
mod credentials;
mod endpoints;
mod http_get;
mod rpcs;
mod snapshots;
mod tls;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use barque_proto::etcdserverpb::AuthenticateRequest;
use barque_proto::etcdserverpb::auth_client::AuthClient;
use tokio::sync::Mutex;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint as Dial};
use tonic::{Code, Response, Status};

pub(crate) use credentials::User;
pub(crate) use endpoints::Endpoint;
pub(crate) use http_get::http_get;
pub(crate) use rpcs::Activities;
pub(crate) use snapshots::Pieces;
pub(crate) use tls::TlsFlags;
pub(crate) use watch::{WatchOptions, Watcher};

use connector::{Connector, broken, causes};
use credentials::Token;

use crate::error::{Failure, ServerError};

/// The largest request that is sent when no flag says otherwise, in bytes.
const MAX_REQUEST_BYTES: usize = 2 << 20;

/// How long a short call may take when no flag says otherwise (etcdctl: the same).
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Servers hang up on clients that ask for life more often; Go's client keeps to the same bound.
const LEAST_KEEPALIVE: Duration = Duration::from_secs(10);

/// How to connect, from the global flags.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) dial_timeout: Duration,
    /// For each short call; a default when it is not given.
    pub(crate) command_timeout: Option<Duration>,
    pub(crate) keepalive_time: Duration,
    pub(crate) keepalive_timeout: Duration,
    /// 0: the default.
    pub(crate) max_request_bytes: usize,
    /// 0: no limit.
    pub(crate) max_recv_bytes: usize,
    pub(crate) tls: TlsFlags,
    pub(crate) user: Option<User>,
    /// `--auth-jwt-token`.
    pub(crate) token: Option<String>,
    pub(crate) debug: bool,
}

type Service = InterceptedService<Channel, Token>;

/// A client of one cluster. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// The deadline of each call; `None` for those that may wait as long as they like.
    within: Option<Duration>,
}

struct Shared {
    settings: Settings,
    now: Mutex<Now>,
}

/// Which member is spoken with.
#[derive(Default)]
struct Now {
    /// Index of the endpoint that is tried first.
    at: usize,
    live: Option<Live>,
}

/// A connection that stands.
#[derive(Clone)]
struct Live {
    at: usize,
    endpoint: Endpoint,
    tls: bool,
    channel: Channel,
    token: Token,
}

impl Live {
    fn service(&self) -> Service {
        InterceptedService::new(self.channel.clone(), self.token.clone())
    }
}

impl Settings {
    /// How long a short call may take.
    fn short(&self) -> Duration {
        self.command_timeout.unwrap_or(COMMAND_TIMEOUT)
    }
}

/// What may be done after a call has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Reads: another member may be asked.
    Yes,
    /// Writes: what was sent may have been done.
    No,
}

impl Connection {
    /// Connects with the first call.
    pub(crate) fn new(settings: Settings) -> Self {
        let within = Some(settings.short());
        Self { shared: Arc::new(Shared { settings, now: Mutex::default() }), within }
    }

    /// The same connection for calls that wait for something, such as a lock.
    pub(crate) fn patient(&self) -> Self {
        Self { shared: self.shared.clone(), within: None }
    }

    /// A connection of its own with the same settings.
    pub(crate) fn another(&self) -> Self {
        Self { within: self.within, ..Self::new(self.settings().clone()) }
    }

    /// A connection to this endpoint only.
    pub(crate) fn to_one(&self, endpoint: &Endpoint) -> Self {
        Self::new(Settings { endpoints: vec![endpoint.clone()], ..self.settings().clone() })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The endpoints of the flags.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.settings().endpoints
    }

    /// One call, with fail-over, renewal of the token and the deadline.
    async fn call<T, F, R>(&self, repeat: Repeat, ask: F) -> Result<T, Failure>
    where
        F: Fn(Service) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let Some(within) = self.within else { return self.ask(repeat, ask).await };
        match tokio::time::timeout(within, self.ask(repeat, ask)).await {
            Ok(answer) => answer,
            Err(_) => {
                let endpoints: Vec<_> = self.endpoints().iter().map(ToString::to_string).collect();
                Err(Failure::Late { endpoint: endpoints.join(", "), within })
            }
        }
    }

    async fn ask<T, F, R>(&self, repeat: Repeat, ask: F) -> Result<T, Failure>
    where
        F: Fn(Service) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let mut others_left = self.endpoints().len() - 1;
        let mut token_renewed = false;
        loop {
            let live = self.live().await?;
            let status = match ask(live.service()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            self.note(&live, &status);
            if self.settings().user.is_some() && !token_renewed && token_is_stale(&status) {
                token_renewed = true;
                self.leave(&live, false).await;
            } else if repeat == Repeat::Yes && others_left > 0 && may_be_better_elsewhere(&status) {
                others_left -= 1;
                self.leave(&live, true).await;
            } else {
                if was_cut(&status) {
                    self.leave(&live, true).await;
                }
                return Err(failure(&live, &status));
            }
        }
    }

    /// With `--debug`: what went wrong on the way, on standard error.
    fn note(&self, live: &Live, status: &Status) {
        if self.settings().debug {
            eprintln!("debug: {}: {:?}: {}", live.endpoint, status.code(), causes(status));
        }
    }

    /// The connection that stands, or a new one to the first endpoint that takes it.
    async fn live(&self) -> Result<Live, Failure> {
        let mut now = self.shared.now.lock().await;
        if let Some(live) = &now.live {
            return Ok(live.clone());
        }
        let count = self.endpoints().len();
        let mut failures = Vec::new();
        for at in (0..count).map(|step| (now.at + step) % count) {
            match self.connect(at).await {
                Ok(live) => {
                    now.at = at;
                    now.live = Some(live.clone());
                    return Ok(live);
                }
                Err(Failure::Connection(why)) => {
                    if self.settings().debug {
                        eprintln!("debug: {why}");
                    }
                    failures.push(why);
                }
                Err(other) => return Err(other),
            }
        }
        Err(Failure::Connection(failures.join("; ")))
    }

    /// Gives up a connection, unless somebody else has already; the next call makes a new one.
    async fn leave(&self, live: &Live, for_another: bool) {
        let mut now = self.shared.now.lock().await;
        if now.live.as_ref().is_some_and(|current| current.at == live.at) {
            now.live = None;
            if for_another {
                now.at = (live.at + 1) % self.endpoints().len();
            }
        }
    }

    async fn connect(&self, at: usize) -> Result<Live, Failure> {
        let settings = self.settings();
        let endpoint = settings.endpoints[at].clone();
        let tls = endpoint.is_tls(settings.tls.ask_for_tls());
        let connector = connector(settings, &endpoint, b"h2")?;
        // The scheme is only for the requests' `:scheme`; the connector is what speaks TLS.
        let url = format!("{}://{}", if tls { "https" } else { "http" }, endpoint.authority());
        let dial = Dial::from_shared(url)
            .map_err(|why| Failure::Arguments(format!("the endpoint {endpoint}: {why}")))?
            .http2_keep_alive_interval(settings.keepalive_time.max(LEAST_KEEPALIVE))
            .keep_alive_timeout(settings.keepalive_timeout)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        let channel = dial.connect_with_connector(connector).await.map_err(|why| {
            let source = std::error::Error::source(&why);
            Failure::Connection(source.map_or_else(|| why.to_string(), causes))
        })?;
        let mut live = Live { at, endpoint, tls, channel, token: Token::default() };
        live.token = self.token(&live).await?;
        Ok(live)
    }

    /// The flag's token, or one for user and password.
    async fn token(&self, live: &Live) -> Result<Token, Failure> {
        let settings = self.settings();
        if let Some(token) = &settings.token {
            return Token::new(token);
        }
        let Some(user) = &settings.user else { return Ok(Token::default()) };
        let request = AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
        match AuthClient::new(live.channel.clone()).authenticate(request).await {
            Ok(answer) => Token::new(&answer.into_inner().token),
            // Without users everybody may do everything.
            Err(status) if status.message().contains("authentication is not enabled") => Ok(Token::default()),
            Err(status) => Err(match failure(live, &status) {
                // Another member would say the same.
                Failure::Server(error) if !error.unavailable => Failure::Connection(error.to_string()),
                Failure::Server(error) => Failure::Connection(format!("{}: {error}", live.endpoint)),
                other => other,
            }),
        }
    }
}

/// What opens connections to `endpoint` that speak `protocol`.
fn connector(settings: &Settings, endpoint: &Endpoint, protocol: &[u8]) -> Result<Connector, Failure> {
    let tls = if endpoint.is_tls(settings.tls.ask_for_tls()) {
        let mut config = settings.tls.config()?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Some(Arc::new(config))
    } else {
        None
    };
    Ok(Connector { endpoint: endpoint.clone(), tls, within: settings.dial_timeout })
}

/// No server said this: the connection broke.
fn was_cut(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn token_is_stale(status: &Status) -> bool {
    status.code() == Code::Unauthenticated && status.message().contains("invalid auth token")
        || status.message().contains("revision of auth store is old")
}

/// Whether a read that failed like this is worth asking another member.
fn may_be_better_elsewhere(status: &Status) -> bool {
    was_cut(status) || status.code() == Code::Unavailable
}

/// A failed call as the user is told of it.
fn failure(live: &Live, status: &Status) -> Failure {
    if was_cut(status) {
        return Failure::Connection(broken(&live.endpoint, live.tls, &causes(status)));
    }
    Failure::Server(ServerError {
        message: status.message().to_owned(),
        unavailable: status.code() == Code::Unavailable,
        unimplemented: status.code() == Code::Unimplemented,
    })
}
