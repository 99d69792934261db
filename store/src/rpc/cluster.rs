//! `etcdserverpb.Cluster`. Its headers carry no revision.

use barque_proto::etcdserverpb as pb;
use barque_proto::server::etcd::cluster_server;
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit, header};
use super::backend::Backend;
use super::permit::{admin, anybody, permit, permit_here};
use super::{convert, validate};
use crate::error::StoreError;
use crate::ids::{MemberId, Revision};

/// The cluster service of one member.
pub(super) struct Cluster<B>(pub(super) B);

impl<B: Backend> Cluster<B> {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(header(&self.0, Revision(0)))
    }
}

#[tonic::async_trait]
impl<B: Backend> cluster_server::Cluster for Cluster<B> {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        let request = request.into_inner();
        let peer_urls = validate::peer_urls(request.peer_ur_ls)?;
        permit(&self.0, &admitted.credentials, admin).await?;
        let (member, members) = self.0.add_member(peer_urls, request.is_learner).await?;
        Ok(Response::new(pb::MemberAddResponse {
            header: self.header(),
            member: Some(convert::member(member)),
            members: convert::members(members),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit(&self.0, &admitted.credentials, admin).await?;
        let members = self.0.remove_member(MemberId(request.get_ref().id)).await?;
        Ok(Response::new(pb::MemberRemoveResponse {
            header: self.header(),
            members: convert::members(members),
        }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit(&self.0, &admitted.credentials, admin).await?;
        let request = request.into_inner();
        let id = MemberId(request.id);
        // etcd takes any text here and leaves a member that nobody reaches; that it looks for the member
        // first is kept.
        let peer_urls = validate::peer_urls(request.peer_ur_ls).map_err(|error| {
            if self.0.members().iter().any(|member| member.id == id) {
                error
            } else {
                StoreError::MemberNotFound
            }
        })?;
        let members = self.0.update_member(id, peer_urls).await?;
        Ok(Response::new(pb::MemberUpdateResponse {
            header: self.header(),
            members: convert::members(members),
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        if request.get_ref().linearizable {
            self.0.read_barrier().await?;
        }
        permit_here(&self.0, &admitted.credentials, anybody).await?;
        let members = convert::members(self.0.members());
        Ok(Response::new(pb::MemberListResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit(&self.0, &admitted.credentials, admin).await?;
        let members = self.0.promote_member(MemberId(request.get_ref().id)).await?;
        Ok(Response::new(pb::MemberPromoteResponse {
            header: self.header(),
            members: convert::members(members),
        }))
    }
}
