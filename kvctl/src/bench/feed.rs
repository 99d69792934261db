//! The watching side of a load: streams of watches whose events are counted and timed.

use super::keyspace::{Keyspace, STAMP_BYTES};
use super::message::{self, Fields, Value};
use super::stats::Stats;

/// Watches on one prefix, spread over streams.
pub(super) struct Feed {
    pub(super) watchers: usize,
    pub(super) streams: usize,
    /// The WatchRequest that each watcher is made with.
    pub(super) request: Vec<u8>,
    /// Watches that the servers said are there.
    pub(super) created: usize,
}

impl Feed {
    /// `watchers` watches of everything below `prefix`.
    pub(super) fn new(prefix: &str, watchers: usize, streams: usize, prev_kv: bool) -> Self {
        let (start, end) = Keyspace::range(prefix);
        let mut create = Vec::new();
        message::put_bytes(&mut create, 1, &start);
        message::put_bytes(&mut create, 2, &end);
        if prev_kv {
            message::put_number(&mut create, 6, 1);
        }
        let mut request = Vec::new();
        message::put_bytes(&mut request, 1, &create);
        Self { watchers, streams: streams.clamp(1, watchers.max(1)), request, created: 0 }
    }

    /// How many watchers share stream `n`.
    pub(super) fn watchers_on(&self, n: usize) -> usize {
        self.watchers / self.streams + usize::from(n < self.watchers % self.streams)
    }

    /// Counts a WatchResponse.
    pub(super) fn receive(&mut self, body: &[u8], now_ns: u64, stats: &mut Stats) {
        for (field, value) in Fields(body) {
            match (field, value) {
                (3, Value::Number(1)) => self.created += 1,
                (4, Value::Number(1)) => {
                    let reason = String::from_utf8_lossy(Fields(body).bytes(6)).into_owned();
                    stats.error(&format!("watch cancelled: {reason}"));
                }
                (11, Value::Bytes(event)) => {
                    stats.events += 1;
                    let value = Fields(Fields(event).bytes(2)).bytes(5);
                    if let Some(stamp) = value.first_chunk::<STAMP_BYTES>() {
                        let delay_ns = now_ns.saturating_sub(u64::from_be_bytes(*stamp));
                        stats.delay.saturating_record(delay_ns / 1000);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_spread_and_events_counted_with_their_delay() {
        let mut feed = Feed::new("p/", 10, 4, false);
        assert_eq!((0..4).map(|n| feed.watchers_on(n)).collect::<Vec<_>>(), [3, 3, 2, 2]);
        let mut keys = Keyspace::new("p/", 8, 10, 32).unwrap();
        let (mut put, mut record) = (Vec::new(), Vec::new());
        keys.put(1, 5_000_000, &mut put);
        message::put_bytes(&mut record, 1, Fields(&put).bytes(1));
        message::put_bytes(&mut record, 5, Fields(&put).bytes(2));
        let (mut event, mut response) = (Vec::new(), Vec::new());
        message::put_bytes(&mut event, 2, &record);
        message::put_bytes(&mut response, 11, &event);
        message::put_bytes(&mut response, 11, &event);
        let mut stats = Stats::new(&[]);
        feed.receive(&response, 7_000_000, &mut stats);
        assert_eq!((stats.events, stats.delay.min()), (2, 2000));
    }
}
