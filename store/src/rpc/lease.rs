//! `etcdserverpb.Lease`.

use barque_proto::etcdserverpb as pb;
use barque_proto::server::etcd::lease_server;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::admit::{OnLearner, admit_to_data, header};
use super::backend::{Backend, ReadView};
use super::permit::{Credentials, anybody, permit, permit_here, propose};
use super::streams::until_ended;
use super::{convert, kv, validate};
use crate::auth::Check;
use crate::command::{Command, CommandError};
use crate::error::StoreError;
use crate::ids::{LeaseId, Revision};

/// The lease service of one member.
pub(super) struct Lease<B>(pub(super) B);

/// Keep-alives of one stream that go to the leader together when they arrived together.
const KEEP_ALIVES_AT_ONCE: usize = 128;

#[tonic::async_trait]
impl<B: Backend> lease_server::Lease for Lease<B> {
    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let request = request.into_inner();
        let granted = grant(&self.0, &admitted.credentials, request.id, request.ttl).await?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(header(&self.0, granted.revision)),
            id: granted.id.0,
            ttl: granted.ttl_s,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let Some(id) = convert::lease(request.get_ref().id) else {
            permit(&self.0, &admitted.credentials, anybody).await?;
            return Err(CommandError::LeaseNotFound.into());
        };
        let applied = propose(&self.0, &admitted.credentials, Command::LeaseRevoke { id }).await?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(header(&self.0, applied.revision)) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let (backend, credentials) = (self.0.clone(), admitted.credentials.clone());
        let answers = request
            .into_inner()
            .ready_chunks(KEEP_ALIVES_AT_ONCE)
            .then(move |batch| keep_alive(backend.clone(), credentials.clone(), batch))
            .flat_map(stream::iter);
        Ok(Response::new(until_ended(&self.0, &admitted, answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        permit_here(&self.0, &admitted.credentials, anybody).await?;
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let lease = match convert::lease(id) {
            Some(id) => self.0.lease_time_to_live(id, keys).await?,
            None => None,
        };
        if let Some(lease) = lease.as_ref().filter(|_| keys) {
            permit_here(&self.0, &admitted.credentials, |check| check.lease_contents(&lease.keys)).await?;
        }
        let header = Some(header(&self.0, self.0.view().revision()));
        Ok(Response::new(match lease {
            Some(lease) => pb::LeaseTimeToLiveResponse {
                header,
                id,
                ttl: lease.ttl_s,
                granted_ttl: lease.granted_ttl_s,
                keys: lease.keys,
            },
            None => pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Refuse)?;
        let leases = self.0.leases();
        let seen = |check: Check<'_>| check.leases(leases.iter().copied());
        permit_here(&self.0, &admitted.credentials, seen).await?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
        let header = Some(header(&self.0, self.0.view().revision()));
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

/// A lease that was granted.
pub(super) struct Granted {
    pub(super) id: LeaseId,
    pub(super) ttl_s: i64,
    pub(super) revision: Revision,
}

/// Grants a lease under the id `id`, or one that is picked when it is 0.
pub(super) async fn grant<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    id: i64,
    ttl_s: i64,
) -> Result<Granted, StoreError> {
    kv::ensure_space(backend, validate::LEASE_COST_BYTES).await?;
    let id = convert::lease(id).unwrap_or_else(|| LeaseId(rand::random_range(1..=i64::MAX)));
    let ttl_s = validate::lease_ttl_s(ttl_s, backend.limits().min_lease_ttl_s)?;
    let applied = propose(backend, credentials, Command::LeaseGrant { id, ttl_s }).await?;
    Ok(Granted { id, ttl_s, revision: applied.revision })
}

/// Answers keep-alives in their order; an error ends the stream after those before it.
async fn keep_alive<B: Backend>(
    backend: B,
    credentials: Credentials,
    batch: Vec<Result<pb::LeaseKeepAliveRequest, Status>>,
) -> Vec<Result<pb::LeaseKeepAliveResponse, Status>> {
    let mut ids = Vec::with_capacity(batch.len());
    let mut broken = None;
    for request in batch {
        match request {
            Ok(request) => {
                let id = LeaseId(request.id);
                if let Err(error) = permit_here(&backend, &credentials, |check| check.lease(id)).await {
                    broken = Some(error.into());
                    break;
                }
                ids.push(id);
            }
            Err(status) => {
                broken = Some(status);
                break;
            }
        }
    }
    // Taken before the renewal: a lease may be gone at a revision that a later header would tell.
    let header = header(&backend, backend.view().revision());
    let mut answers = Vec::with_capacity(ids.len() + 1);
    if !ids.is_empty() {
        match backend.lease_keep_alive(ids.clone()).await {
            Ok(ttls) => answers.extend(ids.into_iter().zip(ttls).map(|(id, ttl_s)| {
                Ok(pb::LeaseKeepAliveResponse { header: Some(header), id: id.0, ttl: ttl_s.unwrap_or(0) })
            })),
            Err(error) => broken = Some(error.into()),
        }
    }
    answers.extend(broken.map(Err));
    answers
}
