//! The log of events since the compact revision, in order, with a way from each event to the one before of
//! the same key.
//!
//! Old versions live nowhere but in the events that superseded them: the state of a key at a revision is the
//! `previous` of the key's first event after it. Events are found by following, from the key's newest one,
//! links to the event before and to one much farther back (a skew-binary jump list), so that even a key with
//! millions of versions is answered in a few steps, and appending never changes an older event.
//!
//! Events stand in chunks that are shared with all views. The oldest chunks may turn *cold*: only their links
//! stay in memory. It never decides what is visible: that is the compact revision's affair, and dropping what
//! it made invisible may happen at any time.

use std::sync::Arc;

use super::event::{Version, start_of};
use super::links::{Before, Behind, Link, Links, MAX_LINKS, Run};
use crate::ids::{Revision, SubRevision};
use crate::record::Record;
use crate::tree::{Keyed, Tree};

/// Events in a chunk. A write after a view was taken copies at most one chunk.
pub(super) const CHUNK: usize = 64;
const _: () = assert!(CHUNK <= MAX_LINKS);

/// An event's number: consecutive, and this member's own affair.
pub(super) type Seq = u64;

/// What leaves memory when a chunk turns cold.
#[derive(Clone, Default)]
pub(super) struct Content {
    /// `None` once the event is dropped.
    pub(super) record: Option<Record>,
    /// `None` when the key was absent or the version before is compacted.
    pub(super) previous: Option<Record>,
}

#[derive(Clone, Default)]
struct Chunk {
    /// The place of the first event, in bytes that sort as places do.
    first: [u8; 12],
    links: Arc<Links>,
    contents: Option<Arc<Vec<Content>>>,
    /// Bytes that going cold gives back.
    bytes: usize,
}

impl Keyed for Chunk {
    fn key(&self) -> &[u8] {
        &self.first
    }
}

fn order(at: SubRevision) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&at.main.0.max(0).to_be_bytes());
    bytes[8..].copy_from_slice(&at.sub.to_be_bytes());
    bytes
}

/// The version that an event supersedes.
pub(super) enum Superseded<'a> {
    Nothing,
    Version(&'a Version),
    Tombstone(&'a Version),
}

/// A version as it was at some revision.
#[derive(Clone, Debug)]
pub(super) enum Past {
    Absent,
    Here(Version),
    /// On disk.
    Cold(SubRevision),
}

/// See the module's description.
#[derive(Clone)]
pub(super) struct History {
    /// Full chunks.
    chunks: Tree<Chunk>,
    tail: Chunk,
    /// The number of the first chunk: its first event's is `CHUNK` times that.
    first_chunk: u64,
    /// Events below are dropped.
    first: Seq,
    /// Events below no longer keep the version they superseded.
    released: Seq,
    /// So many of the first chunks are cold.
    cold: usize,
    hot_bytes: usize,
}

/// What one step of dropping took away.
#[derive(Default)]
pub(super) struct Dropped {
    /// Places of versions and tombstones that nobody can see any more.
    pub(super) versions: Vec<SubRevision>,
    /// Those of them that are tombstones.
    pub(super) tombstones: Vec<SubRevision>,
    /// Whether nothing is left to do for this compact revision.
    pub(super) finished: bool,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            chunks: Tree::new(),
            tail: Chunk { contents: Some(Arc::default()), ..Chunk::default() },
            first_chunk: 0,
            first: 0,
            released: 0,
            cold: 0,
            hot_bytes: 0,
        }
    }

    fn tail_start(&self) -> Seq {
        (self.first_chunk + self.chunks.len() as u64) * CHUNK as u64
    }

    /// The number that the next event will get.
    pub(super) fn end(&self) -> Seq {
        self.tail_start() + self.tail.links.len() as u64
    }

    /// How many events there are.
    pub(super) fn events(&self) -> u64 {
        self.end() - self.first
    }

    /// About the bytes in memory: links, and what only history keeps of the events that are hot.
    pub(super) fn bytes(&self) -> usize {
        self.events() as usize * Links::LINK_BYTES + self.hot_bytes
    }

    fn chunk(&self, seq: Seq) -> Option<&Chunk> {
        if seq >= self.tail_start() {
            return Some(&self.tail);
        }
        let rank = (seq / CHUNK as u64).checked_sub(self.first_chunk)?;
        self.chunks.at_rank(rank as usize)
    }

    pub(super) fn link(&self, seq: Seq) -> Option<Link> {
        if seq < self.first {
            return None;
        }
        self.chunk(seq)?.links.get(seq as usize % CHUNK)
    }

    /// The event's content; `None` when it is cold.
    pub(super) fn content(&self, seq: Seq) -> Option<&Content> {
        self.chunk(seq)?.contents.as_ref()?.get(seq as usize % CHUNK)
    }

    /// Whether no event from `seq` on is cold.
    pub(super) fn is_hot_from(&self, seq: Seq) -> bool {
        seq >= (self.first_chunk + self.cold as u64) * CHUNK as u64
    }

    /// Events from `seq` on that stand in one chunk, with their contents unless they are cold.
    pub(super) fn run(&self, seq: Seq) -> (Run<'_>, Option<&[Content]>) {
        let chunk = match self.chunk(seq) {
            Some(chunk) => chunk,
            // No event of the tail has this number either.
            None => return (self.tail.links.run(self.tail.links.len()), None),
        };
        let from = (seq as usize % CHUNK).min(chunk.links.len());
        (chunk.links.run(from), chunk.contents.as_ref().map(|contents| &contents[from..]))
    }

    /// The first event at or after a place.
    pub(super) fn lower_bound(&self, at: SubRevision) -> Seq {
        let (start, links) = match self.tail.links.first() {
            Some(first) if first.at <= at => (self.tail_start(), &self.tail.links),
            _ => {
                let key = order(at);
                let mut rank = self.chunks.rank(&key);
                // The chunk that starts before the place may hold it.
                match self.chunks.at_rank(rank) {
                    Some(chunk) if chunk.first == key => {}
                    _ => rank = rank.saturating_sub(1),
                }
                let start = (self.first_chunk + rank as u64) * CHUNK as u64;
                match self.chunks.at_rank(rank) {
                    Some(chunk) => (start, &chunk.links),
                    None => return self.tail_start().max(self.first),
                }
            }
        };
        (start + links.before(at) as u64).max(self.first)
    }

    /// The first event after a revision.
    pub(super) fn first_after(&self, revision: Revision) -> Seq {
        self.lower_bound(start_of(revision.next()))
    }

    /// The event that stands at exactly this place.
    pub(super) fn position(&self, at: SubRevision) -> Option<Seq> {
        let seq = self.lower_bound(at);
        (self.link(seq)?.at == at).then_some(seq)
    }

    /// What the newest version of a key remembers of the number of the next event, which writes it.
    pub(super) fn next_event(&self) -> u32 {
        self.end() as u32
    }

    /// The event that wrote the newest version of a key, as long as it is in the log.
    pub(super) fn position_of(&self, newest: &Version) -> Option<Seq> {
        let end = self.end();
        let back = u64::from((end as u32).wrapping_sub(newest.event));
        let seq = end.checked_sub(back);
        let found = match seq.filter(|seq| self.link(*seq).is_some_and(|link| link.at == newest.at())) {
            None if end > u64::from(u32::MAX) => self.position(newest.at()),
            found => found,
        };
        debug_assert_eq!(found, self.position(newest.at()));
        found
    }

    /// The key's event before an event, as long as it is in the log.
    pub(super) fn earlier(&self, seq: Seq) -> Option<Seq> {
        let back = u64::from(self.link(seq)?.behind.previous_back);
        seq.checked_sub(back).filter(|to| back > 0 && *to >= self.first)
    }

    /// Adds an event. `record` is a tombstone when the key was deleted.
    pub(super) fn append(&mut self, at: SubRevision, tombstone: bool, record: Record, old: &Superseded<'_>) {
        let chained = match old {
            Superseded::Nothing => None,
            Superseded::Version(version) | Superseded::Tombstone(version) => self.position_of(version),
        };
        self.append_chained(at, tombstone, record, old, chained);
    }

    /// As [`History::append`], for a caller that knows where the key's event before stands.
    pub(super) fn append_chained(
        &mut self,
        at: SubRevision,
        tombstone: bool,
        record: Record,
        old: &Superseded<'_>,
        chained: Option<Seq>,
    ) {
        let seq = self.end();
        let (before, previous) = match old {
            Superseded::Nothing => (Before::Nothing, None),
            Superseded::Tombstone(_) => (Before::Tombstone, None),
            Superseded::Version(version) => (Before::Version, Some(*version)),
        };
        let (jump, depth) = chained.map_or((None, 0), |previous| self.jump_from(previous));
        let back = |to: Option<Seq>| to.map_or(0, |to| u32::try_from(seq - to).unwrap_or(0));
        let previous_at = previous.map(Version::at).unwrap_or_default();
        let link = Link {
            at,
            tombstone,
            before,
            behind: Behind {
                previous_main: previous_at.main,
                previous_sub: previous_at.sub,
                previous_back: back(chained),
                jump_back: back(jump),
                depth,
            },
        };
        let bytes = size_of::<Content>()
            + previous.map_or(0, |version| version.record.encoded().len())
            + if tombstone { record.encoded().len() } else { 0 };
        let content =
            Content { record: Some(record), previous: previous.map(|version| version.record.clone()) };

        if self.tail.links.is_empty() {
            self.tail.first = order(at);
        }
        Arc::make_mut(&mut self.tail.links).push(link);
        Arc::make_mut(self.tail.contents.get_or_insert_default()).push(content);
        self.tail.bytes += bytes;
        self.hot_bytes += bytes;
        if self.tail.links.len() == CHUNK {
            let mut full = std::mem::take(&mut self.tail);
            self.tail.contents = Some(Arc::default());
            if let Some(links) = Arc::get_mut(&mut full.links) {
                links.shrink_to_fit();
            }
            self.chunks.insert(full);
        }
    }

    /// Where the jump of an event leads whose key's event before is `previous`, and its depth. Two jumps of
    /// equal length in a row become one: that is the rule of a skew-binary list. Depths alone tell where that
    /// happens, so most events look at nothing but the one before.
    fn jump_from(&self, previous: Seq) -> (Option<Seq>, u32) {
        let Some(one) = self.link(previous) else { return (None, 0) };
        let one = one.behind;
        let depth = one.depth.saturating_add(1);
        let jumped = || {
            let second = previous.checked_sub(u64::from(one.jump_back)).filter(|_| one.jump_back > 0)?;
            let two = self.link(second)?.behind;
            second.checked_sub(u64::from(two.jump_back)).filter(|_| two.jump_back > 0)
        };
        let jump = if jump_length(depth) == 1 { None } else { jumped() };
        (Some(jump.unwrap_or(previous)), depth)
    }

    /// The state of a key at a revision before its newest version `newest` (which may be a tombstone).
    pub(super) fn before(&self, newest: &Version, revision: Revision) -> Past {
        match self.position_of(newest) {
            Some(seq) => self.superseded(self.first_of_key_after(seq, revision)),
            None => Past::Absent,
        }
    }

    /// The key's first event after a revision, from a later one of the key.
    fn first_of_key_after(&self, mut seq: Seq, revision: Revision) -> Seq {
        let after = |back: u32, seq: Seq| {
            let to = seq.checked_sub(u64::from(back)).filter(|_| back > 0)?;
            (self.link(to)?.at.main > revision).then_some(to)
        };
        while let Some(link) = self.link(seq) {
            let Some(earlier) =
                after(link.behind.jump_back, seq).or_else(|| after(link.behind.previous_back, seq))
            else {
                break;
            };
            seq = earlier;
        }
        seq
    }

    /// The version that an event superseded.
    pub(super) fn superseded(&self, seq: Seq) -> Past {
        let Some(link) = self.link(seq) else { return Past::Absent };
        let Some(at) = link.previous_at() else { return Past::Absent };
        match self.content(seq) {
            None => Past::Cold(at),
            Some(content) => match &content.previous {
                Some(record) => Past::Here(Version::past(record.clone(), at.sub)),
                None => Past::Absent,
            },
        }
    }

    /// Turns the oldest chunks cold until what is hot fits into `budget_bytes`, but none with an event after
    /// `persisted`.
    pub(super) fn cool(&mut self, budget_bytes: usize, persisted: Revision) {
        while self.hot_bytes > budget_bytes {
            let Some(chunk) = self.chunks.at_rank(self.cold) else { return };
            if chunk.links.last().is_none_or(|last| last.at.main > persisted) {
                return;
            }
            let key = chunk.first;
            let chunk = self.chunks.get_mut(&key).expect("found above");
            chunk.contents = None;
            self.hot_bytes -= std::mem::take(&mut chunk.bytes);
            self.cold += 1;
        }
    }

    /// Drops up to about `max_events` events that a compaction to `compact` made invisible.
    ///
    /// Events below `compact` go, with the versions they superseded. Events at `compact` stay, for watches that
    /// start there, but the versions they superseded go too.
    pub(super) fn drop_below(&mut self, compact: Revision, max_events: usize) -> Dropped {
        let mut dropped = Dropped::default();
        let (first, released) = (self.first, self.released);
        for _ in 0..max_events.max(1).saturating_mul(2) {
            if self.first < self.released && self.link(self.first).is_some_and(|link| link.at.main < compact)
            {
                let link = self.link(self.first).expect("just seen");
                if link.tombstone {
                    dropped.versions.push(link.at);
                    dropped.tombstones.push(link.at);
                }
                self.first += 1;
                if self.first.is_multiple_of(CHUNK as u64) {
                    self.drop_first_chunk();
                }
            } else if let Some(link) = self.link(self.released).filter(|link| link.at.main <= compact) {
                dropped.versions.extend(link.previous_at());
                self.released += 1;
            } else {
                dropped.finished = true;
                break;
            }
        }
        self.forget(first, self.first);
        self.forget(released.max(self.first), self.released);
        dropped
    }

    fn drop_first_chunk(&mut self) {
        let Some(chunk) = self.chunks.at_rank(0) else { return };
        let key = chunk.first;
        let chunk = self.chunks.remove(&key).expect("found above");
        self.hot_bytes -= chunk.bytes;
        self.first_chunk += 1;
        self.cold = self.cold.saturating_sub(1);
    }

    /// Gives back the memory of events that were dropped or released, in chunks that stay.
    fn forget(&mut self, from: Seq, to: Seq) {
        let mut seq = from.max(self.first_chunk * CHUNK as u64);
        while seq < to {
            let next = ((seq / CHUNK as u64 + 1) * CHUNK as u64).min(to);
            let (first, start) = (self.first, seq / CHUNK as u64 * CHUNK as u64);
            let tail_start = self.tail_start();
            let chunk = if seq >= tail_start {
                Some(&mut self.tail)
            } else {
                let key = self.chunk(seq).map(|chunk| chunk.first);
                key.and_then(|key| self.chunks.get_mut(&key))
            };
            if let Some(chunk) = chunk
                && let Some(contents) = &mut chunk.contents
            {
                let mut freed = 0;
                let contents = Arc::make_mut(contents);
                for seq in seq..next {
                    let content = &mut contents[(seq - start) as usize];
                    freed += content.previous.take().map_or(0, |record| record.encoded().len());
                    if seq < first {
                        let link = chunk.links.get((seq - start) as usize);
                        let tombstone = link.is_some_and(|link| link.tombstone);
                        let record = content.record.take();
                        freed += record.filter(|_| tombstone).map_or(0, |record| record.encoded().len());
                    }
                }
                chunk.bytes -= freed;
                self.hot_bytes -= freed;
            }
            seq = next;
        }
    }
}

/// Over how many events of its key the jump of an event leads that has `depth` of them behind it: 1, 1, 3, 1, 1, 3, 7
/// and so on. A depth of one less than a power of two jumps to the chain's beginning; what lies above repeats it.
fn jump_length(depth: u32) -> u32 {
    let mut rest = u64::from(depth.max(1));
    loop {
        let whole = (1 << (rest + 1).ilog2()) - 1;
        if whole == rest {
            return u32::try_from(whole).expect("it is at most the depth");
        }
        rest -= whole;
    }
}

#[cfg(test)]
impl History {
    /// Checks what the counters promise, and that memory is given back.
    pub(super) fn check(&self, finished_at: Option<Revision>) {
        let all = || self.chunks.iter().chain([&self.tail]);
        assert_eq!(self.hot_bytes, all().map(|chunk| chunk.bytes).sum::<usize>());
        for (at, chunk) in all().enumerate() {
            assert_eq!(chunk.contents.is_none(), at < self.cold);
            assert!(chunk.contents.as_ref().is_none_or(|contents| contents.len() == chunk.links.len()));
            assert!(at == self.chunks.len() || chunk.links.len() == CHUNK);
            let mut bytes = 0;
            for (link, content) in
                chunk.links.run(0).iter().zip(chunk.contents.iter().flat_map(|contents| contents.iter()))
            {
                bytes += size_of::<Content>();
                bytes += content.previous.as_ref().map_or(0, |record| record.encoded().len());
                let record = content.record.as_ref().filter(|_| link.tombstone);
                bytes += record.map_or(0, |record| record.encoded().len());
                if let Some(compact) = finished_at {
                    assert_eq!(content.record.is_none(), link.at.main < compact);
                    assert!(content.previous.is_none() || link.at.main > compact);
                }
            }
            assert_eq!(bytes, chunk.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as it is written down: two jumps of equal length in a row become one.
    #[test]
    fn depths_alone_tell_how_far_jumps_lead() {
        let mut jumps = vec![0u32];
        for depth in 1..3000 {
            let (one, previous) = (depth - 1, &jumps);
            let two = previous[one as usize];
            let three = previous[two as usize];
            let joins = one > 0 && two > 0 && one - two == two - three;
            let to = if joins { three } else { one };
            assert_eq!(jump_length(depth), depth - to, "depth {depth}");
            jumps.push(to);
        }
        assert_eq!(jump_length(u32::MAX), u32::MAX);
    }
}
