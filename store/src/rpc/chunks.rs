//! `KV.RangeStream`: one range answered in chunks of about the size of a request. Pure.

use barque_proto::etcdserverpb::ResponseHeader;
use barque_proto::served::RangeResponse;
use bytes::Bytes;

use super::backend::ReadView;
use crate::command::{CommandError, Range};
use crate::ids::Revision;
use crate::record::Record;

/// Keys in the first chunk, before anything is known of their size.
const FIRST_CHUNK_KEYS: i64 = 10;

/// A range that is being answered. All chunks are read from one picture of the keyspace.
pub(super) struct Chunks<V> {
    view: V,
    /// What is left; its limit is that of the next chunk.
    range: Range,
    /// The revision that the last chunk will tell.
    revision: Revision,
    limit: i64,
    sent: i64,
    target_bytes: usize,
    done: bool,
}

impl<V: ReadView> Chunks<V> {
    /// `range` must be in key order and without filters.
    pub(super) fn new(view: V, mut range: Range, target_bytes: usize) -> Self {
        let limit = if range.limit > 0 { range.limit } else { i64::MAX };
        let revision = view.revision();
        if range.revision.0 <= 0 {
            range.revision = revision;
        }
        range.limit = FIRST_CHUNK_KEYS.min(limit);
        Self { view, range, revision, limit, sent: 0, target_bytes, done: false }
    }

    /// The next chunk, `None` after the last. Only the last one has a header (with nothing but the
    /// revision in it), `more` and `count`.
    pub(super) fn next(&mut self) -> Result<Option<RangeResponse>, CommandError> {
        if self.done {
            return Ok(None);
        }
        let outcome = self.view.range(&self.range)?;
        let before = self.sent;
        self.sent += outcome.records.len() as i64;
        let mut chunk = RangeResponse {
            kvs: outcome.records.iter().cloned().map(Record::into_encoded).collect(),
            ..RangeResponse::default()
        };
        match outcome.records.last() {
            Some(last) if outcome.more && self.sent < self.limit => {
                let bytes = outcome.records.iter().map(|record| record.encoded().len()).sum();
                self.range.range.key = following(last.key());
                self.range.limit =
                    next_chunk_keys(self.range.limit, bytes, self.target_bytes).min(self.limit - self.sent);
            }
            _ => {
                self.done = true;
                chunk.header = Some(ResponseHeader { revision: self.revision.0, ..Default::default() });
                chunk.more = outcome.more;
                chunk.count = before + outcome.count;
            }
        }
        Ok(Some(chunk))
    }
}

/// The first key behind `key`.
fn following(key: &[u8]) -> Bytes {
    [key, b"\0"].concat().into()
}

/// Doubles or halves the keys of a chunk until its size is within half and twice of what is wanted.
fn next_chunk_keys(last_keys: i64, last_bytes: usize, target_bytes: usize) -> i64 {
    if last_bytes < target_bytes / 2 {
        last_keys.saturating_mul(2)
    } else if last_bytes > target_bytes * 2 {
        (last_keys / 2).max(1)
    } else {
        last_keys
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Keyspace;
    use super::*;
    use crate::command::KeyRange;

    fn keyspace(keys: usize, value_bytes: usize) -> Keyspace {
        let mut keyspace = Keyspace::default();
        for i in 0..keys {
            keyspace.put(format!("k{i:04}").as_bytes(), &vec![b'v'; value_bytes], None);
        }
        keyspace
    }

    fn all() -> Range {
        Range {
            range: KeyRange { key: Bytes::from_static(b"k"), range_end: Bytes::from_static(b"l") },
            ..Range::default()
        }
    }

    fn chunks(keyspace: Keyspace, range: Range, target_bytes: usize) -> Vec<RangeResponse> {
        let mut chunks = Chunks::new(keyspace, range, target_bytes);
        std::iter::from_fn(|| chunks.next().unwrap()).collect()
    }

    fn sizes(chunks: &[RangeResponse]) -> Vec<usize> {
        chunks.iter().map(|chunk| chunk.kvs.len()).collect()
    }

    #[test]
    fn chunks_grow_to_the_target_and_only_the_last_tells_totals() {
        let keyspace = keyspace(100, 100);
        let revision = keyspace.revision();
        let got = chunks(keyspace, all(), 4000);
        assert_eq!(sizes(&got), [10, 20, 20, 20, 20, 10]);
        let (last, rest) = got.split_last().unwrap();
        assert!(rest.iter().all(|chunk| chunk.header.is_none() && chunk.count == 0 && !chunk.more));
        assert_eq!(last.header.unwrap().revision, revision.0);
        assert_eq!((last.count, last.more), (100, false));
    }

    #[test]
    fn chunks_shrink_when_records_are_large() {
        assert_eq!(sizes(&chunks(keyspace(30, 1000), all(), 1000))[..4], [10, 5, 2, 1]);
    }

    #[test]
    fn a_limit_cuts_and_says_what_is_left_out() {
        let got = chunks(keyspace(100, 10), Range { limit: 35, ..all() }, 1 << 20);
        assert_eq!(sizes(&got), [10, 20, 5]);
        assert_eq!((got[2].count, got[2].more), (100, true));
        let exact = chunks(keyspace(10, 10), Range { limit: 10, ..all() }, 1 << 20);
        assert_eq!((sizes(&exact), exact[0].more), (vec![10], false));
    }

    #[test]
    fn nothing_and_counts_are_one_chunk() {
        let none = chunks(keyspace(0, 0), all(), 1000);
        assert_eq!((sizes(&none), none[0].count), (vec![0], 0));
        let count = chunks(keyspace(50, 10), Range { count_only: true, ..all() }, 1000);
        assert_eq!((sizes(&count), count[0].count, count[0].more), (vec![0], 50, false));
    }
}
