//! How each fault is done, and undone.

mod auth;
mod clock;
mod disks;
mod network;

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub use auth::NewRights;
pub use clock::WrongClock;

use super::Kind;
use super::cuts::{Shape, cuts};
use crate::cluster::{Cluster, ClusterError};
use crate::deadline::{PATIENCE, eventually};
use crate::history::Request;
use crate::workload::{Endpoint, Session, Shared};

/// Entries between two snapshots, for members that the storm shall drive into snapshots.
pub(crate) const SNAPSHOT_COUNT: u64 = 100;

/// A call to a member that may be gone.
const CALL_PATIENCE: Duration = Duration::from_secs(3);

/// The client number of the storm's own requests, which are part of the record.
pub(crate) const STORM_CLIENT: u32 = 900;

/// The endpoints of some members.
#[must_use]
pub fn endpoints(cluster: &Cluster, members: &[usize]) -> Vec<Endpoint> {
    let of = |&index: &usize| Endpoint { name: cluster.name(index).to_owned(), url: cluster.endpoint(index) };
    members.iter().map(of).collect()
}

/// A storm over one cluster.
pub struct Storm<'a> {
    cluster: &'a mut Cluster,
    /// Those of the cluster's members that belong to it now.
    members: Vec<usize>,
    shared: Shared,
    endpoints: watch::Sender<Vec<Endpoint>>,
    /// The newest revision that the record has safely; nothing later may be compacted.
    newest: watch::Receiver<i64>,
    rng: StdRng,
    session: Session,
    compacted: i64,
    strikes: usize,
}

impl<'a> Storm<'a> {
    /// A storm over all members of the cluster, which clients know by `endpoints`.
    #[must_use]
    pub fn over(
        cluster: &'a mut Cluster,
        shared: &Shared,
        endpoints: watch::Sender<Vec<Endpoint>>,
        newest: watch::Receiver<i64>,
    ) -> Self {
        let members = (0..cluster.len()).collect();
        let rng = StdRng::seed_from_u64(shared.seed.wrapping_mul(31));
        let session = Session::new(shared, STORM_CLIENT);
        let shared = shared.clone();
        Self { cluster, members, shared, endpoints, newest, rng, session, compacted: 0, strikes: 0 }
    }

    /// Strikes with faults of these kinds until then; all members are well afterwards.
    ///
    /// # Errors
    /// When a member does not come back.
    pub async fn rage(&mut self, kinds: &[Kind], until: Instant) -> Result<(), ClusterError> {
        loop {
            let pause = self.between(200, 900).min(until.saturating_duration_since(Instant::now()));
            sleep(pause).await;
            if Instant::now() >= until {
                return Ok(());
            }
            if !kinds.is_empty() {
                let kind = kinds[self.rng.random_range(0..kinds.len())];
                self.strike(kind).await?;
                self.strikes += 1;
            }
        }
    }

    /// How many faults there were.
    #[must_use]
    pub fn strikes(&self) -> usize {
        self.strikes
    }

    /// The members that belong to the cluster now.
    #[must_use]
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from_ms..to_ms))
    }

    async fn strike(&mut self, kind: Kind) -> Result<(), ClusterError> {
        match kind {
            Kind::Kill => self.kill().await,
            Kind::Pause => self.pause().await,
            Kind::Restart => self.restart().await,
            Kind::MoveLeader => self.move_leader().await,
            Kind::Compact => self.compact().await,
            Kind::Snapshot => self.snapshot().await,
            Kind::Replace => self.replace().await,
            Kind::Partition(shape) => self.partition(shape).await,
            Kind::PowerCut => self.power_cut().await,
            Kind::Blackout => self.blackout().await,
            Kind::SickDisk => self.sick_disk().await,
            Kind::BitFlip => self.bit_flip().await,
            Kind::Network(trouble) => self.trouble(trouble).await,
            Kind::Auth(rights) => self.new_rights(rights).await,
            Kind::Clock(wrong) => self.wrong_clock(wrong).await,
        }
    }

    /// Some members: one, the leader, most, or (if `all` may be struck) all.
    async fn victims(&mut self, all: bool) -> Result<Vec<usize>, ClusterError> {
        let first = self.rng.random_range(0..self.members.len());
        let most = self.members.len() / 2 + 1;
        let count = match self.rng.random_range(0..if all { 4 } else { 3 }) {
            0 => 1,
            1 => return Ok(vec![self.cluster.leader_among(&self.members).await?]),
            2 => most,
            _ => self.members.len(),
        };
        Ok(self.members.iter().cycle().skip(first).take(count).copied().collect())
    }

    fn names(&self, members: &[usize]) -> Vec<String> {
        members.iter().map(|&index| self.cluster.name(index).to_owned()).collect()
    }

    async fn kill(&mut self) -> Result<(), ClusterError> {
        let victims = self.victims(true).await?;
        let fault = self.shared.recorder.fault_began("kill -9", self.names(&victims));
        for &index in &victims {
            self.cluster.kill9(index)?;
        }
        sleep(self.between(100, 1500)).await;
        self.cluster.restart_all(&victims).await?;
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), ClusterError> {
        let victims = self.victims(false).await?;
        let fault = self.shared.recorder.fault_began("pause", self.names(&victims));
        for &index in &victims {
            self.cluster.pause(index)?;
        }
        sleep(self.between(200, 2500)).await;
        for &index in &victims {
            self.cluster.resume(index)?;
        }
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), ClusterError> {
        let victims = self.victims(true).await?;
        let fault = self.shared.recorder.fault_began("restart", self.names(&victims));
        for &index in &victims {
            self.cluster.terminate(index).await?;
        }
        self.cluster.restart_all(&victims).await?;
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn move_leader(&mut self) -> Result<(), ClusterError> {
        let fault = self.shared.recorder.fault_began("leader moves", self.names(&self.members));
        for _ in 0..self.rng.random_range(2..6) {
            let leader = self.cluster.leader_among(&self.members).await?;
            let others: Vec<usize> = self.members.iter().copied().filter(|&index| index != leader).collect();
            let Some(&target) = others.get(self.rng.random_range(0..others.len().max(1))) else { break };
            if let Some(target_id) = self.id_of(target).await {
                let mut maintenance = self.cluster.client(leader).maintenance;
                let request = pb::MoveLeaderRequest { target_id };
                // The leader may have changed in between, or refuse; the next one is asked then.
                let _ = timeout(CALL_PATIENCE, maintenance.move_leader(request)).await;
            }
            sleep(self.between(50, 400)).await;
        }
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn id_of(&self, index: usize) -> Option<u64> {
        let status = timeout(CALL_PATIENCE, self.cluster.client(index).status()).await.ok()?;
        status.ok()?.header.map(|header| header.member_id)
    }

    async fn compact(&mut self) -> Result<(), ClusterError> {
        let fault = self.shared.recorder.fault_began("compactions", self.names(&self.members));
        for _ in 0..10 {
            let behind = self.rng.random_range(0..20);
            let revision = *self.newest.borrow() - behind;
            if revision > self.compacted {
                self.compacted = revision;
                self.session.call(Request::Compact { revision }).await;
            }
            sleep(self.between(50, 150)).await;
        }
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<(), ClusterError> {
        let leader = self.cluster.leader_among(&self.members).await?;
        let away = self.members.iter().copied().find(|&index| index != leader).unwrap_or(leader);
        let fault = self.shared.recorder.fault_began("away until a snapshot", self.names(&[away]));
        self.cluster.kill9(away)?;
        let enough = *self.newest.borrow() + 3 * SNAPSHOT_COUNT as i64;
        let mut newest = self.newest.clone();
        // A slow workload may not get so far; then the member was just away for a while.
        let lagging = timeout(Duration::from_secs(4), newest.wait_for(|newest| *newest >= enough));
        let (_, _) = tokio::join!(lagging, save(self.cluster.client(leader)));
        self.cluster.restart(away).await?;
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn partition(&mut self, shape: Shape) -> Result<(), ClusterError> {
        let mut members = self.members.clone();
        members.shuffle(&mut self.rng);
        // Half of the time the leader is in the smaller side.
        if self.rng.random() {
            let leader = self.cluster.leader_among(&members).await?;
            members.sort_by_key(|&index| index != leader);
        }
        let kind = format!("partition: {shape:?}").to_lowercase();
        let Some(network) = self.cluster.network() else { return Ok(()) };
        let fault = self.shared.recorder.fault_began(&kind, self.names(&members));
        for (from, to) in cuts(shape, &members) {
            network.cut(self.cluster.name(from), self.cluster.name(to))?;
        }
        let time = Duration::from_millis(self.rng.random_range(1000..5000));
        sleep(time).await;
        network.heal()?;
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    async fn replace(&mut self) -> Result<(), ClusterError> {
        let victim = self.members[self.rng.random_range(0..self.members.len())];
        let fault = self.shared.recorder.fault_began("replace", self.names(&[victim]));
        let client = self.cluster.client(victim);
        let id = eventually("the id of a member", PATIENCE, || async {
            let status = client.status().await.map_err(|status| status.message().to_owned())?;
            status.header.map(|header| header.member_id).ok_or_else(|| "no header".to_owned())
        });
        let id = id.await?;
        self.cluster.kill9(victim)?;
        self.replace_with_new(victim, id).await?;
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    /// A member that does not run any more is removed, and a new one takes its place.
    async fn replace_with_new(&mut self, victim: usize, id: u64) -> Result<(), ClusterError> {
        self.members.retain(|&index| index != victim);
        self.endpoints.send_replace(endpoints(self.cluster, &self.members));
        let through = self.cluster.leader_among(&self.members).await?;
        let client = self.cluster.client(through);
        let removed = eventually("the removal of a member", PATIENCE, || async {
            match client.member_remove(id).await {
                // An attempt without an answer did it.
                Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
                other => other.map(drop).map_err(|status| status.message().to_owned()),
            }
        });
        removed.await?;
        let new = self.cluster.add_member().await?;
        self.members.push(new);
        self.all_vote().await?;
        self.endpoints.send_replace(endpoints(self.cluster, &self.members));
        Ok(())
    }

    /// A new member gets its vote when it has caught up.
    async fn all_vote(&mut self) -> Result<(), ClusterError> {
        let leader = self.cluster.leader_among(&self.members).await?;
        let client = self.cluster.client(leader);
        let votes = eventually("votes for all", PATIENCE, || async {
            let request = pb::MemberListRequest { linearizable: true };
            let list = client.cluster.clone().member_list(request).await;
            let list = list.map_err(|status| status.to_string())?.into_inner();
            let learners = list.members.iter().filter(|member| member.is_learner).count();
            if learners == 0 { Ok(()) } else { Err(format!("{learners} do not vote")) }
        });
        Ok(votes.await?)
    }
}

/// Saves a snapshot as a client does, and throws it away; whether it came whole.
async fn save(client: crate::client::Client) -> bool {
    let mut maintenance = client.maintenance.max_decoding_message_size(usize::MAX);
    let whole = async {
        let mut chunks = maintenance.snapshot(pb::SnapshotRequest {}).await?.into_inner();
        let mut rest = u64::MAX;
        while let Some(chunk) = chunks.message().await? {
            rest = chunk.remaining_bytes;
        }
        Ok::<bool, tonic::Status>(rest == 0)
    };
    matches!(timeout(CALL_PATIENCE, whole).await, Ok(Ok(true)))
}
