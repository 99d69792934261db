//! A look at what is watched and how far behind its streams are, for an administrator.
//!
//! It goes through the ranges in portions and lets publishers in between.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::{Listener, Registry, WatchHub};
use crate::activity::{ClientId, WatchedRange};
use crate::ids::Revision;
use crate::watch::matcher::GroupId;
use crate::watch::range::WatchRange;

/// Ranges looked at before publishers have a turn.
const PORTION_GROUPS: usize = 512;

/// The watches of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeState {
    /// Which range.
    pub range: WatchedRange,
    /// How many watches there are of it.
    pub watches: u64,
    /// By how many revisions the slowest of its streams is behind.
    pub revisions_behind: u64,
    /// Whose stream that is, when one is behind and its client is known.
    pub slowest: Option<ClientId>,
}

pub(super) fn watched(range: &WatchRange) -> WatchedRange {
    let (key, range_end) = range.to_request();
    WatchedRange { key, range_end }
}

impl WatchHub {
    /// The state of the named ranges, as far as they are watched, in their order; then of others whose streams are
    /// behind, the furthest first. At most `top` altogether.
    #[must_use]
    pub fn survey(&self, named: &[WatchedRange], top: usize) -> Vec<RangeState> {
        let mut states = Vec::new();
        let mut seen = HashSet::new();
        {
            let registry = self.registry.lock();
            let published = self.ring.read().published;
            for range in named.iter().take(top) {
                let Ok(range) = WatchRange::from_request(&range.key, &range.range_end) else { continue };
                let Some(group) = registry.matcher.find(&range) else { continue };
                seen.insert(group);
                states.extend(registry.state(group, published));
            }
        }
        let mut behind: Vec<RangeState> = Vec::new();
        let mut next = 0;
        loop {
            let registry = self.registry.lock();
            let published = self.ring.read().published;
            let end = registry.groups.len().min(next + PORTION_GROUPS);
            for group in (next..end).filter(|group| !seen.contains(group)) {
                if registry.groups[group].listeners().any(|listener| listener.behind(published) > 0) {
                    behind.extend(registry.state(group, published));
                }
            }
            if end == registry.groups.len() {
                break;
            }
            next = end;
            drop(registry);
            keep_furthest(&mut behind, top);
        }
        keep_furthest(&mut behind, top);
        states.extend(behind);
        states.truncate(top);
        states
    }
}

fn keep_furthest(states: &mut Vec<RangeState>, top: usize) {
    states.sort_by(|a, b| {
        let keys = || (&a.range.key, &a.range.range_end).cmp(&(&b.range.key, &b.range.range_end));
        b.revisions_behind.cmp(&a.revisions_behind).then_with(keys)
    });
    states.truncate(top);
}

impl Registry {
    fn state(&self, group: GroupId, published: Revision) -> Option<RangeState> {
        let (range, watches) = self.matcher.group(group)?;
        let slowest = self.groups[group].listeners().max_by_key(|listener| listener.behind(published));
        let revisions_behind = slowest.map_or(0, |listener| listener.behind(published));
        let client = slowest.and_then(|listener| listener.client.get()).filter(|_| revisions_behind > 0);
        Some(RangeState {
            range: watched(range),
            watches: watches as u64,
            revisions_behind,
            slowest: client.cloned(),
        })
    }
}

impl Listener {
    /// How many revisions lie between what the stream took and what was published.
    fn behind(&self, published: Revision) -> u64 {
        let places = [self.mark.load(Ordering::Relaxed), self.history_at.load(Ordering::Relaxed)];
        let oldest = places.into_iter().filter(|place| *place > 0).min();
        oldest.map_or(0, |oldest| u64::try_from(published.0.saturating_add(1) - oldest).unwrap_or(0))
    }
}
