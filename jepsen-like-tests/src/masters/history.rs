//! A record put together: requests with their answers, informers with what they were told, Leases, acts and faults. Must never
//! judge.

use std::collections::BTreeMap;

use super::entry::{Act, Entry, LeaseVersion, Object, Outcome, Picture, Request, Told};
use crate::history::{ClientId, Fault, FaultId, OperationId};

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which one.
    pub id: OperationId,
    /// Who sent it.
    pub client: ClientId,
    /// To which master.
    pub member: String,
    /// What was asked.
    pub request: Request,
    /// When it was sent.
    pub invoked_ns: u64,
    /// When it was answered, and how; none if it never was.
    pub completed: Option<(u64, Outcome)>,
}

impl Operation {
    /// When it was answered with something that tells what became of it.
    #[must_use]
    pub fn known(&self) -> Option<(u64, &Outcome)> {
        let (time_ns, outcome) = self.completed.as_ref()?;
        (!matches!(outcome, Outcome::Unknown { .. })).then_some((*time_ns, outcome))
    }

    /// Whether it was surely not done.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.completed, Some((_, Outcome::Refused { .. })))
    }

    /// When it was done, with the object that it was answered with.
    #[must_use]
    pub fn done(&self) -> Option<(u64, Option<&Object>)> {
        match &self.completed {
            Some((time_ns, Outcome::Done { object })) => Some((*time_ns, object.as_ref())),
            _ => None,
        }
    }
}

/// What happened to an informer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has listed.
    Relisted {
        /// The version of the list.
        version: i64,
        /// What there was.
        objects: Vec<Object>,
    },
    /// It watches from behind this version on.
    Resumed {
        /// Which version.
        version: i64,
    },
    /// It was told something.
    Told(Told),
}

/// What an informer went through: when, at which master, what.
pub type Steps = Vec<(u64, String, Step)>;

/// A whole record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In the order in which they were sent.
    pub operations: Vec<Operation>,
    /// Each informer.
    pub informers: BTreeMap<ClientId, Steps>,
    /// In the order in which they were told.
    pub leases: Vec<(u64, LeaseVersion)>,
    /// Which process asks for Leases by which name.
    pub candidates: BTreeMap<String, String>,
    /// When which version of a Lease was complete, by the wall clock of the master that wrote it.
    pub written_us: BTreeMap<(String, i64), i64>,
    /// What controllers and schedulers did.
    pub acts: Vec<Act>,
    /// In the order in which they began.
    pub faults: Vec<Fault>,
    /// What has come to be in the end, with how long it took in milliseconds.
    pub settled: Vec<(String, u64)>,
    /// What was there in the end.
    pub end: Option<Picture>,
    /// How many objects the linter looked at, and what it found.
    pub lint: Option<(usize, Vec<String>)>,
}

/// A record that nobody can have written.
#[derive(Debug, thiserror::Error)]
#[error("the history is damaged: {0}; give the file as the run wrote it")]
pub struct Malformed(String);

impl History {
    /// Puts the lines of a record together.
    ///
    /// # Errors
    /// When an answer has no request, or a fault ends that did not begin.
    pub fn of(entries: Vec<Entry>) -> Result<Self, Malformed> {
        let mut history = Self::default();
        let mut requests: BTreeMap<OperationId, usize> = BTreeMap::new();
        let mut faults: BTreeMap<FaultId, usize> = BTreeMap::new();
        let mut at: BTreeMap<ClientId, String> = BTreeMap::new();
        for entry in entries {
            let mut step = |informer: ClientId, time_ns: u64, step: Step| {
                let member = at.get(&informer).cloned().unwrap_or_default();
                history.informers.entry(informer).or_default().push((time_ns, member, step));
            };
            match entry {
                Entry::Relisted { time_ns, informer, member, version, objects } => {
                    at.insert(informer, member.clone());
                    let all = history.informers.entry(informer).or_default();
                    all.push((time_ns, member, Step::Relisted { version, objects }));
                }
                Entry::Resumed { time_ns, informer, member, version } => {
                    at.insert(informer, member.clone());
                    let all = history.informers.entry(informer).or_default();
                    all.push((time_ns, member, Step::Resumed { version }));
                }
                Entry::Told { time_ns, informer, told } => step(informer, time_ns, Step::Told(told)),
                Entry::Broken { .. } => {}
                Entry::Invoked { time_ns, operation, client, member, request } => {
                    requests.insert(operation, history.operations.len());
                    history.operations.push(Operation {
                        id: operation,
                        client,
                        member,
                        request,
                        invoked_ns: time_ns,
                        completed: None,
                    });
                }
                Entry::Completed { time_ns, operation, outcome } => {
                    let index = requests
                        .get(&operation)
                        .ok_or_else(|| Malformed(format!("request {} was never sent", operation.0)))?;
                    history.operations[*index].completed = Some((time_ns, outcome));
                }
                Entry::Lease { time_ns, lease } => history.leases.push((time_ns, lease)),
                Entry::LeaseWritten { process, lease, holder, version, completed_us } => {
                    if !holder.is_empty() {
                        history.candidates.insert(holder, process);
                    }
                    if let Some(version) = version {
                        history.written_us.insert((lease, version), completed_us);
                    }
                }
                Entry::Act(act) => history.acts.push(act),
                Entry::FaultBegan { time_ns, fault, kind, members } => {
                    faults.insert(fault, history.faults.len());
                    history.faults.push(Fault {
                        id: fault,
                        kind,
                        members,
                        began_ns: time_ns,
                        ended_ns: None,
                    });
                }
                Entry::FaultEnded { time_ns, fault } => {
                    let index = faults
                        .get(&fault)
                        .ok_or_else(|| Malformed(format!("fault {} never began", fault.0)))?;
                    history.faults[*index].ended_ns = Some(time_ns);
                }
                Entry::Settled { what, took_ms, .. } => history.settled.push((what, took_ms)),
                Entry::End(picture) => history.end = Some(picture),
                Entry::Lint { objects, findings } => history.lint = Some((objects, findings)),
            }
        }
        Ok(history)
    }

    /// Whether a fault made the wall clocks of masters wrong.
    #[must_use]
    pub fn has_wrong_clocks(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind.contains("clock"))
    }
}
