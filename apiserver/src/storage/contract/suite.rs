//! The contract itself. Each part works below a prefix of its own; compaction comes last.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::storage::{
    Action, Change, Entry, Expected, LeaseId, Page, Revision, Storage, StorageError, StorageWatch, WatchItem,
    Write, Written,
};

/// What differs between storages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promises {
    /// Values of some MiB are refused.
    pub(super) has_size_limit: bool,
    /// There is a member that tells of itself.
    pub(super) has_members: bool,
}

/// Nothing in these tests takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run<S: Storage>(storage: &S, promises: Promises) {
    let all = async {
        writes_happen_only_if_their_guard_holds(storage).await;
        of_many_creators_one_wins(storage).await;
        lists_come_in_pages_at_one_revision(storage).await;
        watches_tell_every_change_once_in_order(storage).await;
        progress_is_told_when_asked_for(storage).await;
        keys_vanish_with_their_lease(storage).await;
        if promises.has_size_limit {
            what_is_too_large_is_refused(storage).await;
        }
        if promises.has_members {
            the_member_tells_of_itself(storage).await;
        }
        what_was_compacted_is_gone(storage).await;
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the suite ends");
}

async fn the_member_tells_of_itself(storage: &impl Storage) {
    let revision = done(storage, create("/registry/members/x", "1", None)).await;
    let members = storage.members().await.unwrap();
    let [member] = members.as_slice() else { panic!("there is one member: {members:?}") };
    let report = member.report.as_ref().unwrap();
    assert_eq!((report.leader, member.is_learner), (member.id, false));
    assert!(report.revision >= revision, "{report:?}");
    assert!(!member.name.is_empty() && report.term > 0 && report.applied_index > 0, "{member:?}");
    assert_eq!(report.errors, Vec::<String>::new());
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn create(key: &str, value: &str, lease: Option<LeaseId>) -> Write {
    Write { key: bytes(key), expected: Expected::Absent, action: Action::Put { value: bytes(value), lease } }
}

fn update(key: &str, value: &str, at: Revision) -> Write {
    let action = Action::Put { value: bytes(value), lease: None };
    Write { key: bytes(key), expected: Expected::At(at), action }
}

fn delete(key: &str, at: Revision) -> Write {
    Write { key: bytes(key), expected: Expected::At(at), action: Action::Delete }
}

async fn done(storage: &impl Storage, write: Write) -> Revision {
    match storage.write(&write).await.unwrap() {
        Written::Done(revision) => revision,
        Written::Differs(found) => panic!("{write:?} was not done: {found:?} stands there"),
    }
}

fn entry(key: &str, value: &str, revision: Revision) -> Entry {
    Entry { key: bytes(key), value: bytes(value), revision }
}

async fn writes_happen_only_if_their_guard_holds(storage: &impl Storage) {
    let key = "/registry/guards/a";
    let before = storage.current_revision().await.unwrap();
    assert_eq!(storage.get(&bytes(key)).await.unwrap().entry, None);
    let first = done(storage, create(key, "1", None)).await;
    assert!(first > before);
    let stands = |entry: Entry| Ok(Written::Differs(Some(entry)));
    assert_eq!(storage.write(&create(key, "2", None)).await, stands(entry(key, "1", first)));
    assert_eq!(storage.write(&update(key, "2", before)).await, stands(entry(key, "1", first)));
    assert_eq!(storage.write(&delete(key, before)).await, stands(entry(key, "1", first)));
    let got = storage.get(&bytes(key)).await.unwrap();
    assert_eq!((got.entry, got.revision), (Some(entry(key, "1", first)), first), "nothing was written");

    let second = done(storage, update(key, "2", first)).await;
    assert_eq!(storage.write(&delete(key, first)).await, stands(entry(key, "2", second)));
    let third = done(storage, delete(key, second)).await;
    assert!(first < second && second < third);
    assert_eq!(storage.write(&update(key, "3", second)).await, Ok(Written::Differs(None)));
    assert_eq!(storage.write(&delete(key, second)).await, Ok(Written::Differs(None)));
    assert_eq!(storage.current_revision().await, Ok(third));
    // An empty value is a value.
    let fourth = done(storage, create(key, "", None)).await;
    assert_eq!(storage.get(&bytes(key)).await.unwrap().entry, Some(entry(key, "", fourth)));
}

async fn of_many_creators_one_wins<S: Storage>(storage: &S) {
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let storage = storage.clone();
            let write = create("/registry/race/a", &writer.to_string(), None);
            tokio::spawn(async move { storage.write(&write).await.unwrap() })
        })
        .collect();
    let mut winners = 0;
    let mut seen = BTreeSet::new();
    for writer in writers {
        match writer.await.unwrap() {
            Written::Done(revision) => {
                winners += 1;
                seen.insert(revision);
            }
            Written::Differs(found) => {
                seen.insert(found.expect("the winner's object stands there").revision);
            }
        }
    }
    assert_eq!((winners, seen.len()), (1, 1), "one was done, and everybody else saw it");
}

async fn lists_come_in_pages_at_one_revision(storage: &impl Storage) {
    let key = |name: &str| format!("/registry/lists/{name}");
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "d"] {
        revisions.push(done(storage, create(&key(name), name, None)).await);
    }
    // Neighbours that do not belong to the prefix.
    done(storage, create("/registry/lists", "no", None)).await;
    let last = done(storage, create("/registry/lists0", "no", None)).await;
    let prefix = bytes("/registry/lists/");
    let whole = Page { prefix: prefix.clone(), ..Page::default() };
    let names = |entries: &[Entry]| -> Vec<String> {
        entries.iter().map(|entry| String::from_utf8(entry.value.to_vec()).unwrap()).collect()
    };

    let all = storage.list(&whole).await.unwrap();
    assert_eq!((names(&all.entries).concat(), all.revision, all.remaining), ("abcd".into(), last, 0));
    assert_eq!(all.entries[1], entry(&key("b"), "b", revisions[1]));

    let first = storage.list(&Page { limit: 3, ..whole.clone() }).await.unwrap();
    assert_eq!((names(&first.entries).concat(), first.remaining), ("abc".into(), 1));
    done(storage, create(&key("cc"), "cc", None)).await;
    done(storage, delete(&key("d"), revisions[3])).await;
    let start = bytes(&key("c\0"));
    let rest = Page { start, limit: 3, revision: Some(first.revision), ..whole.clone() };
    let rest = storage.list(&rest).await.unwrap();
    assert_eq!((names(&rest.entries).concat(), rest.revision, rest.remaining), ("d".into(), last, 0));
    // What begins before the prefix begins with it.
    let now = storage.list(&Page { start: bytes("/"), ..whole.clone() }).await.unwrap();
    assert_eq!(names(&now.entries), ["a", "b", "c", "cc"]);

    let wanted = Revision(now.revision.0 + 1000);
    let future = storage.list(&Page { revision: Some(wanted), ..whole }).await;
    assert_eq!(future, Err(StorageError::Future { wanted }));
    let nothing =
        storage.list(&Page { prefix: bytes("/registry/nothing/"), ..Page::default() }).await.unwrap();
    assert_eq!((nothing.entries, nothing.remaining, nothing.revision), (vec![], 0, now.revision));
}

/// The next changes, so many of them.
async fn told(watch: &mut impl StorageWatch, count: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        if let WatchItem::Changes(more) = watch.next().await.unwrap() {
            assert!(!more.is_empty());
            changes.extend(more);
        }
    }
    assert_eq!(changes.len(), count, "{changes:?}");
    changes
}

async fn watches_tell_every_change_once_in_order(storage: &impl Storage) {
    let prefix = bytes("/registry/watches/");
    let (a, b) = ("/registry/watches/a", "/registry/watches/b");
    let first = done(storage, create(a, "1", None)).await;
    done(storage, create("/registry/watches0", "no", None)).await;
    let second = done(storage, update(a, "2", first)).await;

    let mut watch = storage.watch(&prefix, first).await.unwrap();
    let put = |key: &str, value: &str, revision, previous| Change {
        key: bytes(key),
        revision,
        value: Some(bytes(value)),
        previous,
    };
    let past = [put(a, "1", first, None), put(a, "2", second, Some(entry(a, "1", first)))];
    assert_eq!(told(&mut watch, 2).await, past);

    let third = done(storage, create(b, "3", None)).await;
    let fourth = done(storage, delete(a, second)).await;
    let fifth = done(storage, create(a, "5", None)).await;
    let gone = Change { value: None, ..put(a, "", fourth, Some(entry(a, "2", second))) };
    let present = [put(b, "3", third, None), gone, put(a, "5", fifth, None)];
    assert_eq!(told(&mut watch, 3).await, present);

    // Another one goes on where the first is, and a wait that is given up loses nothing.
    let mut other = storage.watch(&prefix, fifth.next()).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(20), told(&mut other, 1)).await;
    assert!(waited.is_err(), "there is nothing to be told");
    let sixth = done(storage, update(a, "6", fifth)).await;
    let last = [put(a, "6", sixth, Some(entry(a, "5", fifth)))];
    assert_eq!(told(&mut watch, 1).await, last);
    assert_eq!(told(&mut other, 1).await, last);

    // One for a single object has its whole key as the prefix.
    let mut single = storage.watch(&bytes(b), first).await.unwrap();
    assert_eq!(told(&mut single, 1).await, [put(b, "3", third, None)]);
}

async fn progress_is_told_when_asked_for(storage: &impl Storage) {
    if !storage.tells_progress().await {
        eprintln!("skipped: progress of watches needs etcd 3.4.31, 3.5.13, 3.6 or newer");
        return;
    }
    let start = storage.current_revision().await.unwrap();
    let mut watch = storage.watch(&bytes("/registry/progress/"), start.next()).await.unwrap();
    for name in ["a", "b"] {
        // Something else changed.
        let revision = done(storage, create(&format!("/registry/elsewhere/{name}"), "", None)).await;
        let progress = async {
            loop {
                watch.request_progress().await;
                match watch.next().await.unwrap() {
                    WatchItem::Progress(told) if told >= revision => return told,
                    WatchItem::Progress(_) => {}
                    WatchItem::Changes(changes) => panic!("nothing changed here: {changes:?}"),
                }
            }
        };
        assert_eq!(progress.await, revision, "and no further than the store");
    }
    // Progress stands behind the changes that it covers.
    let revision = done(storage, create("/registry/progress/a", "1", None)).await;
    watch.request_progress().await;
    let mut seen = false;
    loop {
        match watch.next().await.unwrap() {
            WatchItem::Changes(changes) => seen |= changes.iter().any(|change| change.revision == revision),
            WatchItem::Progress(told) if told >= revision => break,
            WatchItem::Progress(_) => watch.request_progress().await,
        }
        if seen {
            watch.request_progress().await;
        }
    }
    assert!(seen, "progress overtook a change");
}

async fn keys_vanish_with_their_lease(storage: &impl Storage) {
    let no_lease = storage.write(&create("/registry/leases/x", "", Some(LeaseId(4711)))).await;
    assert_eq!(no_lease, Err(StorageError::LeaseNotFound));
    let lease = storage.grant_lease(1).await.unwrap();
    let key = "/registry/leases/a";
    let made = done(storage, create(key, "short", Some(lease))).await;
    let kept = done(storage, create("/registry/leases/b", "long", Some(lease))).await;
    // An update without a lease takes the key from it.
    done(storage, update("/registry/leases/b", "long", kept)).await;
    let mut watch = storage.watch(&bytes(key), made).await.unwrap();
    let changes = told(&mut watch, 2).await;
    assert_eq!((changes[1].value.clone(), &changes[1].key), (None, &bytes(key)));
    assert_eq!(changes[1].previous, Some(entry(key, "short", made)));
    assert_eq!(storage.get(&bytes(key)).await.unwrap().entry, None);
    assert!(storage.get(&bytes("/registry/leases/b")).await.unwrap().entry.is_some());
}

async fn what_is_too_large_is_refused(storage: &impl Storage) {
    let value = "x".repeat(3 << 20);
    let refused = storage.write(&create("/registry/large/a", &value, None)).await;
    assert_eq!(refused, Err(StorageError::TooLarge));
    let value = "x".repeat(1 << 20);
    let revision = done(storage, create("/registry/large/a", &value, None)).await;
    let got = storage.get(&bytes("/registry/large/a")).await.unwrap();
    assert_eq!(got.entry, Some(entry("/registry/large/a", &value, revision)));
}

async fn what_was_compacted_is_gone(storage: &impl Storage) {
    let key = "/registry/compacted/a";
    let prefix = bytes("/registry/compacted/");
    let first = done(storage, create(key, "1", None)).await;
    let second = done(storage, update(key, "2", first)).await;
    let third = done(storage, update(key, "3", second)).await;
    storage.compact(second).await.unwrap();
    assert_eq!(storage.compact(second).await, Err(StorageError::Compacted { wanted: second }));
    let wanted = Revision(third.0 + 1000);
    assert_eq!(storage.compact(wanted).await, Err(StorageError::Future { wanted }));

    let at = |revision| Page { prefix: prefix.clone(), revision: Some(revision), ..Page::default() };
    assert_eq!(storage.list(&at(first)).await, Err(StorageError::Compacted { wanted: first }));
    assert_eq!(storage.list(&at(second)).await.unwrap().entries, [entry(key, "2", second)]);
    assert_eq!(storage.list(&at(third)).await.unwrap().entries, [entry(key, "3", third)]);

    let late = match storage.watch(&prefix, first).await {
        Err(error) => Err(error),
        Ok(mut watch) => watch.next().await,
    };
    assert_eq!(late, Err(StorageError::Compacted { wanted: first }));
    let mut watch = storage.watch(&prefix, third).await.unwrap();
    assert_eq!(told(&mut watch, 1).await[0].value, Some(bytes("3")));
}
