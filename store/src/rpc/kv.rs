//! `etcdserverpb.KV`.

use barque_proto::etcdserverpb as pb;
use barque_proto::served;
use barque_proto::server::etcd::kv_server;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit_to_data, header};
use super::backend::{ActiveAlarm, Applied, Backend, ReadView};
use super::chunks::Chunks;
use super::counting::{Chunk, Counting};
use super::permit::{Credentials, catch_up, check_view, propose};
use super::streams::until_ended;
use super::{convert, validate};
use crate::command::{
    AlarmKind, Command, CommandError, DeleteRangeOutcome, Outcome, PutOutcome, RangeOutcome, TxnOutcome,
};
use crate::error::StoreError;
use crate::ids::Revision;

/// The KV service of one member.
pub(super) struct Kv<B>(pub(super) B);

#[tonic::async_trait]
impl<B: Backend> kv_server::Kv for Kv<B> {
    type RangeStreamStream = BoxStream<'static, Result<served::RangeStreamResponse, Status>>;

    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<served::RangeResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, on_learner(request.get_ref()))?;
        let counting = Counting::begin(&self.0, &request, &admitted.credentials);
        let (outcome, revision) = range(&self.0, &admitted.credentials, request.into_inner()).await?;
        if let Some(counting) = counting {
            counting.end(&self.0, &outcome);
        }
        Ok(Response::new(convert::range_response(header(&self.0, revision), outcome)))
    }

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let counting = Counting::begin(&self.0, &request, &admitted.credentials);
        let request = request.into_inner();
        validate::range(&request)?;
        validate::range_stream(&request).map_err(|error| Status::unimplemented(error.to_string()))?;
        if request.serializable {
            catch_up(&self.0, &admitted.credentials).await?;
        } else {
            self.0.read_barrier().await?;
        }
        let target_bytes = self.0.limits().max_request_bytes;
        let (view, range) = (self.0.view(), convert::range(request));
        check_view(&self.0, &view, &admitted.credentials, |check| check.read(&range.range))?;
        let chunks = Chunks::new(view, range, target_bytes);
        let backend = self.0.clone();
        let mut first = true;
        let answers = stream::try_unfold(chunks, move |mut chunks| {
            let chunk = chunks.next().map(|chunk| {
                let mut range_response = chunk?;
                if let Some(counting) = &counting {
                    counting.end(&backend, &Chunk { first, records: &range_response.kvs });
                    first = false;
                }
                if let Some(told) = &mut range_response.header {
                    *told = header(&backend, Revision(told.revision));
                }
                Some((served::RangeStreamResponse { range_response: Some(range_response) }, chunks))
            });
            std::future::ready(chunk.map_err(Status::from))
        });
        Ok(Response::new(until_ended(&self.0, &admitted, answers)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<served::PutResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let counting = Counting::begin(&self.0, &request, &admitted.credentials);
        let (outcome, revision) = put(&self.0, &admitted.credentials, request.into_inner()).await?;
        if let Some(counting) = counting {
            counting.end(&self.0, &outcome);
        }
        Ok(Response::new(convert::put_response(header(&self.0, revision), outcome)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<served::DeleteRangeResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let counting = Counting::begin(&self.0, &request, &admitted.credentials);
        let (outcome, revision) = delete_range(&self.0, &admitted.credentials, request.into_inner()).await?;
        if let Some(counting) = counting {
            counting.end(&self.0, &outcome);
        }
        Ok(Response::new(convert::delete_range_response(header(&self.0, revision), outcome)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<served::TxnResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let counting = Counting::begin(&self.0, &request, &admitted.credentials);
        let (outcome, revision) = txn(&self.0, &admitted.credentials, request.into_inner()).await?;
        if let Some(counting) = counting {
            counting.end(&self.0, &outcome);
        }
        Ok(Response::new(convert::txn_response(header(&self.0, revision), outcome)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        let revision = Revision(revision);
        propose(&self.0, &admitted.credentials, Command::Compact { revision }).await?;
        if physical {
            self.0.wait_compacted(revision).await?;
        }
        let header = header(&self.0, self.0.view().revision());
        Ok(Response::new(pb::CompactionResponse { header: Some(header) }))
    }
}

fn on_learner(request: &pb::RangeRequest) -> OnLearner {
    if request.serializable { OnLearner::Serve } else { OnLearner::Refuse }
}

// What the lock and election services use as well, each with the revision for its header.

pub(super) async fn range<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    request: pb::RangeRequest,
) -> Result<(RangeOutcome, Revision), StoreError> {
    validate::range(&request)?;
    if request.serializable {
        catch_up(backend, credentials).await?;
    } else {
        backend.read_barrier().await?;
    }
    let (view, range) = (backend.view(), convert::range(request));
    check_view(backend, &view, credentials, |check| check.read(&range.range))?;
    Ok((view.range(&range)?, view.revision()))
}

async fn put<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    request: pb::PutRequest,
) -> Result<(PutOutcome, Revision), StoreError> {
    ensure_space(backend, validate::put_cost_bytes(&request)).await?;
    validate::put(&request)?;
    validate::size(&request, backend.limits().max_request_bytes)?;
    match propose(backend, credentials, Command::Put(convert::put(request))).await? {
        Applied { outcome: Outcome::Put(outcome), revision } => Ok((outcome, revision)),
        _ => Err(other_kind()),
    }
}

pub(super) async fn delete_range<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    request: pb::DeleteRangeRequest,
) -> Result<(DeleteRangeOutcome, Revision), StoreError> {
    validate::delete_range(&request)?;
    validate::size(&request, backend.limits().max_request_bytes)?;
    match propose(backend, credentials, Command::DeleteRange(convert::delete_range(request))).await? {
        Applied { outcome: Outcome::DeleteRange(outcome), revision } => Ok((outcome, revision)),
        _ => Err(other_kind()),
    }
}

pub(super) async fn txn<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    request: pb::TxnRequest,
) -> Result<(TxnOutcome, Revision), StoreError> {
    ensure_space(backend, validate::txn_cost_bytes(&request)).await?;
    let limits = backend.limits();
    validate::txn(&request, limits.max_txn_ops)?;
    if validate::is_read_only(&request) {
        if validate::is_serializable(&request) {
            catch_up(backend, credentials).await?;
        } else {
            backend.read_barrier().await?;
        }
        let (view, txn) = (backend.view(), convert::txn(request));
        check_view(backend, &view, credentials, |check| check.txn(&txn))?;
        return Ok((view.read_txn(&txn)?, view.revision()));
    }
    validate::size(&request, limits.max_request_bytes)?;
    match propose(backend, credentials, Command::Txn(convert::txn(request))).await? {
        Applied { outcome: Outcome::Txn(outcome), revision } => Ok((outcome, revision)),
        _ => Err(other_kind()),
    }
}

fn other_kind() -> StoreError {
    StoreError::Internal("the answer is that of another kind of command".to_owned())
}

/// Refuses what would go over the quota, and raises this member's alarm when it does. What costs nothing
/// always passes.
#[inline]
pub(super) async fn ensure_space<B: Backend>(backend: &B, cost_bytes: u64) -> Result<(), StoreError> {
    if cost_bytes == 0 || backend.has_space_for(cost_bytes) {
        return Ok(());
    }
    let own = ActiveAlarm { member: backend.identity().member, kind: AlarmKind::NoSpace };
    if !backend.alarms().contains(&own) {
        let alarm = Command::Alarm { raise: true, member: own.member, kind: own.kind };
        if let Err(error) = backend.propose(alarm).await {
            tracing::warn!(%error, "the keyspace is over its quota, but the alarm could not be raised");
        }
    }
    Err(CommandError::NoSpace.into())
}
