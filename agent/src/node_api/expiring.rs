//! Answers that are kept for a while, no more than so many. Must never give one whose time is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Expiring<K, V> {
    most: usize,
    kept: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Expiring<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let kept = self.kept.lock();
        let (value, until) = kept.get(key)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    pub(crate) fn keep(&self, key: K, value: V, time: Duration) {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        if kept.len() >= self.most && !kept.contains_key(&key) {
            kept.retain(|_, (_, until)| *until > now);
            // Whoever asks with ever new keys pays with its own.
            if kept.len() >= self.most
                && let Some(first) =
                    kept.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone())
            {
                kept.remove(&first);
            }
        }
        kept.insert(key, (value, now + time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_last_for_their_time_and_are_no_more_than_so_many() {
        let kept = Expiring::new(2);
        kept.keep("a", 1, Duration::from_secs(10));
        kept.keep("b", 2, Duration::from_secs(20));
        kept.keep("c", 3, Duration::from_secs(30));
        assert_eq!((kept.get(&"a"), kept.get(&"b"), kept.get(&"c")), (None, Some(2), Some(3)));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!((kept.get(&"b"), kept.get(&"c")), (None, Some(3)));
        kept.keep("d", 4, Duration::from_secs(10));
        assert_eq!((kept.get(&"c"), kept.get(&"d")), (Some(3), Some(4)));
    }
}
