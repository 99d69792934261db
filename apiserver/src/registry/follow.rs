//! Following a collection: every object that there is and every change of it, one after another, for whoever keeps a picture
//! of them. When a watch breaks, the picture is set right again without being taken down. Must never tell of an object that
//! is gone as if it were there, once it is in step.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::collections::Collection;
use crate::storage::Storage;
use crate::watch_cache::event::Kind;
use crate::watch_cache::object::Object;
use crate::watch_cache::query::WatchQuery;
use crate::watch_cache::registry::Selection;
use crate::watch_cache::watcher::Told;

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Followed {
    /// The object is there, or changed.
    Is(Arc<Object>),
    /// The object is gone; this was its last version.
    Gone(Arc<Object>),
    /// Everything was told that there was when the watch began.
    InStep,
}

/// Follows a collection until `stop`. `tell` is called for one change after another.
pub async fn follow<S: Storage>(
    collection: Arc<Collection<S>>,
    stop: CancellationToken,
    mut tell: impl FnMut(Followed) + Send,
) {
    let mut picture = Picture::default();
    while !stop.is_cancelled() {
        let query = WatchQuery {
            send_initial_events: Some(true),
            resource_version_match: "NotOlderThan".to_owned(),
            bookmarks: true,
            ..WatchQuery::default()
        };
        let all = Selection::default();
        let opened = collection.cache.watch(&query, &all, None);
        let Some(opened) = stop.run_until_cancelled(opened).await else { return };
        let mut watcher = match opened {
            Ok(watcher) => watcher,
            Err(status) => {
                // The cache has waited for the store before it said so.
                tracing::debug!(collection = %collection.resource, "cannot be followed yet: {status}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        picture.begin();
        loop {
            let Some(told) = stop.run_until_cancelled(watcher.next()).await else { return };
            match told {
                Some(Told::Error(status)) => {
                    tracing::debug!(collection = %collection.resource, "a watch ended: {status}");
                    break;
                }
                Some(told) => picture.take(told, &mut tell),
                None => break,
            }
        }
    }
}

/// What was told so far.
#[derive(Default)]
struct Picture {
    known: HashMap<Bytes, Arc<Object>>,
    /// Those of an earlier watch that this one has not told yet; nothing once it is in step.
    unseen: HashMap<Bytes, Arc<Object>>,
}

impl Picture {
    fn begin(&mut self) {
        self.unseen = std::mem::take(&mut self.known);
    }

    fn take(&mut self, told: Told, tell: &mut impl FnMut(Followed)) {
        match told {
            Told::Object { kind: Kind::Deleted, object, .. } => {
                self.known.remove(object.key());
                self.unseen.remove(object.key());
                tell(Followed::Gone(object));
            }
            Told::Object { object, .. } => {
                let before = self.unseen.remove(object.key());
                let same = before.is_some_and(|before| before.revision() == object.revision());
                self.known.insert(object.key().clone(), Arc::clone(&object));
                if !same {
                    tell(Followed::Is(object));
                }
            }
            Told::Bookmark { initial_events_end: true, .. } => {
                for (_, object) in self.unseen.drain() {
                    tell(Followed::Gone(object));
                }
                tell(Followed::InStep);
            }
            Told::Bookmark { .. } | Told::Error(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Entry, Revision};
    use crate::watch_cache::reader::ObjectReader;

    fn told(name: &str, revision: u64, kind: Kind) -> Told {
        let value = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
        let entry = Entry { key: name.to_owned().into(), value: value.into(), revision: Revision(revision) };
        let object = Arc::new(ObjectReader::new([]).read(entry));
        Told::Object { kind, object, revision: Revision(revision), event: None }
    }

    const IN_STEP: Told = Told::Bookmark { revision: Revision(9), initial_events_end: true };

    #[test]
    fn a_broken_watch_is_made_good_by_the_next() {
        let mut picture = Picture::default();
        let mut heard = Vec::new();
        let mut tell = |followed: Followed| {
            heard.push(match followed {
                Followed::Is(object) => format!("+{object:?}"),
                Followed::Gone(object) => format!("-{object:?}"),
                Followed::InStep => "=".to_owned(),
            });
        };
        picture.begin();
        for one in [told("a", 1, Kind::Added), told("b", 2, Kind::Added), IN_STEP] {
            picture.take(one, &mut tell);
        }
        picture.take(told("c", 3, Kind::Added), &mut tell);
        picture.take(told("c", 4, Kind::Deleted), &mut tell);
        // Meanwhile b changed and a went.
        picture.begin();
        for one in [told("b", 5, Kind::Added), IN_STEP] {
            picture.take(one, &mut tell);
        }
        assert_eq!(heard, ["+a@1", "+b@2", "=", "+c@3", "-c@4", "+b@5", "-a@1", "="]);
    }
}
