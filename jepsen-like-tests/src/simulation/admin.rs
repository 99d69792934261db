//! The administrator of a simulated cluster: adds, promotes, removes and replaces members, one job after the other, and does
//! with a damaged one what its message says: removes it, deletes its data directory, and adds it again.
//!
//! A call whose answer is lost is made again; whether it was carried out is then seen from the answer. Must never believe
//! that a member is gone because nobody contradicts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use barque_store::error::StoreError;
use barque_store::ids::MemberId;
use barque_store::raft::observe;
use barque_store::rpc::backend::Backend as _;
use rand::Rng as _;

use super::cluster::Cluster;
use super::network::{Place, url_of};
use super::plan::Fault;
use super::tally::Tally;

/// No more machines.
const MOST_HOSTS: usize = 9;
/// No more members are wanted.
const MOST_MEMBERS: usize = 5;
/// What is refused for so long is not tried any more.
const PATIENCE_MS: u64 = 4000;
/// A new member that does not take part for so long is given another beginning.
const JOIN_MS: u64 = 8000;
/// Between two tries.
const PAUSE_MS: std::ops::Range<u64> = 50..500;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Fault(Fault),
    /// A damaged member is replaced.
    Repair,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The machine gets an empty disk, and is started as if nothing had happened.
    LoseDisk,
    Remove,
    /// Nothing runs on the machine any more, and its disk is empty.
    Clear,
    Add {
        learner: bool,
    },
    /// The new member takes part.
    Join,
    Promote,
}

#[derive(Clone, Debug)]
struct Call {
    number: u64,
    /// Who was asked: when that process ends, nobody answers.
    at: Place,
    boot: u64,
}

#[derive(Clone, Debug)]
struct Job {
    aim: Aim,
    place: Place,
    steps: VecDeque<Step>,
    call: Option<Call>,
    next_ms: u64,
    /// When its step began.
    since_ms: u64,
    /// Whether something was done already, so that it must be brought to its end.
    has_begun: bool,
}

type Answer = Result<Option<MemberId>, StoreError>;

/// The administrator.
#[derive(Debug, Default)]
pub struct Admin {
    jobs: VecDeque<Job>,
    answers: Arc<Mutex<BTreeMap<u64, Answer>>>,
    calls: u64,
    done: Tally,
    stopped: bool,
}

impl Admin {
    /// Whether there is nothing more to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What was brought to its end.
    #[must_use]
    pub fn done(&self) -> &Tally {
        &self.done
    }

    /// Whether the machine is being worked on.
    #[must_use]
    pub fn works_on(&self, place: Place) -> bool {
        self.jobs.iter().any(|job| job.place == place)
    }

    /// No new jobs, and those that have not begun are dropped.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.jobs.retain(|job| job.has_begun || job.call.is_some() || job.aim == Aim::Repair);
    }

    /// A member does not start because of damage.
    pub fn repair(&mut self, place: Place, now_ms: u64) {
        if !self.works_on(place) {
            let steps = [Step::Remove, Step::Clear, Step::Add { learner: false }, Step::Join];
            self.jobs.push_back(Job::new(Aim::Repair, place, &steps, now_ms));
        }
    }
}

impl Job {
    fn new(aim: Aim, place: Place, steps: &[Step], now_ms: u64) -> Self {
        let steps = steps.iter().copied().collect();
        Self { aim, place, steps, call: None, next_ms: now_ms, since_ms: now_ms, has_begun: false }
    }

    fn step_done(&mut self, now_ms: u64) {
        self.steps.pop_front();
        (self.next_ms, self.since_ms, self.has_begun) = (now_ms, now_ms, true);
    }

    fn name(&self) -> &'static str {
        match self.aim {
            Aim::Repair => "damaged members replaced",
            Aim::Fault(Fault::AddLearner) => "learners added and promoted",
            Aim::Fault(Fault::RemoveMember) => "members removed",
            Aim::Fault(Fault::RemoveLeader) => "leaders removed",
            Aim::Fault(Fault::ReplaceMember) => "members replaced",
            Aim::Fault(Fault::WipedMember) => "wiped members replaced",
            Aim::Fault(_) => "members added",
        }
    }

    /// What may go on beside another of its kind.
    fn is_plain(&self) -> bool {
        matches!(self.aim, Aim::Fault(Fault::AddMember | Fault::RemoveMember | Fault::RemoveLeader))
    }
}

/// All kinds of finished jobs, so that a kind that never came to its end is told.
pub fn expect_all(tally: &mut Tally) {
    for fault in Fault::MEMBERSHIP {
        tally.expect(Job::new(Aim::Fault(fault), 0, &[], 0).name());
    }
    tally.expect(Job::new(Aim::Repair, 0, &[], 0).name());
}

/// Begins a change of the membership; whether it could be.
pub fn begin(cluster: &mut Cluster, fault: Fault, place: Place) -> bool {
    let now_ms = cluster.now_ms;
    let members = cluster.expected();
    let another_may_run = cluster.admin.jobs.len() == 1 && cluster.admin.jobs.iter().all(Job::is_plain);
    let leader = cluster.leader().map(|(place, _)| place);
    let (place, fewest, steps) = match fault {
        Fault::AddMember | Fault::AddLearner if members.len() < MOST_MEMBERS => {
            let Some(place) = free_place(cluster) else { return false };
            let learner = fault == Fault::AddLearner;
            let steps = [Step::Clear, Step::Add { learner }, Step::Join, Step::Promote];
            (Some(place), 1, steps[..if learner { 4 } else { 3 }].to_vec())
        }
        Fault::RemoveMember => (Some(place), 2, vec![Step::Remove, Step::Clear]),
        Fault::RemoveLeader => (leader, 2, vec![Step::Remove, Step::Clear]),
        Fault::ReplaceMember => {
            let steps = vec![Step::Remove, Step::Clear, Step::Add { learner: false }, Step::Join];
            (Some(place), 3, steps)
        }
        Fault::WipedMember if is_settled(cluster) => {
            let steps =
                vec![Step::LoseDisk, Step::Remove, Step::Clear, Step::Add { learner: false }, Step::Join];
            (Some(place), 3, steps)
        }
        _ => return false,
    };
    let Some(place) = place else { return false };
    let adds = matches!(fault, Fault::AddMember | Fault::AddLearner);
    let job = Job::new(Aim::Fault(fault), place, &steps, now_ms);
    let may_run = cluster.admin.is_idle() || another_may_run && job.is_plain();
    if !may_run
        || members.len() < fewest
        || !adds && !members.contains(&place)
        || cluster.admin.works_on(place)
    {
        return false;
    }
    if fault == Fault::ReplaceMember && cluster.chance().random_bool(0.5) {
        cluster.kill(place);
    }
    cluster.admin.jobs.push_back(job);
    true
}

/// Whether all members run and know of no change of voters, so that one of them can be done without: had one still to be
/// agreed on, the majority of a smaller set might be needed.
fn is_settled(cluster: &Cluster) -> bool {
    let members = cluster.members();
    let runs = |place: &Place| members.iter().any(|(at, ..)| at == place);
    let voters: Vec<_> = members.iter().map(|(_, _, member)| observe::voter_sets(member.raft()).1).collect();
    let one_set =
        |sets: &Vec<_>| sets.len() == 1 && sets.iter().all(|set: &BTreeSet<MemberId>| set.len() >= 3);
    cluster.expected().iter().all(runs)
        && voters.iter().all(|sets| one_set(sets) && voters.first() == Some(sets))
}

/// A machine whose member was removed, or a new one.
fn free_place(cluster: &mut Cluster) -> Option<Place> {
    let members = cluster.expected();
    let free = (0..cluster.hosts.len()).filter(|place| !members.contains(place));
    let free: Vec<Place> = free.filter(|place| !cluster.admin.works_on(*place)).collect();
    if !free.is_empty() && cluster.chance().random_bool(0.5) {
        let at = cluster.chance().random_range(0..free.len());
        return Some(free[at]);
    }
    (cluster.hosts.len() < MOST_HOSTS).then(|| cluster.new_machine())
}

/// Goes on with what is to be done.
pub fn go_on(cluster: &mut Cluster) {
    let mut at = 0;
    while at < cluster.admin.jobs.len() {
        let mut job = cluster.admin.jobs[at].clone();
        // One after the other, but for plain ones.
        if at > 0 && !(job.is_plain() && cluster.admin.jobs.iter().take(at).all(Job::is_plain)) {
            return;
        }
        let keep = go_on_with(cluster, &mut job);
        if job.steps.is_empty() {
            let what = job.name();
            cluster.admin.done.add(what, 1);
            cluster.trace.note(cluster.now_ms, format_args!("m{}: {what}", job.place));
        }
        if keep && !job.steps.is_empty() {
            cluster.admin.jobs[at] = job;
            at += 1;
        } else {
            cluster.admin.jobs.remove(at);
        }
    }
}

/// Whether the job is not given up.
fn go_on_with(cluster: &mut Cluster, job: &mut Job) -> bool {
    let now_ms = cluster.now_ms;
    if let Some(call) = job.call.clone() {
        let answer =
            cluster.admin.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&call.number);
        if let Some(answer) = answer {
            job.call = None;
            return hear(cluster, job, answer);
        }
        let answers_still = cluster.hosts[call.at].member().is_some_and(|(_, boot)| boot == call.boot);
        if !answers_still {
            job.call = None;
            job.next_ms = now_ms + cluster.chance().random_range(PAUSE_MS);
        }
        return true;
    }
    if now_ms < job.next_ms {
        return true;
    }
    let Some(step) = job.steps.front().copied() else { return true };
    match step {
        Step::LoseDisk => {
            cluster.lose_disk(job.place);
            job.step_done(now_ms);
            // Time enough to do harm.
            job.next_ms = now_ms + cluster.chance().random_range(200..3000);
        }
        Step::Clear => {
            cluster.clear(job.place);
            job.step_done(now_ms);
            // A new member is wanted now, and nothing was promised yet.
            job.has_begun =
                job.steps.len() < 2 || !matches!(job.aim, Aim::Fault(Fault::AddMember | Fault::AddLearner));
        }
        Step::Join => {
            if let Some((member, _)) = cluster.hosts[job.place].member() {
                cluster.joined(job.place, member.identity().member);
                job.step_done(now_ms);
            } else if now_ms > job.since_ms + JOIN_MS {
                let again = [Step::Remove, Step::Clear, Step::Add { learner: false }];
                again.into_iter().rev().for_each(|step| job.steps.push_front(step));
                job.since_ms = now_ms;
            }
        }
        Step::Remove | Step::Add { .. } | Step::Promote => call(cluster, job, step),
    }
    true
}

fn call(cluster: &mut Cluster, job: &mut Job, step: Step) {
    let Some((at, leader)) = cluster.leader() else { return };
    let Some((_, boot)) = cluster.hosts[at].member() else { return };
    cluster.admin.calls += 1;
    let number = cluster.admin.calls;
    let answers = Arc::clone(&cluster.admin.answers);
    let url = url_of(job.place);
    let known = observe::nodes(leader.raft()).into_iter().find(|node| node.peer.peer_urls.contains(&url));
    let id = known.map_or(cluster.hosts[job.place].id, |node| node.id);
    let asked = cluster.hosts[at].spawn(|_| async move {
        let answer = match step {
            Step::Remove => leader.remove_member(id).await.map(|_| None),
            Step::Add { learner } => {
                leader.add_member(vec![url], learner).await.map(|(member, _)| Some(member.id))
            }
            _ => leader.promote_member(id).await.map(|_| None),
        };
        answers.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answer);
    });
    if asked {
        job.call = Some(Call { number, at, boot });
    }
}

/// Whether the job is not given up.
fn hear(cluster: &mut Cluster, job: &mut Job, answer: Answer) -> bool {
    let now_ms = cluster.now_ms;
    let place = job.place;
    cluster.trace.note(now_ms, format_args!("m{place}: {:?} answered {answer:?}", job.steps.front()));
    let done = match (job.steps.front(), &answer) {
        (Some(Step::Remove), Ok(_) | Err(StoreError::MemberNotFound)) => {
            cluster.removed(place);
            true
        }
        (Some(Step::Add { .. }), Ok(Some(id))) => {
            cluster.start_member(place, *id);
            true
        }
        // Who asked before was not told that it was done.
        (Some(Step::Add { .. }), Err(StoreError::PeerUrlExists)) => {
            cluster.start_member(place, MemberId(0));
            true
        }
        (Some(Step::Promote), Ok(_) | Err(StoreError::MemberNotLearner)) => true,
        _ => false,
    };
    if done {
        job.step_done(now_ms);
        return true;
    }
    job.next_ms = now_ms + cluster.chance().random_range(PAUSE_MS);
    // A refusal is an answer: nothing was done, and nothing will be. "Unhealthy" is also said of what may still be agreed on.
    let is_refusal = matches!(answer, Err(StoreError::NotEnoughStartedMembers | StoreError::TooManyLearners));
    let may_end = !job.has_begun && (now_ms > job.since_ms + PATIENCE_MS || cluster.admin.stopped);
    !(may_end && is_refusal && job.aim != Aim::Repair)
}
