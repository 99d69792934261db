//! A run: masters, clients of all their API servers, faults; then everything heals, and what was seen is judged.
//!
//! While faults strike, anything may be slow and nothing may be wrong. Then every API server must take a write, both Leases must be
//! renewed, every informer must come to the end, and what was asked for must be there, each within a bound.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::checkers::{check_all, leader};
use super::client::{PREFIX, Server};
use super::entry::{Entry, Object, Outcome, Request, Service};
use super::history::{History, Operation};
use super::nemesis::{MasterNemesis, Storm};
use super::processes::{MASTERS, Masters, Stage};
use super::recorder::Recorder;
use super::workload::leases::{CONTROLLERS, Newest, SCHEDULER};
use super::workload::{Session, Shared, Workload, informer, leases, picture, start};
use super::{audit, store_history};
use crate::checkers::{Finding, Verdict, Violation};
use crate::clocks::Clocks;
use crate::deadline::eventually;
use crate::history::ClientId;
use crate::network::Network;
use crate::progress::with_progress;
use crate::sick_disk;

/// How long anything may take after all faults.
const HEAL: Duration = Duration::from_secs(120);
/// How long it may take until everything is what was asked for. Pods of nodes that were taken for dead are made anew.
const SETTLE: Duration = Duration::from_secs(240);
/// How long the linter waits before it looks again at what is wrong.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Who shows that API servers take writes again.
const PROBE: u32 = 950;
/// Who follows the store itself.
const STORE: u32 = 999;
const FIRST_INFORMER: u32 = 1000;
const LEASE_INFORMER: u32 = 2000;
const SERVICE_INFORMER: u32 = 2001;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The traffic.
    pub workload: Workload,
    /// The faults.
    pub nemesis: MasterNemesis,
    /// For how long faults strike.
    pub duration: Duration,
    /// What all chances follow from; real processes still take their own time.
    pub seed: u64,
    /// Clients at work.
    pub clients: u32,
    /// Pause of each client between two requests.
    pub pace: Duration,
    /// Where the history and all logs go.
    pub out: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub struct Run {
    /// The record.
    pub history: History,
    /// What the checkers say.
    pub findings: Vec<Finding>,
    /// Faults that struck.
    pub strikes: usize,
}

impl Run {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict.passed())
    }
}

/// Carries out a plan. `tell` is given a line about each second.
///
/// # Errors
/// When masters cannot be started or the record not be kept. What they do wrong is no error but a finding.
pub async fn run(plan: &Plan, tell: impl Fn(&str)) -> anyhow::Result<Run> {
    let mut stage = Stage::default();
    match plan.nemesis {
        MasterNemesis::Partition => stage.network = Some(Arc::new(Network::build()?)),
        MasterNemesis::Clock => stage.clocks = Some(Arc::new(Clocks::build()?)),
        MasterNemesis::Disk => match sick_disk::missing() {
            None => stage.disks = Some(Arc::default()),
            Some(what) => anyhow::bail!("{} {what}", plan.nemesis),
        },
        _ => {}
    }
    let mut masters = Masters::start(stage, &plan.out).await?;
    let recorder = Arc::new(Recorder::begin(Some(plan.out.join("history.jsonl")))?);
    let outcome = drive(plan, &mut masters, &recorder, &tell).await;
    // They are dead before their logs are read, whose ends then are what they are.
    let logs = masters.audit_logs();
    drop(masters);
    for (process, log) in logs {
        let told = audit::read(&process, &log).with_context(|| format!("reading {}", log.display()))?;
        told.into_iter().for_each(|entry| recorder.note(entry));
    }
    let history = History::of(recorder.finish()?)?;
    tell("checking what was seen");
    let (strikes, mut findings) = match outcome {
        Ok(strikes) => (strikes, check_all(&history)),
        // Without its end the record says less, and what it says must hold all the same: but for the last words of a watch.
        Err(why) => {
            let liveness = Verdict::Failed(Box::new(Violation::new(format!("{why:#}"))));
            let mut findings = vec![Finding { checker: "liveness", verdict: liveness }];
            findings.extend(check_all(&history).into_iter().filter(|finding| finding.checker == "leader"));
            (history.faults.len(), findings)
        }
    };
    findings.push(traffic(plan, &history));
    Ok(Run { history, findings, strikes })
}

fn traffic(plan: &Plan, history: &History) -> Finding {
    let ours = |operation: &&Operation| operation.client.0 < plan.clients && operation.known().is_some();
    let done = history.operations.iter().filter(ours).count();
    let wanted =
        plan.workload.least_per_client_second() * f64::from(plan.clients) * plan.duration.as_secs_f64();
    let verdict = if (done as f64) < wanted {
        let what = format!("{done} requests were answered; less than {wanted:.0} are no test");
        Verdict::Failed(Box::new(Violation::new(what)))
    } else {
        Verdict::Passed { checked: done }
    };
    Finding { checker: "traffic", verdict }
}

async fn drive(
    plan: &Plan,
    masters: &mut Masters,
    recorder: &Arc<Recorder>,
    tell: &impl Fn(&str),
) -> anyhow::Result<usize> {
    let stop = watch::Sender::new(false);
    let last = watch::Sender::new(None);
    let newest = watch::Sender::new(Newest::new());
    let has_nodes = plan.workload == Workload::Deployments;
    if has_nodes {
        masters.start_nodes()?;
    }
    let shared = Shared {
        recorder: Arc::clone(recorder),
        servers: masters.servers(),
        stop: stop.subscribe(),
        seed: plan.seed,
        pace: plan.pace,
    };
    let leases_seen = newest.subscribe();
    // Leaders act until the very end, and so long it is asked who they are.
    let over = watch::Sender::new(false);
    let to_the_end = Shared { stop: over.subscribe(), ..shared.clone() };
    let mut followers = JoinSet::new();
    followers.spawn(leases::run(to_the_end, LEASE_INFORMER, newest));
    let mut services = JoinSet::new();
    if has_nodes {
        services.spawn(picture::follow_services(shared.clone(), SERVICE_INFORMER));
    }
    let mut informers = JoinSet::new();
    for number in 0..plan.workload.informers() {
        informers.spawn(informer::run(shared.clone(), FIRST_INFORMER + number, last.subscribe()));
    }
    // Somebody leads, so that there is somebody to strike.
    led(&mut leases_seen.clone(), "at first").await?;
    let clients = start(plan.workload, &shared, plan.clients);
    let storm = Storm::over(masters, Arc::clone(recorder), leases_seen.clone(), plan.seed);
    let raging = storm.rage(plan.nemesis, Instant::now() + plan.duration);
    let strikes = with_progress(raging, || recorder.operations(), plan.duration, tell).await?;

    tell("faults are over; all masters must serve again, and what was asked for must be there");
    for index in 0..shared.servers.len() {
        masters.ready(index).await?;
    }
    let mut settling = Settling { shared: &shared, began: Instant::now() };
    settling.writes().await?;
    led(&mut leases_seen.clone(), "after all faults").await?;
    settling.note("both Leases are renewed");
    stop.send_replace(true);
    ended(clients, "clients").await?;
    for server in &shared.servers {
        let mut session = Session::new(&shared, PROBE);
        let listed = session.call_at(server, Request::List { stale: false }).await;
        listed.with_context(|| format!("{} lists nothing after all faults", server.name))?;
    }
    let fence = settling.fence().await?;
    last.send_replace(Some(fence));
    ended(informers, "informers").await?;
    settling.note("informers have seen everything");
    take_down(masters, recorder, fence).await?;
    if has_nodes {
        let had = services.join_next().await.context("who follows Services was never started")??;
        settling.deployments(&had).await?;
    }
    over.send_replace(true);
    ended(followers, "the informer of Leases").await?;
    Ok(strikes)
}

/// What the store kept of objects, as if an informer had followed it from the beginning.
async fn take_down(masters: &Masters, recorder: &Recorder, last: i64) -> anyhow::Result<()> {
    let (address, pki) = (masters.address(0).to_string(), masters.data(0).join("pki"));
    let all = store_history::read(&address, &pki, last).await?;
    let (informer, member) = (ClientId(STORE), "store".to_owned());
    let time_ns = recorder.now_ns();
    recorder.note(Entry::Relisted { time_ns, informer, member, version: 0, objects: Vec::new() });
    for told in all {
        recorder.note(Entry::Told { time_ns, informer, told });
    }
    Ok(())
}

async fn ended(mut tasks: JoinSet<()>, who: &str) -> anyhow::Result<()> {
    let all = timeout(HEAL, async {
        while tasks.join_next().await.transpose()?.is_some() {}
        anyhow::Ok(())
    });
    all.await.with_context(|| format!("{who} did not come to their end within {HEAL:?}"))?
}

/// Waits until both Leases are renewed from now on.
async fn led(leases: &mut watch::Receiver<Newest>, when: &str) -> anyhow::Result<()> {
    let versions =
        |newest: &Newest| [CONTROLLERS, SCHEDULER].map(|name| newest.get(name).map(|it| it.version));
    let before = versions(&leases.borrow());
    let renewed = |newest: &Newest| {
        let held = [CONTROLLERS, SCHEDULER]
            .iter()
            .all(|name| newest.get(*name).is_some_and(|it| !it.holder.is_empty()));
        held && versions(newest).iter().zip(&before).all(|(now, before)| now > before)
    };
    let waited = timeout(HEAL, leases.wait_for(renewed)).await;
    waited.with_context(|| {
        format!("{when}, the Leases of controllers and scheduler are not renewed within {HEAL:?}")
    })??;
    Ok(())
}

/// What comes about after all faults.
struct Settling<'a> {
    shared: &'a Shared,
    began: Instant,
}

impl Settling<'_> {
    fn note(&self, what: &str) {
        let took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let recorder = &self.shared.recorder;
        recorder.note(Entry::Settled { time_ns: recorder.now_ns(), what: what.to_owned(), took_ms });
    }

    /// Every API server takes a write.
    async fn writes(&mut self) -> anyhow::Result<()> {
        for server in &self.shared.servers {
            self.write(server, "probe").await?;
        }
        self.note("every API server takes writes");
        Ok(())
    }

    async fn write(&self, server: &Server, what: &str) -> anyhow::Result<Object> {
        let number = watch::Sender::new(0_u32);
        let session = tokio::sync::Mutex::new(Session::new(self.shared, PROBE));
        let written = eventually("a write", HEAL, || async {
            number.send_modify(|number| *number += 1);
            let name = format!("{PREFIX}{what}-{}-{}", server.name, *number.borrow());
            let request = Request::Create { value: name.clone(), name };
            match session.lock().await.call_at(server, request).await {
                Some(Outcome::Done { object: Some(object) }) => Ok(object),
                other => Err(format!("{other:?}")),
            }
        });
        written.await.with_context(|| format!("{} takes no writes after all faults", server.name))
    }

    /// A last write, which all informers must see.
    async fn fence(&self) -> anyhow::Result<i64> {
        let server = &self.shared.servers[0];
        Ok(self.write(server, "fence").await?.version)
    }

    async fn deployments(&self, had: &[Service]) -> anyhow::Result<()> {
        let server = &self.shared.servers[0];
        let mut picture = picture::wait_until_settled(server, SETTLE)
            .await
            .map_err(|why| anyhow::anyhow!("not converged {why}"))?;
        self.note("all Deployments are what they ask for");
        picture.lost =
            picture::lost(server, had, &picture).await.map_err(|why| anyhow::anyhow!("dry run: {why}"))?;
        self.shared.recorder.note(Entry::End(picture));
        let report = timeout(HEAL, barque_lint::confirm(server.client(), LOOK_AGAIN)).await;
        let report = report.context("the linter comes to no end")?.context("the linter")?;
        // The checker knows of which Services nobody knows what became of a write.
        let report = report.without(&[barque_lint::Rule::AddressRecordStale]);
        let words = |finding: &barque_lint::Finding| {
            format!("{} {}: {}", finding.rule, finding.object, finding.words)
        };
        let findings = report.findings.iter().map(words).collect();
        self.shared.recorder.note(Entry::Lint { objects: report.objects, findings });
        Ok(())
    }
}

/// What people want to know of a run besides the verdicts.
#[derive(Debug)]
pub struct Summary<'a>(pub &'a Run);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { history, strikes, .. } = self.0;
        let known = history.operations.iter().filter(|operation| operation.known().is_some()).count();
        let events: usize = history.informers.values().map(Vec::len).sum();
        let holders: BTreeSet<&str> = history.leases.iter().map(|(_, lease)| lease.holder.as_str()).collect();
        writeln!(
            f,
            "{} requests, {known} answered, {events} steps of {} informers, {strikes} faults, {} acts by {} leaders, {} of them under \
             way when a Lease passed",
            history.operations.len(),
            history.informers.len(),
            history.acts.len(),
            holders.len(),
            leader::under_way(history)
        )?;
        if let Some((took_ns, operation)) = slowest_elsewhere(history) {
            let Operation { member, request, .. } = operation;
            writeln!(
                f,
                "the slowest answer of a master that no fault struck, with a majority: {:.2} s, {member}, {request:?}",
                took_ns as f64 / 1e9
            )?;
        }
        for (what, took_ms) in &history.settled {
            writeln!(f, "{:>8.2} s after the faults: {what}", *took_ms as f64 / 1000.0)?;
        }
        Ok(())
    }
}

/// The slowest answer of a master that no fault struck meanwhile, while there was a majority.
fn slowest_elsewhere(history: &History) -> Option<(u64, &Operation)> {
    let is_struck = |operation: &Operation, ended_ns: u64| {
        history.faults.iter().any(|fault| {
            (fault.members.contains(&operation.member) || fault.members.len() > MASTERS / 2)
                && fault.began_ns <= ended_ns
                && fault.ended_ns.is_none_or(|fault_ns| fault_ns + 2_000_000_000 >= operation.invoked_ns)
        })
    };
    let answered = history.operations.iter().filter_map(|operation| {
        let (ended_ns, _) = operation.completed.as_ref()?;
        (!is_struck(operation, *ended_ns)).then_some((ended_ns - operation.invoked_ns, operation))
    });
    answered.max_by_key(|(took_ns, _)| *took_ns)
}
