//! All versions that are kept, key by key: what space is made of.
//!
//! What is told depends on commands alone: the versions visible at the compact revision and everything after it,
//! never on how far dropping got or on what is cold. It goes in portions, so that whoever pays for it can stop.

use std::ops::Bound;

use super::event::Version;
use super::history::{Past, Seq};
use super::view::View;
use crate::command::CommandError;
use crate::record::{KeptVersion, Record, Standing};
use crate::tree::merge;

/// Tells the versions of all keys with a prefix: keys in ascending order, of each key the newest version first.
/// Holds a view; a long pause holds memory, never the writer.
pub struct KeptVersions {
    view: View,
    prefix: Vec<u8>,
    from: Bound<Vec<u8>>,
    /// The key in the middle of whose versions the last portion ended.
    walk: Option<Walk>,
}

/// Where the walk through a key's versions stands.
struct Walk {
    newest: Record,
    next: Next,
}

enum Next {
    Newest {
        live: bool,
        at: Option<Seq>,
    },
    /// What this event superseded.
    Before(Seq),
    Done,
}

/// What a portion may still tell, and whom.
struct Portion<'a> {
    left: usize,
    tell: &'a mut dyn FnMut(KeptVersion<'_>),
}

impl View {
    /// The versions of all keys that begin with `prefix`.
    #[must_use]
    pub fn kept_versions(&self, prefix: &[u8]) -> KeptVersions {
        KeptVersions {
            view: self.clone(),
            prefix: prefix.to_vec(),
            from: Bound::Included(prefix.to_vec()),
            walk: None,
        }
    }
}

impl KeptVersions {
    /// The view that it goes through.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Tells up to `max_versions` (at least one) more versions; whether there may be more.
    ///
    /// # Errors
    /// `History` when disk fails, `Compacted` when what is to be read from it was compacted meanwhile.
    pub fn advance(
        &mut self,
        max_versions: usize,
        tell: &mut dyn FnMut(KeptVersion<'_>),
    ) -> Result<bool, CommandError> {
        let view = self.view.clone();
        let mut portion = Portion { left: max_versions.max(1), tell };
        if let Some(walk) = &mut self.walk {
            if !walk.go_on(&view, &mut portion)? {
                return Ok(true);
            }
            self.walk = None;
        }
        let from = self.from.as_ref().map(Vec::as_slice);
        for pair in merge(view.live.iter_from(from), view.graves.iter_from(from)) {
            let (newest, live) = match pair {
                (Some(newest), _) => (newest, true),
                (None, Some(grave)) => (grave, false),
                (None, None) => break,
            };
            let key = newest.record.key();
            if !key.starts_with(&self.prefix) {
                return Ok(false);
            }
            if portion.left == 0 {
                self.from = Bound::Included(key.to_vec());
                return Ok(true);
            }
            let mut walk = Walk::of(&view, newest, live);
            if !walk.go_on(&view, &mut portion)? {
                self.from = Bound::Excluded(key.to_vec());
                self.walk = Some(walk);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Walk {
    fn of(view: &View, newest: &Version, live: bool) -> Self {
        let at = view.history.position_of(newest).filter(|seq| view.is_after_compaction(*seq));
        Self { newest: newest.record.clone(), next: Next::Newest { live, at } }
    }

    /// Tells further versions; whether all are told.
    fn go_on(&mut self, view: &View, portion: &mut Portion<'_>) -> Result<bool, CommandError> {
        loop {
            if matches!(self.next, Next::Done) {
                return Ok(true);
            }
            if portion.left == 0 {
                return Ok(false);
            }
            let key = self.newest.key();
            let mut tell = |value_bytes, standing| {
                (portion.tell)(KeptVersion { key, value_bytes, standing });
                portion.left -= 1;
            };
            self.next = match self.next {
                Next::Newest { live, at } => {
                    if live {
                        tell(self.newest.fields().value.len(), Standing::Live);
                    } else if at.is_some() {
                        tell(0, Standing::Tombstone);
                    }
                    at.map_or(Next::Done, Next::Before)
                }
                Next::Before(seq) => {
                    let earlier = view.history.earlier(seq).filter(|at| view.is_after_compaction(*at));
                    match view.history.superseded(seq) {
                        // The event before was a deletion, or there is none.
                        Past::Absent => {
                            if earlier.is_some() {
                                tell(0, Standing::Tombstone);
                            }
                        }
                        past => {
                            if let Some(record) = view.fetch(past)? {
                                tell(record.fields().value.len(), Standing::Old);
                            }
                        }
                    }
                    earlier.map_or(Next::Done, Next::Before)
                }
                Next::Done => Next::Done,
            };
        }
    }
}

impl View {
    fn is_after_compaction(&self, seq: Seq) -> bool {
        self.history.link(seq).is_some_and(|link| link.at.main > self.compact_revision)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::command::{DeleteRange, KeyRange, Put};
    use crate::ids::Revision;
    use crate::lease::table::LeaseTable;
    use crate::mvcc::keyspace::{Config, Keyspace};

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, usize),
        Delete(u8),
        Compact(i64),
        Collect(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..6, 0usize..9).prop_map(|(key, len)| Step::Put(key, len)),
            2 => (0u8..6).prop_map(Step::Delete),
            1 => (0i64..4).prop_map(Step::Compact),
            1 => (1usize..20).prop_map(Step::Collect),
        ]
    }

    fn key(number: u8) -> Bytes {
        format!("k{}/{number}", number % 2).into()
    }

    /// Every version that ever was: revision and size of the value, `None` for a deletion.
    type Written = BTreeMap<Bytes, Vec<(i64, Option<usize>)>>;

    /// What is kept, by the definition.
    fn expected(written: &Written, prefix: &str, compact: i64) -> Vec<(Bytes, usize, Standing)> {
        let mut kept = Vec::new();
        for (key, versions) in written.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes())) {
            let after = versions.partition_point(|(revision, _)| *revision <= compact);
            let from = after.checked_sub(1).filter(|at| versions[*at].1.is_some()).unwrap_or(after);
            for (at, (_, len)) in versions.iter().enumerate().skip(from).rev() {
                let standing = match len {
                    None => Standing::Tombstone,
                    Some(_) if at + 1 == versions.len() => Standing::Live,
                    Some(_) => Standing::Old,
                };
                kept.push((key.clone(), len.unwrap_or(0), standing));
            }
        }
        kept
    }

    proptest! {
        #[test]
        fn tells_exactly_what_can_be_read(
            steps in prop::collection::vec(step(), 0..80),
            portion in 1usize..7,
        ) {
            let mut keyspace = Keyspace::new(Config::default(), None);
            let mut leases = LeaseTable::new();
            let mut written = Written::new();
            for step in steps {
                match step {
                    Step::Put(number, len) => {
                        let (key, value) = (key(number), Bytes::from(vec![b'v'; len]));
                        let put = Put { key: key.clone(), value, ..Put::default() };
                        keyspace.execute_put(&mut leases, &put).unwrap();
                        written.entry(key).or_default().push((keyspace.revision().0, Some(len)));
                    }
                    Step::Delete(number) => {
                        let key = key(number);
                        let range = KeyRange { key: key.clone(), ..KeyRange::default() };
                        let delete = DeleteRange { range, prev_kv: false };
                        if keyspace.execute_delete_range(&mut leases, &delete).unwrap().deleted > 0 {
                            written.entry(key).or_default().push((keyspace.revision().0, None));
                        }
                    }
                    Step::Compact(back) => {
                        // To where it is already is refused, and changes nothing.
                        let _ = keyspace.compact(Revision(keyspace.revision().0 - back));
                    }
                    Step::Collect(events) => {
                        keyspace.collect_garbage(events);
                    }
                }
            }
            let view = keyspace.view();
            for prefix in ["", "k1/", "none"] {
                let mut versions = view.kept_versions(prefix.as_bytes());
                let mut told = Vec::new();
                loop {
                    let before = told.len();
                    let more = versions.advance(portion, &mut |version| {
                        let key = Bytes::copy_from_slice(version.key);
                        told.push((key, version.value_bytes, version.standing));
                    });
                    prop_assert!(told.len() - before <= portion);
                    if !more.unwrap() {
                        break;
                    }
                }
                prop_assert_eq!(told, expected(&written, prefix, view.compact_revision().0));
            }
        }
    }
}
