//! What a request does to a state of the store, by the rules of the protocol, and what its answer must be.

use std::collections::BTreeMap;

use super::past::Past;
use crate::history::{Answer, Compare, Event, KeyValue, Request, Span, Target};

/// What a request must answer, and what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The answer.
    pub answer: Answer,
    /// The changes, without the keys before them. With none, there is no new revision.
    pub events: Vec<Event>,
}

/// A state with the changes of a transaction that is under way.
struct State<'a> {
    past: &'a Past,
    at: i64,
    changed: BTreeMap<String, Option<KeyValue>>,
    events: Vec<Event>,
}

/// Executes `request` on the state at revision `at`.
#[must_use]
pub fn execute(request: &Request, past: &Past, at: i64) -> Executed {
    let mut state = State { past, at, changed: BTreeMap::new(), events: Vec::new() };
    let answer = state.execute(request);
    Executed { answer, events: state.events }
}

impl State<'_> {
    fn get(&self, key: &str) -> Option<&KeyValue> {
        match self.changed.get(key) {
            Some(kv) => kv.as_ref(),
            None => self.past.get(key, self.at),
        }
    }

    fn range(&self, span: &Span) -> Vec<KeyValue> {
        let mut kvs: BTreeMap<&str, &KeyValue> =
            self.past.range(span, self.at).map(|kv| (kv.key.as_str(), kv)).collect();
        for (key, kv) in self.changed.iter().filter(|(key, _)| span.contains(key)) {
            match kv {
                Some(kv) => kvs.insert(key, kv),
                None => kvs.remove(key.as_str()),
            };
        }
        kvs.into_values().cloned().collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.get(&compare.key);
        match &compare.target {
            Target::Value(value) => kv.is_some_and(|kv| kv.value == *value),
            Target::ModRevision(revision) => kv.map_or(0, |kv| kv.mod_revision) == *revision,
            Target::CreateRevision(revision) => kv.map_or(0, |kv| kv.create_revision) == *revision,
        }
    }

    fn execute(&mut self, request: &Request) -> Answer {
        match request {
            Request::Range { span, limit, revision, .. } => {
                let mut kvs = match revision {
                    0 => self.range(span),
                    past => self.past.range(span, *past).cloned().collect(),
                };
                let count = kvs.len();
                let limit = usize::try_from(*limit).ok().filter(|limit| *limit > 0).unwrap_or(count);
                kvs.truncate(limit);
                Answer::Range { more: kvs.len() < count, kvs, count: count as i64 }
            }
            Request::Put { key, value, lease } => {
                let revision = self.at + 1;
                let (create_revision, version) =
                    self.get(key).map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision,
                    mod_revision: revision,
                    version,
                    lease: *lease,
                };
                self.changed.insert(key.clone(), Some(kv.clone()));
                self.events.push(Event { kv, deleted: false, prev: None });
                Answer::Put
            }
            Request::Delete { span } => {
                let keys: Vec<String> = self.range(span).into_iter().map(|kv| kv.key).collect();
                for key in &keys {
                    let mod_revision = self.at + 1;
                    let kv = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
                    self.changed.insert(key.clone(), None);
                    self.events.push(Event { kv, deleted: true, prev: None });
                }
                Answer::Delete { deleted: keys.len() as i64 }
            }
            Request::Txn { compares, then, otherwise } => {
                let succeeded = compares.iter().all(|compare| self.holds(compare));
                let branch = if succeeded { then } else { otherwise };
                let answers = branch.iter().map(|request| self.execute(request)).collect();
                Answer::Txn { succeeded, answers }
            }
            Request::LeaseGrant { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseRevoke { .. }
            | Request::Compact { .. }
            | Request::AuthGrant
            | Request::AuthRevoke
            | Request::AuthEnable
            | Request::AuthDisable => Answer::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past_with(requests: &[Request]) -> Past {
        let mut past = Past::default();
        for request in requests {
            let executed = execute(request, &past, past.newest());
            past.push(executed.events);
        }
        past
    }

    #[test]
    fn a_transaction_reads_what_it_wrote_and_makes_one_revision() {
        let past = past_with(&[Request::put("a", "1")]);
        let request = Request::Txn {
            compares: vec![Compare { key: "a".to_owned(), target: Target::Value("1".to_owned()) }],
            then: vec![Request::put("a", "2"), Request::get("a"), Request::put("b", "3")],
            otherwise: vec![],
        };
        let executed = execute(&request, &past, 2);
        assert!(executed.events.iter().all(|event| event.kv.mod_revision == 3), "{executed:?}");
        let Answer::Txn { succeeded: true, answers } = executed.answer else { panic!("it must succeed") };
        let Answer::Range { kvs, .. } = &answers[1] else { panic!("the second answer is a read's") };
        assert_eq!((kvs[0].value.as_str(), kvs[0].version, kvs[0].create_revision), ("2", 2, 2));
    }

    #[test]
    fn conditions_on_an_absent_key() {
        let past = past_with(&[Request::put("a", "1"), Request::Delete { span: Span::one("a") }]);
        for (target, holds) in [
            (Target::Value(String::new()), false),
            (Target::ModRevision(0), true),
            (Target::CreateRevision(0), true),
            (Target::ModRevision(2), false),
        ] {
            let compares = vec![Compare { key: "a".to_owned(), target: target.clone() }];
            let executed =
                execute(&Request::Txn { compares, then: vec![], otherwise: vec![] }, &past, past.newest());
            assert_eq!(executed.answer, Answer::Txn { succeeded: holds, answers: vec![] }, "{target:?}");
        }
    }

    #[test]
    fn pages_and_counts() {
        let past = past_with(&[Request::put("a", "1"), Request::put("b", "2"), Request::put("c", "3")]);
        let page = |limit, revision| {
            let span = Span::everything();
            let request = Request::Range { span, limit, revision, serializable: false };
            match execute(&request, &past, past.newest()).answer {
                Answer::Range { kvs, count, more } => (kvs.len(), count, more),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(page(0, 0), (3, 3, false));
        assert_eq!(page(2, 0), (2, 3, true));
        assert_eq!(page(2, 3), (2, 2, false));
    }
}
