//! The service below the client: one request, tried on one server after the other. Must never decide by itself whether it may
//! go on; `verdict` does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Service};

use super::choice::Choice;
use super::credentials::Credentials;
use super::pace::Pace;
use super::requests::Requests;
use super::verdict::{self, Attempt};

/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(60);
/// How often servers that are busy are asked again, when they say; as in client-go.
const ROUNDS: u32 = 10;

/// No answer began in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server has not answered within {} seconds", ANSWER.as_secs())]
struct Silent;

struct Shared {
    credentials: Credentials,
    choice: Mutex<Choice>,
    pace: Mutex<Pace>,
    requests: Option<Requests>,
    start: Instant,
}

/// Sends requests to the servers.
#[derive(Clone)]
pub(super) struct FailOver(Arc<Shared>);

impl FailOver {
    /// Over all servers; requests may be counted.
    pub(super) fn new(credentials: Credentials, requests: Option<Requests>) -> Self {
        let choice = Mutex::new(Choice::new(credentials.count()));
        let pace = Mutex::default();
        Self(Arc::new(Shared { credentials, choice, pace, requests, start: Instant::now() }))
    }
}

impl Service<Request<Body>> for FailOver {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { shared.send(request).await })
    }
}

impl Shared {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (parts, mut body) = request.into_parts();
        let wait = self.pace.lock().begin(&parts.method, &parts.uri, self.start.elapsed());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let mut is_known_anew = false;
        'rounds: for round in 0..=ROUNDS {
            let servers = self.credentials.servers().await;
            let order = {
                let mut choice = self.choice.lock();
                choice.are(servers.len());
                choice.order(self.start.elapsed())
            };
            let last = order.len().saturating_sub(1);
            // How long until the first of those that were busy can be asked again.
            let mut busy: Option<Duration> = None;
            for (place, server) in order.into_iter().enumerate() {
                // A body that is a stream can be sent once.
                let (now, again) = match body.try_clone() {
                    Some(copy) => (copy, true),
                    None => (std::mem::replace(&mut body, Body::empty()), false),
                };
                let request = Request::from_parts(parts.clone(), now);
                let began = Instant::now();
                let answer = timeout(ANSWER, servers[server].client.send(request)).await;
                if let Some(requests) = &self.requests {
                    let code =
                        answer.as_ref().ok().and_then(|answer| answer.as_ref().ok()).map(Response::status);
                    requests.ended(&servers[server].host, &parts.method, code, began.elapsed());
                }
                let (attempt, outcome) = match answer {
                    Ok(Ok(response)) => {
                        (verdict::answer(response.status(), response.headers()), Ok(response))
                    }
                    Ok(Err(error)) => (verdict::attempt(&error), Err(BoxError::from(error))),
                    Err(_) => (Attempt::Unknown, Err(BoxError::from(Silent))),
                };
                let verdict = verdict::judge(&parts.method, attempt);
                self.learn(server, attempt, verdict.works);
                // Nothing was done for who is not known. Credentials may be others since they were read last.
                if attempt == Attempt::Answered(StatusCode::UNAUTHORIZED)
                    && again
                    && !is_known_anew
                    && round < ROUNDS
                    && !Arc::ptr_eq(&servers, &self.credentials.servers().await)
                {
                    is_known_anew = true;
                    continue 'rounds;
                }
                if let Attempt::Busy(wait) = attempt {
                    busy = Some(busy.map_or(wait, |known| known.min(wait)));
                }
                let patient = busy.is_some() && round < ROUNDS;
                if !again || !verdict.next || (place == last && !patient) {
                    return outcome;
                }
                tracing::debug!(server, ?attempt, "another API server is asked, or this one later");
            }
            if let Some(wait) = busy {
                sleep(wait).await;
            }
        }
        // Each round but the last ends with an answer or with a wait; without servers there is neither.
        Err(BoxError::from("there is no API server to ask"))
    }

    fn learn(&self, server: usize, attempt: Attempt, works: Option<bool>) {
        if attempt == Attempt::Answered(StatusCode::UNAUTHORIZED) {
            self.credentials.doubt();
        }
        match works {
            Some(true) => self.choice.lock().worked(server),
            Some(false) => {
                self.choice.lock().failed(server, self.start.elapsed());
                // Perhaps there are others by now.
                self.credentials.doubt();
            }
            None => {}
        }
    }
}
