//! Ranges: which keys, at which revision, in which order, and how many.
//!
//! Counts at the current revision cost one descent, and a limit bounds the walk. Never reads a clock, and
//! never looks at more of history than the question needs.

use std::cmp::Reverse;

use super::event::Version;
use super::history::Past;
use super::view::View;
use crate::command::{CommandError, KeyRange, Range, RangeOutcome, SortOrder, SortTarget};
use crate::ids::Revision;
use crate::record::Record;
use crate::tree::{Keyed, Tree, merge};

/// The keys that a [`KeyRange`] means.
#[derive(Clone, Copy)]
pub(super) enum Span<'a> {
    /// One key.
    One(&'a [u8]),
    /// From a key on.
    From(&'a [u8]),
    /// From the first key to before the second; empty when they are the wrong way round.
    Between(&'a [u8], &'a [u8]),
}

impl<'a> Span<'a> {
    pub(super) fn of(range: &'a KeyRange) -> Self {
        match &*range.range_end {
            [] => Self::One(&range.key),
            [0] => Self::From(&range.key),
            end => Self::Between(&range.key, end),
        }
    }

    fn contains(self, key: &[u8]) -> bool {
        match self {
            Self::One(only) => key == only,
            Self::From(from) => from <= key,
            Self::Between(from, end) => from <= key && key < end,
        }
    }

    /// Where the span's keys stand in a tree: first, and how many.
    pub(super) fn ranks<V: Keyed + Clone>(self, tree: &Tree<V>) -> (usize, usize) {
        match self {
            Self::One(key) => (tree.rank(key), usize::from(tree.get(key).is_some())),
            Self::From(from) => {
                let low = tree.rank(from);
                (low, tree.len() - low)
            }
            Self::Between(from, end) => {
                let low = tree.rank(from);
                (low, tree.rank(end).saturating_sub(low))
            }
        }
    }
}

/// A key that changed since the revision asked for, with what it was then.
struct Changed<'a> {
    key: &'a [u8],
    then: Option<&'a Record>,
}

impl Keyed for Changed<'_> {
    fn key(&self) -> &[u8] {
        self.key
    }
}

/// Which records of a span are wanted.
#[derive(Clone, Copy)]
enum Wanted {
    None,
    First(usize),
    Last(usize),
}

/// Records in ascending order of keys, and the count of all keys.
type Found = (Vec<Record>, usize);

impl View {
    /// `KV.Range`.
    ///
    /// # Errors
    /// `FutureRevision`, `Compacted`, and `History` when disk fails.
    pub fn range(&self, request: &Range) -> Result<RangeOutcome, CommandError> {
        let revision = self.readable(request.revision)?;
        let span = Span::of(&request.range);
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        // A target without an order is sorted ascending, but, as in etcd, after the limit was applied.
        let keys_ascend = request.sort_order == SortOrder::None
            || (request.sort_order, request.sort_target) == (SortOrder::Ascend, SortTarget::Key);
        let keys_descend = (request.sort_order, request.sort_target) == (SortOrder::Descend, SortTarget::Key);
        let some = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
        let wanted = match () {
            () if request.count_only => Wanted::None,
            () if is_filtered(request) => Wanted::First(usize::MAX),
            () if keys_ascend => Wanted::First(some),
            () if keys_descend => Wanted::Last(some),
            () => Wanted::First(usize::MAX),
        };
        let (mut records, count) = if revision == self.revision {
            self.current(span, wanted)
        } else {
            self.historic(span, revision, wanted)?
        };
        if is_filtered(request) {
            records.retain(|record| passes(request, record));
        }
        sort(&mut records, request.sort_target, request.sort_order);
        let more = limit.is_some_and(|limit| records.len() > limit);
        records.truncate(limit.unwrap_or(usize::MAX));
        if request.keys_only {
            for record in &mut records {
                *record = record.without_value();
            }
        }
        Ok(RangeOutcome { records, more, count: count as i64 })
    }

    /// The current versions in a span, in order.
    pub(super) fn current_in<'a>(&'a self, span: Span<'a>) -> impl Iterator<Item = &'a Version> {
        let (low, count) = span.ranks(&self.live);
        self.live.iter_at(low).take(count)
    }

    fn current(&self, span: Span<'_>, wanted: Wanted) -> Found {
        if let Span::One(key) = span {
            let found = self.live.get(key);
            let count = usize::from(found.is_some());
            let found = found.filter(|_| !matches!(wanted, Wanted::None));
            return (found.map(|version| version.record.clone()).into_iter().collect(), count);
        }
        let (low, count) = span.ranks(&self.live);
        let (low, take) = match wanted {
            Wanted::None => (low, 0),
            Wanted::First(n) => (low, count.min(n)),
            Wanted::Last(n) => (low + count - count.min(n), count.min(n)),
        };
        let mut records = Vec::with_capacity(take);
        if take > 0 {
            records.extend(self.live.iter_at(low).take(take).map(|version| version.record.clone()));
        }
        (records, count)
    }

    fn historic(&self, span: Span<'_>, revision: Revision, wanted: Wanted) -> Result<Found, CommandError> {
        let since = self.history.first_after(revision);
        let events = (self.history.end() - since) as usize;
        let keys = span.ranks(&self.live).1 + span.ranks(&self.graves).1;
        if events < keys && self.history.is_hot_from(since) {
            Ok(self.rewound(span, since, wanted))
        } else {
            self.walked(span, revision, wanted)
        }
    }

    /// The state before the events from `since` on, by taking them back.
    fn rewound(&self, span: Span<'_>, since: u64, wanted: Wanted) -> Found {
        let (low, live) = span.ranks(&self.live);
        let (mut growth, mut created) = (0, 0);
        let mut changed = Vec::new();
        let mut seq = since;
        while seq < self.history.end() {
            let (links, contents) = self.history.run(seq);
            for (link, content) in links.iter().zip(contents.unwrap_or_default()) {
                if let Some(record) = content.record.as_ref().filter(|record| span.contains(record.key())) {
                    growth += link.growth();
                    created += usize::from(link.growth() > 0);
                    if link.is_first_since(since, seq) {
                        changed.push(Changed { key: record.key(), then: content.previous.as_ref() });
                    }
                }
                seq += 1;
            }
        }
        let count = live.saturating_add_signed(-growth);
        // Of so many keys that live now, at least as many as are wanted lived then.
        let bound = match wanted {
            Wanted::None => return (Vec::new(), count),
            Wanted::First(n) => Some(n.saturating_add(created)).filter(|enough| *enough < live),
            Wanted::Last(_) => None,
        };
        if let Some(bound) = bound.and_then(|enough| self.live.at_rank(low + enough)) {
            changed.retain(|changed| changed.key <= bound.key());
        }
        changed.sort_unstable_by(|a, b| a.key.cmp(b.key));
        let now = self.live.iter_at(low).take(live);
        let then = merge(now, changed.iter()).filter_map(|(now, changed)| match changed {
            Some(changed) => changed.then,
            None => now.map(|version| &version.record),
        });
        let records = match wanted {
            Wanted::None => Vec::new(),
            Wanted::First(n) => then.take(n).cloned().collect(),
            Wanted::Last(n) => then.skip(count - count.min(n)).cloned().collect(),
        };
        (records, count)
    }

    /// The state at a revision, by asking each key for its own.
    fn walked(&self, span: Span<'_>, revision: Revision, wanted: Wanted) -> Result<Found, CommandError> {
        let (live, graves) = (span.ranks(&self.live), span.ranks(&self.graves));
        let live = self.live.iter_at(live.0).take(live.1);
        let graves = self.graves.iter_at(graves.0).take(graves.1);
        let mut count = 0;
        let mut found: Vec<Past> = Vec::new();
        for pair in merge(live, graves) {
            let (newest, tombstone) = match pair {
                (Some(live), _) => (live, false),
                (None, Some(grave)) => (grave, true),
                (None, None) => continue,
            };
            let past = self.past(newest, tombstone, revision);
            if matches!(past, Past::Absent) {
                continue;
            }
            count += 1;
            match wanted {
                Wanted::None => {}
                Wanted::First(n) if count > n => {}
                Wanted::First(_) | Wanted::Last(_) => found.push(past),
            }
        }
        if let Wanted::Last(n) = wanted {
            found.drain(..found.len().saturating_sub(n));
        }
        let records = found.into_iter().filter_map(|past| self.fetch(past).transpose());
        Ok((records.collect::<Result<_, _>>()?, count))
    }
}

fn is_filtered(request: &Range) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| bound.0 != 0)
}

fn passes(request: &Range, record: &Record) -> bool {
    let fields = record.fields();
    let within = |value: Revision, min: Revision, max: Revision| {
        (max.0 == 0 || value <= max) && (min.0 == 0 || value >= min)
    };
    within(fields.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(fields.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Sorts records that are in the order of their keys. Equal ones stay in that order.
fn sort(records: &mut [Record], target: SortTarget, order: SortOrder) {
    match (target, order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {}
        (SortTarget::Key, SortOrder::Descend) => records.reverse(),
        (SortTarget::Value, SortOrder::Descend) => {
            records.sort_by(|a, b| b.fields().value.cmp(a.fields().value));
        }
        (SortTarget::Value, _) => records.sort_by(|a, b| a.fields().value.cmp(b.fields().value)),
        (_, order) => {
            let number = |record: &Record| match target {
                SortTarget::Version => record.fields().version,
                SortTarget::Create => record.fields().create_revision.0,
                _ => record.fields().mod_revision.0,
            };
            if order == SortOrder::Descend {
                records.sort_by_cached_key(|record| Reverse(number(record)));
            } else {
                records.sort_by_cached_key(number);
            }
        }
    }
}
