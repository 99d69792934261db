//! All members execute the same: the same entry at each place of the log, and the same changes at each revision, also
//! after a restart. What the first of them executed is the chronicle that everything else is judged by.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_store::event::{Event, EventKind};
use barque_store::wal::Position;
use bytes::Bytes;

use crate::simulation::network::Place;
use crate::simulation::violation::Violation;

const PROPERTY: &str = "state machine safety";

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which key.
    pub key: Bytes,
    /// Its new value; `None` for a deletion.
    pub value: Option<Bytes>,
    /// Its version; 0 for a deletion.
    pub version: i64,
    /// When it was created.
    pub create_revision: i64,
}

impl Change {
    /// As an event tells it.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let fields = event.record.fields();
        let is_put = event.kind == EventKind::Put;
        Self {
            key: Bytes::copy_from_slice(fields.key),
            value: is_put.then(|| Bytes::copy_from_slice(fields.value)),
            version: if is_put { fields.version } else { 0 },
            create_revision: if is_put { fields.create_revision.0 } else { 0 },
        }
    }
}

/// The changes of one revision.
pub type Changes = Arc<Vec<Change>>;

/// Everything that was ever executed.
#[derive(Debug, Default)]
pub struct Chronicle {
    revisions: BTreeMap<i64, Changes>,
    terms: BTreeMap<u64, u64>,
    /// Where each value of a put was written first: clients never write a value twice.
    values: BTreeMap<Bytes, i64>,
}

impl Chronicle {
    /// Takes note of the last entry that a member has executed.
    ///
    /// # Errors
    /// When another one was executed at its place.
    pub fn executed(&mut self, place: Place, applied: Position) -> Result<(), Violation> {
        let term = *self.terms.entry(applied.index).or_insert(applied.term);
        if term == applied.term {
            return Ok(());
        }
        let (index, there) = (applied.index, applied.term);
        let detail = format!("entry {index} of term {term} was executed, and of term {there} by m{place}");
        Err(Violation::of(PROPERTY, detail))
    }

    /// Takes note of changes that a member shows, in whole revisions; the revisions that are news.
    ///
    /// # Errors
    /// When they differ from what was shown before, leave out a revision, or write a value a second time.
    pub fn changed(&mut self, place: Place, events: &[Event]) -> Result<Vec<(i64, Changes)>, Violation> {
        let mut news = Vec::new();
        for revision in events.chunk_by(|a, b| a.at.main == b.at.main) {
            let Some(main) = revision.first().map(|event| event.at.main.0) else { continue };
            let changes: Vec<Change> = revision.iter().map(Change::of).collect();
            if let Some(known) = self.revisions.get(&main) {
                if **known != changes {
                    let detail = format!("revision {main} is {known:?}, but for m{place} it is {changes:?}");
                    return Err(Violation::of(PROPERTY, detail));
                }
                continue;
            }
            for change in &changes {
                if let Some(value) = &change.value
                    && let Some(first) = self.values.insert(value.clone(), main)
                {
                    let detail =
                        format!("{value:?} was written once, and is in revisions {first} and {main}");
                    return Err(Violation::of("a write is executed once", detail));
                }
            }
            let changes = Arc::new(changes);
            self.revisions.insert(main, Arc::clone(&changes));
            news.push((main, changes));
        }
        Ok(news)
    }

    /// The changes of a revision.
    #[must_use]
    pub fn at(&self, revision: i64) -> Option<&Changes> {
        self.revisions.get(&revision)
    }

    /// The changes of a revision and later ones.
    pub fn since(&self, revision: i64) -> impl Iterator<Item = (i64, &Changes)> {
        self.revisions.range(revision..).map(|(revision, changes)| (*revision, changes))
    }

    /// Where a value was written.
    #[must_use]
    pub fn revision_of(&self, value: &Bytes) -> Option<i64> {
        self.values.get(value).copied()
    }

    /// The newest revision; 1 when nothing was ever written.
    #[must_use]
    pub fn newest(&self) -> i64 {
        self.revisions.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// A key at a revision: when it was changed last, and its value; `None` when it does not exist.
    #[must_use]
    pub fn get(&self, key: &[u8], revision: i64) -> Option<(i64, Bytes)> {
        let back = self.revisions.range(..=revision).rev();
        let last = back.flat_map(|(main, changes)| changes.iter().rev().map(move |change| (*main, change)));
        let (main, change) = last.into_iter().find(|(_, change)| change.key == key)?;
        change.value.clone().map(|value| (main, value))
    }
}
