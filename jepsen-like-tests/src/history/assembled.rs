//! The lines of a record put together: each request with its outcome, each watch with what it delivered.

use std::collections::BTreeMap;

use super::data::Event;
use super::entry::{
    ClientId, Entry, FaultId, MemberState, OperationId, RevisionEvents, WatchId, WatchRequest,
};
use super::request::{Answer, Outcome, Request};

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Who sent it.
    pub client: ClientId,
    /// To whom.
    pub member: String,
    /// What.
    pub request: Request,
    /// When it was sent.
    pub invoked_ns: u64,
    /// When the client was told what, if ever.
    pub completed: Option<(u64, Outcome)>,
}

impl Operation {
    /// Revision and answer, if it was done.
    #[must_use]
    pub fn ok(&self) -> Option<(i64, &Answer)> {
        match &self.completed {
            Some((_, Outcome::Ok { revision, answer })) => Some((*revision, answer)),
            _ => None,
        }
    }

    /// Whether it may have happened, or may yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(&self.completed, None | Some((_, Outcome::Unknown { .. })))
    }

    /// Whether it was refused.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(&self.completed, Some((_, Outcome::Failed { .. })))
    }

    /// When its effect was over at the latest; never for an open one.
    #[must_use]
    pub fn ended_ns(&self) -> Option<u64> {
        self.completed.as_ref().filter(|_| !self.is_open()).map(|(time_ns, _)| *time_ns)
    }
}

/// One message of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchAnswer {
    /// When it came.
    pub time_ns: u64,
    /// The revision in its header.
    pub revision: i64,
    /// Its events; none means that it tells how far the watch has come.
    pub events: Vec<Event>,
}

/// A watch and everything it delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its id.
    pub id: WatchId,
    /// Who watched.
    pub client: ClientId,
    /// At whom.
    pub member: String,
    /// What.
    pub request: WatchRequest,
    /// When it was asked for.
    pub opened_ns: u64,
    /// What came, in its order.
    pub answers: Vec<WatchAnswer>,
    /// The client waited until everything up to here had come.
    pub complete_to: Option<i64>,
    /// The compact revision with which it was refused, and when.
    pub compacted: Option<(u64, i64)>,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its id.
    pub id: FaultId,
    /// What it was.
    pub kind: String,
    /// Whom it struck.
    pub members: Vec<String>,
    /// When it began.
    pub began_ns: u64,
    /// When it was over.
    pub ended_ns: Option<u64>,
}

/// A whole record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Requests in the order in which they were sent.
    pub operations: Vec<Operation>,
    /// Watches in the order in which they were asked for.
    pub watches: Vec<Watch>,
    /// Faults in their order.
    pub faults: Vec<Fault>,
    /// What the store itself tells: every revision with its changes.
    pub revisions: Vec<RevisionEvents>,
    /// What each member holds in the end.
    pub members: Vec<MemberState>,
}

/// The lines do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("entry {entry} of the history speaks of {what}, which no earlier entry began; the file is not whole")]
pub struct Malformed {
    entry: usize,
    what: String,
}

impl History {
    /// Puts the entries together.
    ///
    /// # Errors
    /// When one speaks of what no earlier one began.
    pub fn of(entries: Vec<Entry>) -> Result<Self, Malformed> {
        let mut history = Self::default();
        let (mut operations, mut watches, mut faults) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (number, entry) in entries.into_iter().enumerate() {
            let malformed = |what: String| Malformed { entry: number + 1, what };
            match entry {
                Entry::Invoked { time_ns, operation, client, member, request } => {
                    operations.insert(operation, history.operations.len());
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
                    let index = operations.get(&operation);
                    let &index = index.ok_or_else(|| malformed(format!("operation {}", operation.0)))?;
                    history.operations[index].completed = Some((time_ns, outcome));
                }
                Entry::WatchOpened { time_ns, watch, client, member, request } => {
                    watches.insert(watch, history.watches.len());
                    history.watches.push(Watch {
                        id: watch,
                        client,
                        member,
                        request,
                        opened_ns: time_ns,
                        answers: Vec::new(),
                        complete_to: None,
                        compacted: None,
                    });
                }
                Entry::WatchAnswered { time_ns, watch, revision, events } => {
                    let index = watches.get(&watch);
                    let &index = index.ok_or_else(|| malformed(format!("watch {}", watch.0)))?;
                    history.watches[index].answers.push(WatchAnswer { time_ns, revision, events });
                }
                Entry::WatchClosed { time_ns, watch, complete_to, compacted, .. } => {
                    let index = watches.get(&watch);
                    let &index = index.ok_or_else(|| malformed(format!("watch {}", watch.0)))?;
                    history.watches[index].complete_to = complete_to;
                    history.watches[index].compacted = compacted.map(|revision| (time_ns, revision));
                }
                Entry::FaultBegan { time_ns, fault, kind, members } => {
                    faults.insert(fault, history.faults.len());
                    let fault = Fault { id: fault, kind, members, began_ns: time_ns, ended_ns: None };
                    history.faults.push(fault);
                }
                Entry::FaultEnded { time_ns, fault } => {
                    let index = faults.get(&fault);
                    let &index = index.ok_or_else(|| malformed(format!("fault {}", fault.0)))?;
                    history.faults[index].ended_ns = Some(time_ns);
                }
                Entry::Revision(revision) => history.revisions.push(revision),
                Entry::Member(state) => history.members.push(state),
            }
        }
        Ok(history)
    }

    /// The lines that make this history, in the order of their times.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut timed: Vec<(u64, bool, Entry)> = Vec::new();
        for operation in &self.operations {
            let Operation { id, client, member, request, invoked_ns, completed } = operation.clone();
            let invoked = Entry::Invoked { time_ns: invoked_ns, operation: id, client, member, request };
            timed.push((invoked_ns, false, invoked));
            if let Some((time_ns, outcome)) = completed {
                timed.push((time_ns, true, Entry::Completed { time_ns, operation: id, outcome }));
            }
        }
        for watch in &self.watches {
            let Watch { id, client, member, request, opened_ns, answers, complete_to, compacted } =
                watch.clone();
            let opened = Entry::WatchOpened { time_ns: opened_ns, watch: id, client, member, request };
            timed.push((opened_ns, false, opened));
            let mut last_ns = opened_ns;
            for WatchAnswer { time_ns, revision, events } in answers {
                last_ns = time_ns;
                timed.push((time_ns, true, Entry::WatchAnswered { time_ns, watch: id, revision, events }));
            }
            if complete_to.is_some() || compacted.is_some() {
                let time_ns = compacted.map_or(last_ns, |(time_ns, _)| time_ns);
                let compacted = compacted.map(|(_, revision)| revision);
                let why = "as in the whole history".to_owned();
                timed.push((
                    time_ns,
                    true,
                    Entry::WatchClosed { time_ns, watch: id, complete_to, compacted, why },
                ));
            }
        }
        for Fault { id, kind, members, began_ns, ended_ns } in self.faults.clone() {
            timed.push((began_ns, false, Entry::FaultBegan { time_ns: began_ns, fault: id, kind, members }));
            if let Some(time_ns) = ended_ns {
                timed.push((time_ns, true, Entry::FaultEnded { time_ns, fault: id }));
            }
        }
        timed.sort_by_key(|(time_ns, ends, _)| (*time_ns, *ends));
        let revisions = self.revisions.iter().cloned().map(Entry::Revision);
        let members = self.members.iter().cloned().map(Entry::Member);
        timed.into_iter().map(|(_, _, entry)| entry).chain(revisions).chain(members).collect()
    }

    /// When the last thing happened.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        let completed = self.operations.iter().filter_map(|op| op.completed.as_ref().map(|(time, _)| *time));
        let invoked = self.operations.iter().map(|op| op.invoked_ns);
        let watched = self.watches.iter().flat_map(|watch| watch.answers.iter().map(|a| a.time_ns));
        let faults = self.faults.iter().filter_map(|fault| fault.ended_ns);
        completed.chain(invoked).chain(watched).chain(faults).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;

    #[test]
    fn an_answer_without_a_request_is_refused() {
        let outcome = Outcome::Unknown { error: String::new() };
        let entry = Entry::Completed { time_ns: 1, operation: OperationId(7), outcome };
        let error = History::of(vec![entry]).unwrap_err().to_string();
        assert!(error.starts_with("entry 1 of the history speaks of operation 7"), "{error}");
    }

    #[test]
    fn a_request_without_an_answer_is_open() {
        let entry = Entry::Invoked {
            time_ns: 1,
            operation: OperationId(7),
            client: ClientId(1),
            member: "m1".to_owned(),
            request: Request::get("a"),
        };
        let history = History::of(vec![entry]).unwrap();
        assert!(history.operations[0].is_open());
        assert_eq!(history.operations[0].ended_ns(), None);
    }
}
