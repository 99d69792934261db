//! Forgets old states of the store for all API servers together: each tries every few minutes, and one does it, as in
//! Kubernetes (the key `compact_rev_key`). Must never forget a state younger than one interval.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Action, Entry, Expected, Revision, Storage, StorageError, Write, Written};

/// Where servers say up to which revision they forget next.
const KEY: &[u8] = b"compact_rev_key";

/// What this server knows since its last turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The version of the key.
    key: Option<Revision>,
    /// The store's revision at that time: older states may go at the next turn.
    old: Option<Revision>,
}

/// Runs until `stop`, a turn each `interval`.
pub async fn run<S: Storage>(storage: S, interval: Duration, stop: CancellationToken) {
    let mut seen = Seen::default();
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_none() {
            return;
        }
        match stop.run_until_cancelled(turn(&storage, seen)).await {
            None => return,
            Some(Ok(next)) => seen = next,
            Some(Err(error)) => tracing::warn!("old states of the store stay until the next turn: {error}"),
        }
    }
}

/// One turn: says what goes next, if no other server has said it since the last turn, and lets go what was said then.
async fn turn<S: Storage>(storage: &S, seen: Seen) -> Result<Seen, StorageError> {
    let now = storage.current_revision().await?;
    let write = Write {
        key: Bytes::from_static(KEY),
        expected: seen.key.map_or(Expected::Absent, Expected::At),
        action: Action::Put { value: now.to_string().into(), lease: None },
    };
    match storage.write(&write).await? {
        Written::Done(key) => {
            if let Some(old) = seen.old {
                match storage.compact(old).await {
                    // Somebody else has forgotten even more.
                    Ok(()) | Err(StorageError::Compacted { .. }) => {}
                    Err(error) => return Err(error),
                }
                tracing::debug!(%old, "old states of the store are forgotten");
            }
            Ok(Seen { key: Some(key), old: Some(now) })
        }
        // Another server's turn was first: go on from what it said.
        Written::Differs(entry) => Ok(adopted(entry)),
    }
}

fn adopted(entry: Option<Entry>) -> Seen {
    let Some(entry) = entry else { return Seen::default() };
    let old = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).map(Revision);
    Seen { key: Some(entry.revision), old }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Page;
    use crate::storage::memory::Memory;

    async fn put(storage: &Memory, name: &'static str) -> Revision {
        let write = Write {
            key: Bytes::from_static(name.as_bytes()),
            expected: Expected::Absent,
            action: Action::Put { value: Bytes::from_static(b"x"), lease: None },
        };
        match storage.write(&write).await.unwrap() {
            Written::Done(revision) => revision,
            Written::Differs(_) => panic!("it is there"),
        }
    }

    async fn is_known(storage: &Memory, revision: Revision) -> bool {
        let page = Page {
            prefix: Bytes::from_static(b"/"),
            start: Bytes::new(),
            limit: 0,
            revision: Some(revision),
        };
        storage.list(&page).await.is_ok()
    }

    #[tokio::test]
    async fn two_servers_forget_together_what_is_older_than_a_turn() {
        let storage = Memory::new();
        let first = put(&storage, "/a").await;
        let mut one = turn(&storage, Seen::default()).await.unwrap();
        // The other server comes second, and learns where the first one is.
        let two = turn(&storage, Seen::default()).await.unwrap();
        assert_eq!(one, two);
        let second = put(&storage, "/b").await;
        assert!(is_known(&storage, first).await, "not a turn old");
        one = turn(&storage, one).await.unwrap();
        put(&storage, "/c").await;
        assert!(is_known(&storage, first).await, "that was said is kept: it is the oldest state");
        // The second server's turn fails against the first one's, and forgets nothing.
        let behind = turn(&storage, two).await.unwrap();
        assert_eq!(behind, one);
        turn(&storage, behind).await.unwrap();
        assert!(!is_known(&storage, first).await);
        assert!(is_known(&storage, second).await);
    }
}
