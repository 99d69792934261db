//! How much several runs did: requests, watches, and faults by kind, for a report to quote.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Fault, History};
use crate::masters::history::{History as MasterHistory, Step};

/// The sum of some runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    workloads: BTreeMap<String, Amount>,
    faults: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Amount {
    runs: usize,
    failed: usize,
    requests: usize,
    answered: usize,
    open: usize,
    events: usize,
}

impl Tally {
    /// Counts a run of this workload.
    pub fn run(&mut self, workload: &str, passed: bool) {
        let amount = self.workloads.entry(workload.to_owned()).or_default();
        amount.runs += 1;
        amount.failed += usize::from(!passed);
    }

    /// Counts what the record of such a run holds.
    pub fn record(&mut self, workload: &str, history: &History) {
        let amount = self.workloads.entry(workload.to_owned()).or_default();
        let operations = &history.operations;
        amount.requests += operations.len();
        amount.answered += operations.iter().filter(|operation| operation.ok().is_some()).count();
        amount.open += operations.iter().filter(|operation| operation.is_open()).count();
        let answers = history.watches.iter().flat_map(|watch| &watch.answers);
        amount.events += answers.map(|answer| answer.events.len()).sum::<usize>();
        self.faults(&history.faults);
    }

    /// The same of masters.
    pub fn masters(&mut self, workload: &str, history: &MasterHistory) {
        let amount = self.workloads.entry(workload.to_owned()).or_default();
        amount.requests += history.operations.len();
        amount.answered += history.operations.iter().filter(|operation| operation.known().is_some()).count();
        amount.open += history.operations.iter().filter(|operation| operation.known().is_none()).count();
        let told = history.informers.values().flatten().filter(|(_, _, step)| matches!(step, Step::Told(_)));
        amount.events += told.count();
        self.faults(&history.faults);
    }

    fn faults(&mut self, faults: &[Fault]) {
        for fault in faults {
            *self.faults.entry(fault.kind.clone()).or_default() += 1;
        }
    }
}

impl Amount {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.requests += other.requests;
        self.answered += other.answered;
        self.open += other.open;
        self.events += other.events;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Amount::default();
        self.workloads.values().for_each(|amount| all.add(amount));
        writeln!(
            f,
            "{:<14}{:>6}{:>8}{:>10}{:>10}{:>8}{:>10}",
            "workload", "runs", "failed", "requests", "answered", "open", "events"
        )?;
        let rows = self.workloads.iter().map(|(name, amount)| (name.as_str(), amount));
        for (name, amount) in rows.chain([("all", &all)]) {
            let Amount { runs, failed, requests, answered, open, events } = amount;
            writeln!(f, "{name:<14}{runs:>6}{failed:>8}{requests:>10}{answered:>10}{open:>8}{events:>10}")?;
        }
        writeln!(f, "\n{:<44}{:>6}", "fault", "times")?;
        for (kind, times) in &self.faults {
            writeln!(f, "{kind:<44}{times:>6}")?;
        }
        writeln!(f, "{:<44}{:>6}", "all", self.faults.values().sum::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, ClientId, Fault, FaultId, Operation, OperationId, Outcome, Request};

    #[test]
    fn runs_add_up() {
        let operation = |number, completed| Operation {
            id: OperationId(number),
            client: ClientId(1),
            member: "m1".to_owned(),
            request: Request::get("a"),
            invoked_ns: number,
            completed,
        };
        let done = Some((9, Outcome::Ok { revision: 1, answer: Answer::Done }));
        let fault = |number| Fault {
            id: FaultId(number),
            kind: "pause".to_owned(),
            members: vec![],
            began_ns: 1,
            ended_ns: Some(2),
        };
        let history = History {
            operations: vec![operation(1, done), operation(2, None)],
            faults: vec![fault(1), fault(2)],
            ..History::default()
        };
        let mut tally = Tally::default();
        for (workload, passed) in [("set", true), ("set", false), ("lock", true)] {
            tally.run(workload, passed);
            tally.record(workload, &history);
        }
        // A run without a record counts as one all the same.
        tally.run("lock", false);
        let text = tally.to_string();
        let numbers = |beginning: &str| {
            let line = text.lines().find(|line| line.starts_with(beginning)).unwrap_or_default();
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(numbers("set"), "2 1 4 2 2 0", "{text}");
        assert_eq!(numbers("lock"), "2 1 2 1 1 0", "{text}");
        assert_eq!(numbers("all"), "4 2 6 3 3 0", "{text}");
        assert_eq!(numbers("pause"), "6", "{text}");
    }
}
