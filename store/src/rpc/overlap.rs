//! Whether a transaction would write a key twice on one path of execution.
//!
//! Pure. etcd's rule, with its blind spots, which clients may rely on: a deletion whose `range_end` is
//! `\0` or not above its key collides with nothing, and a put in an earlier nested transaction does not
//! collide with a deletion in a later one.

use std::collections::{BTreeMap, HashSet};

use barque_proto::etcdserverpb::request_op::Request;
use barque_proto::etcdserverpb::{DeleteRangeRequest, RequestOp};

/// Whether two puts, or a put and a deletion, of these operations meet in a key.
pub(super) fn puts_collide(ops: &[RequestOp]) -> bool {
    let mut writes = ops.iter().filter(|op| !matches!(op.request, None | Some(Request::RequestRange(_))));
    match (writes.next(), writes.next()) {
        (None, _) => false,
        // The common guarded write needs no bookkeeping.
        (
            Some(RequestOp { request: Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) }),
            None,
        ) => false,
        _ => collect(ops).is_err(),
    }
}

struct Collision;

/// The keys that operations put, and the ranges that they delete.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Ranges<'a>,
}

fn collect(ops: &[RequestOp]) -> Result<Writes<'_>, Collision> {
    let mut all = Writes::default();
    // This level's deletions first: they hold against every put, also those of nested transactions.
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            all.deletes.insert_request(request);
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else { continue };
        let success = collect(&txn.success)?;
        let failure = collect(&txn.failure)?;
        // Only one of the two branches is executed, so they may share keys with each other.
        if success.puts.iter().chain(&failure.puts).any(|key| all.collides(key)) {
            return Err(Collision);
        }
        all.puts.extend(success.puts);
        all.puts.extend(failure.puts);
        all.deletes.union(success.deletes);
        all.deletes.union(failure.deletes);
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            if all.collides(&put.key) {
                return Err(Collision);
            }
            all.puts.insert(&put.key);
        }
    }
    Ok(all)
}

impl Writes<'_> {
    fn collides(&self, key: &[u8]) -> bool {
        self.puts.contains(key) || self.deletes.contains(key)
    }
}

/// Where a range ends: before a key, or with it. Ordered along the keys.
type End<'a> = (&'a [u8], bool);

/// A set of keys, as disjoint ranges by their first key, so that many operations stay cheap to check.
#[derive(Default)]
struct Ranges<'a>(BTreeMap<&'a [u8], End<'a>>);

impl<'a> Ranges<'a> {
    fn insert_request(&mut self, request: &'a DeleteRangeRequest) {
        let (key, end) = (&request.key[..], &request.range_end[..]);
        if end.is_empty() {
            self.insert(key, (key, true));
        } else if key < end {
            self.insert(key, (end, false));
        }
    }

    fn insert(&mut self, mut begin: &'a [u8], mut end: End<'a>) {
        // Swallow every range that this one touches.
        while let Some((&other_begin, &other_end)) =
            self.0.range(..=end.0).next_back().filter(|(_, other_end)| other_end.0 >= begin)
        {
            self.0.remove(other_begin);
            begin = begin.min(other_begin);
            end = end.max(other_end);
        }
        self.0.insert(begin, end);
    }

    fn union(&mut self, mut other: Self) {
        if self.0.len() < other.0.len() {
            std::mem::swap(self, &mut other);
        }
        for (begin, end) in other.0 {
            self.insert(begin, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.0.range(..=key).next_back().is_some_and(|(_, end)| (key, false) < *end)
    }
}

#[cfg(test)]
mod tests {
    use barque_proto::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn put(key: &'static str) -> RequestOp {
        RequestOp { request: Some(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() })) }
    }

    fn get(key: &'static str) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestRange(RangeRequest { key: key.into(), ..Default::default() })),
        }
    }

    fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.into(),
                range_end: range_end.into(),
                prev_kv: false,
            })),
        }
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp { request: Some(Request::RequestTxn(TxnRequest { compare: vec![], success, failure })) }
    }

    #[test]
    fn table() {
        let free = [
            vec![],
            vec![get("a"), get("a"), put("a")],
            vec![put("a"), put("b")],
            vec![delete("a", "c"), delete("b", "d")],
            vec![delete("a", ""), put("aa")],
            vec![delete("a", "b"), put("b")],
            vec![put("a"), delete("a", "\0")],
            vec![put("b"), delete("c", "a")],
            vec![txn(vec![put("a")], vec![put("a")])],
            vec![txn(vec![delete("a", "")], vec![put("a")])],
            vec![txn(vec![put("a")], vec![]), txn(vec![put("b")], vec![])],
            // The put comes from an earlier nested transaction than the deletion.
            vec![txn(vec![put("a")], vec![]), txn(vec![delete("a", "")], vec![])],
        ];
        for ops in free {
            assert!(!puts_collide(&ops), "{ops:?}");
        }
        let colliding = [
            vec![put("a"), put("a")],
            vec![put("a"), delete("a", "")],
            vec![delete("a", "c"), put("b")],
            vec![delete("a", "b"), delete("b", "c"), put("b")],
            vec![put("b"), delete("a", "c")],
            vec![txn(vec![put("a"), put("a")], vec![])],
            vec![txn(vec![], vec![put("a"), delete("a", "")])],
            vec![put("a"), txn(vec![put("a")], vec![])],
            vec![put("a"), txn(vec![], vec![put("a")])],
            vec![txn(vec![put("a")], vec![]), txn(vec![], vec![put("a")])],
            vec![put("a"), txn(vec![delete("a", "b")], vec![])],
            vec![txn(vec![put("a")], vec![]), delete("a", "")],
            vec![txn(vec![delete("a", "")], vec![]), txn(vec![put("a")], vec![])],
            vec![put("a"), txn(vec![txn(vec![], vec![put("a")])], vec![])],
        ];
        for ops in colliding {
            assert!(puts_collide(&ops), "{ops:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_hold_the_keys_they_were_given(
            given in prop::collection::vec((0u8..30, 0u8..30), 0..12), key in 0u8..30,
        ) {
            let requests: Vec<_> = given
                .iter()
                .map(|&(begin, end)| DeleteRangeRequest {
                    key: Bytes::copy_from_slice(&[b'a' + begin]),
                    range_end: if begin == end { Bytes::new() } else { Bytes::copy_from_slice(&[b'a' + end]) },
                    prev_kv: false,
                })
                .collect();
            let mut ranges = Ranges::default();
            requests.iter().for_each(|request| ranges.insert_request(request));
            let expected = given.iter().any(|&(begin, end)| (begin..end).contains(&key) || begin == end && begin == key);
            prop_assert_eq!(ranges.contains(&[b'a' + key]), expected);
        }
    }
}
