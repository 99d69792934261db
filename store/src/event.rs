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
/// version if there was none before the transaction. `events` are whole revisions, in order.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;
    use crate::record::Fields;

    fn version(key: &str, main: i64) -> Record {
        Record::new(&Fields {
            key: key.as_bytes(),
            create_revision: Revision(1),
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
            record: version(key, main),
            previous: previous.map(|main| version(key, main)),
        }
    }

    #[test]
    fn previous_is_what_stood_before_the_revision() {
        let mut events = vec![
            event(5, 0, "a", Some(3)),
            event(5, 1, "b", None),
            event(5, 2, "a", Some(5)),
            event(5, 3, "b", Some(5)),
            event(5, 4, "a", None),
            event(6, 0, "a", Some(5)),
            event(6, 1, "c", None),
        ];
        look_before_revisions(&mut events);
        let told: Vec<_> = events
            .iter()
            .map(|event| event.previous.as_ref().map(|record| record.mod_revision().0))
            .collect();
        assert_eq!(told, [Some(3), None, Some(3), None, Some(3), Some(5), None]);
    }
}
