//! A change of one key, as the state machine reports it and as watches tell it.

use crate::ids::SubRevision;
use crate::record::Record;

/// `mvccpb.Event.EventType`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was written.
    Put,
    /// The key was deleted.
    Delete,
}

/// A change of one key. Cloning copies pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When; the record's `mod_revision` is `at.main`.
    pub at: SubRevision,
    /// What happened.
    pub kind: EventKind,
    /// The new version; a tombstone for a deletion.
    pub record: Record,
    /// The version before; `None` when the key did not exist, or that version is compacted.
    pub previous: Option<Record>,
}

/// Makes `previous` of every event the version before its whole revision, which is what watches tell (etcd
/// reads it at the revision before): a key that was put and deleted by one transaction has no previous
/// version if there was none before the transaction. One that creates its key tells of none either, also where the
/// transaction deleted the key first. `events` are whole revisions, in order.
pub fn look_before_revisions(events: &mut [Event]) {
    for place in 1..events.len() {
        let (before, rest) = events.split_at_mut(place);
        let event = &mut rest[0];
        let same_revision = before.iter().rev().take_while(|earlier| earlier.at.main == event.at.main);
        let is_inside =
            event.previous.as_ref().is_some_and(|previous| previous.mod_revision() == event.at.main);
        let is_after_delete = event.previous.is_none();
        if (is_inside || is_after_delete)
            && let Some(earlier) =
                same_revision.into_iter().find(|earlier| earlier.record.key() == event.record.key())
        {
            event.previous = earlier.previous.clone();
        }
    }
    // Only now: what is taken from an event must not be missing for one after it.
    for event in events.iter_mut().filter(|event| event.previous.is_some()) {
        let fields = event.record.fields();
        if fields.create_revision == fields.mod_revision {
            event.previous = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;
    use crate::record::Fields;

    fn version(key: &str, created: i64, main: i64) -> Record {
        Record::new(&Fields {
            key: key.as_bytes(),
            create_revision: Revision(created),
            mod_revision: Revision(main),
            version: 1,
            value: b"v",
            lease: None,
        })
    }

    fn event(main: i64, sub: u32, key: &str, previous: Option<i64>) -> Event {
        Event {
            at: SubRevision { main: Revision(main), sub },
            kind: EventKind::Put,
            record: version(key, 1, main),
            previous: previous.map(|main| version(key, 1, main)),
        }
    }

    fn deletion(main: i64, sub: u32, key: &str, previous: Option<i64>) -> Event {
        let record = Record::tombstone(key.as_bytes(), Revision(main));
        Event { kind: EventKind::Delete, record, ..event(main, sub, key, previous) }
    }

    fn creation(main: i64, sub: u32, key: &str, previous: Option<i64>) -> Event {
        Event { record: version(key, main, main), ..event(main, sub, key, previous) }
    }

    #[test]
    fn previous_is_what_stood_before_the_revision() {
        let mut events = vec![
            event(5, 0, "a", Some(3)),
            creation(5, 1, "b", None),
            event(5, 2, "a", Some(5)),
            deletion(5, 3, "b", Some(5)),
            deletion(5, 4, "a", Some(5)),
            event(6, 0, "c", Some(5)),
            creation(6, 1, "d", None),
            // Deleted, made again, and deleted again.
            deletion(7, 0, "c", Some(6)),
            creation(7, 1, "c", None),
            deletion(7, 2, "c", Some(7)),
        ];
        look_before_revisions(&mut events);
        let told: Vec<_> = events
            .iter()
            .map(|event| event.previous.as_ref().map(|record| record.mod_revision().0))
            .collect();
        let expected = [Some(3), None, Some(3), None, Some(3), Some(5), None, Some(6), None, Some(6)];
        assert_eq!(told, expected);
    }
}
