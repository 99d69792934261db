//! `v3lockpb.Lock`: locks whose owner is whoever is first in a queue of keys.

use barque_proto::etcdserverpb as pb;
use barque_proto::server::lock::lock_server;
use barque_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit_to_data, header};
use super::backend::Backend;
use super::kv;
use super::permit::Credentials;
use super::queue::{self, Leaving, Queue, as_seen_through_a_client, if_created_at};
use crate::command::{OpOutcome, RangeOutcome};
use crate::error::StoreError;
use crate::ids::Revision;

/// The lock service of one member.
pub(super) struct Lock<B>(pub(super) B);

#[tonic::async_trait]
impl<B: Backend> lock_server::Lock for Lock<B> {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let LockRequest { name, lease } = request.into_inner();
        let locked = lock(&self.0, &admitted.credentials, &name, lease);
        let (key, revision) = locked.await.map_err(as_seen_through_a_client)?;
        Ok(Response::new(LockResponse { header: Some(header(&self.0, revision)), key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let request = pb::DeleteRangeRequest { key: request.into_inner().key, ..Default::default() };
        let deleted = kv::delete_range(&self.0, &admitted.credentials, request).await;
        let (_, revision) = deleted.map_err(as_seen_through_a_client)?;
        Ok(Response::new(UnlockResponse { header: Some(header(&self.0, revision)) }))
    }
}

/// Queues and waits to be first. Answers the key that is held as long as the lock is, and the revision at
/// which the lock was seen to be owned. A caller who comes again with the same lease keeps its place.
async fn lock<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    name: &[u8],
    lease: i64,
) -> Result<(Bytes, Revision), StoreError> {
    let lease = queue::session(backend, credentials, lease).await?;
    let queue = Queue::new(name);
    let key = queue.place(lease);
    let first = || pb::request_op::Request::RequestRange(queue.first());
    let request = if_created_at(
        key.clone(),
        Revision(0),
        [queue::put(key.clone(), Bytes::new(), lease), first()],
        [queue::get(key.clone()), first()],
    );
    let (outcome, revision) = kv::txn(backend, credentials, request).await?;
    let created = if outcome.succeeded { Some(revision) } else { created_at(outcome.responses.first()) };
    let Some(created) = created else { return Err(StoreError::SessionExpired) };
    if created_at(outcome.responses.get(1)).is_none_or(|owner| owner == created) {
        return Ok((key, revision));
    }
    let leaving = Leaving::new(backend, credentials, key.clone(), created);
    queue.wait_for_those_before(backend, credentials, created).await?;
    // The lease may have ended while its place was coming up.
    let own = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let (RangeOutcome { records, .. }, revision) = kv::range(backend, credentials, own).await?;
    leaving.stay();
    if records.is_empty() { Err(StoreError::SessionExpired) } else { Ok((key, revision)) }
}

/// When the one key that a range found was created.
pub(super) fn created_at(outcome: Option<&OpOutcome>) -> Option<Revision> {
    match outcome {
        Some(OpOutcome::Range(range)) => range.records.first().map(|record| record.fields().create_revision),
        _ => None,
    }
}
