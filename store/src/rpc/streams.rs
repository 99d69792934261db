//! How streams to clients end before their own end: the member stops, it has lost its leader and the client
//! asked to be told, or what it holds turned out to be wrong.

use std::task::Poll;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tonic::Status;

use super::admit::Admitted;
use super::backend::Backend;
use crate::command::CommandError;
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
    let shutdown = backend.shutdown().clone();
    let serving = if admitted.reads_data { backend.serving() } else { shutdown.clone() };
    let stopped = serving.cancelled_owned().map(move |()| {
        if shutdown.is_cancelled() { StoreError::Stopped } else { CommandError::Corrupt.into() }
    });
    let mut end: Option<BoxFuture<'static, StoreError>> = Some(if admitted.require_leader {
        let leader_lost = backend.leader_lost();
        Box::pin(async move {
            tokio::select! {
                error = stopped => error,
                () = leader_lost => StoreError::NoLeader,
            }
        })
    } else {
        Box::pin(stopped)
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
