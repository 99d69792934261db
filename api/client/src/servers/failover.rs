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
use tokio::time::{Instant, timeout};
use tower::{BoxError, Service};

use super::choice::Choice;
use super::credentials::Credentials;
use super::verdict::{self, Attempt};

/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(60);

/// No answer began in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server has not answered within {} seconds", ANSWER.as_secs())]
struct Silent;

struct Shared {
    credentials: Credentials,
    choice: Mutex<Choice>,
    start: Instant,
}

/// Sends requests to the servers.
#[derive(Clone)]
pub(super) struct FailOver(Arc<Shared>);

impl FailOver {
    /// Over the clients of all servers.
    pub(super) fn new(credentials: Credentials) -> Self {
        let choice = Mutex::new(Choice::new(credentials.count()));
        Self(Arc::new(Shared { credentials, choice, start: Instant::now() }))
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
        let clients = self.credentials.clients().await;
        let order = self.choice.lock().order(self.start.elapsed());
        let mut rest = order.len();
        let (parts, body) = request.into_parts();
        // The next server gets a copy; a body that is a stream can be sent once.
        let mut body = Some(body);
        for server in order {
            rest -= 1;
            let Some(now) = body.take() else { break };
            body = if rest > 0 { now.try_clone() } else { None };
            let request = Request::from_parts(parts.clone(), now);
            let (attempt, outcome) = match timeout(ANSWER, clients[server].send(request)).await {
                Ok(Ok(response)) => (Attempt::Answered(response.status()), Ok(response)),
                Ok(Err(error)) => (verdict::attempt(&error), Err(BoxError::from(error))),
                Err(_) => (Attempt::Unknown, Err(BoxError::from(Silent))),
            };
            let verdict = verdict::judge(&parts.method, attempt);
            self.learn(server, attempt, verdict.works);
            if !verdict.next || body.is_none() {
                return outcome;
            }
            tracing::debug!(server, ?attempt, "the next API server is asked");
        }
        // The loop answers with its last server; without any there is nobody to ask.
        Err(BoxError::from("there is no API server to ask"))
    }

    fn learn(&self, server: usize, attempt: Attempt, works: Option<bool>) {
        if attempt == Attempt::Answered(StatusCode::UNAUTHORIZED) {
            self.credentials.doubt();
        }
        match works {
            Some(true) => self.choice.lock().worked(server),
            Some(false) => self.choice.lock().failed(server, self.start.elapsed()),
            None => {}
        }
    }
}
