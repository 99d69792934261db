//! Bugs on purpose: each one is put in by wrapping a seam, and an invariant must find it. The store is never changed.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_store::command::Command;
use barque_store::error::StoreError;
use barque_store::ids::LeaseId;
use barque_store::member::Member;
use barque_store::raft::observe;
use barque_store::rpc::backend::{Applied, Backend as _};
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::operation::{Access, Direct};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Disks say that they synced, and did not.
    LyingDisk,
    /// Disks say that they synced, and do it with the next sync: entries are acknowledged before they are stored.
    AckBeforeStore,
    /// Reads do not ask whether they are fresh.
    StaleRead,
    /// A leader answers reads for a while after a quorum confirmed it, without asking again.
    LeaseRead,
    /// Writes are proposed twice.
    DoubleApply,
    /// Some answers of watches get lost.
    LostEvent,
    /// Some answers of watches come twice.
    DuplicateEvent,
    /// Some watches go on a little before the place where they were.
    BackInTime,
    /// A watch leaves out the deletions with which it begins.
    LostDelete,
    /// Clocks run faster than they may.
    EarlyLease,
    /// Members that do not lead any more, or never did, end leases whose time has passed as far as they know.
    StaleRevoke,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::LyingDisk,
        Self::AckBeforeStore,
        Self::StaleRead,
        Self::LeaseRead,
        Self::DoubleApply,
        Self::LostEvent,
        Self::DuplicateEvent,
        Self::BackInTime,
        Self::LostDelete,
        Self::EarlyLease,
        Self::StaleRevoke,
    ];
}

/// So long a leader with [`Planted::LeaseRead`] trusts in its office: longer than others wait before they elect.
const OFFICE: Duration = Duration::from_secs(3);

/// Reads at once.
#[derive(Clone, Copy, Debug)]
pub struct StaleReads;

impl Access for StaleReads {
    fn write(&self, member: Member, command: Command) -> BoxFuture<'static, Result<Applied, StoreError>> {
        Direct.write(member, command)
    }

    fn read_barrier(&self, _: Member) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Reads at once on a leader that was one a short while ago.
#[derive(Clone, Copy, Debug)]
pub struct LeaseReads;

impl Access for LeaseReads {
    fn write(&self, member: Member, command: Command) -> BoxFuture<'static, Result<Applied, StoreError>> {
        Direct.write(member, command)
    }

    fn read_barrier(&self, member: Member) -> BoxFuture<'static, Result<(), StoreError>> {
        let own = member.identity().member;
        let leads = observe::leader(member.raft()).is_some_and(|(_, leader)| leader == own);
        if leads && observe::confirmed_ago(member.raft()) < OFFICE {
            return Box::pin(async { Ok(()) });
        }
        Direct.read_barrier(member)
    }
}

/// Proposes again what was answered already, now and then.
#[derive(Clone, Copy, Debug)]
pub struct DoubleWrites;

impl Access for DoubleWrites {
    fn write(&self, member: Member, command: Command) -> BoxFuture<'static, Result<Applied, StoreError>> {
        Box::pin(async move {
            Direct.write(member.clone(), command.clone()).await?;
            Direct.write(member, command).await
        })
    }

    fn read_barrier(&self, member: Member) -> BoxFuture<'static, Result<(), StoreError>> {
        Direct.read_barrier(member)
    }
}

/// Ends each lease when its time has passed since this member saw it first, though the leader may have renewed it.
pub async fn revoke_by_own_clock(member: Member) {
    let mut applied = member.published().applied();
    let mut due: BTreeMap<LeaseId, Instant> = BTreeMap::new();
    loop {
        let leases: BTreeMap<LeaseId, u64> = {
            let picture = member.published().peek();
            let leases = picture.leases.iter();
            leases.map(|lease| (lease.id(), u64::try_from(lease.ttl_s()).unwrap_or(0))).collect()
        };
        due.retain(|id, _| leases.contains_key(id));
        for (id, ttl_s) in leases {
            due.entry(id).or_insert_with(|| Instant::now() + Duration::from_secs(ttl_s));
        }
        let first = due.iter().min_by_key(|(_, at)| **at).map(|(id, at)| (*id, *at));
        let at = first.map_or_else(|| Instant::now() + OFFICE, |(_, at)| at);
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(at) => if let Some((id, _)) = first {
                due.remove(&id);
                // It may be gone already.
                let _ = Direct.write(member.clone(), Command::LeaseRevoke { id }).await;
            },
        }
    }
}
