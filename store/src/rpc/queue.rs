//! What locks and elections share: a queue of keys `name/lease` in which whoever was created first holds
//! the lock or leads, and everybody else waits until all before it are gone.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use barque_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use barque_proto::etcdserverpb::request_op::Request;
use bytes::Bytes;
use futures::StreamExt;
use tonic::{Code, Status};

use super::backend::{Backend, KeyEvent};
use super::permit::Credentials;
use super::{kv, lease};
use crate::command::KeyRange;
use crate::error::StoreError;
use crate::ids::{LeaseId, Revision};

/// Seconds of a lease that is granted to a caller who brought none.
const SESSION_TTL_S: i64 = 60;

/// An error of these services as etcd answers it: they are clients of its other services, and what those
/// say reaches the caller with its text but, unless the call ended, without its code.
pub(super) fn as_seen_through_a_client(error: StoreError) -> Status {
    match error.code() {
        Code::Cancelled | Code::DeadlineExceeded | Code::Internal => error.into(),
        _ => Status::unknown(error.message()),
    }
}

/// The lease under which a caller queues: its own, or a new one.
pub(super) async fn session<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    lease: i64,
) -> Result<LeaseId, StoreError> {
    if lease != 0 {
        return Ok(LeaseId(lease));
    }
    Ok(lease::grant(backend, credentials, 0, SESSION_TTL_S).await?.id)
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    prefix: Bytes,
}

impl Queue {
    pub(super) fn new(name: &[u8]) -> Self {
        Self { prefix: [name, b"/"].concat().into() }
    }

    /// All keys of the queue.
    pub(super) fn keys(&self) -> KeyRange {
        let mut range_end = self.prefix.to_vec();
        *range_end.last_mut().expect("ends with a slash") = b'/' + 1;
        KeyRange { key: self.prefix.clone(), range_end: range_end.into() }
    }

    /// The place of a lease in the queue: its number in hexadecimal, negative ones with a sign.
    pub(super) fn place(&self, lease: LeaseId) -> Bytes {
        let sign = if lease.0 < 0 { "-" } else { "" };
        let mut key = self.prefix.to_vec();
        key.extend_from_slice(format!("{sign}{:x}", lease.0.unsigned_abs()).as_bytes());
        key.into()
    }

    /// Asks for the key that was created first.
    pub(super) fn first(&self) -> pb::RangeRequest {
        let KeyRange { key, range_end } = self.keys();
        pb::RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        }
    }

    /// Asks for the key that was created last, up to a revision.
    fn last_created_up_to(&self, revision: Revision) -> pb::RangeRequest {
        pb::RangeRequest {
            sort_order: SortOrder::Descend.into(),
            max_create_revision: revision.0,
            ..self.first()
        }
    }

    /// Waits until every key of the queue that was created before `revision` is gone.
    pub(super) async fn wait_for_those_before<B: Backend>(
        &self,
        backend: &B,
        credentials: &Credentials,
        revision: Revision,
    ) -> Result<(), StoreError> {
        loop {
            let request = self.last_created_up_to(Revision(revision.0 - 1));
            let (outcome, now) = kv::range(backend, credentials, request).await?;
            let Some(last) = outcome.records.first() else { return Ok(()) };
            // Who may read all of the queue may watch each of its keys.
            wait_for_delete(backend, Bytes::copy_from_slice(last.key()), now.next()).await?;
        }
    }
}

/// Waits until `key` is deleted at `from` or later.
async fn wait_for_delete<B: Backend>(backend: &B, key: Bytes, from: Revision) -> Result<(), StoreError> {
    let deleted = async {
        let events = backend.watch(KeyRange { key, range_end: Bytes::new() }, from).await?;
        let mut events = std::pin::pin!(events);
        while let Some(batch) = events.next().await {
            if batch?.iter().any(|event| matches!(event, KeyEvent::Delete(_))) {
                return Ok(());
            }
        }
        Err(StoreError::Stopped)
    };
    tokio::select! {
        deleted = deleted => deleted,
        () = backend.shutdown().cancelled() => Err(StoreError::Stopped),
    }
}

/// Gives up a place in a queue when it is dropped: the caller went away or waiting failed.
pub(super) struct Leaving<B: Backend> {
    backend: B,
    credentials: Credentials,
    place: Option<(Bytes, Revision)>,
}

impl<B: Backend> Leaving<B> {
    /// `key` was created at `revision`.
    pub(super) fn new(backend: &B, credentials: &Credentials, key: Bytes, revision: Revision) -> Self {
        Self { backend: backend.clone(), credentials: credentials.clone(), place: Some((key, revision)) }
    }

    /// The place is to be kept.
    pub(super) fn stay(mut self) {
        self.place = None;
    }
}

impl<B: Backend> Drop for Leaving<B> {
    fn drop(&mut self) {
        let Some((key, revision)) = self.place.take() else { return };
        // Without a runtime the whole member is gone, and the lease will end the place.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (backend, credentials) = (self.backend.clone(), self.credentials.clone());
        self.backend.tasks().spawn_on(
            async move {
                let request = if_created_at(key.clone(), revision, delete(key), None);
                if let Err(error) = kv::txn(&backend, &credentials, request).await {
                    tracing::warn!(%error, "a place in a queue is kept until its lease ends");
                }
            },
            &runtime,
        );
    }
}

/// A transaction that executes `then` if `key` was created at `revision` (0 for "does not exist").
pub(super) fn if_created_at(
    key: Bytes,
    revision: Revision,
    then: impl IntoIterator<Item = Request>,
    otherwise: impl IntoIterator<Item = Request>,
) -> pb::TxnRequest {
    let ops = |request| pb::RequestOp { request: Some(request) };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key,
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::CreateRevision(revision.0)),
        }],
        success: then.into_iter().map(ops).collect(),
        failure: otherwise.into_iter().map(ops).collect(),
    }
}

/// The operation that deletes a key.
pub(super) fn delete(key: Bytes) -> [Request; 1] {
    [Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })]
}

/// The operation that puts a key under a lease.
pub(super) fn put(key: Bytes, value: Bytes, lease: LeaseId) -> Request {
    Request::RequestPut(pb::PutRequest { key, value, lease: lease.0, ..Default::default() })
}

/// The operation that reads a key.
pub(super) fn get(key: Bytes) -> Request {
    Request::RequestRange(pb::RangeRequest { key, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_as_by_etcds_clients() {
        let queue = Queue::new(b"my/lock");
        for (lease, key) in [(0x1234_abcd, "my/lock/1234abcd"), (-255, "my/lock/-ff"), (1, "my/lock/1")] {
            assert_eq!(queue.place(LeaseId(lease)), key.as_bytes());
        }
        assert_eq!(queue.keys(), KeyRange { key: "my/lock/".into(), range_end: "my/lock0".into() });
    }

    #[test]
    fn errors_keep_their_text_and_lose_their_code() {
        let status = as_seen_through_a_client(crate::command::CommandError::LeaseNotFound.into());
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "etcdserver: requested lease not found")
        );
        assert_eq!(as_seen_through_a_client(StoreError::Canceled).code(), Code::Cancelled);
    }
}
