//! A client with a bound on the requests that are under way: thousands of workers may have something to say at once, and an
//! API server has seats for a few hundred. Must never hold a seat for a watch once it has begun.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::Semaphore;
use tower::{BoxError, Service};

/// The client, with so many requests at once; others wait for their turn.
pub(crate) fn limited(client: Client, requests: usize) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Limited { client, seats: Arc::new(Semaphore::new(requests)) }, namespace)
}

struct Limited {
    client: Client,
    seats: Arc<Semaphore>,
}

impl Service<Request<Body>> for Limited {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // A seat is waited for by whoever asks, not by the queue in front.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, seats) = (self.client.clone(), self.seats.clone());
        Box::pin(async move {
            let _seat = seats.acquire().await?;
            Ok(client.send(request).await?)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_than_seats_are_under_way() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let service = tower::service_fn({
            let (now, most) = (now.clone(), most.clone());
            move |_: Request<Body>| {
                let (now, most) = (now.clone(), most.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(Response::new(Body::empty()))
                }
            }
        });
        let client = limited(Client::new(service, "default"), 3);
        let answers = join_all((0..10).map(|_| client.send(Request::new(Body::empty())))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }
}
