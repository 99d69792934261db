//! What was measured, as a table for people or as JSON.

use serde_json::{Value, json};

use crate::plane::PROGRAMS;
use crate::timeline::{STAGES, Timeline};

/// Everything that is told. Times are seconds, memory is MiB, shares are of one core.
pub(crate) struct Report<'a> {
    pub(crate) nodes: usize,
    pub(crate) deployments: usize,
    pub(crate) pods: usize,
    /// Until the last Deployment was created.
    pub(crate) deployments_created: f64,
    pub(crate) timeline: &'a Timeline,
    /// While pods came, by program.
    pub(crate) cpu: [f64; PROGRAMS.len()],
    pub(crate) resident: [f64; PROGRAMS.len()],
    /// Of the client that created, watched and counted.
    pub(crate) own_cpu: f64,
    /// Controllers and scheduler have come to rest before `idle` was measured.
    pub(crate) is_quiet: bool,
    pub(crate) idle: [f64; PROGRAMS.len()],
    pub(crate) deletion: f64,
    pub(crate) deletion_cpu: [f64; PROGRAMS.len()],
    /// Of the machine, before and after.
    pub(crate) load: [String; 2],
}

/// From which stage to which.
const WAYS: [(usize, usize); 3] = [(0, 1), (1, 3), (0, 3)];

fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

impl Report<'_> {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let stages = STAGES.iter().enumerate().map(|(stage, name)| {
            let (first, last) = self.timeline.bounds(stage);
            let rate = rounded(self.pods as f64 / last);
            let told =
                json!({"first_seconds": rounded(first), "last_seconds": rounded(last), "per_second": rate});
            ((*name).to_owned(), told)
        });
        let ways = WAYS.map(|(from, to)| {
            let (half, most) = self.timeline.between(from, to);
            let told = json!({"p50_seconds": rounded(half), "p99_seconds": rounded(most)});
            (format!("{}_to_{}", STAGES[from], STAGES[to]), told)
        });
        let programs = PROGRAMS.iter().enumerate().map(|(program, name)| {
            let told = json!({
                "cpu_seconds": rounded(self.cpu[program]),
                "resident_mib": rounded(self.resident[program]),
                "idle_share": rounded(self.idle[program]),
                "deletion_cpu_seconds": rounded(self.deletion_cpu[program]),
            });
            ((*name).to_owned(), told)
        });
        json!({
            "nodes": self.nodes, "deployments": self.deployments, "pods": self.pods,
            "deployments_created_seconds": rounded(self.deployments_created),
            "stages": stages.collect::<serde_json::Map<_, _>>(),
            "pod": ways.into_iter().collect::<serde_json::Map<_, _>>(),
            "programs": programs.collect::<serde_json::Map<_, _>>(),
            "client_cpu_seconds": rounded(self.own_cpu),
            "is_quiet": self.is_quiet,
            "deletion_seconds": rounded(self.deletion),
            "load": self.load,
        })
    }

    /// For people.
    pub(crate) fn print(&self) {
        let Self { nodes, deployments, pods, .. } = self;
        println!("{deployments} Deployments, {pods} pods, {nodes} hollow nodes:");
        println!("    deployments created    last {:>7.2} s", self.deployments_created);
        for (stage, name) in STAGES.iter().enumerate() {
            let (first, last) = self.timeline.bounds(stage);
            let rate = self.pods as f64 / last;
            println!("    pods {name:8}  first {first:>7.2} s   last {last:>7.2} s   {rate:>7.0} /s");
        }
        for (from, to) in WAYS {
            let (half, most) = self.timeline.between(from, to);
            let way = format!("{} to {}", STAGES[from], STAGES[to]);
            println!("    a pod from {way:18} p50 {half:>7.2} s   p99 {most:>7.2} s");
        }
        println!("    all gone after {:.2} s", self.deletion);
        println!("    {:20}{:>12}{:>12}{:>12}{:>16}", "", "CPU s", "MiB", "idle %", "CPU s deleting");
        for (program, name) in PROGRAMS.iter().enumerate() {
            let (cpu, mib) = (self.cpu[program], self.resident[program]);
            let (idle, deleting) = (self.idle[program] * 100.0, self.deletion_cpu[program]);
            println!("    {name:20}{cpu:>12.2}{mib:>12.0}{idle:>12.2}{deleting:>16.2}");
        }
        let total = |all: &[f64]| all.iter().sum::<f64>();
        let (cpu, deleting) = (total(&self.cpu), total(&self.deletion_cpu));
        println!("    {:20}{cpu:>12.2}{:>12}{:>12}{deleting:>16.2}", "all", "", "");
        println!("    {:20}{:>12.2}", "the client beside", self.own_cpu);
        if !self.is_quiet {
            println!("    controllers and scheduler had not come to rest when they were measured as idle");
        }
        println!("    load of the machine before and after: {}; {}", self.load[0], self.load[1]);
    }
}
