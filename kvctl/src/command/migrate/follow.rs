//! The second part of a migration: every event after the copied revision, each revision in a transaction with the
//! position.

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::{Event, event};
use indicatif::ProgressStyle;

use super::Migration;
use super::copy::{chunks, delete, put};
use super::position::PREFIX;
use crate::connection::{WatchOptions, Watcher};
use crate::error::Failure;
use crate::range;

/// Leases are looked after this often.
pub(super) const LEASES_EVERY: Duration = Duration::from_secs(1);

/// Why following has ended.
pub(super) enum End {
    /// The wanted revision was reached.
    CaughtUp,
    /// What comes next is no longer known to the source.
    Compacted,
}

/// Applies events until the source's revision `until` is reached, or for ever.
pub(super) async fn run(migration: &mut Migration, until: Option<i64>) -> Result<End, Failure> {
    let reached = |revision: i64| until.is_some_and(|until| revision >= until);
    if reached(migration.position.revision) {
        return Ok(End::CaughtUp);
    }
    migration.tell(&format!("following from revision {}", migration.position.revision + 1))?;
    migration.bar.set_style(style("{spinner} following: {msg}"));
    let (key, range_end) = range::prefix(b"");
    let start_revision = migration.position.revision + 1;
    let options = WatchOptions { key, range_end, start_revision, ..WatchOptions::default() };
    let mut watcher = Watcher::open(&migration.source, options).await?;
    let mut leases = tokio::time::interval(LEASES_EVERY);
    loop {
        let answer = tokio::select! {
            answer = watcher.next() => answer?,
            _ = leases.tick() => {
                migration.leases.renew(&migration.source, &migration.destination).await?;
                continue;
            }
        };
        if answer.compact_revision > 0 {
            return Ok(End::Compacted);
        }
        if answer.canceled {
            return Err(Failure::Interrupted(format!(
                "the source ended the watch: {}",
                answer.cancel_reason
            )));
        }
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        for events in answer.events.chunk_by(|left, right| revision(left) == revision(right)) {
            apply(migration, events, events.first().map_or(0, revision)).await?;
        }
        migration.bar.set_message(format!(
            "revision {}, {} events",
            migration.position.revision, migration.position.events
        ));
        migration.bar.tick();
        if reached(migration.position.revision) {
            return Ok(End::CaughtUp);
        }
    }
}

/// All changes of one revision. Too many for one transaction are applied in order, and the position moves with the
/// last: applying them again changes nothing.
async fn apply(migration: &mut Migration, events: &[Event], revision: i64) -> Result<(), Failure> {
    let mut operations = Vec::new();
    for event in events {
        let kv = event.kv.clone().unwrap_or_default();
        if kv.key.starts_with(PREFIX.as_bytes()) {
            continue;
        }
        operations.push(match event.r#type() {
            event::EventType::Put => {
                let lease =
                    migration.leases.ensure(&migration.source, &migration.destination, kv.lease).await?;
                put(&kv, lease)
            }
            event::EventType::Delete => delete(kv.key),
        });
    }
    let chunks = chunks(operations);
    let last = chunks.len().saturating_sub(1);
    for (place, mut chunk) in chunks.into_iter().enumerate() {
        if place == last {
            migration.position.revision = revision;
            migration.position.events += events.len() as u64;
            chunk.push(migration.position.operation()?);
        }
        migration.destination.txn(pb::TxnRequest { success: chunk, ..Default::default() }).await?;
    }
    Ok(())
}

/// A style for the progress bar.
pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
