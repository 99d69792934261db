//! A simulated cluster: machines, network, clients, and all invariants, moved on together in small steps of one clock.
//!
//! One thread, one order: in each step the network delivers, then each machine runs for the step, then everything is
//! looked at. Machines therefore influence each other at the next step at the earliest.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use barque_store::command::AlarmKind;
use barque_store::config::AutoCompaction;
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

use super::admin::{self, Admin};
use super::clients::Clients;
use super::disk::Honesty;
use super::durable::DurableLog;
use super::host::{Founding, Host, first_member};
use super::invariants::committed_is_durable::CommittedIsDurable;
use super::invariants::committed_on_quorum::CommittedOnQuorum;
use super::invariants::election_safety::ElectionSafety;
use super::invariants::leader_completeness::LeaderCompleteness;
use super::invariants::lease_not_early::LeaseNotEarly;
use super::invariants::log_matching;
use super::invariants::revision_never_goes_back::RevisionNeverGoesBack;
use super::invariants::state_machine_safety::Chronicle;
use super::invariants::watch_guarantees::{Told, WatchGuarantees};
use super::look::{Look, log_from};
use super::network::{Network, Place};
use super::operation::{Answer, Operation};
use super::plan::{DRIFT, Plan};
use super::planted::{Planted, revoke_by_own_clock};
use super::tally::Tally;
use super::trace::Trace;
use super::violation::Violation;
use super::watcher;

/// One step.
pub const STEP_MS: u64 = 2;
/// Logs are compared as often.
const COMPARE_MS: u64 = 400;
/// A process that ended is started again after at most so long.
const RESTART_MS: u64 = 800;
/// A machine whose process said so often that its data is damaged is given to the administrator.
const FUTILE_STARTS: u32 = 3;

/// So long after the last fault nobody is left who leads without knowing that another one does.
const SETTLED_MS: u64 = 3000;
/// Clocks with a planted bug.
const TOO_FAST: f64 = 1.5;

/// What watches told: machine, process, answer.
pub type WatchLog = Arc<Mutex<VecDeque<(Place, u64, Told)>>>;

/// What is known of one machine beside itself.
#[derive(Clone, Debug, Default)]
struct Care {
    boot_at_ms: Option<u64>,
    damaged_starts: u32,
    /// The process that was seen last, and the revision up to which its history was read.
    seen: Option<(u64, i64)>,
    applied_index: u64,
    watched_boot: u64,
    /// It has no member, or none any more.
    removed: bool,
    /// What is synced of its log.
    durable: DurableLog,
}

/// What the cluster as a whole went through, by the newest state that was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    applied_index: u64,
    has_auth: bool,
    is_full: bool,
    compact_revision: i64,
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
    pub on_quorum: CommittedOnQuorum,
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
    dir: PathBuf,
    /// Who changes the membership.
    pub admin: Admin,
    /// What happened, by kind.
    pub tally: Tally,
    seen: Seen,
}

/// Puts a bug into a machine.
fn plant(planted: Option<Planted>, host: &mut Host) {
    match planted {
        Some(Planted::LyingDisk) => host.disk.set_honesty(Honesty::Lies),
        Some(Planted::AckBeforeStore) => host.disk.set_honesty(Honesty::Late),
        Some(Planted::EarlyLease) => host.set_rate(TOO_FAST),
        _ => {}
    }
}

/// Why a process ended by itself.
fn kind_of_end(reason: &str) -> &'static str {
    match reason {
        _ if reason.contains("another data directory") => "ends: wiped, refused by the others",
        _ if reason.contains("was removed") => "ends: removed",
        _ if reason.contains("damaged") => "ends: damaged",
        _ if reason.contains("does not start") => "ends: does not start",
        _ => "ends: the disk, or others",
    }
}

impl Cluster {
    /// Machines that are about to be switched on, with their files below `dir`.
    #[must_use]
    pub fn new(plan: Plan, planted: Option<Planted>, dir: &Path, keep_lines: usize) -> Self {
        let mut chance = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let network = Network::new(chance.random());
        let snapshot_rule =
            SnapshotRule { entries: plan.snapshot_entries, keep_log_bytes: plan.keep_log_bytes };
        let auto_compaction = plan
            .auto_compaction_ms
            .map_or(AutoCompaction::Off, |kept_ms| AutoCompaction::Periodic(Duration::from_millis(kept_ms)));
        let founding = Founding {
            members: (0..plan.members).map(first_member).collect(),
            snapshot_rule,
            quota_bytes: plan.quota_bytes,
            auto_compaction,
        };
        let mut hosts: Vec<Host> =
            (0..plan.members).map(|place| Host::new(place, dir, &network, chance.random())).collect();
        hosts.iter_mut().for_each(|host| plant(planted, host));
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
                on_quorum: CommittedOnQuorum::default(),
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
            dir: dir.to_owned(),
            admin: Admin::default(),
            tally: Tally::default(),
            seen: Seen::default(),
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
            self.end_what_ended(place)?;
        }
        admin::go_on(self);
        self.reconcile();
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
        let known = self.expected();
        self.hosts[place]
            .boot(&self.founding, &known)
            .map_err(|error| Violation::of("the simulation works", error.to_string()))?;
        self.trace.note(self.now_ms, format_args!("m{place} is started"));
        Ok(())
    }

    fn end_what_ended(&mut self, place: Place) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        if host.disk.is_off() {
            self.trace.note(self.now_ms, format_args!("m{place} loses its power in a write"));
            host.lose_power();
            self.tally.add("losses of power in a write", 1);
            self.start_later(place);
        } else if let Some(reason) = host.failure() {
            self.trace.note(self.now_ms, format_args!("the process at m{place} ends: {reason}"));
            let took_part = host.member().is_some();
            host.kill();
            self.tally.add(kind_of_end(&reason), 1);
            let is_damaged = reason.contains("damaged");
            let is_rotten = self.is_rotten(place);
            if is_damaged && !is_rotten {
                return Err(Violation::of("only damage is damage", format!("m{place}: {reason}")));
            }
            let care = &mut self.care[place];
            // A bit in an identity makes it another one, which is not called damage.
            care.damaged_starts = if took_part || !is_rotten { 0 } else { care.damaged_starts + 1 };
            if care.damaged_starts >= FUTILE_STARTS {
                care.damaged_starts = 0;
                self.admin.repair(place, self.now_ms);
            }
            self.start_later(place);
        }
        Ok(())
    }

    fn is_rotten(&self, place: Place) -> bool {
        self.hosts[place].bits_flipped() > 0
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
            self.tally.add("processes killed", 1);
            self.hosts[place].kill();
            self.start_later(place);
        }
    }

    /// A machine loses its power; it is started again some time later.
    pub fn lose_power(&mut self, place: Place) {
        if self.hosts[place].is_running() {
            self.trace.note(self.now_ms, format_args!("m{place} loses its power"));
            self.tally.add("losses of power", 1);
            self.hosts[place].lose_power();
            self.start_later(place);
        }
    }

    /// The machines whose members are expected to work in the end.
    #[must_use]
    pub fn expected(&self) -> Vec<Place> {
        (0..self.hosts.len()).filter(|place| !self.care[*place].removed).collect()
    }

    /// Members that take part now.
    #[must_use]
    pub fn members(&self) -> Vec<(Place, u64, Member)> {
        let member = |host: &Host| host.member().map(|(member, boot)| (host.place, boot, member));
        self.hosts.iter().filter_map(member).collect()
    }

    /// A new machine without a member.
    pub fn new_machine(&mut self) -> Place {
        let place = self.hosts.len();
        let mut host = Host::new(place, &self.dir, &self.network, self.chance.random());
        host.id = MemberId(0);
        plant(self.planted, &mut host);
        self.hosts.push(host);
        self.care.push(Care { removed: true, ..Care::default() });
        place
    }

    /// The machine loses what is on its disk, and is started again as if nothing had happened.
    pub fn lose_disk(&mut self, place: Place) {
        self.trace.note(self.now_ms, format_args!("m{place} loses its disk"));
        self.tally.add("disks lost", 1);
        self.hosts[place].lose_power();
        self.hosts[place].wipe(&self.founding);
        self.start_later(place);
    }

    /// Nothing runs on the machine any more, and nothing is on its disk.
    pub fn clear(&mut self, place: Place) {
        self.hosts[place].kill();
        self.hosts[place].wipe(&self.founding);
        self.clients.ended(place);
        self.removed(place);
    }

    /// A member was added and is started, under an id that it will find.
    pub fn start_member(&mut self, place: Place, id: MemberId) {
        self.hosts[place].id = id;
        let watched_boot = self.care[place].watched_boot;
        self.care[place] = Care { boot_at_ms: Some(self.now_ms), watched_boot, ..Care::default() };
    }

    /// A member that was started takes part.
    pub fn joined(&mut self, place: Place, id: MemberId) {
        self.hosts[place].id = id;
    }

    /// In the end, when there is one leader alone, the membership says what became of changes of which nobody was told.
    fn reconcile(&mut self) {
        if self.healed_at_ms.is_none_or(|at| self.now_ms < at + SETTLED_MS) || !self.admin.is_idle() {
            return;
        }
        let Some((_, leader)) = self.leader() else { return };
        let members = observe::nodes(leader.raft());
        for place in 0..self.hosts.len() {
            let is_member = members.iter().any(|node| node.id == self.hosts[place].id);
            if !is_member {
                self.removed(place);
            }
        }
    }

    /// Nothing is expected of a place any more, and nothing starts there.
    pub fn removed(&mut self, place: Place) {
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
        // Who was added is known by its id at last when it says so itself.
        for look in looks.values() {
            self.hosts[look.place].id = look.member;
        }
        for look in looks.values() {
            let Some((member, _)) = self.hosts[look.place].member() else { continue };
            self.judge_commit(look, &member)?;
            self.follow(look, &member);
        }
        Ok(looks)
    }

    /// What is said to be committed is on disks.
    fn judge_commit(&mut self, look: &Look, member: &Member) -> Result<(), Violation> {
        // On disks that keep nothing everything else must be found.
        if self.planted == Some(Planted::LyingDisk) {
            return Ok(());
        }
        let (from, sets) = observe::voter_sets(member.raft());
        let on_quorum = &mut self.invariants.on_quorum;
        // What Raft shows of its members may be a moment behind what it shows of its log.
        if sets.is_empty() {
            return Ok(());
        }
        on_quorum.votes(from, sets);
        if !on_quorum.asks(look.committed_index) {
            return Ok(());
        }
        let committed = if look.applied.index == look.committed_index {
            look.applied
        } else {
            let log = log_from(member, look.committed_index);
            let Some(entry) = log.first().filter(|entry| entry.position.index == look.committed_index) else {
                return Ok(());
            };
            entry.position
        };
        for (host, care) in self.hosts.iter().zip(&mut self.care) {
            care.durable.follow(&host.disk);
        }
        let holds = |id: MemberId| {
            let of_member = self.hosts.iter().zip(&self.care).filter(|(host, _)| host.id == id);
            of_member.into_iter().any(|(_, care)| care.durable.holds(committed))
        };
        on_quorum.see(look.place, committed, from, holds)
    }

    /// Counts what the cluster goes through.
    fn follow(&mut self, look: &Look, member: &Member) {
        if look.applied.index <= self.seen.applied_index {
            return;
        }
        let (has_auth, is_full) = {
            let picture = member.published().peek();
            let is_full = picture.alarms.iter().any(|(_, kind)| *kind == AlarmKind::NoSpace);
            (picture.auth.is_enabled(), is_full)
        };
        let now = Seen {
            applied_index: look.applied.index,
            has_auth,
            is_full,
            compact_revision: look.compact_revision,
        };
        let before = std::mem::replace(&mut self.seen, now);
        for (what, happened) in [
            ("rights asked for", has_auth && !before.has_auth),
            ("rights not asked for any more", !has_auth && before.has_auth),
            ("space alarms", is_full && !before.is_full),
            ("space alarms cleared", !is_full && before.is_full),
            ("compactions", look.compact_revision > before.compact_revision),
        ] {
            self.tally.add(what, u64::from(happened));
        }
        if self.plan.auto_compaction_ms.is_some() {
            let compacted = look.compact_revision > before.compact_revision;
            self.tally.add("compactions where members compact by themselves", u64::from(compacted));
        }
    }

    fn judge(&mut self, look: &Look, member: &Member) -> Result<(), Violation> {
        let invariants = &mut self.invariants;
        let place = look.place;
        invariants.election_safety.see(look)?;
        invariants.revisions.see(look)?;
        let care = &mut self.care[place];
        if care.seen.is_none_or(|(boot, _)| boot != look.boot) {
            care.damaged_starts = 0;
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
        if self.planted == Some(Planted::StaleRevoke) {
            let member = member.clone();
            self.hosts[place].spawn(|_| revoke_by_own_clock(member));
        }
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
        self.admin.stop();
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
        if !self.admin.is_idle() {
            return Ok(false);
        }
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
        let expected = self.expected();
        let mut first: Option<(Place, _)> = None;
        for (place, _, member) in members.iter().filter(|(place, ..)| expected.contains(place)) {
            let differ = |what: String| Err(Violation::of("members hold the same", what));
            let Some(Ok(hashed)) = member.hash_kv(Revision(0)).now_or_never() else {
                return differ(format!("in the end m{place} has no hash"));
            };
            let picture = member.published().picture();
            if picture.alarms.iter().any(|(_, kind)| *kind == AlarmKind::Corrupt) {
                return differ(format!("in the end there is an alarm: {:?}", picture.alarms));
            }
            // Leases, users and roles, members, alarms, marks of time.
            let held = (hashed.hash_revision, hashed.compact_revision, hashed.hash, picture.meta());
            match &first {
                None => first = Some((*place, held)),
                Some((_, same)) if *same == held => {}
                Some((other, same)) => {
                    return differ(format!("in the end m{other} holds {same:?}, and m{place} {held:?}"));
                }
            }
        }
        Ok(())
    }

    /// Where everybody stands.
    #[must_use]
    pub fn describe(&self) -> String {
        let looks = self
            .members()
            .into_iter()
            .map(|(place, boot, member)| format!("m{place}: {:?}", Look::at(place, boot, &member)));
        let waits = if self.clients.waits() { "; clients wait" } else { "" };
        let admin = if self.admin.is_idle() { String::new() } else { format!("; {:?}", self.admin) };
        let expected = self.expected();
        format!("{}{waits}{admin}; {expected:?} are expected", looks.collect::<Vec<_>>().join("; "))
    }

    /// The member at a place.
    #[must_use]
    pub fn id_of(&self, place: Place) -> MemberId {
        self.hosts[place].id
    }
}
