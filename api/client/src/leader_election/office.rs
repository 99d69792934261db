//! What a leader may do, and until when. Must never last until another can have the lease.

use std::sync::Arc;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

/// The time in which a leader works: the token tells it to end, and each renewal of the lease moves the end on.
#[derive(Debug, Clone)]
pub struct Office {
    token: CancellationToken,
    /// Nothing when there is no lease.
    until: Arc<Mutex<Option<Instant>>>,
}

/// A write of a leader whose time was over.
#[derive(Debug, thiserror::Error)]
#[error("the lease may be another's by now: nothing is written")]
struct Over;

impl Office {
    /// One that nobody else can have.
    #[must_use]
    pub fn without_lease(token: CancellationToken) -> Self {
        Self { token, until: Arc::default() }
    }

    /// One that ends then, if it is not moved on.
    pub(super) fn until(token: CancellationToken, end: Instant) -> Self {
        Self { token, until: Arc::new(Mutex::new(Some(end))) }
    }

    /// The lease was renewed.
    pub(super) fn move_on(&self, end: Instant) {
        *self.until.lock() = Some(end);
    }

    /// Cancelled when the work is to end.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether it lasts, by the clock and not by what timers have told: a process that was stopped for a while goes on in the
    /// middle of its work, before anybody has told it that its time is over.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.until.lock().is_none_or(|end| Instant::now() < end)
    }

    /// The same client, whose writes fail without being sent once the office is over.
    #[must_use]
    pub fn client(&self, client: &Client) -> Client {
        let (office, inner) = (self.clone(), client.clone());
        let namespace = client.default_namespace().to_owned();
        let send = move |request: Request<Body>| {
            let (office, inner) = (office.clone(), inner.clone());
            async move {
                let reads = matches!(*request.method(), Method::GET | Method::HEAD);
                if !reads && !office.lasts() {
                    return Err(BoxError::from(Over));
                }
                inner.send(request).await.map_err(BoxError::from)
            }
        };
        Client::new(tower::service_fn(send), namespace)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::DeleteParams;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_when_the_time_is_over() {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        let server = move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let map = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#;
            async move { Ok::<_, Infallible>(Response::new(Body::from(map.as_bytes().to_vec()))) }
        };
        let client = Client::new(tower::service_fn(server), "default");
        let second = Duration::from_secs(1);
        let office = Office::until(CancellationToken::new(), Instant::now() + second);
        let maps: Api<ConfigMap> = Api::default_namespaced(office.client(&client));
        let deletion = DeleteParams::default();
        maps.delete("a", &deletion).await.unwrap();
        // Nobody has cancelled the token: this is the moment after a process goes on.
        tokio::time::advance(second).await;
        let told = maps.delete("a", &deletion).await.unwrap_err().to_string();
        assert!(told.contains("may be another's"), "{told}");
        maps.get("a").await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), 2, "what is refused is not sent");
        office.move_on(Instant::now() + second);
        maps.delete("a", &deletion).await.unwrap();
        let for_good = Office::without_lease(CancellationToken::new());
        tokio::time::advance(second * 1000).await;
        assert!(for_good.lasts() && !office.lasts());
    }
}
