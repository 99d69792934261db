//! A change as the cache keeps and tells it. An event is encoded once for each form in which watchers want it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::object::Object;
use crate::storage::Revision;

/// What a watcher is told of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is new to the watcher.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or no longer what the watcher wants.
    Deleted,
}

impl Kind {
    /// The `type` of a watch event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A way to encode events, numbered by whoever encodes them: content type, version, and what of the object is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form(pub u32);

/// Before and after.
pub type Pair = (Option<Arc<Object>>, Option<Arc<Object>>);

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    /// One key changed.
    Change(Pair),
    /// Changes were lost between `from` and the event's revision; this is the difference that is left.
    Gap { from: Revision, changed: Vec<Pair> },
}

/// One place in the cache's history.
#[derive(Debug)]
pub struct Event {
    pub(super) what: What,
    pub(super) revision: Revision,
    /// Its place in the order of all events of this cache.
    pub(super) sequence: u64,
    frames: Mutex<Vec<(Form, Kind, Bytes)>>,
}

impl Event {
    pub(super) fn new(what: What, revision: Revision, sequence: u64) -> Self {
        Self { what, revision, sequence, frames: Mutex::new(Vec::new()) }
    }

    /// The event in this form, encoded by whoever asks first.
    ///
    /// # Errors
    /// That of `encode`; the next one who asks tries again.
    pub fn frame<E>(
        &self,
        form: Form,
        kind: Kind,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        // Held while it is encoded: others who want the same would only do the same.
        let mut frames = self.frames.lock();
        if let Some((.., frame)) = frames.iter().find(|(of, as_kind, _)| (*of, *as_kind) == (form, kind)) {
            return Ok(frame.clone());
        }
        let frame = encode()?;
        frames.push((form, kind, frame.clone()));
        Ok(frame)
    }

    /// Bytes that are kept for it alone: the versions that nobody else may hold.
    pub(super) fn weight(&self) -> usize {
        let of = |pair: &Pair| pair.0.as_ref().map_or(0, |object| object.stored().len());
        match &self.what {
            What::Change(pair) => of(pair),
            What::Gap { changed, .. } => changed.iter().map(of).sum(),
        }
    }
}

/// What a change means to one who wants the objects that `wants` tells.
pub(super) fn transition(pair: &Pair, wants: impl Fn(&Object) -> bool) -> Option<Kind> {
    let wanted = |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|object| wants(object));
    match (wanted(&pair.0), wanted(&pair.1)) {
        (false, false) => None,
        (false, true) => Some(Kind::Added),
        (true, true) => Some(Kind::Modified),
        (true, false) => Some(Kind::Deleted),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::storage::Entry;
    use crate::watch_cache::reader::ObjectReader;

    #[test]
    fn selectors_turn_modifications_into_arrivals_and_departures() {
        let reader = ObjectReader::new([]);
        let object = |label: &str| {
            let value = format!(r#"{{"metadata":{{"labels":{{"a":"{label}"}},"name":"x"}}}}"#);
            let entry = Entry { key: Bytes::from_static(b"/x"), value: value.into(), revision: Revision(1) };
            Some(Arc::new(reader.read(entry)))
        };
        let wants = |object: &Object| object.label("a") == Some("yes");
        let table = [
            (None, object("yes"), Some(Kind::Added)),
            (None, object("no"), None),
            (object("no"), object("yes"), Some(Kind::Added)),
            (object("yes"), object("yes"), Some(Kind::Modified)),
            (object("yes"), object("no"), Some(Kind::Deleted)),
            (object("no"), object("no"), None),
            (object("yes"), None, Some(Kind::Deleted)),
            (object("no"), None, None),
        ];
        for (before, after, kind) in table {
            let told = format!("{before:?} {after:?}");
            assert_eq!(transition(&(before, after), wants), kind, "{told}");
        }
    }

    #[test]
    fn an_event_is_encoded_once_in_each_form() {
        let event = Event::new(What::Change((None, None)), Revision(1), 0);
        let frame = |form, kind, text: &'static str| {
            event
                .frame(Form(form), kind, || Ok::<_, Infallible>(Bytes::from_static(text.as_bytes())))
                .unwrap()
        };
        assert_eq!(frame(1, Kind::Added, "first"), "first");
        assert_eq!(frame(1, Kind::Added, "again"), "first");
        assert_eq!(frame(1, Kind::Modified, "other kind"), "other kind");
        assert_eq!(frame(2, Kind::Added, "other form"), "other form");
        assert_eq!(event.frame(Form(3), Kind::Added, || Err::<Bytes, _>("no")), Err("no"));
        assert_eq!(frame(3, Kind::Added, "now"), "now");
    }
}
