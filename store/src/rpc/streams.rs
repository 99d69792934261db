//! How streams to clients end before their own end: the member stops, or it has lost its leader and the
//! client asked to be told.

use std::task::Poll;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tonic::Status;

use super::admit::Admitted;
use super::backend::Backend;
use crate::error::StoreError;

/// The answers of `inner`, until it ends or the call must end. Answers that are ready go first.
pub fn until_ended<B, T, S>(
    backend: &B,
    admitted: &Admitted,
    inner: S,
) -> BoxStream<'static, Result<T, Status>>
where
    B: Backend,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    let stopped = backend.shutdown().clone().cancelled_owned();
    let mut end: Option<BoxFuture<'static, StoreError>> = Some(if admitted.require_leader {
        let leader_lost = backend.leader_lost();
        Box::pin(async move {
            tokio::select! {
                () = stopped => StoreError::Stopped,
                () = leader_lost => StoreError::NoLeader,
            }
        })
    } else {
        Box::pin(stopped.map(|()| StoreError::Stopped))
    });
    let mut inner = Box::pin(inner);
    Box::pin(stream::poll_fn(move |cx| {
        let Some(ending) = &mut end else { return Poll::Ready(None) };
        let item = match inner.poll_next_unpin(cx) {
            Poll::Ready(item) => item,
            Poll::Pending => match ending.poll_unpin(cx) {
                Poll::Ready(error) => {
                    end = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Pending => return Poll::Pending,
            },
        };
        if item.is_none() {
            end = None;
        }
        Poll::Ready(item)
    }))
}
