//! What was measured, as a table for people or as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::echo::Echo;
use crate::starts::Starts;

/// Everything that is told. Times are seconds, memory is MiB, shares are of one core.
pub(crate) struct Report {
    pub(crate) one_at_a_time: Starts,
    pub(crate) together: Starts,
    /// Of those, from their deletion until the last one is gone.
    pub(crate) ended: Duration,
    pub(crate) echoes: Vec<(&'static str, Echo)>,
    /// Of the agent, in seconds, while all pods started.
    pub(crate) cpu: f64,
    /// Memory of the agent without pods, and with them.
    pub(crate) empty: f64,
    pub(crate) resident: f64,
    /// Of the agent, while nothing happens.
    pub(crate) idle: f64,
    /// Of the machine, before and after.
    pub(crate) load: [String; 2],
}

fn starts(starts: &Starts) -> Value {
    let (bound, running) = (starts.until(0), starts.until(1));
    json!({
        "pods": starts.count(), "last_seconds": starts.last,
        "bound_p50_seconds": bound.0, "bound_p99_seconds": bound.1,
        "running_p50_seconds": running.0, "running_p99_seconds": running.1,
    })
}

impl Report {
    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let echoes = self.echoes.iter().map(|(name, echo)| ((*name).to_owned(), json!(echo)));
        json!({
            "one_at_a_time": starts(&self.one_at_a_time), "together": starts(&self.together),
            "ended_seconds": self.ended.as_secs_f64(),
            "echo": echoes.collect::<serde_json::Map<_, _>>(),
            "agent": {
                "start_cpu_seconds": self.cpu, "empty_resident_mib": self.empty,
                "resident_mib": self.resident, "idle_share": self.idle,
            },
            "load": self.load,
        })
    }

    /// For people.
    pub(crate) fn print(&self) {
        println!("pods from their creation, image there{:>16}{:>10}{:>10}", "p50 ms", "p99 ms", "last s");
        for (what, starts) in [("one at a time", &self.one_at_a_time), ("at once", &self.together)] {
            for (stage, name) in ["have a node", "run"].into_iter().enumerate() {
                let (half, most) = starts.until(stage);
                let title = format!("{} {what}, {name}", starts.count());
                let last = if stage == 1 { format!("{:.2}", starts.last) } else { String::new() };
                println!("    {title:34}{:>15.0}{:>10.0}{last:>10}", half * 1e3, most * 1e3);
            }
        }
        println!("    all at once deleted, the last gone after {:.2} s", self.ended.as_secs_f64());
        println!(
            "echo of a pod to another{:>30}{:>10}{:>14}{:>16}",
            "p50 us", "p99 us", "requests/s", "connections/s"
        );
        for (name, echo) in &self.echoes {
            let Echo { p50_us, p99_us, requests, connections } = echo;
            println!("    {name:34}{p50_us:>15.0}{p99_us:>10.0}{requests:>14.0}{connections:>16.0}");
        }
        println!("the agent");
        println!(
            "    memory without pods, with {:3} pods {:>13.1}{:>10.1} MiB",
            self.together.count(),
            self.empty,
            self.resident
        );
        println!("    CPU at rest with them {:>26.2} % of a core", self.idle * 100.0);
        println!("    CPU for the start of each {:>22.1} ms", self.cpu * 1e3 / self.together.count() as f64);
        println!("load of the machine before and after: {}; {}", self.load[0], self.load[1]);
    }
}
