//! What other members may ask of this one beside Raft.

use tonic::Status;

use barque_proto::peer as wire;

use super::Member;
use crate::error::StoreError;
use crate::ids::{LeaseId, Revision};
use crate::raft::peer_service::PeerBackend;
use crate::rpc::backend::Backend as _;

#[tonic::async_trait]
impl PeerBackend for Member {
    fn members(&self) -> wire::MembersReply {
        let own = self.0.peers.own();
        let picture = self.0.published.peek();
        let members = self.0.member_infos().into_iter().map(|member| wire::PeerMember {
            id: member.id.0,
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            learner: member.is_learner,
            incarnation: picture.members.get(member.id).map_or(0, |told| told.incarnation.0),
        });
        wire::MembersReply {
            cluster_id: own.cluster.0,
            members: members.collect(),
            removed: picture.members.removed().map(|id| id.0).collect(),
        }
    }

    async fn lease_keep_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<i64>, Status> {
        let ttls = self.keep_alive_here(&ids).await?;
        Ok(ttls.into_iter().map(|ttl| ttl.unwrap_or(0)).collect())
    }

    async fn lease_time_to_live(&self, id: LeaseId) -> Result<Option<(i64, i64)>, Status> {
        Ok(self.time_to_live_here(id).await?)
    }

    async fn change_membership(&self, change: wire::MembershipChange) -> Result<u64, Status> {
        let change = change.change.ok_or_else(|| Status::invalid_argument("no change is named"))?;
        Ok(self.0.membership.change_here(change).await?)
    }

    async fn hash(&self, revision: Revision) -> Result<wire::HashAnswer, Status> {
        // The one who asks may be some entries ahead.
        let mut applied = self.0.published.applied();
        let reached = applied.wait_for(|_| self.0.published.peek().view.revision() >= revision);
        let reached = tokio::time::timeout(self.0.timeout, reached).await;
        reached.map_err(|_| StoreError::Timeout)?.map_err(|_| StoreError::Stopped)?;
        let hash = self.hash_kv(revision).await?;
        Ok(wire::HashAnswer {
            hash: hash.hash,
            hash_revision: hash.hash_revision.0,
            compact_revision: hash.compact_revision.0,
            current_revision: hash.revision.0,
        })
    }
}
