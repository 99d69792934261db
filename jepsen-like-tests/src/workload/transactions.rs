//! Transactions of every form: conditions of all kinds over keys and spans, transactions within, leases, ordered and bounded
//! ranges. What is asked follows from chance and from what the client last saw, so that conditions hold half of the time.

use std::collections::VecDeque;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::session::Session;
use crate::history::{Answer, Compare, KeyValue, Relation, Request, Selection, Sort, SortBy, Span, Target};

/// Keys begin so.
const KEYS: &str = "txn/";
/// Keys that hang on leases begin so.
pub(super) const LEASED: &str = "txn/leased/";
/// All keys together are at most twelve: etcd sorts up to so many in a stable way, more of them not.
const PLAIN_COUNT: u32 = 7;
const LEASED_COUNT: u32 = 4;
/// Transactions within transactions.
const DEPTH_MAX: u32 = 2;
/// Values that a client remembers.
const REMEMBERED: usize = 8;
/// How long leases live without a renewal.
const TTL_S: i64 = 2;

pub(super) async fn run(mut session: Session) {
    let mut memory = Memory::default();
    while session.goes_on() {
        match (memory.lease, session.below(12)) {
            (None, 0..4) => {
                let id = session.unique_lease();
                if session.call(Request::LeaseGrant { id, ttl_s: TTL_S }).await.is_some() {
                    memory.lease = Some(id);
                }
            }
            (Some(id), 0) => {
                session.call(Request::LeaseRevoke { id }).await;
                memory.lease = None;
            }
            (Some(id), 1) => {
                let renewed = session.call(Request::LeaseKeepAlive { id }).await;
                if !matches!(renewed, Some((_, Answer::Lease { ttl_s: 1.. }))) {
                    memory.lease = None;
                }
            }
            _ => {
                let value = session.unique();
                let request = memory.request(&mut session.rng, &value);
                match session.call(request).await {
                    Some((revision, answer)) => memory.learn(revision, &answer),
                    // Refused for its lease, perhaps.
                    None => memory.lease = None,
                }
            }
        }
        session.pause().await;
    }
}

fn plain(number: u32) -> String {
    format!("{KEYS}{number}")
}

fn leased(number: u32) -> String {
    format!("{LEASED}{number}")
}

/// What a client knows of the keys.
#[derive(Default)]
pub(crate) struct Memory {
    /// The lease that its keys hang on.
    pub(crate) lease: Option<i64>,
    revision: i64,
    seen: VecDeque<KeyValue>,
}

/// Keys that a transaction has not written yet; none is written twice.
struct Unwritten {
    plain: Vec<String>,
    leased: Vec<String>,
}

impl Memory {
    /// Keeps what an answer told.
    pub(crate) fn learn(&mut self, revision: i64, answer: &Answer) {
        self.revision = self.revision.max(revision);
        match answer {
            Answer::Range { kvs, .. } => {
                self.seen.extend(kvs.iter().cloned());
                let forgotten = self.seen.len().saturating_sub(REMEMBERED);
                self.seen.drain(..forgotten);
            }
            Answer::Txn { answers, .. } => answers.iter().for_each(|answer| self.learn(revision, answer)),
            _ => {}
        }
    }

    /// A read or a transaction whose writes write `value`.
    pub(crate) fn request(&self, rng: &mut StdRng, value: &str) -> Request {
        if rng.random_range(0..5) == 0 {
            return self.range(rng, false);
        }
        let mut unwritten = Unwritten {
            plain: (0..PLAIN_COUNT).map(plain).collect(),
            leased: (0..LEASED_COUNT).map(leased).collect(),
        };
        unwritten.plain.shuffle(rng);
        unwritten.leased.shuffle(rng);
        self.txn(rng, value, &mut unwritten, 0)
    }

    fn txn(&self, rng: &mut StdRng, value: &str, unwritten: &mut Unwritten, depth: u32) -> Request {
        let compares = (0..rng.random_range(0..3)).map(|_| self.compare(rng)).collect();
        let then = self.branch(rng, value, unwritten, depth);
        let otherwise = self.branch(rng, value, unwritten, depth);
        Request::Txn { compares, then, otherwise }
    }

    fn branch(&self, rng: &mut StdRng, value: &str, unwritten: &mut Unwritten, depth: u32) -> Vec<Request> {
        (0..rng.random_range(0..4)).map(|_| self.op(rng, value, unwritten, depth)).collect()
    }

    fn op(&self, rng: &mut StdRng, value: &str, unwritten: &mut Unwritten, depth: u32) -> Request {
        match (rng.random_range(0..10), self.lease) {
            (0..2, _) if depth < DEPTH_MAX => self.txn(rng, value, unwritten, depth + 1),
            (0..4, Some(lease)) if !unwritten.leased.is_empty() => {
                let key = unwritten.leased.pop().unwrap_or_default();
                Request::Put { key, value: value.to_owned(), lease }
            }
            (4..7, _) => match unwritten.plain.pop() {
                Some(key) => Request::put(key, value),
                None => self.range(rng, true),
            },
            (7, _) => match unwritten.plain.pop() {
                Some(key) => Request::Delete { span: Span::one(key) },
                None => self.range(rng, true),
            },
            _ => self.range(rng, true),
        }
    }

    /// One key, some, or all.
    fn span(rng: &mut StdRng) -> Span {
        let number = rng.random_range(0..PLAIN_COUNT);
        match rng.random_range(0..6) {
            0 => Span::prefix(KEYS),
            1 => Span::prefix(LEASED),
            2 => Span { key: plain(number), end: plain(number + 3) },
            3 => Span::one(leased(number % LEASED_COUNT)),
            _ => Span::one(plain(number)),
        }
    }

    fn revision_near(&self, rng: &mut StdRng) -> i64 {
        let seen: Vec<i64> = self.seen.iter().map(|kv| kv.mod_revision).collect();
        match seen.choose(rng) {
            Some(&revision) if rng.random() => revision,
            _ => (self.revision - rng.random_range(0..30)).max(1),
        }
    }

    fn compare(&self, rng: &mut StdRng) -> Compare {
        let relations = [Relation::Equal, Relation::NotEqual, Relation::Greater, Relation::Less];
        let relation = *relations.choose(rng).unwrap_or(&Relation::Equal);
        let seen: Vec<&KeyValue> = self.seen.iter().collect();
        let seen = seen.choose(rng);
        let target = match rng.random_range(0..5) {
            0 => Target::Value(seen.map_or_else(String::new, |kv| kv.value.clone())),
            1 => Target::Version(rng.random_range(0..4)),
            2 => Target::ModRevision(self.revision_near(rng)),
            3 => Target::CreateRevision(if rng.random() { 0 } else { self.revision_near(rng) }),
            _ => Target::Lease(self.lease.filter(|_| rng.random()).unwrap_or(0)),
        };
        let span = match seen {
            Some(kv) if rng.random() => Span::one(&kv.key),
            _ => Self::span(rng),
        };
        Compare { span, relation, target }
    }

    fn range(&self, rng: &mut StdRng, inside: bool) -> Request {
        let by = [SortBy::Key, SortBy::Version, SortBy::CreateRevision, SortBy::ModRevision, SortBy::Value];
        let sort = by.choose(rng).filter(|_| rng.random_range(0..3) > 0);
        let sort = sort.map(|&by| Sort { by, descending: rng.random() });
        let mut bound = || if rng.random_range(0..4) == 0 { self.revision_near(rng) } else { 0 };
        let selection = Selection {
            sort,
            min_mod_revision: bound(),
            max_mod_revision: bound(),
            min_create_revision: bound(),
            max_create_revision: bound(),
            keys_only: rng.random_range(0..6) == 0,
            count_only: rng.random_range(0..8) == 0,
        };
        let span = if rng.random() { Span::prefix(KEYS) } else { Self::span(rng) };
        let limit = [0, 0, 1, 2, 5].choose(rng).copied().unwrap_or(0);
        let serializable = !inside && rng.random_range(0..4) == 0;
        Request::Range { span, limit, revision: 0, serializable, selection }
    }
}
