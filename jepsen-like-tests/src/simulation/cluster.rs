//! A simulated cluster: machines, network, clients, and all invariants, moved on together in small steps of one clock.
//!
//! One thread, one order: in each step the network delivers, then each machine runs for the step, then everything is
//! looked at. Machines therefore influence each other at the next step at the earliest.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use barque_store::ids::{MemberId, Revision};
use barque_store::member::Member;
use barque_store::member::snapshots::SnapshotRule;
use barque_store::raft::observe;
use barque_store::rpc::backend::Backend as _;
use barque_store::watch::History as _;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::clients::Clients;
use super::host::{Founding, Host, first_member};
use super::invariants::committed_is_durable::CommittedIsDurable;
use super::invariants::election_safety::ElectionSafety;
use super::invariants::leader_completeness::LeaderCompleteness;
use super::invariants::lease_not_early::LeaseNotEarly;
use super::invariants::log_matching;
use super::invariants::revision_never_goes_back::RevisionNeverGoesBack;
use super::invariants::state_machine_safety::Chronicle;
use super::invariants::watch_guarantees::{Told, WatchGuarantees};
use super::look::{Look, log_from};
use super::network::{Network, Place, url_of};
use super::operation::{Answer, Operation};
use super::plan::{DRIFT, Plan};
use super::planted::Planted;
use super::trace::Trace;
use super::violation::Violation;
use super::watcher;

/// One step.
pub const STEP_MS: u64 = 2;
/// Logs are compared as often.
const COMPARE_MS: u64 = 400;
/// A process that ended is started again after at most so long.
const RESTART_MS: u64 = 800;
/// A machine whose process ended so often before it took part is given up.
const FUTILE_STARTS: u32 = 8;

/// So long after the last fault nobody is left who leads without knowing that another one does.
const SETTLED_MS: u64 = 3000;
/// No more machines.
const MOST_HOSTS: usize = 8;
/// So many members stay.
const FEWEST_MEMBERS: usize = 3;

/// Clocks with a planted bug.
const TOO_FAST: f64 = 1.5;

/// What watches told: machine, process, answer.
pub type WatchLog = Arc<Mutex<VecDeque<(Place, u64, Told)>>>;

/// Changes of the membership that leaders have made: which machine, and the id of its new member, or `None` when its member
/// was removed.
type Changed = Arc<Mutex<VecDeque<(Place, Option<MemberId>)>>>;

/// What is known of one machine beside itself.
#[derive(Clone, Debug, Default)]
struct Care {
    boot_at_ms: Option<u64>,
    futile_starts: u32,
    given_up: Option<String>,
    /// The process that was seen last, and the revision up to which its history was read.
    seen: Option<(u64, i64)>,
    applied_index: u64,
    watched_boot: u64,
    /// Its member is none any more.
    removed: bool,
}

/// The invariants.
pub struct Invariants {
    /// See there.
    pub election_safety: ElectionSafety,
    /// See there.
    pub leader_completeness: LeaderCompleteness,
    /// See there.
    pub chronicle: Chronicle,
    /// See there.
    pub durable: CommittedIsDurable,
    /// See there.
    pub revisions: RevisionNeverGoesBack,
    /// See there.
    pub leases: LeaseNotEarly,
    /// See there.
    pub watches: WatchGuarantees,
}

/// A cluster.
pub struct Cluster {
    /// What the seed stands for.
    pub plan: Plan,
    /// Now.
    pub now_ms: u64,
    /// The machines.
    pub hosts: Vec<Host>,
    /// Between them.
    pub network: Network,
    /// What must hold.
    pub invariants: Invariants,
    /// What happened.
    pub trace: Trace,
    /// What clients do.
    pub clients: Clients,
    founding: Founding,
    planted: Option<Planted>,
    care: Vec<Care>,
    chance: StdRng,
    watch_log: WatchLog,
    compare_at_ms: u64,
    /// When faults ended.
    healed_at_ms: Option<u64>,
    changed: Changed,
    dir: PathBuf,
    /// A machine that is about to get a member.
    coming: Option<Place>,
}

impl Cluster {
    /// Machines that are about to be switched on, with their files below `dir`.
    #[must_use]
    pub fn new(plan: Plan, planted: Option<Planted>, dir: &Path, keep_lines: usize) -> Self {
        let mut chance = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let network = Network::new(chance.random());
        let snapshot_rule =
            SnapshotRule { entries: plan.snapshot_entries, keep_log_bytes: plan.keep_log_bytes };
        let founding = Founding { members: (0..plan.members).map(first_member).collect(), snapshot_rule };
        let mut hosts: Vec<Host> = (0..plan.members)
            .map(|place| Host::new(place, dir, &network, chance.random(), &founding))
            .collect();
        if planted == Some(Planted::LyingDisk) {
            hosts.iter().for_each(|host| host.disk.lie_about_syncs());
        }
        if planted == Some(Planted::EarlyLease) {
            hosts.iter_mut().for_each(|host| host.set_rate(TOO_FAST));
        }
        let care = hosts.iter().map(|_| Care { boot_at_ms: Some(0), ..Care::default() }).collect();
        let clients = Clients::new(&plan, planted, chance.random());
        Self {
            now_ms: 0,
            hosts,
            network,
            invariants: Invariants {
                election_safety: ElectionSafety::default(),
                leader_completeness: LeaderCompleteness::default(),
                chronicle: Chronicle::default(),
                durable: CommittedIsDurable::default(),
                revisions: RevisionNeverGoesBack::default(),
                leases: LeaseNotEarly::new(1.0 + DRIFT),
                watches: WatchGuarantees::default(),
            },
            trace: Trace::new(keep_lines),
            clients,
            founding,
            planted,
            care,
            chance,
            watch_log: WatchLog::default(),
            compare_at_ms: COMPARE_MS,
            healed_at_ms: None,
            changed: Changed::default(),
            dir: dir.to_owned(),
            coming: None,
            plan,
        }
    }

    /// Chance, for those who decide on faults.
    pub fn chance(&mut self) -> &mut StdRng {
        &mut self.chance
    }

    /// One step.
    ///
    /// # Errors
    /// When an invariant does not hold any more.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.now_ms += STEP_MS;
        self.network.deliver(self.now_ms);
        let mut order: Vec<Place> = (0..self.hosts.len()).collect();
        order.shuffle(&mut self.chance);
        for place in order {
            self.boot_if_due(place)?;
            self.hosts[place].run(STEP_MS);
            self.end_what_ended(place);
        }
        self.take_changes();
        let looks = self.look()?;
        self.take_answers()?;
        self.take_watches()?;
        if self.now_ms >= self.compare_at_ms {
            self.compare_at_ms = self.now_ms + COMPARE_MS;
            self.compare_logs()?;
        }
        self.clients.go_on(self.now_ms, &self.hosts, self.invariants.revisions.floor(), &looks);
        Ok(())
    }

    fn boot_if_due(&mut self, place: Place) -> Result<(), Violation> {
        if self.care[place].boot_at_ms.is_none_or(|at| at > self.now_ms) {
            return Ok(());
        }
        self.care[place].boot_at_ms = None;
        self.hosts[place]
            .boot(&self.founding)
            .map_err(|error| Violation::of("the simulation works", error.to_string()))?;
        self.trace.note(self.now_ms, format_args!("m{place} is started"));
        Ok(())
    }

    fn end_what_ended(&mut self, place: Place) {
        let host = &mut self.hosts[place];
        if host.disk.is_off() {
            self.trace.note(self.now_ms, format_args!("m{place} loses its power in a write"));
            host.lose_power();
            self.start_later(place);
        } else if let Some(reason) = host.failure() {
            self.trace.note(self.now_ms, format_args!("the process at m{place} ends: {reason}"));
            let took_part = host.member().is_some();
            host.kill();
            let care = &mut self.care[place];
            care.futile_starts = if took_part { 0 } else { care.futile_starts + 1 };
            if care.removed {
                self.clients.ended(place);
            } else if care.futile_starts >= FUTILE_STARTS {
                care.given_up = Some(reason);
                self.clients.ended(place);
                self.clients.give_up(place);
            } else {
                self.start_later(place);
            }
        }
    }

    fn start_later(&mut self, place: Place) {
        self.clients.ended(place);
        if self.care[place].removed {
            return;
        }
        let after_ms = self.chance.random_range(STEP_MS..RESTART_MS);
        self.care[place].boot_at_ms = Some(self.now_ms + after_ms);
    }

    /// A process ends; it is started again some time later.
    pub fn kill(&mut self, place: Place) {
        if self.hosts[place].is_running() {
            self.trace.note(self.now_ms, format_args!("m{place} is killed"));
            self.hosts[place].kill();
            self.start_later(place);
        }
    }

    /// A machine loses its power; it is started again some time later.
    pub fn lose_power(&mut self, place: Place) {
        if self.hosts[place].is_running() {
            self.trace.note(self.now_ms, format_args!("m{place} loses its power"));
            self.hosts[place].lose_power();
            self.start_later(place);
        }
    }

    /// Why a machine was given up, if it was.
    #[must_use]
    pub fn given_up(&self, place: Place) -> Option<&str> {
        self.care[place].given_up.as_deref()
    }

    /// The machines whose members are expected to work in the end.
    #[must_use]
    pub fn expected(&self) -> Vec<Place> {
        let works = |place: &Place| self.care[*place].given_up.is_none() && !self.care[*place].removed;
        (0..self.hosts.len()).filter(works).collect()
    }

    /// Members that take part now.
    #[must_use]
    pub fn members(&self) -> Vec<(Place, u64, Member)> {
        let member = |host: &Host| host.member().map(|(member, boot)| (host.place, boot, member));
        self.hosts.iter().filter_map(member).collect()
    }

    /// Has the leader add a member on a machine that is new; whether it was asked.
    pub fn add_member(&mut self) -> bool {
        let place = self.hosts.len();
        let Some((at, leader)) = self.leader() else { return false };
        if self.coming.is_some() || place >= MOST_HOSTS {
            return false;
        }
        self.coming = Some(place);
        let changed = Arc::clone(&self.changed);
        self.hosts[at].spawn(|_| async move {
            // One that is refused, or whose leader goes, is never started.
            if let Ok((member, _)) = leader.add_member(vec![url_of(place)], false).await {
                changed.lock().unwrap_or_else(PoisonError::into_inner).push_back((place, Some(member.id)));
            }
        })
    }

    /// Has the leader remove a member, if enough others are left; whether it was asked.
    pub fn remove_member(&mut self, place: Place) -> bool {
        let Some((at, leader)) = self.leader() else { return false };
        let id = self.hosts[place].id;
        if self.expected().len() <= FEWEST_MEMBERS || self.care[place].removed || self.coming == Some(place) {
            return false;
        }
        let changed = Arc::clone(&self.changed);
        self.hosts[at].spawn(|_| async move {
            if leader.remove_member(id).await.is_ok() {
                changed.lock().unwrap_or_else(PoisonError::into_inner).push_back((place, None));
            }
        })
    }

    fn take_changes(&mut self) {
        let changes: Vec<_> = self.changed.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for (place, id) in changes {
            self.trace.note(self.now_ms, format_args!("m{place} is now {id:?}"));
            match id {
                Some(id) if place == self.hosts.len() => {
                    let (network, seed) = (self.network.clone(), self.chance.random());
                    let mut host = Host::new(place, &self.dir, &network, seed, &self.founding);
                    host.id = id;
                    self.hosts.push(host);
                    self.care.push(Care { boot_at_ms: Some(self.now_ms), ..Care::default() });
                    self.coming = None;
                }
                Some(_) => {}
                None => self.removed(place),
            }
        }
        self.find_removed();
    }

    /// A removal of which nobody was told is seen in the membership, once there is one leader alone.
    fn find_removed(&mut self) {
        if self.healed_at_ms.is_none_or(|at| self.now_ms < at + SETTLED_MS) {
            return;
        }
        let Some((_, leader)) = self.leader() else { return };
        let members = observe::nodes(leader.raft());
        for place in 0..self.hosts.len() {
            if !members.iter().any(|node| node.id == self.hosts[place].id) {
                self.removed(place);
            }
        }
    }

    /// Nothing is expected of a place any more, and nothing starts there.
    fn removed(&mut self, place: Place) {
        self.care[place].removed = true;
        self.care[place].boot_at_ms = None;
        self.clients.give_up(place);
    }

    /// The member that leads in the newest term, if one says so.
    #[must_use]
    pub fn leader(&self) -> Option<(Place, Member)> {
        let looks = self.members().into_iter().filter_map(|(place, boot, member)| {
            let term = Look::at(place, boot, &member)?.leads()?;
            Some((term, place, member))
        });
        looks.max_by_key(|(term, ..)| *term).map(|(_, place, member)| (place, member))
    }

    fn look(&mut self) -> Result<BTreeMap<Place, Look>, Violation> {
        let mut looks = BTreeMap::new();
        for (place, boot, member) in self.members() {
            let Some(look) = Look::at(place, boot, &member) else { continue };
            self.judge(&look, &member)?;
            looks.insert(place, look);
            self.watch(place, boot, &member);
        }
        Ok(looks)
    }

    fn judge(&mut self, look: &Look, member: &Member) -> Result<(), Violation> {
        let invariants = &mut self.invariants;
        let place = look.place;
        invariants.election_safety.see(look)?;
        invariants.revisions.see(look)?;
        let care = &mut self.care[place];
        if care.seen.is_none_or(|(boot, _)| boot != look.boot) {
            care.futile_starts = 0;
            care.seen = Some((look.boot, 1));
            care.applied_index = 0;
            self.trace.note(self.now_ms, format_args!("m{place} takes part from {:?}", look.applied));
        }
        if look.applied.index > care.applied_index {
            care.applied_index = look.applied.index;
            invariants.chronicle.executed(place, look.applied)?;
            invariants.leader_completeness.executed(look);
            let (term, index) = (look.applied.term, look.applied.index);
            self.trace.note(self.now_ms, format_args!("m{place} has executed {term}.{index}"));
        }
        let seen = care.seen.map_or(1, |(_, seen)| seen);
        if look.revision > seen {
            let from = (seen + 1).max(look.compact_revision + 1);
            let events = member.published().read(Revision(from), usize::MAX, usize::MAX);
            let events = events.map_err(|error| {
                Violation::of("history is readable", format!("m{place} from revision {from} on: {error}"))
            })?;
            care.seen = Some((look.boot, look.revision));
            for (revision, changes) in invariants.chronicle.changed(place, &events)? {
                invariants.leases.changed(self.now_ms, revision, &changes)?;
            }
        }
        if let Some(from) = invariants.leader_completeness.asks(look) {
            invariants.leader_completeness.see(look, &log_from(member, from))?;
        }
        Ok(())
    }

    /// Begins the watch of a process, where the one before it stopped.
    fn watch(&mut self, place: Place, boot: u64, member: &Member) {
        if self.care[place].watched_boot == boot {
            return;
        }
        self.care[place].watched_boot = boot;
        let from = self.invariants.watches.resume(place);
        let (log, member, planted) = (Arc::clone(&self.watch_log), member.clone(), self.planted);
        self.hosts[place].spawn(|state| {
            watcher::run(member, from, planted, move |told| {
                if state.is_alive() {
                    log.lock().unwrap_or_else(PoisonError::into_inner).push_back((place, boot, told));
                }
            })
        });
    }

    fn take_watches(&mut self) -> Result<(), Violation> {
        let told: Vec<_> = self.watch_log.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for (place, boot, told) in told {
            // What a process said when its power was failing was never heard.
            if self.hosts[place].member().is_some_and(|(_, now)| now == boot) {
                self.invariants.watches.see(place, &told, &self.invariants.chronicle)?;
            }
        }
        Ok(())
    }

    fn take_answers(&mut self) -> Result<(), Violation> {
        for operation in self.clients.take_answers(&self.hosts) {
            self.trace.note(self.now_ms, format_args!("{operation}"));
            self.judge_answer(&operation)?;
        }
        Ok(())
    }

    fn judge_answer(&mut self, operation: &Operation) -> Result<(), Violation> {
        let invariants = &mut self.invariants;
        if operation.answer == Answer::Unknown {
            return Ok(());
        }
        invariants.durable.answered(operation, &invariants.chronicle)?;
        invariants.revisions.answered(operation, &invariants.chronicle)?;
        invariants.leases.answered(operation);
        Ok(())
    }

    fn compare_logs(&mut self) -> Result<(), Violation> {
        let logs: Vec<(Place, Vec<_>)> =
            self.members().into_iter().map(|(place, _, member)| (place, log_from(&member, 0))).collect();
        for (at, (here, one)) in logs.iter().enumerate() {
            for (there, other) in &logs[at + 1..] {
                log_matching::compare((*here, one), (*there, other))?;
            }
        }
        Ok(())
    }

    /// All faults end, and everything that is down comes back.
    pub fn heal(&mut self) {
        self.trace.note(self.now_ms, format_args!("all faults end"));
        self.network.heal();
        self.healed_at_ms = Some(self.now_ms);
        for place in 0..self.hosts.len() {
            let host = &mut self.hosts[place];
            host.disk.set_room(None);
            host.disk.set_sync_ms(0..2);
            host.disk.process_ended();
            host.set_paused(false);
            if self.planted != Some(Planted::EarlyLease) {
                host.set_rate(1.0);
            }
        }
    }

    /// Whether all members that are expected to work agree on everything, and what they hold is what was promised.
    ///
    /// # Errors
    /// When they agree on something else.
    pub fn agrees(&mut self) -> Result<bool, Violation> {
        let members = self.members();
        let expected = self.expected();
        let looks: Vec<Look> = members
            .iter()
            .filter(|(place, ..)| expected.contains(place))
            .filter_map(|(place, boot, member)| Look::at(*place, *boot, member))
            .collect();
        let Some(first) = looks.first() else { return Ok(false) };
        let same = |look: &Look| {
            look.applied == first.applied
                && look.committed_index == look.applied.index
                && self.invariants.watches.resume(look.place) > look.revision
        };
        if looks.len() < expected.len() || !looks.iter().all(same) || self.clients.waits() {
            return Ok(false);
        }
        for look in &looks {
            self.invariants.durable.at_the_end(look, &self.invariants.chronicle)?;
            self.invariants.watches.at_the_end(look.place, &self.invariants.chronicle)?;
        }
        self.compare_hashes(&members)?;
        Ok(true)
    }

    fn compare_hashes(&self, members: &[(Place, u64, Member)]) -> Result<(), Violation> {
        use futures::FutureExt as _;
        let hash = |member: &Member| {
            let hashed = member.hash_kv(Revision(0)).now_or_never()?.ok()?;
            Some((hashed.hash_revision.0, hashed.compact_revision.0, hashed.hash))
        };
        let hashes: Vec<_> = members.iter().map(|(place, _, member)| (*place, hash(member))).collect();
        let expected = self.expected();
        let compared = hashes.iter().filter(|(place, _)| expected.contains(place));
        let mut compared = compared.map(|(_, hash)| hash);
        let first = compared.next();
        if compared.all(|hash| Some(hash) == first && hash.is_some()) {
            return Ok(());
        }
        Err(Violation::of("members hold the same", format!("in the end their hashes are {hashes:?}")))
    }

    /// Where everybody stands.
    #[must_use]
    pub fn describe(&self) -> String {
        let looks = self
            .members()
            .into_iter()
            .map(|(place, boot, member)| format!("m{place}: {:?}", Look::at(place, boot, &member)));
        let waits = if self.clients.waits() { "; clients wait" } else { "" };
        looks.collect::<Vec<_>>().join("; ") + waits
    }

    /// The member at a place.
    #[must_use]
    pub fn id_of(&self, place: Place) -> MemberId {
        self.hosts[place].id
    }
}
