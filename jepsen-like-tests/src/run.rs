//! A run: a cluster, clients, faults; then everything heals, and what was seen is judged.
//!
//! Safety first: while faults strike, anything may be slow and nothing may be wrong. Then all members are well, and
//! the cluster must answer again within a bound, and every watch must come to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::checkers::{Finding, Verdict, Violation, check_all};
use crate::clocks::Clocks;
use crate::cluster::{Cluster, Flavor, Options};
use crate::deadline::{PATIENCE, eventually};
use crate::history::{
    Entry, Event, History, MemberState, Recorder, Request, RevisionEvents, Span, WatchRequest,
};
use crate::nemesis::{Nemesis, Storm, endpoints};
use crate::network::{Network, Packets};
use crate::progress::with_progress;
use crate::secure::{Doors, Secure, TOKEN_TTL, guard};
use crate::sick_disk;
use crate::workload::{Endpoint, PREFIXES, Session, Shared, Watcher, Workload, key_value, start_guests};

/// Members of a cluster at the start.
const MEMBERS: usize = 3;
/// Where members stop hearing each other; some shapes need more than three.
const NETWORK_MEMBERS: usize = 5;
/// The client number of the watch that takes down the history.
const HISTORIAN: u32 = 1000;
/// The client number of the requests that show that the cluster answers again.
const PROBE: u32 = 950;
/// Two watches that follow every workload from beginning to end.
const FOLLOWERS: [u32; 2] = [1001, 1002];

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The traffic.
    pub workload: Workload,
    /// The faults.
    pub nemesis: Nemesis,
    /// For how long faults strike.
    pub duration: Duration,
    /// What all chances follow from; real processes still take their own time.
    pub seed: u64,
    /// Clients at work.
    pub clients: u32,
    /// Pause of each client between two requests.
    pub pace: Duration,
    /// Whether there are TLS and users; some faults need them anyway.
    pub secure: bool,
    /// What is examined.
    pub flavor: Flavor,
    /// Members do not sync their logs: whoever loses power must be found out.
    pub unsafe_no_fsync: bool,
    /// Where the history and the logs of the members go.
    pub out: Option<PathBuf>,
}

impl Plan {
    fn has_users(&self) -> bool {
        self.secure || self.nemesis.needs_users()
    }
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
    /// What happened to packets, where this process carried them.
    pub packets: Option<Packets>,
}

impl Run {
    /// Whether nothing is wrong and everything was decided.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict.passed())
    }
}

/// Ends of channels that the run holds while clients work.
struct Reins {
    stop: watch::Sender<bool>,
    last: watch::Sender<Option<i64>>,
    newest: watch::Receiver<i64>,
}

/// Carries out a plan. `tell` is given a line about each second.
///
/// # Errors
/// When the cluster cannot be started or the record not be kept. What the cluster does wrong is no error but a finding.
pub async fn run(plan: &Plan, tell: impl Fn(&str)) -> anyhow::Result<Run> {
    let options = Options::default().fast_elections();
    // Snapshots are synced all the same, and would give back some of what the log lost.
    let options = if plan.unsafe_no_fsync {
        options.flag("--unsafe-no-fsync", true)
    } else {
        options.flag("--snapshot-count", crate::nemesis::SNAPSHOT_COUNT)
    };
    let (options, count) = match plan.nemesis {
        Nemesis::Partition => (options.network(Arc::new(Network::build()?)), NETWORK_MEMBERS),
        Nemesis::Network => (options.network(Arc::new(Network::build_routed(plan.seed)?)), MEMBERS),
        _ => (options, MEMBERS),
    };
    let options = if plan.nemesis.needs_clocks() {
        anyhow::ensure!(
            plan.flavor.is_barque(),
            "etcd asks the kernel for the time and not the C library, so its clocks cannot be made wrong"
        );
        options.clocks(Arc::new(Clocks::build()?))
    } else {
        options
    };
    let secure = plan.has_users().then(build_secure).transpose()?;
    let options = match &secure {
        Some(secure) => secured(plan, options, secure),
        None => options,
    };
    let options = match plan.nemesis.needs_disks() {
        true => match sick_disk::missing() {
            None => options.disks(Arc::default()),
            Some(what) => anyhow::bail!("{} {what}", plan.nemesis),
        },
        false => options,
    };
    let mut cluster = Cluster::start(plan.flavor, count, options).await?;
    if plan.unsafe_no_fsync || !plan.flavor.is_barque() {
        // As machines do it by themselves after a while. Without it a power cut leaves nothing that could be started, as
        // etcd never syncs the names of its directories either.
        (0..cluster.len()).filter_map(|index| cluster.disk(index)).for_each(|disk| disk.write_back());
    }
    if secure.is_some() {
        let leader = cluster.leader().await?;
        guard(&cluster.client(leader), &PREFIXES).await.context("making users and roles")?;
    }
    let doors = secure.as_ref().map(|secure| &secure.doors);
    let path = plan.out.as_ref().map(|out| out.join("history.jsonl"));
    let recorder = Arc::new(Recorder::begin(path)?);
    let outcome = drive(plan, &mut cluster, &recorder, doors, &tell).await;
    keep_logs(plan, &cluster)?;
    let entries = recorder.finish()?;
    let (strikes, trouble) = match outcome {
        Ok(strikes) => (strikes, None),
        Err(why) => (0, Some(format!("{why:#}"))),
    };
    let packets = cluster.network().and_then(Network::packets);
    drop(cluster);
    let history = History::of(entries)?;
    tell("checking what was seen");
    let findings = match trouble {
        // The record has no end, and without it nothing else can be judged.
        Some(why) => vec![failed("liveness", why)],
        None => judge(plan, &history),
    };
    Ok(Run { history, findings, strikes, packets })
}

fn build_secure() -> anyhow::Result<Secure> {
    let mut addresses = Network::addresses();
    addresses.push("127.0.0.1".to_owned());
    Secure::build(&addresses).context("making certificates")
}

fn secured(plan: &Plan, options: Options, secure: &Secure) -> Options {
    let options = options.tls(secure.files.clone()).door(secure.doors.root().clone());
    match plan.flavor {
        Flavor::Barque => options.flag("--auth-token-ttl", TOKEN_TTL.as_secs()),
        // Debian's knows no such flag.
        Flavor::Etcd => options,
    }
}

fn failed(checker: &'static str, why: String) -> Finding {
    Finding { checker, verdict: Verdict::Failed(Box::new(Violation::new(why))) }
}

fn judge(plan: &Plan, history: &History) -> Vec<Finding> {
    let mut findings = check_all(history);
    let ours = |operation: &&crate::history::Operation| operation.client.0 < plan.clients;
    let done = history.operations.iter().filter(ours).filter(|operation| operation.ok().is_some()).count();
    // Logins cost time on purpose, and more of it on a busy machine.
    let share = if plan.has_users() { 0.25 } else { 1.0 };
    let wanted = share
        * plan.workload.least_per_client_second()
        * f64::from(plan.clients)
        * plan.duration.as_secs_f64();
    findings.push(if (done as f64) < wanted {
        failed("traffic", format!("{done} requests were acknowledged; less than {wanted:.0} are no test"))
    } else {
        Finding { checker: "traffic", verdict: Verdict::Passed { checked: done } }
    });
    findings
}

fn keep_logs(plan: &Plan, cluster: &Cluster) -> anyhow::Result<()> {
    let Some(out) = &plan.out else { return Ok(()) };
    for index in 0..cluster.len() {
        let path = out.join(format!("{}.log", cluster.name(index)));
        std::fs::write(&path, cluster.log(index)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn drive(
    plan: &Plan,
    cluster: &mut Cluster,
    recorder: &Arc<Recorder>,
    doors: Option<&Doors>,
    tell: &impl Fn(&str),
) -> anyhow::Result<usize> {
    let all: Vec<usize> = (0..cluster.len()).collect();
    let members = watch::Sender::new(endpoints(cluster, &all));
    let (stop, last) = (watch::Sender::new(false), watch::Sender::new(None));
    let shared = Shared {
        recorder: Arc::clone(recorder),
        endpoints: members.subscribe(),
        stop: stop.subscribe(),
        seed: plan.seed,
        pace: plan.pace,
        doors: doors.cloned().unwrap_or_default(),
    };
    let told = watch::Sender::new(1);
    let reins = Reins { stop, last, newest: told.subscribe() };
    let mut historian = JoinSet::new();
    let watcher = Watcher::new(&shared, HISTORIAN, reins.last.subscribe()).keeping(told);
    historian.spawn(watcher.run(everything()));
    let mut followers = JoinSet::new();
    for (number, id) in FOLLOWERS.into_iter().enumerate() {
        let watcher = Watcher::new(&shared, id, reins.last.subscribe()).beginning_at(number);
        followers.spawn(watcher.run(WatchRequest { prev_kv: number == 0, ..everything() }));
    }
    let mut clients = plan.workload.start(&shared, plan.clients, &reins.last.subscribe(), &reins.newest);
    if doors.is_some() {
        start_guests(&shared, &mut clients);
    }
    let mut storm = Storm::over(cluster, &shared, members, reins.newest.clone());
    let until = Instant::now() + plan.duration;
    let kinds = if plan.unsafe_no_fsync { plan.nemesis.kinds_without_syncs() } else { plan.nemesis.kinds() };
    let raging = storm.rage(kinds, until);
    with_progress(raging, || recorder.operations(), plan.duration, tell).await?;
    let (strikes, left) = (storm.strikes(), storm.members().to_vec());
    drop(storm);
    tell("faults are over; the cluster must answer and watches must come to their end");
    settle(plan, cluster, &left, &shared, reins, clients, historian, followers).await?;
    Ok(strikes)
}

fn everything() -> WatchRequest {
    WatchRequest {
        span: Span::everything(),
        start_revision: 1,
        prev_kv: false,
        no_put: false,
        no_delete: false,
        resumes: None,
    }
}

/// After the faults: progress, then the end of leases, clients and watches, then what members hold.
#[allow(clippy::too_many_arguments, reason = "what a run is made of comes apart here, once")]
async fn settle(
    plan: &Plan,
    cluster: &mut Cluster,
    members: &[usize],
    shared: &Shared,
    reins: Reins,
    mut clients: JoinSet<()>,
    mut historian: JoinSet<Vec<Event>>,
    mut followers: JoinSet<Vec<Event>>,
) -> anyhow::Result<()> {
    for &index in members {
        cluster.ready(index).await?;
        answers(shared, &endpoints(cluster, &[index])).await?;
    }
    reins.stop.send_replace(true);
    let ended = timeout(PATIENCE, async {
        while clients.join_next().await.transpose()?.is_some() {}
        Ok(())
    });
    ended.await.context("clients did not come to their end")?.map_err(|why: tokio::task::JoinError| why)?;
    let through = cluster.leader_among(members).await?;
    let client = cluster.client(through);
    if let Some(prefix) = plan.workload.leased_prefix() {
        eventually("the end of all leases", PATIENCE, || async {
            let Span { key, end } = Span::prefix(prefix);
            let request = barque_proto::etcdserverpb::RangeRequest {
                key: key.into(),
                range_end: end.into(),
                count_only: true,
                ..Default::default()
            };
            match client.range(request).await {
                Ok(answer) if answer.count == 0 => Ok(()),
                Ok(answer) => Err(format!("{} keys are left", answer.count)),
                Err(status) => Err(status.to_string()),
            }
        })
        .await?;
    }
    let revision = client.revision().await.context("the last revision")?;
    reins.last.send_replace(Some(revision));
    let told =
        timeout(PATIENCE, historian.join_next()).await.context("the history did not come to its end")?;
    let told = told.context("the historian was never started")??;
    for revision in by_revision(told) {
        shared.recorder.note(Entry::Revision(revision));
    }
    timeout(PATIENCE, async {
        while followers.join_next().await.transpose()?.is_some() {}
        Ok(())
    })
    .await
    .with_context(|| format!("watches did not come to revision {revision}"))?
    .map_err(|why: tokio::task::JoinError| why)?;
    for &index in members {
        let state = state_of(cluster, index, revision)
            .await
            .with_context(|| format!("reading {}", cluster.name(index)))?;
        shared.recorder.note(Entry::Member(state));
    }
    Ok(())
}

/// A write through a member, tried until it is done: the cluster makes progress again.
async fn answers(shared: &Shared, endpoint: &[Endpoint]) -> anyhow::Result<()> {
    let endpoints = watch::Sender::new(endpoint.to_vec());
    let only = Shared { endpoints: endpoints.subscribe(), ..shared.clone() };
    let mut session = Session::new(&only, PROBE);
    let name = &endpoint[0].name;
    let tries = async {
        for number in 0_u32.. {
            let put = Request::put(format!("probe/{name}"), format!("{name}-{number}"));
            if session.call(put).await.is_some() {
                return;
            }
        }
    };
    timeout(PATIENCE, tries)
        .await
        .with_context(|| format!("{name} takes no write {PATIENCE:?} after all faults"))
}

fn by_revision(events: Vec<Event>) -> Vec<RevisionEvents> {
    let mut revisions: Vec<RevisionEvents> = Vec::new();
    for event in events {
        let revision = event.kv.mod_revision;
        match revisions.last_mut() {
            Some(last) if last.revision == revision => last.events.push(event),
            _ => revisions.push(RevisionEvents { revision, events: vec![event] }),
        }
    }
    revisions
}

/// What a member holds at a revision: a request that was never answered may still make a later one.
async fn state_of(cluster: &Cluster, index: usize, revision: i64) -> Result<MemberState, tonic::Status> {
    let client = cluster.client(index);
    // A linearizable read makes the member catch up.
    client.revision().await?;
    let hash = client.hash_kv(revision).await?;
    let Span { key, end } = Span::everything();
    let request = barque_proto::etcdserverpb::RangeRequest {
        key: key.into(),
        range_end: end.into(),
        revision,
        serializable: true,
        ..Default::default()
    };
    let answer = client.range(request).await?;
    Ok(MemberState {
        member: cluster.name(index).to_owned(),
        revision,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        kvs: answer.kvs.iter().map(key_value).collect(),
    })
}
