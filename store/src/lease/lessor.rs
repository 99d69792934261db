//! When leases run out: the leader's deadlines.
//!
//! Pure: time is a monotonic number of milliseconds that the caller gives. Only the leader keeps
//! deadlines; what is replicated is a lease's full time and, now and then, its remaining time. Nothing
//! here deletes a lease: [`Lessor::due`] names those to be proposed for it, and [`Lessor::revoked`] is
//! told when that was applied. A lease must never be named before its time, as its holder knows it.
//!
//! A process that was paused has missed renewals that its clients did send. So after a gap between two
//! looks at the clock nothing is due until the caller has made sure that it still leads
//! ([`Lessor::confirm`]), and then clients get the time to renew. A machine that is always late looks as if it
//! were paused again and again, so a lease gets that time only so often before it ends all the same.

use std::collections::{BTreeSet, HashMap};

use crate::ids::LeaseId;

/// The longest time a lease can be granted for, in seconds.
pub const MAX_TTL_S: i64 = 9_000_000_000;

/// A lease was asked for that would live longer than [`MAX_TTL_S`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too large lease TTL")]
pub struct TtlTooLarge;

/// The shortest time to live: one and a half election timeouts, in whole seconds.
#[must_use]
pub fn min_ttl_s(election_timeout_ms: u64) -> i64 {
    i64::try_from((election_timeout_ms * 3).div_ceil(2 * 1000)).unwrap_or(MAX_TTL_S).clamp(1, MAX_TTL_S)
}

/// The time that a lease gets when `asked_s` was asked for.
///
/// # Errors
/// When that is more than [`MAX_TTL_S`].
pub fn granted_ttl_s(asked_s: i64, min_ttl_s: i64) -> Result<i64, TtlTooLarge> {
    if asked_s > MAX_TTL_S { Err(TtlTooLarge) } else { Ok(asked_s.max(min_ttl_s)) }
}

/// How leases end.
#[derive(Clone, Copy, Debug)]
pub struct LessorConfig {
    /// A lease that was named is named again after this time, if it still exists.
    pub retry_ms: u64,
    /// So many leases, at most, get deadlines within one second when a leader starts.
    pub max_expiries_per_s: usize,
    /// A longer time without a look at the clock counts as a pause of the process.
    pub pause_ms: u64,
    /// What leases that ran out in a pause still get.
    pub grace_ms: u64,
    /// A lease that is not renewed gets it so often.
    pub most_graces: u8,
}

impl Default for LessorConfig {
    fn default() -> Self {
        Self { retry_ms: 3000, max_expiries_per_s: 750, pause_ms: 1000, grace_ms: 2000, most_graces: 3 }
    }
}

/// A lease as it is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicatedLease {
    /// Which one.
    pub id: LeaseId,
    /// Full time, in seconds.
    pub ttl_s: i64,
    /// What a checkpoint left of it, in seconds; 0 when there is none and it has its full time.
    pub remaining_s: i64,
}

/// What became of a wish to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has its full time again.
    Renewed {
        /// Full time, in seconds.
        ttl_s: i64,
    },
    /// A checkpoint of less than the full time is replicated or under way. Replicate a checkpoint of 0,
    /// tell it to [`Lessor::checkpointed`] and renew again; else the next leader would end it early.
    ResetFirst,
    /// It has run out and its end was proposed: wait for [`Lessor::revoked`] or the loss of office.
    Ending,
    /// There is no such lease.
    NotFound,
    /// Deadlines are kept elsewhere.
    NotLeader,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_s: i64,
    expires_ms: u64,
    /// Its place in `expiries`: when it runs out or, once named, is named again.
    due_ms: u64,
    /// Named and neither applied nor renewed since.
    ending: bool,
    /// The replicated remaining time is, or may become, less than the full time.
    checkpointed: bool,
    /// Its place in `checkpoints`.
    checkpoint_ms: Option<u64>,
    /// How often it got a grace since it was renewed.
    graces: u8,
}

/// The deadlines of all leases, on the leader; empty elsewhere.
#[derive(Debug)]
pub struct Lessor {
    config: LessorConfig,
    leads: bool,
    leases: HashMap<LeaseId, Lease>,
    expiries: BTreeSet<(u64, LeaseId)>,
    checkpoints: BTreeSet<(u64, LeaseId)>,
    looked_ms: u64,
    paused: bool,
}

impl Lessor {
    /// A lessor that does not lead.
    #[must_use]
    pub fn new(config: LessorConfig) -> Self {
        Self {
            config,
            leads: false,
            leases: HashMap::new(),
            expiries: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            looked_ms: 0,
            paused: false,
        }
    }

    /// Whether deadlines are kept here.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// How many leases have deadlines here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether no lease has a deadline here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Takes office: every lease gets its remaining time anew and `extension_ms` (the election timeout)
    /// on top; where too many would end within a second, later ones are put off.
    pub fn promote(
        &mut self,
        now_ms: u64,
        leases: impl IntoIterator<Item = ReplicatedLease>,
        extension_ms: u64,
    ) {
        self.demote();
        self.leads = true;
        self.looked_ms = now_ms;
        let mut by_expiry: Vec<_> = leases
            .into_iter()
            .map(|lease| {
                let left_s = if lease.remaining_s > 0 { lease.remaining_s } else { lease.ttl_s };
                (now_ms + ms(left_s) + extension_ms, lease)
            })
            .collect();
        by_expiry.sort_unstable_by_key(|(expires_ms, lease)| (*expires_ms, lease.id));
        let rate = self.config.max_expiries_per_s.max(1);
        for at in rate..by_expiry.len() {
            by_expiry[at].0 = by_expiry[at].0.max(by_expiry[at - rate].0 + 1000);
        }
        for (expires_ms, lease) in by_expiry {
            self.insert(now_ms, lease.id, lease.ttl_s, expires_ms, lease.remaining_s > 0);
        }
    }

    /// Leaves office: deadlines are forgotten.
    pub fn demote(&mut self) {
        self.leads = false;
        self.paused = false;
        self.leases.clear();
        self.expiries.clear();
        self.checkpoints.clear();
    }

    /// A grant was applied.
    pub fn granted(&mut self, id: LeaseId, ttl_s: i64, now_ms: u64) {
        if self.leads {
            self.look(now_ms);
            self.revoked(id);
            self.insert(now_ms, id, ttl_s, now_ms + ms(ttl_s), false);
        }
    }

    /// The end of a lease was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.expiries.remove(&(lease.due_ms, id));
            if let Some(at) = lease.checkpoint_ms {
                self.checkpoints.remove(&(at, id));
            }
        }
    }

    /// A checkpoint was applied; 0 is the full time.
    pub fn checkpointed(&mut self, id: LeaseId, remaining_s: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.checkpointed = remaining_s > 0;
        }
    }

    /// Gives a lease its full time again. The caller has made sure that it still leads.
    pub fn renew(&mut self, id: LeaseId, now_ms: u64) -> Renewal {
        if !self.leads {
            return Renewal::NotLeader;
        }
        self.look(now_ms);
        let Some(lease) = self.leases.get(&id).copied() else { return Renewal::NotFound };
        if lease.ending {
            return Renewal::Ending;
        }
        if lease.checkpointed {
            return Renewal::ResetFirst;
        }
        self.set_due(id, now_ms + ms(lease.ttl_s), true);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.graces = 0;
        }
        self.schedule_checkpoint(id, now_ms);
        Renewal::Renewed { ttl_s: lease.ttl_s }
    }

    /// The time that a lease has left, in milliseconds; 0 when it has run out.
    #[must_use]
    pub fn remaining_ms(&self, id: LeaseId, now_ms: u64) -> Option<u64> {
        self.leases.get(&id).map(|lease| lease.expires_ms.saturating_sub(now_ms))
    }

    /// Leases whose end is to be proposed, at most `max`, the longest overdue first.
    pub fn due(&mut self, now_ms: u64, max: usize) -> Vec<LeaseId> {
        self.look(now_ms);
        if self.paused {
            return Vec::new();
        }
        let ids: Vec<_> =
            self.expiries.iter().take_while(|(at, _)| *at <= now_ms).take(max).map(|(_, id)| *id).collect();
        for &id in &ids {
            self.set_due(id, now_ms + self.config.retry_ms, false);
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.ending = true;
            }
        }
        ids
    }

    /// Remaining times to be replicated, at most `max`, in whole seconds rounded up. A lease that is
    /// renewed again and again never needs one.
    pub fn checkpoints_due(&mut self, now_ms: u64, max: usize) -> Vec<(LeaseId, i64)> {
        self.look(now_ms);
        let mut due = Vec::new();
        while !self.paused
            && due.len() < max
            && let Some(&(at, id)) = self.checkpoints.first()
            && at <= now_ms
        {
            self.schedule_checkpoint(id, now_ms);
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            let remaining_s = lease.expires_ms.saturating_sub(now_ms).div_ceil(1000) as i64;
            if remaining_s > 0 && remaining_s < lease.ttl_s {
                lease.checkpointed = true;
                due.push((id, remaining_s));
            }
        }
        due
    }

    /// When to ask again, for one timer: the next end or checkpoint, and often enough to notice a pause.
    /// `None` while there is nothing to wait for, or the caller has to [`Lessor::confirm`] first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.paused {
            return None;
        }
        let (expiry, _) = self.expiries.first()?;
        let checkpoint = self.checkpoints.first().map_or(u64::MAX, |(at, _)| *at);
        Some(checkpoint.min(*expiry).min(self.looked_ms + self.config.pause_ms / 2))
    }

    /// Whether a pause was noticed and leadership has to be confirmed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The caller made sure, after it noticed the pause, that it still leads. What ran out meanwhile gets
    /// a grace in which to be renewed.
    pub fn confirm(&mut self, now_ms: u64) {
        self.looked_ms = self.looked_ms.max(now_ms);
        if !std::mem::take(&mut self.paused) {
            return;
        }
        let until = now_ms + self.config.grace_ms;
        let late: Vec<_> = self
            .expiries
            .range(..(until, LeaseId(i64::MIN)))
            .map(|(_, id)| *id)
            .filter(|id| {
                let most = self.config.most_graces;
                self.leases.get(id).is_some_and(|lease| !lease.ending && lease.graces < most)
            })
            .collect();
        for id in late {
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.graces += 1;
            }
            self.set_due(id, until, true);
        }
    }

    fn look(&mut self, now_ms: u64) {
        if self.leads && !self.leases.is_empty() && now_ms > self.looked_ms + self.config.pause_ms {
            self.paused = true;
        }
        self.looked_ms = self.looked_ms.max(now_ms);
    }

    fn insert(&mut self, now_ms: u64, id: LeaseId, ttl_s: i64, expires_ms: u64, checkpointed: bool) {
        self.leases.insert(
            id,
            Lease {
                ttl_s,
                expires_ms,
                due_ms: expires_ms,
                ending: false,
                checkpointed,
                checkpoint_ms: None,
                graces: 0,
            },
        );
        self.expiries.insert((expires_ms, id));
        self.schedule_checkpoint(id, now_ms);
    }

    fn set_due(&mut self, id: LeaseId, due_ms: u64, is_expiry: bool) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.expiries.remove(&(lease.due_ms, id));
            self.expiries.insert((due_ms, id));
            lease.due_ms = due_ms;
            if is_expiry {
                lease.expires_ms = due_ms;
            }
        }
    }

    /// Plans the next checkpoint, if one still makes sense.
    fn schedule_checkpoint(&mut self, id: LeaseId, now_ms: u64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if let Some(at) = lease.checkpoint_ms.take() {
            self.checkpoints.remove(&(at, id));
        }
        let at = now_ms + checkpoint_interval_ms(lease.ttl_s);
        if at < lease.expires_ms {
            lease.checkpoint_ms = Some(at);
            self.checkpoints.insert((at, id));
        }
    }
}

/// Half the lease's time, but no less than 5 s and no more than 60 s.
fn checkpoint_interval_ms(ttl_s: i64) -> u64 {
    (ms(ttl_s) / 2).clamp(5_000, 60_000)
}

fn ms(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lessor() -> Lessor {
        let mut lessor = Lessor::new(LessorConfig::default());
        lessor.promote(0, [], 1000);
        lessor
    }

    fn replicated(id: i64, ttl_s: i64, remaining_s: i64) -> ReplicatedLease {
        ReplicatedLease { id: LeaseId(id), ttl_s, remaining_s }
    }

    /// Moves a timer from deadline to deadline and collects what was due, with the time.
    fn run(lessor: &mut Lessor, until_ms: u64, max: usize) -> Vec<(u64, LeaseId)> {
        let mut named = Vec::new();
        while let Some(now) = lessor.next_deadline().filter(|at| *at <= until_ms) {
            named.extend(lessor.due(now, max).into_iter().map(|id| (now, id)));
            lessor.checkpoints_due(now, usize::MAX);
        }
        named
    }

    #[test]
    fn times_to_live_have_bounds() {
        assert_eq!(min_ttl_s(1000), 2);
        assert_eq!(min_ttl_s(500), 1);
        assert_eq!(min_ttl_s(2000), 3);
        assert_eq!(granted_ttl_s(-5, 2), Ok(2));
        assert_eq!(granted_ttl_s(7, 2), Ok(7));
        assert_eq!(granted_ttl_s(MAX_TTL_S, 2), Ok(MAX_TTL_S));
        assert_eq!(granted_ttl_s(MAX_TTL_S + 1, 2), Err(TtlTooLarge));
        let mut lessor = lessor();
        lessor.granted(LeaseId(1), MAX_TTL_S, 5);
        assert_eq!(lessor.remaining_ms(LeaseId(1), 5), Some(9_000_000_000_000));
    }

    #[test]
    fn is_named_on_time_and_again_only_after_the_retry() {
        let mut lessor = lessor();
        lessor.granted(LeaseId(1), 2, 500);
        assert_eq!(lessor.due(1500, 10), []);
        assert_eq!(lessor.due(2499, 10), []);
        assert_eq!(lessor.renew(LeaseId(1), 2499), Renewal::Renewed { ttl_s: 2 });
        assert_eq!(run(&mut lessor, 8000, 10), [(4499, LeaseId(1)), (7499, LeaseId(1))]);
        assert_eq!(lessor.remaining_ms(LeaseId(1), 7500), Some(0));
        assert_eq!(lessor.renew(LeaseId(1), 7500), Renewal::Ending);
        lessor.revoked(LeaseId(1));
        assert_eq!(lessor.renew(LeaseId(1), 7500), Renewal::NotFound);
        assert_eq!(lessor.remaining_ms(LeaseId(1), 7500), None);
        assert_eq!(lessor.next_deadline(), None);
        lessor.demote();
        assert_eq!(lessor.renew(LeaseId(1), 7500), Renewal::NotLeader);
        lessor.granted(LeaseId(2), 2, 7500);
        assert!(lessor.is_empty());
    }

    /// Each look at the clock comes later than a pause is long.
    #[test]
    fn a_lease_ends_also_where_everything_is_always_late() {
        let mut lessor = lessor();
        lessor.granted(LeaseId(1), 2, 0);
        let mut named_ms = None;
        for now_ms in (0..60_000).step_by(1100) {
            let due = lessor.due(now_ms, 10);
            if lessor.is_paused() {
                lessor.confirm(now_ms);
            }
            if !due.is_empty() || !lessor.due(now_ms, 10).is_empty() {
                named_ms = Some(now_ms);
                break;
            }
            // From then on it counts anew.
            if now_ms == 3300 {
                assert_eq!(lessor.renew(LeaseId(1), now_ms), Renewal::Renewed { ttl_s: 2 });
            }
        }
        let LessorConfig { grace_ms, most_graces, .. } = LessorConfig::default();
        let most_ms = 5300 + (u64::from(most_graces) + 1) * (grace_ms + 1100);
        assert!(named_ms.is_some_and(|ms| (5300 + grace_ms..most_ms).contains(&ms)), "{named_ms:?}");
    }

    #[test]
    fn a_new_leader_goes_on_where_the_checkpoint_stood() {
        let mut lessor = lessor();
        lessor.promote(10_000, [replicated(1, 100, 0), replicated(2, 100, 30)], 1000);
        assert_eq!(lessor.remaining_ms(LeaseId(1), 10_000), Some(101_000));
        assert_eq!(lessor.remaining_ms(LeaseId(2), 10_000), Some(31_000));
        assert_eq!(lessor.renew(LeaseId(2), 10_000), Renewal::ResetFirst);
        assert_eq!(lessor.remaining_ms(LeaseId(2), 10_000), Some(31_000));
        lessor.checkpointed(LeaseId(2), 0);
        assert_eq!(lessor.renew(LeaseId(2), 10_000), Renewal::Renewed { ttl_s: 100 });
        assert_eq!(lessor.remaining_ms(LeaseId(2), 10_000), Some(100_000));
    }

    #[test]
    fn checkpoints_are_for_leases_that_are_not_renewed() {
        let config = LessorConfig { pause_ms: u64::MAX / 2, ..LessorConfig::default() };
        let mut lessor = Lessor::new(config);
        lessor.promote(0, [], 0);
        for (id, ttl_s) in [(1, 4), (2, 12), (3, 12), (4, 3600)] {
            lessor.granted(LeaseId(id), ttl_s, 0);
        }
        assert_eq!(lessor.checkpoints_due(5_999, 10), []);
        assert_eq!(lessor.renew(LeaseId(3), 5_999), Renewal::Renewed { ttl_s: 12 });
        // From the moment it is handed out, it may become the replicated truth.
        assert_eq!(lessor.checkpoints_due(6_100, 10), [(LeaseId(2), 6)]);
        assert_eq!(lessor.renew(LeaseId(2), 6_200), Renewal::ResetFirst);
        lessor.checkpointed(LeaseId(2), 6);
        assert_eq!(lessor.renew(LeaseId(2), 6_200), Renewal::ResetFirst);
        assert_eq!(lessor.checkpoints_due(6_200, 10), []);
        assert_eq!(lessor.checkpoints_due(60_000, 1), [(LeaseId(4), 3540)]);
        assert_eq!(lessor.checkpoints_due(119_999, 10), []);
        assert_eq!(lessor.checkpoints_due(120_000, 10), [(LeaseId(4), 3480)]);
    }

    #[test]
    fn leases_that_would_end_together_are_spread() {
        let mut lessor = lessor();
        lessor.promote(0, (0..5000).map(|id| replicated(id, 10, 0)), 1000);
        let named = run(&mut lessor, 13_999, usize::MAX);
        assert_eq!(named.len(), 3 * 750);
        let mut all = named;
        all.extend(run(&mut lessor, 19_000, usize::MAX));
        all.sort_unstable();
        let mut ids: Vec<_> = all.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5000);
        let (first, last) = (all[0].0, lessor.remaining_ms(LeaseId(4999), 0));
        assert_eq!((first, last), (11_000, Some(17_000)));
    }

    #[test]
    fn after_a_pause_nothing_ends_before_leadership_is_confirmed() {
        let mut lessor = lessor();
        lessor.granted(LeaseId(1), 2, 0);
        lessor.granted(LeaseId(2), 20, 0);
        assert_eq!(lessor.due(900, 10), []);
        // 1900 ms later.
        assert_eq!(lessor.due(2_800, 10), []);
        assert!(lessor.is_paused());
        assert_eq!(lessor.next_deadline(), None);
        assert_eq!(lessor.due(2_900, 10), []);
        assert_eq!(lessor.checkpoints_due(2_900, 10), []);
        lessor.confirm(3_000);
        assert_eq!(lessor.due(3_000, 10), []);
        assert_eq!(lessor.remaining_ms(LeaseId(1), 3_000), Some(2_000));
        assert_eq!(lessor.remaining_ms(LeaseId(2), 3_000), Some(17_000));
        assert_eq!(run(&mut lessor, 5_000, 10), [(5_000, LeaseId(1))]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Grant(i64, i64),
        Renew(i64),
        Revoke(i64),
        Wait(u64),
        Fail(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let id = 0i64..12;
        prop::collection::vec(
            prop_oneof![
                (id.clone(), 2i64..40).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
                id.clone().prop_map(Step::Renew),
                id.prop_map(Step::Revoke),
                (0u64..9_000).prop_map(Step::Wait),
                (0u64..3_000).prop_map(Step::Fail),
            ],
            1..80,
        )
    }

    /// What is replicated, and until when each holder may count on its lease.
    #[derive(Default)]
    struct Model {
        leases: HashMap<LeaseId, (ReplicatedLease, u64)>,
    }

    impl Model {
        fn checkpoint(&mut self, lessor: &mut Lessor, id: LeaseId, remaining_s: i64) {
            if let Some((lease, _)) = self.leases.get_mut(&id) {
                lease.remaining_s = remaining_s;
            }
            lessor.checkpointed(id, remaining_s);
        }
    }

    proptest! {
        #[test]
        fn never_early_and_never_lost(steps in steps(), max in 1usize..4) {
            let mut lessor = lessor();
            let mut model = Model::default();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Grant(id, ttl_s) if !model.leases.contains_key(&LeaseId(id)) => {
                        model.leases.insert(LeaseId(id), (replicated(id, ttl_s, 0), now + ms(ttl_s)));
                        lessor.granted(LeaseId(id), ttl_s, now);
                    }
                    Step::Grant(..) => {}
                    Step::Renew(id) => {
                        let id = LeaseId(id);
                        if lessor.renew(id, now) == Renewal::ResetFirst {
                            model.checkpoint(&mut lessor, id, 0);
                        }
                        match lessor.renew(id, now) {
                            Renewal::Renewed { ttl_s } => {
                                let (lease, until) = model.leases.get_mut(&id).unwrap();
                                prop_assert_eq!((lease.ttl_s, lease.remaining_s), (ttl_s, 0));
                                *until = now + ms(ttl_s);
                            }
                            Renewal::Ending => prop_assert!(model.leases[&id].1 <= now),
                            Renewal::NotFound => prop_assert!(!model.leases.contains_key(&id)),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                    Step::Revoke(id) => {
                        model.leases.remove(&LeaseId(id));
                        lessor.revoked(LeaseId(id));
                    }
                    // The leader fails and another one takes over, after some time.
                    Step::Fail(after) => {
                        now += after;
                        lessor.promote(now, model.leases.values().map(|(lease, _)| *lease), 1000);
                    }
                    Step::Wait(time) => {
                        let until = now + time;
                        while let Some(at) = lessor.next_deadline().filter(|at| *at <= until) {
                            prop_assert!(at >= now, "time does not go back");
                            now = at;
                            for id in lessor.due(now, max) {
                                prop_assert!(model.leases[&id].1 <= now, "early");
                                model.leases.remove(&id);
                                lessor.revoked(id);
                            }
                            for (id, remaining_s) in lessor.checkpoints_due(now, max) {
                                let (lease, promised) = model.leases[&id];
                                prop_assert!(remaining_s > 0 && remaining_s < lease.ttl_s);
                                prop_assert!(now + ms(remaining_s) >= promised);
                                model.checkpoint(&mut lessor, id, remaining_s);
                            }
                        }
                        now = until;
                    }
                }
                prop_assert_eq!(lessor.len(), model.leases.len());
                prop_assert_eq!(lessor.expiries.len(), model.leases.len());
                prop_assert_eq!(
                    lessor.checkpoints.len(),
                    lessor.leases.values().filter(|l| l.checkpoint_ms.is_some()).count()
                );
                for (id, (_, promised)) in &model.leases {
                    let left = lessor.remaining_ms(*id, now);
                    prop_assert!(left >= Some(promised.saturating_sub(now)));
                }
            }
            // Nothing is lost: a quiet time later every lease has ended.
            let end = now + 100_000;
            while let Some(at) = lessor.next_deadline() {
                prop_assert!(at <= end);
                for id in lessor.due(at, max) {
                    model.leases.remove(&id);
                    lessor.revoked(id);
                }
                lessor.checkpoints_due(at, max);
            }
            prop_assert!(model.leases.is_empty());
        }
    }
}
