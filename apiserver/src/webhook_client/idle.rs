//! Connections to webhooks that wait for the next call: a few for each peer, found again only by whoever would verify it in the
//! same way. Nobody watches one that waits; whether it is still open is looked at when it is taken. Must never hand out one that
//! was verified otherwise, nor send a request twice.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// So many wait for each peer.
const EACH_MOST: usize = 4;
/// And so many in all.
const ALL_MOST: usize = 256;
/// One that waited longer is closed; servers that end idle connections mostly do so later.
const AGE_MOST: Duration = Duration::from_secs(30);

type Stream = TokioIo<TlsStream<TcpStream>>;
type Body = Full<Bytes>;

/// Whom a connection goes to, and by what that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    /// The name in its certificate.
    pub(super) server_name: String,
    /// `caBundle` as it came; empty for whom everybody believes.
    pub(super) bundle: String,
}

/// A connection; it lives while somebody drives it.
pub(crate) struct Connection {
    sender: http1::SendRequest<Body>,
    driver: http1::Connection<Stream, Body>,
    ended: bool,
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// The connection was closed before anything of the request was sent; here it is again.
    Unsent(Box<Request<Body>>, String),
    /// In words.
    Io(String),
    /// There is one, of too many bytes.
    TooLarge,
}

impl Connection {
    /// Over a stream whose peer was verified.
    pub(crate) async fn open(stream: TlsStream<TcpStream>) -> Result<Self, String> {
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = opened.map_err(|error| error.to_string())?;
        Ok(Self { sender, driver, ended: false })
    }

    /// One request and its answer, of at most so many bytes.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Body>,
        bytes_most: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let Self { sender, driver, ended } = self;
        let talk = async {
            if let Err(error) = sender.ready().await {
                return Err(Failure::Unsent(Box::new(request), error.to_string()));
            }
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => {
                    let unsent = error.take_message();
                    let why = error.into_error().to_string();
                    return Err(match unsent {
                        Some(request) => Failure::Unsent(Box::new(request), why),
                        None => Failure::Io(why),
                    });
                }
            };
            let code = response.status();
            match Limited::new(response.into_body(), bytes_most).collect().await {
                Ok(body) => Ok((code, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(Failure::TooLarge),
                Err(error) => Err(Failure::Io(error.to_string())),
            }
        };
        let drive = async {
            // What ended it is told by the talk too.
            let _ = (&mut *driver).await;
            *ended = true;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            answered = talk => answered,
            never = drive => match never {},
        }
    }

    /// Whether it can be used once more, as far as is known here.
    fn is_open(&mut self) -> bool {
        if !self.ended && (&mut self.driver).now_or_never().is_some() {
            self.ended = true;
        }
        !self.ended && !self.sender.is_closed()
    }
}

/// Connections that wait, with when that began; the newest are last.
#[derive(Default)]
pub(super) struct Idle(Mutex<HashMap<Peer, Vec<(Instant, Connection)>>>);

impl Idle {
    /// A connection to this peer that is still open.
    pub(super) fn take(&self, peer: &Peer, now: Instant) -> Option<Connection> {
        let mut all = self.0.lock();
        forget_old(&mut all, now);
        let waiting = all.get_mut(peer)?;
        while let Some((_, mut connection)) = waiting.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        all.remove(peer);
        None
    }

    /// A connection whose last answer was read to its end.
    pub(super) fn put(&self, peer: Peer, mut connection: Connection, now: Instant) {
        if !connection.is_open() {
            return;
        }
        let mut all = self.0.lock();
        forget_old(&mut all, now);
        if all.values().map(Vec::len).sum::<usize>() >= ALL_MOST {
            return;
        }
        let waiting = all.entry(peer).or_default();
        if waiting.len() < EACH_MOST {
            waiting.push((now, connection));
        }
    }
}

fn forget_old(all: &mut HashMap<Peer, Vec<(Instant, Connection)>>, now: Instant) {
    all.retain(|_, waiting| {
        waiting.retain(|(since, _)| now.saturating_duration_since(*since) < AGE_MOST);
        !waiting.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::WebhookClient;
    use crate::registry::collections::{Collections, Settings};
    use crate::storage::encryption::Encryption;
    use crate::storage::memory::Memory;
    use crate::test_webhook::Server;

    fn yes(_: &str, _: &Value) -> Option<Value> {
        Some(json!({"allowed": true}))
    }

    #[tokio::test]
    async fn connections_are_used_again_by_those_who_verify_alike_and_replaced_when_they_are_dead() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = Settings {
            storage: Memory::new(),
            root: "/registry".to_owned(),
            encryption: Encryption::none(),
            event_ttl: Duration::from_secs(3600),
        };
        let client = WebhookClient::new(Collections::start(settings, &tasks, &stop));
        let server = Server::start(yes, &tasks, &stop).await;
        let other = Server::start(yes, &tasks, &stop).await;
        let call = async |config: &Value| {
            let body = json!({"request": {"uid": "u"}}).to_string().into_bytes();
            client.call(config, body, Duration::from_secs(10)).await
        };
        let config = server.client("a");
        for _ in 0..3 {
            call(&config).await.unwrap();
        }
        call(&server.client("b")).await.unwrap();
        assert_eq!(server.accepted(), 1);

        // Who believes somebody else gets no connection that was verified already.
        let mut doubting = config.clone();
        doubting["caBundle"] = other.client("a")["caBundle"].clone();
        assert!(call(&doubting).await.is_err());
        server.cut().await;
        // What another connection sees, this process has seen of all of them.
        call(&other.client("a")).await.unwrap();
        let before = server.accepted();
        call(&config).await.unwrap();
        assert_eq!(server.accepted(), before + 1);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn as_many_wait_as_may() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = Settings {
            storage: Memory::new(),
            root: "/registry".to_owned(),
            encryption: Encryption::none(),
            event_ttl: Duration::from_secs(3600),
        };
        let client = WebhookClient::new(Collections::start(settings, &tasks, &stop));
        let server = Server::start(yes, &tasks, &stop).await;
        let config = server.client("a");
        let calls = (0..super::EACH_MOST + 3).map(|_| {
            let body = json!({"request": {"uid": "u"}}).to_string().into_bytes();
            client.call(&config, body, Duration::from_secs(10))
        });
        for answer in futures::future::join_all(calls).await {
            answer.unwrap();
        }
        let waiting: usize = client.idle.0.lock().values().map(Vec::len).sum();
        assert!((1..=super::EACH_MOST).contains(&waiting), "{waiting}");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
