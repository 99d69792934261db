//! One seed from its start to its verdict: first faults, under which nothing wrong may be said; then none, after which
//! everybody must agree and serve again within a bounded time.

use std::fmt;
use std::path::Path;

use super::admin;
use super::cluster::Cluster;
use super::faults::Faults;
use super::host::Host;
use super::plan::{Fault, Plan};
use super::planted::Planted;
use super::tally::Tally;
use super::violation::Violation;

/// After the last fault everything must be well within so long: some elections, the longest pause between two calls of a
/// member that was gone, and what a client waits for an answer that never comes.
const LIVENESS_MS: u64 = 20_000;

/// How a seed ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The seed's plan.
    pub plan: Plan,
    /// What did not hold, and when.
    pub violation: Option<(u64, Violation)>,
    /// Simulated time.
    pub simulated_ms: u64,
    /// How long it took until everybody agreed again.
    pub healed_ms: u64,
    /// Requests of clients.
    pub asked: u64,
    /// Writes that clients were told to be done.
    pub promised: u64,
    /// The last revision.
    pub revision: i64,
    /// Leaders.
    pub leaders: usize,
    /// Leases that ended with their keys.
    pub leases_ended: u64,
    /// Changes that watches told.
    pub watched: u64,
    /// Packets of the network.
    pub packets: u64,
    /// Syncs of all disks.
    pub syncs: u64,
    /// Sectors that were lost with the power.
    pub sectors_lost: u64,
    /// Everything that happened, by kind.
    pub tally: Tally,
    /// The same for the same seed.
    pub trace_hash: u64,
    /// What happened last.
    pub last_lines: Vec<String>,
}

/// Runs a seed, with the members' files below `dir`; the last `keep_lines` lines of what happened are kept.
#[must_use]
pub fn run(plan: Plan, planted: Option<Planted>, dir: &Path, keep_lines: usize) -> Verdict {
    let mut cluster = Cluster::new(plan, planted, dir, keep_lines);
    let mut faults = Faults::new();
    let mut healed_ms = 0;
    let violation = live(&mut cluster, &mut faults, &mut healed_ms).err();
    let violation = violation.map(|violation| (cluster.now_ms, violation));
    let tally = tally(&cluster, &faults);
    let disks = || cluster.hosts.iter().map(|host| host.disk.counts());
    Verdict {
        violation,
        simulated_ms: cluster.now_ms,
        healed_ms,
        asked: cluster.clients.asked(),
        promised: cluster.invariants.durable.promises(),
        revision: cluster.invariants.chronicle.newest(),
        leaders: cluster.invariants.election_safety.leaders(),
        leases_ended: cluster.invariants.leases.ended(),
        watched: cluster.invariants.watches.told(),
        packets: cluster.network.delivered(),
        syncs: disks().map(|counts| counts.syncs).sum(),
        sectors_lost: disks().map(|counts| counts.sectors_lost).sum(),
        tally,
        trace_hash: cluster.trace.hash(),
        last_lines: cluster.trace.lines().map(str::to_owned).collect(),
        plan: cluster.plan.clone(),
    }
}

/// All kinds of things that can happen, and how often each did.
fn tally(cluster: &Cluster, faults: &Faults) -> Tally {
    let mut tally = Tally::default();
    for what in [
        "rights asked for",
        "rights not asked for any more",
        "space alarms",
        "space alarms cleared",
        "compactions",
        "compactions where members compact by themselves",
        "processes killed",
        "losses of power",
        "losses of power in a write",
        "ends: damaged",
        "ends: wiped, refused by the others",
        "ends: removed",
    ] {
        tally.expect(what);
    }
    admin::expect_all(&mut tally);
    for fault in Fault::ALL {
        tally.add(&format!("fault: {fault:?}"), faults.happened().get(&fault).copied().unwrap_or(0));
    }
    tally.merge(&cluster.tally);
    tally.merge(cluster.admin.done());
    let invariants = &cluster.invariants;
    let machines = || cluster.hosts.iter();
    for (what, times) in [
        ("clusters", 1),
        ("simulated seconds", cluster.now_ms / 1000),
        ("requests", cluster.clients.asked()),
        ("writes promised", invariants.durable.promises()),
        ("requests refused", cluster.clients.refused()),
        ("leaders", invariants.election_safety.leaders() as u64),
        ("leases ended", invariants.leases.ended()),
        ("changes told by watches", invariants.watches.told()),
        ("commits judged by what is on disks", invariants.on_quorum.judged()),
        ("packets", cluster.network.delivered()),
        ("syncs", machines().map(|host| host.disk.counts().syncs).sum()),
        ("sectors lost", machines().map(|host| host.disk.counts().sectors_lost).sum()),
        ("bits turned over", machines().map(Host::bits_flipped).sum()),
        ("snapshots installed", machines().map(Host::snapshots_installed).sum()),
        ("files lost or torn", machines().map(|host| host.files.losses()).sum()),
    ] {
        tally.add(what, times);
    }
    tally
}

fn live(cluster: &mut Cluster, faults: &mut Faults, healed_ms: &mut u64) -> Result<(), Violation> {
    while cluster.now_ms < cluster.plan.duration_ms {
        cluster.step()?;
        faults.go_on(cluster);
    }
    cluster.heal();
    let healed_at_ms = cluster.now_ms;
    let expected = cluster.expected();
    cluster.clients.stop(expected);
    while cluster.now_ms < healed_at_ms + LIVENESS_MS {
        cluster.step()?;
        if cluster.agrees()? {
            *healed_ms = cluster.now_ms - healed_at_ms;
            return Ok(());
        }
    }
    let detail = format!("{LIVENESS_MS} ms after the last fault the members do not agree and serve again");
    Err(Violation::of("liveness", format!("{detail}: {}", cluster.describe())))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} members, {} ms, {} requests, {} promised, revision {}, {} leaders, {} leases ended, {} \
             watched, {} packets, {} syncs, {} sectors lost, well after {} ms, trace {:016x}",
            self.plan.seed,
            self.plan.members,
            self.simulated_ms,
            self.asked,
            self.promised,
            self.revision,
            self.leaders,
            self.leases_ended,
            self.watched,
            self.packets,
            self.syncs,
            self.sectors_lost,
            self.healed_ms,
            self.trace_hash
        )?;
        if let Some((at_ms, violation)) = &self.violation {
            write!(f, "\n  VIOLATION at {at_ms} ms: {violation}")?;
        }
        Ok(())
    }
}
