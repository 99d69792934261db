//! The clock of leases: ends those whose time is over, while this member leads.
//!
//! Deadlines live on the leader; what it decides is proposed like every other command, so a leader that
//! lost its office decides nothing. Renewals are answered only after a quorum confirmed the leader.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::ids::{LeaseId, MemberId};
use crate::lease::lessor::{Lessor, LessorConfig, Renewal, ReplicatedLease};
use crate::metrics::Metrics;
use crate::raft::leadership::LeaderWatch;
use crate::raft::peers::Peers;
use crate::raft::proposer::Proposer;
use crate::raft::read_index::{ReadBarrier, ReadError};
use crate::raft::state_machine::LeaseListener;
use crate::state::LeaseChange;
use crate::state::published::Published;

/// Leases ended by one command.
const EXPIRIES_PER_COMMAND: usize = 100;
/// Remaining times in one command.
const CHECKPOINTS_PER_COMMAND: usize = 1000;

/// The deadlines, shared by the clock's task, the state machine and those who renew.
pub struct LeaseClock {
    lessor: Mutex<Lessor>,
    /// Wakes the clock's task.
    changed: Notify,
    /// Wakes renewals that wait for the end of a lease.
    ended: Notify,
    started: Instant,
    metrics: Arc<Metrics>,
}

/// A renewal failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// Deadlines are kept by another member.
    #[error("not leader")]
    NotLeader,
    /// No quorum confirmed in time.
    #[error("request timed out")]
    TimedOut,
}

impl LeaseListener for LeaseClock {
    fn leases_changed(&self, changes: &[LeaseChange]) {
        let now_ms = self.now_ms();
        let mut lessor = self.lessor.lock();
        for change in changes {
            match *change {
                LeaseChange::Granted { id, ttl_s } => {
                    self.metrics.lease.granted.inc();
                    self.metrics.lease.ttl.observe(ttl_s as f64);
                    lessor.granted(id, ttl_s, now_ms);
                }
                LeaseChange::Revoked(id) => {
                    self.metrics.lease.revoked.inc();
                    lessor.revoked(id);
                }
            }
        }
        drop(lessor);
        self.ended.notify_waiters();
        self.changed.notify_one();
    }

    fn leases_replaced(&self) {
        // Only a follower installs a snapshot; it keeps no deadlines.
        self.lessor.lock().demote();
    }
}

impl LeaseClock {
    /// Keeps no deadlines yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            lessor: Mutex::new(Lessor::new(LessorConfig::default())),
            changed: Notify::new(),
            ended: Notify::new(),
            started: Instant::now(),
            metrics,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds that a lease has left on this leader; `None` when there is no such lease.
    ///
    /// # Errors
    /// When this member does not keep the deadlines.
    pub fn remaining_ms(&self, id: LeaseId) -> Result<Option<u64>, RenewError> {
        let lessor = self.lessor.lock();
        if !lessor.leads() {
            return Err(RenewError::NotLeader);
        }
        Ok(lessor.remaining_ms(id, self.now_ms()))
    }

    /// Renews leases; the full time in seconds, or `None` for one that is gone. The caller has confirmed
    /// that this member leads.
    ///
    /// # Errors
    /// When it does not keep the deadlines, or a checkpoint could not be replicated.
    pub async fn renew(&self, ids: &[LeaseId], proposer: &Proposer) -> Result<Vec<Option<i64>>, RenewError> {
        let mut ttls = Vec::with_capacity(ids.len());
        for &id in ids {
            ttls.push(self.renew_one(id, proposer).await?);
        }
        self.metrics.lease.renewed.inc_by(ttls.iter().flatten().count() as u64);
        Ok(ttls)
    }

    async fn renew_one(&self, id: LeaseId, proposer: &Proposer) -> Result<Option<i64>, RenewError> {
        loop {
            let ended = self.ended.notified();
            let renewal = self.lessor.lock().renew(id, self.now_ms());
            match renewal {
                Renewal::Renewed { ttl_s } => return Ok(Some(ttl_s)),
                Renewal::NotFound => return Ok(None),
                Renewal::NotLeader => return Err(RenewError::NotLeader),
                // Waits for the end to be executed, or for the loss of office.
                Renewal::Ending => ended.await,
                Renewal::ResetFirst => {
                    let reset = Command::LeaseCheckpoint { remaining_s: vec![(id, 0)] };
                    if proposer.propose(reset, 32).await.is_err() {
                        return Err(RenewError::TimedOut);
                    }
                    self.lessor.lock().checkpointed(id, 0);
                }
            }
        }
    }
}

/// What the clock's task needs.
pub struct Surroundings {
    /// The deadlines.
    pub clock: Arc<LeaseClock>,
    /// This member.
    pub peers: Arc<Peers>,
    /// Who leads.
    pub leader: LeaderWatch,
    /// Confirms leadership.
    pub barrier: ReadBarrier,
    /// Ends leases.
    pub proposer: Proposer,
    /// The leases at the time of taking office.
    pub published: Arc<Published>,
    /// Added to every lease when taking office, since clients could not renew meanwhile.
    pub election_timeout: Duration,
}

/// Runs until `stop`.
pub async fn run(mut around: Surroundings, stop: CancellationToken) {
    let own = around.peers.own().member;
    loop {
        let led = tokio::select! {
            () = stop.cancelled() => return,
            status = around.leader.wait_for(|status| status.is_led_by(own)) => status.map(|status| status.term),
        };
        let Ok(term) = led else { return };
        let goes_on = tokio::select! {
            () = stop.cancelled() => return,
            goes_on = lead(&mut around, own, term) => goes_on,
        };
        around.clock.lessor.lock().demote();
        around.clock.ended.notify_waiters();
        if !goes_on {
            return;
        }
    }
}

/// Keeps the deadlines for one term; whether others may follow.
async fn lead(around: &mut Surroundings, own: MemberId, term: u64) -> bool {
    let leader = around.leader.clone();
    tokio::select! {
        goes_on = end_of_office(leader, own, term) => goes_on,
        () = keep(around, term) => true,
    }
}

/// Waits until a quorum confirms that this member leads; for ever when the member stops, since whoever waits is stopped
/// as well.
async fn confirmed(around: &Surroundings) {
    loop {
        match around.barrier.wait().await {
            Ok(()) => return,
            Err(ReadError::TimedOut) => {}
            Err(ReadError::Stopped) => std::future::pending().await,
        }
    }
}

/// Returns when the term or its leader changes: true. Or when Raft has ended, and nobody tells of changes any more: false,
/// though the last that was told is that this member leads.
async fn end_of_office(mut leader: LeaderWatch, own: MemberId, term: u64) -> bool {
    leader.wait_for(|status| status.term != term || !status.is_led_by(own)).await.is_ok()
}

async fn keep(around: &Surroundings, term: u64) {
    let clock = &around.clock;
    // Everything of earlier terms is executed here once a read is confirmed.
    confirmed(around).await;
    {
        // A lease that is granted or ended meanwhile is told after the lock, and counts then.
        let mut lessor = clock.lessor.lock();
        let picture = around.published.picture();
        let leases = picture.leases.iter().map(|lease| ReplicatedLease {
            id: lease.id(),
            ttl_s: lease.ttl_s(),
            remaining_s: lease.remaining_s(),
        });
        let extension_ms = u64::try_from(around.election_timeout.as_millis()).unwrap_or(0);
        lessor.promote(clock.now_ms(), leases, extension_ms);
    }
    loop {
        let (due, checkpoints, paused, next) = {
            let mut lessor = clock.lessor.lock();
            let now_ms = clock.now_ms();
            let due = lessor.due(now_ms, EXPIRIES_PER_COMMAND);
            let checkpoints = lessor.checkpoints_due(now_ms, CHECKPOINTS_PER_COMMAND);
            (due, checkpoints, lessor.is_paused(), lessor.next_deadline())
        };
        if paused {
            confirmed(around).await;
            clock.lessor.lock().confirm(clock.now_ms());
            continue;
        }
        if !due.is_empty() {
            clock.metrics.server.lease_expired.inc_by(due.len() as u64);
            let size = due.len() * 10;
            // What fails is due again after a while.
            let _ = around.proposer.propose(Command::LeaseExpire { term, ids: due }, size).await;
            continue;
        }
        if !checkpoints.is_empty() {
            let size = checkpoints.len() * 12;
            let _ =
                around.proposer.propose(Command::LeaseCheckpoint { remaining_s: checkpoints }, size).await;
            continue;
        }
        let until = next.map(|ms| clock.started + Duration::from_millis(ms));
        tokio::select! {
            () = clock.changed.notified() => {}
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::raft::leadership::LeaderStatus;

    #[tokio::test]
    async fn an_office_ends_with_its_term_and_with_raft() {
        let own = MemberId(1);
        let led = |term| LeaderStatus { term, leader: Some(own), ..LeaderStatus::default() };
        let (tell, leader) = watch::channel(led(3));
        let told = async {
            tokio::task::yield_now().await;
            tell.send_replace(led(4));
        };
        let (goes_on, ()) = tokio::join!(end_of_office(leader.clone(), own, 3), told);
        assert!(goes_on);
        drop(tell);
        assert!(!end_of_office(leader, own, 4).await, "it still leads, by what was told last");
    }
}
