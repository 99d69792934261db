//! `etcdserverpb.Maintenance`.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::alarm_request::AlarmAction;
use barque_proto::etcdserverpb::downgrade_request::DowngradeAction;
use barque_proto::server::etcd::maintenance_server;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::admit::{OnLearner, admit, admit_to_data, header};
use super::backend::{ActiveAlarm, Backend, ReadView};
use super::permit::{admin, anybody, permit, permit_here};
use super::snapshot;
use super::streams::until_ended;
use super::{CLUSTER_VERSION, STORAGE_VERSION, VERSION, convert, validate};
use crate::command::{AlarmKind, Command};
use crate::error::StoreError;
use crate::ids::{MemberId, Revision};

/// The maintenance service of one member.
pub(super) struct Maintenance<B>(pub(super) B);

impl<B: Backend> Maintenance<B> {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(header(&self.0, self.0.view().revision()))
    }
}

#[tonic::async_trait]
impl<B: Backend> maintenance_server::Maintenance for Maintenance<B> {
    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        let request = request.into_inner();
        let action = AlarmAction::try_from(request.action).map_err(|_| StoreError::UnknownMethod)?;
        let kind = alarm_kind(request.alarm)?;
        let member = MemberId(request.member_id);
        let caller = if action == AlarmAction::Get {
            permit_here(&self.0, &admitted.credentials, anybody).await?;
            None
        } else {
            permit(&self.0, &admitted.credentials, admin).await?
        };
        let alarms = match (action, kind) {
            (AlarmAction::Get, kind) => {
                self.0.read_barrier().await?;
                alarms(&self.0, |alarm| kind.is_none_or(|kind| alarm.kind == kind))
            }
            // As in etcd, "no alarm" can neither be raised nor cleared.
            (_, None) => Vec::new(),
            (AlarmAction::Activate, Some(kind)) => {
                self.0.propose(Command::Alarm { raise: true, member, kind }.by(caller)).await?;
                vec![ActiveAlarm { member, kind }]
            }
            (AlarmAction::Deactivate, Some(kind)) => {
                self.0.read_barrier().await?;
                let cleared = alarms(&self.0, |alarm| {
                    alarm.kind == kind && (alarm.member == member || member == MemberId(0))
                });
                self.0.propose(Command::Alarm { raise: false, member, kind }.by(caller)).await?;
                cleared
            }
        };
        Ok(Response::new(pb::AlarmResponse {
            header: self.header(),
            alarms: alarms.into_iter().map(convert::alarm).collect(),
        }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Serve)?;
        permit_here(&self.0, &admitted.credentials, anybody).await?;
        let status = self.0.status();
        let leader = self.0.leader();
        let mut errors = Vec::new();
        if leader.is_none() {
            errors.push(StoreError::NoLeader.message());
        }
        errors.extend(alarms(&self.0, |_| true).into_iter().map(convert::alarm_text));
        let header = header(&self.0, self.0.view().revision());
        Ok(Response::new(pb::StatusResponse {
            header: Some(header),
            version: VERSION.to_owned(),
            db_size: status.db_size_bytes,
            leader: leader.map_or(0, |leader| leader.0),
            raft_index: status.raft_index,
            raft_term: header.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors,
            db_size_in_use: status.db_size_in_use_bytes,
            is_learner: self.0.is_learner(),
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: status.db_size_quota_bytes,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    /// Space is given back while the member runs, so there is never anything left to do.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit_here(&self.0, &admitted.credentials, admin).await?;
        // etcd answers without a header.
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit_here(&self.0, &admitted.credentials, admin).await?;
        let hashed = self.0.hash().await?;
        Ok(Response::new(pb::HashResponse {
            header: Some(header(&self.0, hashed.revision)),
            hash: hashed.hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit_here(&self.0, &admitted.credentials, admin).await?;
        let hashed = self.0.hash_kv(Revision(request.get_ref().revision)).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(header(&self.0, hashed.revision)),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision.0,
            hash_revision: hashed.hash_revision.0,
        }))
    }

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let admitted = admit_to_data(&self.0, &request, OnLearner::Serve)?;
        permit_here(&self.0, &admitted.credentials, admin).await?;
        let snapshot = self.0.snapshot(None).await?;
        let header = header(&self.0, snapshot.revision);
        Ok(Response::new(until_ended(&self.0, &admitted, snapshot::padded(snapshot, header))))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit_here(&self.0, &admitted.credentials, admin).await?;
        if self.0.leader() != Some(self.0.identity().member) {
            return Err(StoreError::NotLeader.into());
        }
        let to = MemberId(request.get_ref().target_id);
        if !self.0.members().iter().any(|member| member.id == to && !member.is_learner) {
            return Err(StoreError::BadLeaderTransferee.into());
        }
        self.0.transfer_leadership(to).await?;
        // etcd answers without a header.
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let admitted = admit(&self.0, &request, OnLearner::Refuse)?;
        permit_here(&self.0, &admitted.credentials, admin).await?;
        downgrade(request.get_ref())?;
        Ok(Response::new(pb::DowngradeResponse {
            header: self.header(),
            version: CLUSTER_VERSION.to_owned(),
        }))
    }
}

fn alarms<B: Backend>(backend: &B, wanted: impl Fn(&ActiveAlarm) -> bool) -> Vec<ActiveAlarm> {
    let mut alarms = backend.alarms();
    alarms.retain(wanted);
    alarms.sort_unstable();
    alarms
}

fn alarm_kind(alarm: i32) -> Result<Option<AlarmKind>, StoreError> {
    match pb::AlarmType::try_from(alarm) {
        Ok(pb::AlarmType::None) => Ok(None),
        Ok(pb::AlarmType::Nospace) => Ok(Some(AlarmKind::NoSpace)),
        Ok(pb::AlarmType::Corrupt) => Ok(Some(AlarmKind::Corrupt)),
        Err(_) => Err(StoreError::UnknownMethod),
    }
}

/// Whether a downgrade step is possible. There is no older format of this store, so no target version is
/// a valid one, and no downgrade is ever under way; cancelling nothing succeeds, as in etcd.
fn downgrade(request: &pb::DowngradeRequest) -> Result<(), StoreError> {
    match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Cancel) => Ok(()),
        Ok(DowngradeAction::Validate | DowngradeAction::Enable) if validate::is_version(&request.version) => {
            Err(StoreError::InvalidDowngradeTargetVersion)
        }
        Ok(_) => Err(StoreError::WrongDowngradeVersionFormat),
        Err(_) => Err(StoreError::UnknownMethod),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downgrades() {
        let table = [
            (0, "3.5.0", Err(StoreError::InvalidDowngradeTargetVersion)),
            (0, "3.5", Err(StoreError::InvalidDowngradeTargetVersion)),
            (0, "three", Err(StoreError::WrongDowngradeVersionFormat)),
            (1, "3.5.0", Err(StoreError::InvalidDowngradeTargetVersion)),
            (1, "", Err(StoreError::WrongDowngradeVersionFormat)),
            (2, "", Ok(())),
            (3, "3.5.0", Err(StoreError::UnknownMethod)),
        ];
        for (action, version, expected) in table {
            let request = pb::DowngradeRequest { action, version: version.to_owned() };
            assert_eq!(downgrade(&request), expected, "{request:?}");
        }
    }
}
