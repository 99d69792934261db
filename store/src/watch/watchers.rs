//! The watches of one stream: which are live, what each still needs, and events put into answers.
//!
//! Pure: no clock, no waiting, no locks. A revision is never split over answers of a watch, unless the
//! watch asked for fragments.

use std::collections::{HashMap, VecDeque};

use barque_proto::etcdserverpb::ResponseHeader;
use barque_proto::served::WatchResponse;
use bytes::Bytes;
use prost::Message as _;

use super::encode::SharedEvent;
use super::matcher::{GroupId, Matcher};
use super::range::WatchRange;
use crate::event::EventKind;
use crate::ids::Revision;

/// Up to so many watches are compared one by one: faster than hashing.
const FEW: usize = 4;

/// The `watch_id` of answers that are about no watch or about all of them.
pub const NO_WATCH: i64 = -1;

/// One watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) range: WatchRange,
    /// As asked for; 0 when the watch began at the newest revision.
    pub(super) start: Revision,
    /// The first revision whose events are in no answer; for a live watch, no later than the stream's
    /// cursor counts too.
    pub(super) next: Revision,
    /// Batches behind this revision set the stream's mark for this watch.
    pub(super) registered: Revision,
    pub(super) hub_group: GroupId,
    pub(super) catching_up: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    /// With `progress_notify`: whether no events went out since the last time it was looked at.
    pub(super) quiet: Option<bool>,
}

/// Sizes of answers, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerSizes {
    /// Events of further revisions are not added to an answer that has so many.
    pub(super) max_batched_bytes: usize,
    /// An answer of this size is split, if the watch allows it.
    pub(super) fragment_bytes: usize,
}

/// Whom events are for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Audience {
    /// Live watches; nothing before the cursor.
    Live { cursor: Revision },
    /// Watches that catch up and have `next` there or later.
    CatchingUp { from: Revision },
}

#[derive(Debug)]
struct Slot {
    watcher: Watcher,
    local_group: GroupId,
    events: Vec<Bytes>,
    bytes: usize,
}

/// The watches of a stream.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_id: HashMap<i64, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    matcher: Matcher,
    /// Slots of each group of the matcher.
    members: Vec<Vec<usize>>,
    next_id: i64,
    catching_up: usize,
    /// Slots that have events, in the order in which they got the first.
    touched: Vec<usize>,
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn catching_up(&self) -> usize {
        self.catching_up
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// An id that is free and was not picked before.
    pub(super) fn pick_id(&mut self) -> i64 {
        while self.contains(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Watcher> {
        self.slots.iter().flatten().map(|slot| &slot.watcher)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Watcher> {
        self.slots.iter_mut().flatten().map(|slot| &mut slot.watcher)
    }

    pub(super) fn insert(&mut self, watcher: Watcher) {
        let local_group = self.matcher.insert(&watcher.range);
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if self.members.len() <= local_group {
            self.members.resize_with(local_group + 1, Vec::new);
        }
        self.members[local_group].push(at);
        self.by_id.insert(watcher.id, at);
        self.catching_up += usize::from(watcher.catching_up);
        self.slots[at] = Some(Slot { watcher, local_group, events: Vec::new(), bytes: 0 });
    }

    pub(super) fn remove(&mut self, id: i64) -> Option<Watcher> {
        let at = self.by_id.remove(&id)?;
        let slot = self.slots[at].take()?;
        self.free.push(at);
        self.members[slot.local_group].retain(|&member| member != at);
        self.matcher.remove(slot.local_group);
        self.catching_up -= usize::from(slot.watcher.catching_up);
        Some(slot.watcher)
    }

    /// Takes away all that catch up and `which` names.
    pub(super) fn remove_catching_up(&mut self, which: impl Fn(&Watcher) -> bool) -> Vec<Watcher> {
        let ids: Vec<_> = self.iter().filter(|w| w.catching_up && which(w)).map(|w| w.id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Where the watch that is furthest behind has to go on.
    pub(super) fn furthest_behind(&self) -> Option<Revision> {
        if self.catching_up == 0 {
            return None;
        }
        self.iter().filter(|w| w.catching_up).map(|w| w.next).min()
    }

    /// The ring was lost for live watches: those that want something before the new cursor go on in
    /// history, at `from`.
    pub(super) fn fall_back(&mut self, from: Revision, cursor: Revision) {
        for watcher in self.slots.iter_mut().flatten().map(|slot| &mut slot.watcher) {
            let next = watcher.next.max(from);
            if !watcher.catching_up && next < cursor {
                watcher.catching_up = true;
                watcher.next = next;
                self.catching_up += 1;
            }
        }
    }

    /// Whoever catches up and was not behind `from` has seen everything up to `through`; whoever has
    /// nothing before the cursor left is live from now on.
    pub(super) fn caught_up(&mut self, from: Revision, through: Revision, cursor: Revision) {
        for watcher in self.slots.iter_mut().flatten().map(|slot| &mut slot.watcher) {
            if watcher.catching_up && watcher.next >= from {
                watcher.next = watcher.next.max(through.next());
                if watcher.next >= cursor && watcher.next > watcher.registered {
                    watcher.catching_up = false;
                    self.catching_up -= 1;
                }
            }
        }
    }

    /// Puts events (in order, whole revisions, nothing missing up to `through`) into answers, and says
    /// how many there were, counting each event for each watch.
    pub(super) fn deliver<'a>(
        &mut self,
        events: impl Iterator<Item = &'a SharedEvent>,
        audience: Audience,
        through: Revision,
        sizes: AnswerSizes,
        header: &dyn Fn(Revision) -> ResponseHeader,
        answers: &mut VecDeque<WatchResponse>,
    ) -> usize {
        let (mut revision, mut full, mut count) = (Revision(0), false, 0);
        for event in events {
            if event.revision() != revision {
                if full {
                    count += self.flush(revision, sizes, header, answers);
                    full = false;
                }
                revision = event.revision();
            }
            full |= self.deliver_one(event, audience, sizes.max_batched_bytes);
        }
        count + self.flush(through, sizes, header, answers)
    }

    /// Says whether an answer has become large.
    #[inline]
    fn deliver_one(&mut self, event: &SharedEvent, audience: Audience, max_batched_bytes: usize) -> bool {
        let mut full = false;
        let Self { slots, members, matcher, touched, .. } = self;
        let key = event.event().record.key();
        if slots.len() <= FEW {
            for (at, slot) in slots.iter_mut().enumerate() {
                if let Some(slot) = slot
                    && slot.watcher.range.contains(key)
                {
                    full |= slot.deliver(at, event, audience, touched) > max_batched_bytes;
                }
            }
        } else {
            matcher.for_each(key, |group| {
                for &at in &members[group] {
                    if let Some(slot) = &mut slots[at] {
                        full |= slot.deliver(at, event, audience, touched) > max_batched_bytes;
                    }
                }
            });
        }
        full
    }

    fn flush(
        &mut self,
        revision: Revision,
        sizes: AnswerSizes,
        header: &dyn Fn(Revision) -> ResponseHeader,
        answers: &mut VecDeque<WatchResponse>,
    ) -> usize {
        let mut count = 0;
        let header = header(revision);
        for at in self.touched.drain(..) {
            let Some(slot) = &mut self.slots[at] else { continue };
            count += slot.events.len();
            slot.bytes = 0;
            let response = WatchResponse {
                header: Some(header),
                watch_id: slot.watcher.id,
                events: std::mem::take(&mut slot.events),
                ..WatchResponse::default()
            };
            if let Some(quiet) = &mut slot.watcher.quiet {
                *quiet = false;
            }
            if slot.watcher.fragment {
                fragment(response, sizes.fragment_bytes, answers);
            } else {
                answers.push_back(response);
            }
        }
        count
    }
}

impl Slot {
    /// Adds the event if the watch wants it, and says how many bytes the watch has waiting.
    #[inline]
    fn deliver(
        &mut self,
        at: usize,
        event: &SharedEvent,
        audience: Audience,
        touched: &mut Vec<usize>,
    ) -> usize {
        let watcher = &self.watcher;
        let revision = event.revision();
        let wanted = revision >= watcher.next
            && match audience {
                Audience::Live { cursor } => !watcher.catching_up && revision >= cursor,
                Audience::CatchingUp { from } => watcher.catching_up && watcher.next >= from,
            }
            && match event.event().kind {
                EventKind::Put => !watcher.no_put,
                EventKind::Delete => !watcher.no_delete,
            };
        if wanted {
            if self.events.is_empty() {
                touched.push(at);
            }
            let encoded = event.encoded(watcher.prev_kv);
            self.bytes += encoded.len();
            self.events.push(encoded);
        }
        self.bytes
    }
}

/// Splits an answer that is not smaller than the limit into parts that are, as far as single events
/// allow; all but the last part say so.
fn fragment(whole: WatchResponse, limit_bytes: usize, answers: &mut VecDeque<WatchResponse>) {
    if whole.events.len() < 2 || whole.encoded_len() < limit_bytes {
        answers.push_back(whole);
        return;
    }
    let part = WatchResponse { events: Vec::new(), fragment: true, ..whole };
    let empty = part.encoded_len();
    let mut current = part.clone();
    let mut size = empty;
    for event in whole.events {
        let more = 1 + prost::encoding::encoded_len_varint(event.len() as u64) + event.len();
        if !current.events.is_empty() && size + more >= limit_bytes {
            answers.push_back(std::mem::replace(&mut current, part.clone()));
            size = empty;
        }
        size += more;
        current.events.push(event);
    }
    current.fragment = false;
    answers.push_back(current);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_below_the_limit_and_nothing_is_lost() {
        let whole = |sizes: &[usize]| WatchResponse {
            header: Some(ResponseHeader { revision: 7, ..ResponseHeader::default() }),
            watch_id: 3,
            events: sizes.iter().map(|&n| vec![n as u8; n].into()).collect(),
            ..WatchResponse::default()
        };
        for sizes in [&[10; 30][..], &[200, 10, 10, 200, 200], &[500, 500], &[500], &[40, 40]] {
            let mut parts = VecDeque::new();
            fragment(whole(sizes), 120, &mut parts);
            let count = parts.len();
            for (at, part) in parts.iter().enumerate() {
                assert_eq!(part.fragment, at + 1 < count);
                assert_eq!(part.header, whole(&[]).header);
                assert!(part.events.len() == 1 || part.encoded_len() < 120);
            }
            let joined: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
            assert_eq!(joined, whole(sizes).events);
        }
        let mut parts = VecDeque::new();
        fragment(whole(&[40, 40]), 120, &mut parts);
        assert_eq!(parts.len(), 1);
    }

    #[test]
    fn picked_ids_count_up_and_go_round_chosen_ones() {
        let mut watchers = Watchers::default();
        let add = |watchers: &mut Watchers, id| {
            watchers.insert(Watcher {
                id,
                range: WatchRange::Key(Bytes::from_static(b"a")),
                start: Revision(0),
                next: Revision(2),
                registered: Revision(1),
                hub_group: 0,
                catching_up: false,
                no_put: false,
                no_delete: false,
                prev_kv: false,
                fragment: false,
                quiet: None,
            });
        };
        add(&mut watchers, 1);
        for wanted in [0, 2, 3] {
            let id = watchers.pick_id();
            assert_eq!(id, wanted);
            add(&mut watchers, id);
        }
        assert!(watchers.remove(3).is_some());
        assert!(watchers.remove(3).is_none());
        assert_eq!(watchers.pick_id(), 4);
    }
}
