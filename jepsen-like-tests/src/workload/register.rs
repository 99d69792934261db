//! Registers: reads, writes, compare-and-swap, and transactions over two of them.
//!
//! Keys are given up after a while, so that the search for an order stays small.

use super::session::Session;
use crate::checkers::REGISTERS;
use crate::history::{Answer, Compare, Relation, Request, Span, Target};

/// Requests of a client before it goes on to new keys.
const REQUESTS_PER_KEY: u32 = 40;
/// Keys in use at a time.
const KEYS: u32 = 3;

pub(super) async fn run(mut session: Session) {
    let mut sent = 0;
    // What this client last saw of which key.
    let mut seen: Option<(String, String)> = None;
    while session.goes_on() {
        let generation = sent / REQUESTS_PER_KEY;
        let key = |number: u32| format!("{REGISTERS}{generation}/{number}");
        let (number, value) = (session.below(KEYS), session.unique());
        let request = match (session.below(10), &seen) {
            (0..=2, Some((key, old))) if key.starts_with(&format!("{REGISTERS}{generation}/")) => {
                swap(key, old, value)
            }
            (0..=3, _) => Request::put(key(number), value),
            (4, _) => Request::Txn {
                compares: vec![],
                then: vec![
                    Request::get(key(number)),
                    Request::put(key(number), value),
                    Request::get(key((number + 1) % KEYS)),
                ],
                otherwise: vec![],
            },
            // Each of the keys, one of them if the others stand as they were seen.
            (5, Some((seen, value_seen))) if seen.starts_with(&format!("{REGISTERS}{generation}/")) => {
                Request::Txn {
                    compares: vec![
                        Compare {
                            span: Span::one(seen),
                            relation: Relation::NotEqual,
                            target: Target::Value(value.clone()),
                        },
                        Compare::equal(seen, Target::Value(value_seen.clone())),
                    ],
                    then: (0..KEYS).map(|number| Request::put(key(number), value.clone())).collect(),
                    otherwise: (0..KEYS).map(|number| Request::get(key(number))).collect(),
                }
            }
            _ => Request::get(key(number)),
        };
        if let Some((_, Answer::Range { kvs, .. })) = session.call(request).await {
            seen = kvs.into_iter().next().map(|kv| (kv.key, kv.value)).or(seen);
        }
        sent += 1;
        session.pause().await;
    }
}

/// Sets the key to `new` if it is `old`; tells what it is otherwise.
fn swap(key: &str, old: &str, new: String) -> Request {
    Request::Txn {
        compares: vec![Compare::equal(key, Target::Value(old.to_owned()))],
        then: vec![Request::put(key, new)],
        otherwise: vec![Request::get(key)],
    }
}
