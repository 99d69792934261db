//! `v3electionpb.Election`: the leader is whoever is first in a queue of keys; its value is what it
//! proclaims.

use std::collections::VecDeque;
use std::pin::Pin;

use barque_proto::mvccpb::KeyValue;
use barque_proto::server::election::election_server;
use barque_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit_to_data, header};
use super::backend::{Backend, KeyEvent, ReadView};
use super::kv;
use super::permit::Credentials;
use super::queue::{self, Leaving, Queue, as_seen_through_a_client, if_created_at};
use super::streams::until_ended;
use crate::command::{KeyRange, OpOutcome};
use crate::error::StoreError;
use crate::ids::{LeaseId, Revision};
use crate::record::Record;

/// The election service of one member.
pub(super) struct Election<B>(pub(super) B);

#[tonic::async_trait]
impl<B: Backend> election_server::Election for Election<B> {
    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let (leader, revision) = campaign(&self.0, &admitted.credentials, request.into_inner())
            .await
            .map_err(as_seen_through_a_client)?;
        let header = Some(header(&self.0, revision));
        Ok(Response::new(CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let ProclaimRequest { leader, value } = request.into_inner();
        let proclaimed = proclaim(&self.0, &admitted.credentials, leader, value).await;
        let revision = proclaimed.map_err(as_seen_through_a_client)?;
        Ok(Response::new(ProclaimResponse { header: Some(header(&self.0, revision)) }))
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let queue = Queue::new(&request.get_ref().name);
        let read = kv::range(&self.0, &admitted.credentials, queue.first()).await;
        let (leader, revision) = read.map_err(as_seen_through_a_client)?;
        match leader.records.first() {
            Some(leader) => Ok(Response::new(leader_response(&self.0, leader, revision))),
            None => Err(StoreError::ElectionNoLeader.into()),
        }
    }

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let observer = Observer {
            backend: self.0.clone(),
            credentials: admitted.credentials.clone(),
            queue: Queue::new(&request.get_ref().name),
            following: None,
            seen: VecDeque::new(),
        };
        let answers = stream::try_unfold(observer, |mut observer| async move {
            let seen = observer.next().await.map_err(as_seen_through_a_client)?;
            Ok(Some((seen, observer)))
        });
        Ok(Response::new(until_ended(&self.0, &admitted, answers)))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let resigned = resign(&self.0, &admitted.credentials, request.into_inner().leader).await;
        let revision = resigned.map_err(as_seen_through_a_client)?;
        Ok(Response::new(ResignResponse { header: Some(header(&self.0, revision)) }))
    }
}

/// Queues with a value and waits to be first. Answers the leader's key and the revision of queueing.
async fn campaign<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    request: CampaignRequest,
) -> Result<(LeaderKey, Revision), StoreError> {
    let CampaignRequest { name, lease, value } = request;
    let lease = queue::session(backend, credentials, lease).await?;
    let queue = Queue::new(&name);
    let key = queue.place(lease);
    let request = if_created_at(
        key.clone(),
        Revision(0),
        [queue::put(key.clone(), value.clone(), lease)],
        [queue::get(key.clone())],
    );
    let (outcome, revision) = kv::txn(backend, credentials, request).await?;
    let mut created = revision;
    let mut again = None;
    if !outcome.succeeded {
        let Some(OpOutcome::Range(range)) = outcome.responses.first() else {
            return Err(StoreError::ElectionNotLeader);
        };
        let Some(own) = range.records.first().map(Record::fields) else {
            return Err(StoreError::ElectionNotLeader);
        };
        created = own.create_revision;
        again = (own.value != value).then_some(value);
    }
    let leader = LeaderKey { name, key: key.clone(), rev: created.0, lease: lease.0 };
    let leaving = Leaving::new(backend, credentials, key, created);
    // The same lease queues again with another value.
    if let Some(value) = again {
        proclaim(backend, credentials, Some(leader.clone()), value).await?;
    }
    queue.wait_for_those_before(backend, credentials, created).await?;
    leaving.stay();
    Ok((leader, revision))
}

async fn proclaim<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    leader: Option<LeaderKey>,
    value: Bytes,
) -> Result<Revision, StoreError> {
    let LeaderKey { key, rev, lease, .. } = leader.ok_or(StoreError::MissingLeaderKey)?;
    let lease = queue::session(backend, credentials, lease).await?;
    let request = if_created_at(key.clone(), Revision(rev), [queue::put(key, value, lease)], None);
    let (outcome, revision) = kv::txn(backend, credentials, request).await?;
    if outcome.succeeded { Ok(revision) } else { Err(StoreError::ElectionNotLeader) }
}

/// Resigning without leading changes nothing and is no error.
async fn resign<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    leader: Option<LeaderKey>,
) -> Result<Revision, StoreError> {
    let LeaderKey { key, rev, .. } = leader.ok_or(StoreError::MissingLeaderKey)?;
    let request = if_created_at(key.clone(), Revision(rev), queue::delete(key), None);
    Ok(kv::txn(backend, credentials, request).await?.1)
}

fn leader_response<B: Backend>(backend: &B, leader: &Record, revision: Revision) -> LeaderResponse {
    let fields = leader.fields();
    let kv = KeyValue {
        key: Bytes::copy_from_slice(fields.key),
        create_revision: fields.create_revision.0,
        mod_revision: fields.mod_revision.0,
        version: fields.version,
        value: Bytes::copy_from_slice(fields.value),
        lease: fields.lease.map_or(0, |LeaseId(id)| id),
    };
    LeaderResponse { header: Some(header(backend, revision)), kv: Some(kv) }
}

/// Follows an election: every leader, and every value that it proclaims. Leaders that came and went
/// between two looks may be missed, the newest never.
struct Observer<B: Backend> {
    backend: B,
    credentials: Credentials,
    queue: Queue,
    /// The changes of the present leader's key.
    following: Option<Pin<Box<B::Events>>>,
    seen: VecDeque<LeaderResponse>,
}

impl<B: Backend> Observer<B> {
    async fn next(&mut self) -> Result<LeaderResponse, StoreError> {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return Ok(seen);
            }
            match &mut self.following {
                Some(events) => {
                    let batch = events.next().await.ok_or(StoreError::Stopped)??;
                    let now = self.backend.view().revision();
                    for event in batch {
                        match event {
                            KeyEvent::Put(leader) => {
                                self.seen.push_back(leader_response(&self.backend, &leader, now));
                            }
                            KeyEvent::Delete(_) => {
                                self.following = None;
                                break;
                            }
                        }
                    }
                }
                None => {
                    let (leader, revision) = find(&self.backend, &self.credentials, &self.queue).await?;
                    self.seen.push_back(leader_response(&self.backend, &leader, revision));
                    let key = KeyRange { key: Bytes::copy_from_slice(leader.key()), range_end: Bytes::new() };
                    // Who may read all of the queue may watch each of its keys.
                    self.following = Some(Box::pin(self.backend.watch(key, revision.next()).await?));
                }
            }
        }
    }
}

/// The leader, waiting for one to appear, and the revision up to which it is known.
async fn find<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    queue: &Queue,
) -> Result<(Record, Revision), StoreError> {
    let (first, revision) = kv::range(backend, credentials, queue.first()).await?;
    if let Some(leader) = first.records.into_iter().next() {
        return Ok((leader, revision));
    }
    let events = backend.watch(queue.keys(), revision.next()).await?;
    let mut events = std::pin::pin!(events);
    loop {
        let batch = events.next().await.ok_or(StoreError::Stopped)??;
        for event in batch {
            if let KeyEvent::Put(leader) = event {
                let revision = leader.mod_revision();
                return Ok((leader, revision));
            }
        }
    }
}
