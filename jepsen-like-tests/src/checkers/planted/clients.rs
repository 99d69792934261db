//! Clients of the model store: each asks a bit of everything, by what it learnt from its last answers.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

use crate::checkers::REGISTERS;
use crate::checkers::counter::COUNTERS;
use crate::checkers::list_append::LISTS;
use crate::checkers::lock::{GUARDED, LOCKS};
use crate::checkers::set::ELEMENTS;
use crate::history::{Answer, Compare, KeyValue, Operation, Request, Selection, Span, Target};
use crate::workload::TransactionMemory;

/// What a client knows.
pub(super) struct Mind {
    pub(super) client: u32,
    number: u64,
    known: BTreeMap<String, KeyValue>,
    lease: Option<i64>,
    token: Option<i64>,
    transactions: TransactionMemory,
}

fn guarded(key: &str, target: Target, value: String, lease: i64) -> Request {
    Request::Txn {
        compares: vec![Compare::equal(key, target)],
        then: vec![Request::Put { key: key.to_owned(), value, lease }],
        otherwise: vec![Request::get(key)],
    }
}

impl Mind {
    pub(super) fn new(client: u32) -> Self {
        Self {
            client,
            number: 0,
            known: BTreeMap::new(),
            lease: None,
            token: None,
            transactions: TransactionMemory::default(),
        }
    }

    pub(super) fn next(&mut self, rng: &mut StdRng) -> Request {
        self.number += 1;
        let unique = format!("{}-{}", self.client, self.number);
        match rng.random_range(0..15) {
            0..=2 => self.register(rng, unique),
            3..=5 => self.keys(rng, unique),
            6 => self.counter(),
            7 => self.list(unique),
            8 => match rng.random_range(0..3) {
                0 => Request::range(Span::prefix(ELEMENTS)),
                _ => Request::put(format!("{ELEMENTS}{unique}"), "x"),
            },
            9..12 => {
                self.transactions.lease = self.lease;
                self.transactions.request(rng, &unique)
            }
            _ => self.lock(rng, unique),
        }
    }

    fn register(&self, rng: &mut StdRng, unique: String) -> Request {
        let key = format!("{REGISTERS}{}", rng.random_range(0..2));
        match (rng.random_range(0..5), self.known.get(&key)) {
            (0, Some(kv)) => guarded(&key, Target::Value(kv.value.clone()), unique, 0),
            (1, _) => Request::Txn {
                compares: vec![],
                then: vec![Request::get(&key), Request::put(format!("{REGISTERS}both"), unique)],
                otherwise: vec![],
            },
            (2, _) => Request::put(key, unique),
            _ => Request::get(key),
        }
    }

    fn keys(&self, rng: &mut StdRng, unique: String) -> Request {
        let key = |number: u32| format!("key/{number}");
        let some = rng.random_range(0..6);
        match rng.random_range(0..7) {
            0..=1 => Request::put(key(some), unique),
            2 => Request::Delete { span: Span::one(key(some)) },
            3 => Request::Delete { span: Span { key: key(some), end: key(some + 2) } },
            4 => Request::Txn {
                compares: vec![],
                then: vec![
                    Request::put(key(some), unique.clone()),
                    Request::Delete { span: Span::one(key(some + 1)) },
                    Request::put(key(some + 2), unique),
                ],
                otherwise: vec![],
            },
            number => Request::Range {
                span: Span::prefix("key/"),
                limit: i64::from(number % 2) * 2,
                revision: 0,
                serializable: number == 5,
                selection: Selection::default(),
            },
        }
    }

    fn counter(&self) -> Request {
        let key = format!("{COUNTERS}0");
        let known = self.known.get(&key);
        let value = known.map_or(0, |kv| kv.value.parse::<i64>().expect("counters hold numbers")) + 1;
        guarded(&key, Target::ModRevision(known.map_or(0, |kv| kv.mod_revision)), value.to_string(), 0)
    }

    fn list(&self, unique: String) -> Request {
        let key = format!("{LISTS}0");
        let known = self.known.get(&key);
        let value = format!("{}{unique} ", known.map_or("", |kv| kv.value.as_str()));
        guarded(&key, Target::ModRevision(known.map_or(0, |kv| kv.mod_revision)), value, 0)
    }

    fn lock(&mut self, rng: &mut StdRng, unique: String) -> Request {
        let key = format!("{LOCKS}a");
        let Some(lease) = self.lease else {
            let id = i64::from(self.client) * 1_000_000 + self.number as i64;
            self.lease = Some(id);
            return Request::LeaseGrant { id, ttl_s: 2 };
        };
        let held = |token| Compare::equal(key.clone(), Target::CreateRevision(token));
        match (rng.random_range(0..8), self.token) {
            (0..=1, _) => Request::LeaseKeepAlive { id: lease },
            (2, _) => {
                (self.lease, self.token) = (None, None);
                Request::LeaseRevoke { id: lease }
            }
            (3, Some(token)) => Request::Txn {
                compares: vec![held(token)],
                then: vec![Request::Delete { span: Span::one(&key) }],
                otherwise: vec![],
            },
            (_, Some(token)) => Request::Txn {
                compares: vec![held(token)],
                then: vec![Request::put(format!("{GUARDED}a"), format!("{token}:{unique}"))],
                otherwise: vec![Request::get(&key)],
            },
            (4, None) => Request::Put { key: format!("leased/{}", self.client), value: unique, lease },
            (_, None) => guarded(&key, Target::CreateRevision(0), unique, lease),
        }
    }

    pub(super) fn learn(&mut self, operation: &Operation) {
        let Some((revision, answer)) = operation.ok() else {
            // A lease that the store does not know, or may not.
            if operation.has_failed() && self.token.is_none() {
                self.lease = None;
            }
            return;
        };
        self.see(answer);
        self.transactions.learn(revision, answer);
        let Request::Txn { then, .. } = &operation.request else { return };
        let succeeded = matches!(answer, Answer::Txn { succeeded: true, .. });
        match then.first() {
            Some(Request::Put { key, value, .. }) if succeeded => {
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    mod_revision: revision,
                    ..KeyValue::default()
                };
                self.known.insert(key.clone(), kv);
                if key.starts_with(LOCKS) {
                    self.token = Some(revision);
                }
            }
            Some(Request::Put { key, .. }) if key.starts_with(GUARDED) => self.token = None,
            Some(Request::Delete { .. })
                if operation.request.spans().iter().any(|s| s.key.starts_with(LOCKS)) =>
            {
                self.token = None;
            }
            _ => {}
        }
    }

    fn see(&mut self, answer: &Answer) {
        match answer {
            Answer::Range { kvs, .. } => {
                for kv in kvs {
                    self.known.insert(kv.key.clone(), kv.clone());
                }
            }
            Answer::Txn { answers, .. } => answers.iter().for_each(|answer| self.see(answer)),
            _ => {}
        }
    }
}
