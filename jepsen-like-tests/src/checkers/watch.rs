//! What a watch promises: only what was asked for, in order, once, whole revisions, without gaps, with the right key
//! before each change, and progress that never overtakes an event.

use std::collections::HashMap;

use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::{Event, History, KeyValue, Request, Watch, WatchAnswer, WatchId};

/// Checks every watch.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    let compactions = compactions(history);
    let ends: HashMap<WatchId, i64> =
        history.watches.iter().map(|watch| (watch.id, last_revision(watch))).collect();
    let mut checked = 0;
    for watch in &history.watches {
        let result = resumes_in_time(watch, &ends).and_then(|()| check_one(watch, past, &compactions));
        match result {
            Ok(events) => checked += events,
            Err(violation) => return Verdict::of(Err(violation.on(watch.id))),
        }
    }
    Verdict::Passed { checked }
}

/// Compactions that happened, or may have: when they were sent, and up to where.
fn compactions(history: &History) -> Vec<(u64, i64)> {
    let may_have = history.operations.iter().filter(|operation| !operation.has_failed());
    let compaction = |operation: &crate::history::Operation| match operation.request {
        Request::Compact { revision } => Some((operation.invoked_ns, revision)),
        _ => None,
    };
    may_have.filter_map(compaction).collect()
}

/// The highest compact revision that there may have been at a time.
fn compacted_to(compactions: &[(u64, i64)], time_ns: u64) -> i64 {
    let sent = compactions.iter().filter(|(sent_ns, _)| *sent_ns <= time_ns);
    sent.map(|(_, revision)| *revision).max().unwrap_or(0)
}

fn last_revision(watch: &Watch) -> i64 {
    let events = watch.answers.iter().rev().find_map(|answer| answer.events.last());
    events.map_or(watch.request.start_revision - 1, |event| event.kv.mod_revision)
}

/// A watch that continues another must begin where that one ended; a later beginning would hide a gap.
fn resumes_in_time(watch: &Watch, ends: &HashMap<WatchId, i64>) -> Result<(), Violation> {
    let Some(&end) = watch.request.resumes.and_then(|other| ends.get(&other)) else { return Ok(()) };
    // Progress may have brought the earlier one further than its last event, which its own check vouches for.
    if watch.request.start_revision <= end {
        let start = watch.request.start_revision;
        let what =
            format!("watch {} begins at {start}, though what it continues ended with {end}", watch.id.0);
        return Err(Violation::new(what).at(start));
    }
    Ok(())
}

/// The position in what must come.
#[derive(Clone, Copy)]
struct Cursor {
    revision: i64,
    /// How many of its events have come.
    within: usize,
}

struct Watched<'a> {
    watch: &'a Watch,
    past: &'a Past,
    compactions: &'a [(u64, i64)],
}

fn check_one(watch: &Watch, past: &Past, compactions: &[(u64, i64)]) -> Result<usize, Violation> {
    let watched = Watched { watch, past, compactions };
    let start = watch.request.start_revision;
    let mut cursor = watched.skip(Cursor { revision: start, within: 0 });
    let (mut checked, mut highest) = (0, 0);
    for answer in &watch.answers {
        if answer.events.is_empty() {
            watched.bookmark(answer, cursor)?;
            continue;
        }
        for event in &answer.events {
            watched.asked_for(event)?;
            cursor = watched.next(event, cursor, highest)?;
            highest = event.kv.mod_revision;
            watched.prev(event, answer)?;
            checked += 1;
        }
        watched.whole(cursor)?;
        cursor = watched.skip(cursor);
    }
    watched.complete(cursor)?;
    watched.refused()?;
    Ok(checked)
}

impl Watched<'_> {
    fn violation(&self, guarantee: &str, what: &str, revision: i64) -> Violation {
        let (id, member) = (self.watch.id.0, &self.watch.member);
        Violation::new(format!("watch {id} at {member} is not {guarantee}: {what}")).at(revision)
    }

    fn wants(&self, event: &Event) -> bool {
        let request = &self.watch.request;
        let filtered = if event.deleted { request.no_delete } else { request.no_put };
        request.span.contains(&event.kv.key) && !filtered
    }

    /// The events of a revision that this watch must deliver.
    fn expected(&self, revision: i64) -> Vec<&Event> {
        self.past.events(revision).iter().filter(|event| self.wants(event)).collect()
    }

    /// The next place with an event that must come; behind the newest revision if there is none.
    fn skip(&self, mut cursor: Cursor) -> Cursor {
        while cursor.revision <= self.past.newest() && cursor.within >= self.expected(cursor.revision).len() {
            cursor = Cursor { revision: cursor.revision + 1, within: 0 };
        }
        cursor
    }

    fn asked_for(&self, event: &Event) -> Result<(), Violation> {
        let revision = event.kv.mod_revision;
        if !self.wants(event) {
            let what = format!("it did not ask for {event:?}");
            return Err(self.violation("filtered", &what, revision));
        }
        if revision < self.watch.request.start_revision {
            let start = self.watch.request.start_revision;
            let what = format!("it began at revision {start} and got {event:?}");
            return Err(self.violation("filtered", &what, revision));
        }
        Ok(())
    }

    /// Takes the event that must come next; says which promise is broken when another one came.
    fn next(&self, event: &Event, cursor: Cursor, highest: i64) -> Result<Cursor, Violation> {
        let cursor = self.skip(cursor);
        let revision = event.kv.mod_revision;
        let expected = self.expected(cursor.revision);
        match expected.get(cursor.within) {
            Some(expected) if same(expected, event) => {
                return Ok(Cursor { within: cursor.within + 1, ..cursor });
            }
            Some(expected) if expected.kv.key == event.kv.key && expected.kv.mod_revision == revision => {
                let (is, must) = (event.kv.version == 1, expected.kv.version == 1);
                let created = |kv: &KeyValue| kv.create_revision == kv.mod_revision;
                if event.deleted == expected.deleted
                    && (is != must || created(&event.kv) != created(&expected.kv))
                {
                    let what = format!("is_create is wrong at {event:?}, which should be {expected:?}");
                    return Err(self.violation("truthful", &what, revision));
                }
                let what = format!("{event:?} came for {expected:?}");
                return Err(self.violation("truthful", &what, revision));
            }
            _ => {}
        }
        let came_before =
            |answer: &WatchAnswer| answer.events.iter().filter(|other| same(other, event)).count();
        let times: usize = self.watch.answers.iter().map(came_before).sum();
        if times > 1 {
            let what = format!("{event:?} came {times} times");
            return Err(self.violation("unique", &what, revision));
        }
        if revision < highest {
            let what = format!("revision {revision} came after {highest}");
            return Err(self.violation("ordered", &what, revision));
        }
        match expected.get(cursor.within) {
            Some(missing) if self.expected(revision).iter().any(|other| same(other, event)) => {
                let what = match self.comes_later(missing) {
                    true => format!("{missing:?} came only after {event:?}"),
                    false => format!("{event:?} came, and {missing:?} before it did not"),
                };
                let guarantee = if self.comes_later(missing) { "ordered" } else { "reliable" };
                Err(self.violation(guarantee, &what, missing.kv.mod_revision))
            }
            _ => {
                let what = format!("{event:?} came, which never happened");
                Err(self.violation("truthful", &what, revision))
            }
        }
    }

    fn comes_later(&self, event: &Event) -> bool {
        self.watch.answers.iter().any(|answer| answer.events.iter().any(|other| same(other, event)))
    }

    /// A revision does not end in the middle of an answer's end.
    fn whole(&self, cursor: Cursor) -> Result<(), Violation> {
        let expected = self.expected(cursor.revision);
        if cursor.within < expected.len() {
            let (revision, came) = (cursor.revision, cursor.within);
            let what = format!("an answer ended after {came} of the {} events of a revision", expected.len());
            return Err(self.violation("atomic", &what, revision));
        }
        Ok(())
    }

    fn bookmark(&self, answer: &WatchAnswer, cursor: Cursor) -> Result<(), Violation> {
        let cursor = self.skip(cursor);
        if cursor.revision <= answer.revision.min(self.past.newest()) {
            let expected = self.expected(cursor.revision);
            let what = format!(
                "progress told revision {} before {:?} had come",
                answer.revision,
                expected.get(cursor.within)
            );
            return Err(self.violation("bookmarkable", &what, cursor.revision));
        }
        if answer.revision > self.past.newest() {
            let newest = self.past.newest();
            let what = format!("progress told revision {}, the history ends with {newest}", answer.revision);
            return Err(self.violation("bookmarkable", &what, answer.revision));
        }
        Ok(())
    }

    fn prev(&self, event: &Event, answer: &WatchAnswer) -> Result<(), Violation> {
        let revision = event.kv.mod_revision;
        let before = self.past.get(&event.kv.key, revision - 1);
        let right = match (&event.prev, self.watch.request.prev_kv) {
            (None, false) => true,
            // The state before a change is gone with a compaction at or behind the change.
            (None, true) => before.is_none() || compacted_to(self.compactions, answer.time_ns) >= revision,
            (Some(_), false) => false,
            (Some(prev), true) => before == Some(prev),
        };
        if right {
            return Ok(());
        }
        let what = format!("prev_kv of {event:?} should be {before:?}");
        Err(self.violation("truthful", &what, revision))
    }

    /// A client that waited for everything got everything.
    fn complete(&self, cursor: Cursor) -> Result<(), Violation> {
        let cursor = self.skip(cursor);
        match self.watch.complete_to {
            Some(end) if cursor.revision <= end.min(self.past.newest()) => {
                let expected = self.expected(cursor.revision);
                let what = format!("{:?} never came", expected.get(cursor.within));
                Err(self.violation("reliable", &what, cursor.revision))
            }
            _ => Ok(()),
        }
    }

    /// Only what is compacted may be refused.
    fn refused(&self) -> Result<(), Violation> {
        let Some((time_ns, compacted)) = self.watch.compacted else { return Ok(()) };
        let start = self.watch.request.start_revision;
        if compacted_to(self.compactions, time_ns) >= compacted && start < compacted {
            return Ok(());
        }
        let what = format!("it began at {start} and was refused with compact revision {compacted}");
        Err(self.violation("resumable", &what, start))
    }
}

/// The same change; what was there before it is judged apart.
fn same(one: &Event, other: &Event) -> bool {
    let deleted = one.deleted && other.deleted;
    one.deleted == other.deleted
        && if deleted {
            (&one.kv.key, one.kv.mod_revision) == (&other.kv.key, other.kv.mod_revision)
        } else {
            one.kv == other.kv
        }
}
