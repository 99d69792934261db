//! What a scrape of the metrics finds by looking, so that nobody has to follow it meanwhile: sizes,
//! revisions, leadership, queues. Only looks; nothing here waits or blocks.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use super::{Inner, Member};
use crate::ids::MemberId;
use crate::metrics::{Metrics, catch_up};
use crate::raft::observe;
use crate::rpc::backend::Backend as _;

impl Member {
    /// Has each scrape look at this member, as long as it is there.
    pub(super) fn show_in(&self, metrics: &Metrics) {
        // A strong reference would keep metrics and member alive by each other.
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        metrics.server.quota_backend_bytes.set(self.quota_bytes().max(0));
        metrics.look_before_scrape(move |metrics| {
            if let Some(inner) = inner.upgrade() {
                Self(inner).look(metrics);
            }
        });
    }

    fn look(&self, metrics: &Metrics) {
        self.look_at_raft(metrics);
        self.look_at_keyspace(metrics);
        let watches = self.0.hub.stats();
        metrics.watch.streams.set(watches.streams());
        metrics.watch.watchers.set(watches.watchers());
        metrics.watch.slow_watchers.set(watches.slow_watchers());
        metrics.watch.pending_events.set(watches.pending_events());
        catch_up(&metrics.watch.events, watches.events());
    }

    fn look_at_raft(&self, metrics: &Metrics) {
        let server = &metrics.server;
        let status = self.0.leader.borrow().clone();
        server.has_leader.set(i64::from(self.heard_leader().is_some()));
        server.is_leader.set(i64::from(status.is_led_by(self.0.peers.own().member)));
        server.is_learner.set(i64::from(status.is_learner));
        let told = self.status();
        server.proposals_committed.set(gauge(told.raft_index));
        server.proposals_applied.set(gauge(told.raft_applied_index));
        server.proposals_pending.set(gauge(self.proposals_pending() as u64));
        let members: BTreeSet<MemberId> =
            observe::nodes(&self.0.raft).into_iter().map(|node| node.id).collect();
        self.0.peers.tell_known(&members);
    }

    fn look_at_keyspace(&self, metrics: &Metrics) {
        let mvcc = &metrics.mvcc;
        let told = self.status();
        mvcc.db_total_size.set(told.db_size_bytes);
        mvcc.db_total_size_in_use.set(told.db_size_in_use_bytes);
        let picture = self.0.published.peek();
        mvcc.keys.set(gauge(picture.view.live_keys() as u64));
        mvcc.current_revision.set(picture.view.revision().0);
        mvcc.compact_revision.set(picture.view.compact_revision().0);
        metrics.server.auth_revision.set(gauge(picture.auth.revision().0));
        metrics.server.set_alarms(picture.alarms.iter().copied());
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
