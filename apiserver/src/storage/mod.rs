//! The narrow waist between the API server and whatever keeps its objects: keys, bytes and revisions.
//!
//! Three ways behind it: [`member`] is the store in this process, [`etcd`] is any etcd v3 endpoints, [`memory`] is for
//! tests and fuzzing; `contract` says in tests what all of them promise. [`encryption`] goes around any of them. Must
//! never know what the bytes mean.

pub mod compactor;
pub mod encryption;
pub mod error;
pub mod etcd;
pub mod event_leases;
pub mod keys;
pub mod member;
pub mod members;
pub mod memory;

#[cfg(test)]
mod contract;

use std::fmt;
use std::future::Future;

use bytes::Bytes;

pub use error::StorageError;

use members::StoreMember;

/// A revision of the whole store: each write makes the next one. To clients of the API it is the `resourceVersion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// As the wire has it. What is negative there means "none" and is 0 here.
    #[must_use]
    pub fn of_wire(revision: i64) -> Self {
        Self(u64::try_from(revision).unwrap_or(0))
    }

    /// For the wire.
    #[must_use]
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lease of the store: keys that hang on it vanish when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// One version of a key. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The write that made this version.
    pub revision: Revision,
}

/// The answer to a read of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// What stands there.
    pub entry: Option<Entry>,
    /// The store's revision when it was read.
    pub revision: Revision,
}

/// A part of the keys with a prefix, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What all keys begin with; never empty.
    pub prefix: Bytes,
    /// The first key that is wanted; before the prefix, or empty, for the first there is.
    pub start: Bytes,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// As they were at this revision; `None` for the newest state there is anywhere.
    pub revision: Option<Revision>,
}

/// The answer to a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In the order of keys.
    pub entries: Vec<Entry>,
    /// The revision at which they stood like this.
    pub revision: Revision,
    /// How many keys there are from the page's start on that were left out by its limit.
    pub remaining: u64,
}

/// What must stand at a key, or nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// The version that this write made.
    At(Revision),
}

/// What a write does with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new version.
    Put {
        /// The value.
        value: Bytes,
        /// The lease that it hangs on.
        lease: Option<LeaseId>,
    },
    /// The key goes.
    Delete,
}

/// A write of one key that happens only if what stands there is what the writer saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// The guard.
    pub expected: Expected,
    /// What is done.
    pub action: Action,
}

/// What became of a [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was done, as this revision.
    Done(Revision),
    /// Nothing was done: this stands there.
    Differs(Option<Entry>),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// The write that made it.
    pub revision: Revision,
    /// The new value; `None` when the key is gone.
    pub value: Option<Bytes>,
    /// The version before; `None` when the key was new, or the store no longer has it.
    pub previous: Option<Entry>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// All changes of one or more whole revisions, in their order; not empty.
    Changes(Vec<Change>),
    /// Every change up to this revision, itself included, was told.
    Progress(Revision),
}

/// A watch that is open. Changes are told in the order of their revisions, each once, none left out.
pub trait StorageWatch: Send + 'static {
    /// The next thing that is told. May be dropped while it waits; nothing is lost by that.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when changes that were not told yet are gone; others when the connection broke. A
    /// watch that failed is over; another one goes on from the revision behind the last that was told.
    fn next(&mut self) -> impl Future<Output = Result<WatchItem, StorageError>> + Send;

    /// Asks for [`WatchItem::Progress`] soon, also when nothing happens.
    fn request_progress(&mut self) -> impl Future<Output = ()> + Send;
}

/// Where objects are kept. Cloning copies a pointer.
///
/// All reads see every write that was answered before they began, wherever it was made. Futures may be dropped; a
/// write that was dropped may still happen.
pub trait Storage: Clone + Send + Sync + 'static {
    /// What [`Storage::watch`] answers.
    type Watch: StorageWatch;

    /// Reads a key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, key: &Bytes) -> impl Future<Output = Result<Got, StorageError>> + Send;

    /// Reads a part of the keys with a prefix.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] and [`StorageError::Future`] for the page's revision; when the store cannot be read.
    fn list(&self, page: &Page) -> impl Future<Output = Result<Listed, StorageError>> + Send;

    /// Writes a key, if it is as expected.
    ///
    /// # Errors
    /// [`StorageError::Unknown`] when it may or may not have happened; with every other error it has not.
    fn write(&self, write: &Write) -> impl Future<Output = Result<Written, StorageError>> + Send;

    /// The newest revision there is anywhere.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn current_revision(&self) -> impl Future<Output = Result<Revision, StorageError>> + Send;

    /// Whether a watch can tell progress that is never ahead of its changes. etcd could not before 3.4.31 and 3.5.13.
    fn tells_progress(&self) -> impl Future<Output = bool> + Send;

    /// Follows the changes of all keys with a prefix, from a revision on, past and future.
    ///
    /// # Errors
    /// As [`StorageWatch::next`]; that history is gone may be told there too.
    fn watch(
        &self,
        prefix: &Bytes,
        from: Revision,
    ) -> impl Future<Output = Result<Self::Watch, StorageError>> + Send;

    /// Forgets everything that only states before `revision` need.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when that was done already, [`StorageError::Future`].
    fn compact(&self, revision: Revision) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// A new lease of at least so many seconds.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn grant_lease(&self, ttl_s: u64) -> impl Future<Output = Result<LeaseId, StorageError>> + Send;

    /// Its members, each asked for what it says of itself; none where there are no members. Those that are silent are waited
    /// for some seconds, all at once, and also without a majority there is an answer.
    ///
    /// # Errors
    /// When nobody can be asked who the members are.
    fn members(&self) -> impl Future<Output = Result<Vec<StoreMember>, StorageError>> + Send;
}

/// The first key behind all that begin with `prefix`; empty when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else { return Bytes::new() };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

/// What a guarded write that was sent a second time, after the outcome of the first was lost, tells of both.
///
/// A revision never comes back, so that at most one of them was done. A put is recognized by its value: objects carry a
/// uid of their own. That a key is gone does not tell who deleted it.
fn judge_second_try(write: &Write, second: Written) -> Result<Written, StorageError> {
    match second {
        Written::Done(revision) => Ok(Written::Done(revision)),
        Written::Differs(found) => found_mine(write, found).map(Written::Done).ok_or_else(|| {
            StorageError::unknown(
                "the connection broke while the write was on its way, and the key was changed meanwhile",
            )
        }),
    }
}

/// Whether what stands at the key is what this write puts there, and since when.
fn found_mine(write: &Write, found: Option<Entry>) -> Option<Revision> {
    let Action::Put { value, .. } = &write.action else { return None };
    found.filter(|entry| entry.value == *value).map(|entry| entry.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys() {
        let table: [(&[u8], &[u8]); 4] =
            [(b"/a/", b"/a0"), (b"a\xff", b"b"), (b"\xff\xff", b""), (b"\0", b"\x01")];
        for (prefix, end) in table {
            assert_eq!(prefix_end(prefix), end);
        }
    }

    #[test]
    fn a_lost_outcome_is_found_in_what_stands_there() {
        let entry = |value: &'static str, revision| Entry {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(value.as_bytes()),
            revision: Revision(revision),
        };
        let write =
            |action| Write { key: Bytes::from_static(b"k"), expected: Expected::At(Revision(3)), action };
        let put = write(Action::Put { value: Bytes::from_static(b"mine"), lease: None });
        let delete = write(Action::Delete);
        let done = |revision| Ok(Written::Done(Revision(revision)));
        let table = [
            (&put, Written::Done(Revision(9)), Some(9)),
            (&put, Written::Differs(Some(entry("mine", 5))), Some(5)),
            (&put, Written::Differs(Some(entry("other", 5))), None),
            (&put, Written::Differs(None), None),
            (&delete, Written::Done(Revision(9)), Some(9)),
            (&delete, Written::Differs(None), None),
            (&delete, Written::Differs(Some(entry("other", 5))), None),
        ];
        for (write, second, outcome) in table {
            let judged = judge_second_try(write, second);
            match outcome {
                Some(revision) => assert_eq!(judged, done(revision)),
                None => assert!(matches!(judged, Err(StorageError::Unknown { .. }))),
            }
        }
    }
}
