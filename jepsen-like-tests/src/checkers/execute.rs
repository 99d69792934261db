//! What a request does to a state of the store, by the rules of the protocol, and what its answer must be.

use std::collections::BTreeMap;

use super::past::Past;
use crate::history::{Answer, Compare, Event, KeyValue, Request, Selection, Sort, SortBy, Span, Target};

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

    /// Conditions of inner transactions too look at the state before the outermost one.
    fn holds(&self, compare: &Compare) -> bool {
        let mut found = self.past.range(&compare.span, self.at).peekable();
        match found.peek() {
            Some(_) => found.all(|kv| holds_for(kv, compare)),
            None => !matches!(compare.target, Target::Value(_)) && holds_for(&KeyValue::default(), compare),
        }
    }

    fn execute(&mut self, request: &Request) -> Answer {
        match request {
            Request::Range { span, limit, revision, selection, .. } => {
                let kvs = match revision {
                    0 => self.range(span),
                    past => self.past.range(span, *past).cloned().collect(),
                };
                select(kvs, *limit, selection)
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

fn holds_for(kv: &KeyValue, compare: &Compare) -> bool {
    let relation = compare.relation;
    match &compare.target {
        Target::Value(value) => relation.holds(kv.value.as_str(), value.as_str()),
        Target::Version(version) => relation.holds(&kv.version, version),
        Target::ModRevision(revision) => relation.holds(&kv.mod_revision, revision),
        Target::CreateRevision(revision) => relation.holds(&kv.create_revision, revision),
        Target::Lease(lease) => relation.holds(&kv.lease, lease),
    }
}

/// What of a range's keys, given in their order, is told. All are counted, also those that the selection leaves out.
fn select(mut kvs: Vec<KeyValue>, limit: i64, selection: &Selection) -> Answer {
    let count = kvs.len() as i64;
    if selection.count_only {
        return Answer::Range { kvs: Vec::new(), count, more: false };
    }
    let within = |number: i64, min: i64, max: i64| number >= min && (max == 0 || number <= max);
    kvs.retain(|kv| {
        within(kv.mod_revision, selection.min_mod_revision, selection.max_mod_revision)
            && within(kv.create_revision, selection.min_create_revision, selection.max_create_revision)
    });
    if let Some(Sort { by, descending }) = selection.sort {
        let number = |kv: &KeyValue| match by {
            SortBy::Version => kv.version,
            SortBy::CreateRevision => kv.create_revision,
            SortBy::ModRevision => kv.mod_revision,
            SortBy::Key | SortBy::Value => 0,
        };
        // Equal ones stay in the order of keys, in both directions.
        kvs.sort_by(|one, other| {
            let order = match by {
                SortBy::Key => one.key.cmp(&other.key),
                SortBy::Value => one.value.cmp(&other.value),
                _ => number(one).cmp(&number(other)),
            };
            if descending { order.reverse() } else { order }
        });
    }
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if selection.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    Answer::Range { kvs, count, more }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Relation;

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
            compares: vec![Compare::equal("a", Target::Value("1".to_owned()))],
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
            let compares = vec![Compare::equal("a", target.clone())];
            let executed =
                execute(&Request::Txn { compares, then: vec![], otherwise: vec![] }, &past, past.newest());
            assert_eq!(executed.answer, Answer::Txn { succeeded: holds, answers: vec![] }, "{target:?}");
        }
    }

    #[test]
    fn conditions_of_every_kind() {
        let lease = |key: &str| Request::Put { key: key.to_owned(), value: "m".to_owned(), lease: 7 };
        // Revisions 2 to 5; `a` has version 2.
        let past =
            past_with(&[Request::put("a", "1"), Request::put("a", "m"), lease("b"), Request::put("c", "z")]);
        let span = |key: &str, end: &str| Span { key: key.to_owned(), end: end.to_owned() };
        let value = |text: &str| Target::Value(text.to_owned());
        for (span, relation, target, holds) in [
            (span("a", ""), Relation::Greater, value("l"), true),
            (span("a", ""), Relation::Greater, value("m"), false),
            (span("a", ""), Relation::Less, value("n"), true),
            (span("a", ""), Relation::NotEqual, value("m"), false),
            (span("x", ""), Relation::NotEqual, value("m"), false),
            (span("a", ""), Relation::Equal, Target::Version(2), true),
            (span("x", ""), Relation::Less, Target::Version(1), true),
            (span("a", ""), Relation::Less, Target::CreateRevision(3), true),
            (span("a", ""), Relation::Greater, Target::ModRevision(3), false),
            (span("b", ""), Relation::Equal, Target::Lease(7), true),
            (span("a", ""), Relation::NotEqual, Target::Lease(7), true),
            // All keys of a span; of an empty one none.
            (span("a", "c"), Relation::Equal, value("m"), true),
            (span("a", "d"), Relation::Equal, value("m"), false),
            (span("x", "z"), Relation::Equal, Target::Version(0), true),
            (span("x", "z"), Relation::Equal, value(""), false),
        ] {
            let compare = Compare { span, relation, target };
            let txn = Request::Txn { compares: vec![compare.clone()], then: vec![], otherwise: vec![] };
            let executed = execute(&txn, &past, past.newest());
            assert_eq!(executed.answer, Answer::Txn { succeeded: holds, answers: vec![] }, "{compare:?}");
        }
    }

    #[test]
    fn an_inner_condition_looks_at_the_state_before_the_outer_transaction() {
        let past = past_with(&[Request::put("a", "1")]);
        let inner = Request::Txn {
            compares: vec![Compare::equal("a", Target::Value("1".to_owned()))],
            then: vec![Request::get("a")],
            otherwise: vec![],
        };
        let outer =
            Request::Txn { compares: vec![], then: vec![Request::put("a", "2"), inner], otherwise: vec![] };
        let Answer::Txn { answers, .. } = execute(&outer, &past, 2).answer else { panic!("a transaction") };
        let Answer::Txn { succeeded: true, answers } = &answers[1] else { panic!("{answers:?}") };
        let Answer::Range { kvs, .. } = &answers[0] else { panic!("{answers:?}") };
        assert_eq!(kvs[0].value, "2", "reads see what was written before them");
    }

    #[test]
    fn orders_bounds_and_parts() {
        // `a` is changed last, `c` was created before `b`.
        let past = past_with(&[
            Request::put("a", "3"),
            Request::put("c", "2"),
            Request::put("b", "2"),
            Request::put("a", "1"),
        ]);
        let keys = |limit: i64, selection: Selection| {
            let (span, revision, serializable) = (Span::everything(), 0, false);
            let request = Request::Range { span, limit, revision, serializable, selection };
            match execute(&request, &past, past.newest()).answer {
                Answer::Range { kvs, count, more } => {
                    let text = |kv: &KeyValue| format!("{}{}", kv.key, kv.value);
                    (kvs.iter().map(text).collect::<Vec<_>>().join(" "), count, more)
                }
                other => panic!("{other:?}"),
            }
        };
        let sorted =
            |by, descending| Selection { sort: Some(Sort { by, descending }), ..Selection::default() };
        let all = Selection::default();
        for (limit, selection, expected) in [
            (0, sorted(SortBy::Key, true), ("c2 b2 a1", 3, false)),
            (0, sorted(SortBy::Value, false), ("a1 b2 c2", 3, false)),
            (0, sorted(SortBy::Value, true), ("b2 c2 a1", 3, false)),
            (0, sorted(SortBy::CreateRevision, false), ("a1 c2 b2", 3, false)),
            (0, sorted(SortBy::ModRevision, false), ("c2 b2 a1", 3, false)),
            (1, sorted(SortBy::Version, true), ("a1", 3, true)),
            (2, Selection { min_mod_revision: 4, ..all.clone() }, ("a1 b2", 3, false)),
            (1, Selection { min_mod_revision: 4, ..all.clone() }, ("a1", 3, true)),
            (0, Selection { max_mod_revision: 3, ..all.clone() }, ("c2", 3, false)),
            (0, Selection { max_create_revision: 3, ..all.clone() }, ("a1 c2", 3, false)),
            (0, Selection { min_create_revision: 4, ..all.clone() }, ("b2", 3, false)),
            (0, Selection { keys_only: true, ..all.clone() }, ("a b c", 3, false)),
            (2, Selection { count_only: true, ..all }, ("", 3, false)),
        ] {
            let (text, count, more) = expected;
            assert_eq!(keys(limit, selection.clone()), (text.to_owned(), count, more), "{selection:?}");
        }
    }

    #[test]
    fn pages_and_counts() {
        let past = past_with(&[Request::put("a", "1"), Request::put("b", "2"), Request::put("c", "3")]);
        let page = |limit, revision| {
            let span = Span::everything();
            let request = Request::Range {
                span,
                limit,
                revision,
                serializable: false,
                selection: Selection::default(),
            };
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
