//! The first part of a migration: all keys of one revision, in order, page by page. Keys of the destination that the
//! source does not have are deleted on the way, so that copying again repairs whatever came in between.

use std::collections::BTreeSet;
use std::time::Instant;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::request_op::Request;
use barque_proto::mvccpb::KeyValue;

use super::follow::{LEASES_EVERY, style};
use super::position::{PREFIX, Phase};
use super::{Migration, count, revision};
use crate::connection::Connection;
use crate::error::Failure;
use crate::range;

/// Keys of one page.
const PAGE_KEYS: i64 = 500;

/// A transaction's operations, its position included, and bytes. etcd allows 128 and 1.5 MiB.
pub(super) const MOST_OPERATIONS: usize = 127;
pub(super) const MOST_BYTES: usize = 1 << 20;

/// Copies what is left; afterwards the phase is `Follow`.
pub(super) async fn run(migration: &mut Migration) -> Result<(), Failure> {
    if migration.position.revision == 0 {
        migration.position.revision = revision(&migration.source).await?;
    }
    let total = match count(&migration.source, migration.position.revision).await {
        Err(failure) if is_compacted(&failure) => return begin_again(migration),
        other => other?,
    };
    let at = migration.position.revision;
    migration.tell(&format!("copying {total} keys at revision {at}"))?;
    migration.bar.set_length(total.unsigned_abs());
    migration.bar.set_style(style("{prefix} [{bar:40}] {pos} of {len} keys"));
    let mut leases_renewed = Instant::now();
    while migration.position.phase == Phase::Copy {
        if leases_renewed.elapsed() >= LEASES_EVERY {
            migration.leases.renew(&migration.source, &migration.destination).await?;
            leases_renewed = Instant::now();
        }
        let page = match page(&migration.source, &migration.position.next_key, at).await {
            Err(failure) if is_compacted(&failure) => return begin_again(migration),
            other => other?,
        };
        let next = page.kvs.last().filter(|_| page.more).map(|last| [&last.key[..], b"\0"].concat());
        let kvs: Vec<KeyValue> =
            page.kvs.into_iter().filter(|kv| !kv.key.starts_with(PREFIX.as_bytes())).collect();
        let extra = extra_keys(migration, &kvs, next.as_deref()).await?;
        let mut operations: Vec<pb::RequestOp> = extra.into_iter().map(delete).collect();
        for kv in &kvs {
            let lease = migration.leases.ensure(&migration.source, &migration.destination, kv.lease).await?;
            operations.push(put(kv, lease));
        }
        let count = kvs.len() as u64;
        let chunks = chunks(operations);
        let last = chunks.len().saturating_sub(1);
        for (place, mut chunk) in chunks.into_iter().enumerate() {
            if place == last {
                migration.position.keys += count;
                match &next {
                    Some(next) => migration.position.next_key.clone_from(next),
                    None => {
                        migration.position.phase = Phase::Follow;
                        migration.position.next_key.clear();
                    }
                }
                chunk.push(migration.position.operation()?);
            }
            migration.destination.txn(pb::TxnRequest { success: chunk, ..Default::default() }).await?;
        }
        migration.bar.set_position(migration.position.keys);
    }
    migration.tell(&format!("copied {} keys", migration.position.keys))
}

fn begin_again(migration: &mut Migration) -> Result<(), Failure> {
    migration.position.begin_again();
    Ok(())
}

fn is_compacted(failure: &Failure) -> bool {
    failure.server_message().is_some_and(|text| text.contains("required revision has been compacted"))
}

async fn page(source: &Connection, next_key: &[u8], revision: i64) -> Result<pb::RangeResponse, Failure> {
    let (key, range_end) = range::from_key(next_key);
    let request = pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        revision,
        limit: PAGE_KEYS,
        ..Default::default()
    };
    source.range(request).await
}

/// Keys that the destination has where the page has none.
async fn extra_keys(
    migration: &Migration,
    kvs: &[KeyValue],
    next: Option<&[u8]>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let (mut key, end) = range::from_key(&migration.position.next_key);
    let end = next.map_or(end, <[u8]>::to_vec);
    let theirs: BTreeSet<&[u8]> = kvs.iter().map(|kv| &kv.key[..]).collect();
    let mut extra = Vec::new();
    loop {
        let request = pb::RangeRequest {
            key: key.clone().into(),
            range_end: end.clone().into(),
            limit: PAGE_KEYS,
            keys_only: true,
            ..Default::default()
        };
        let page = migration.destination.range(request).await?;
        let ours = page.kvs.iter().map(|kv| &kv.key[..]);
        extra.extend(
            ours.filter(|key| !theirs.contains(key) && !key.starts_with(PREFIX.as_bytes()))
                .map(<[u8]>::to_vec),
        );
        match page.kvs.last() {
            Some(last) if page.more => key = [&last.key[..], b"\0"].concat(),
            _ => return Ok(extra),
        }
    }
}

pub(super) fn put(kv: &KeyValue, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key: kv.key.clone(), value: kv.value.clone(), lease, ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

pub(super) fn delete(key: impl Into<bytes::Bytes>) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: key.into(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// Operations in transactions that are not too large. There is always one, for the position.
pub(super) fn chunks(operations: Vec<pb::RequestOp>) -> Vec<Vec<pb::RequestOp>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for operation in operations {
        let size = size(&operation);
        let full = |chunk: &Vec<_>| {
            chunk.len() == MOST_OPERATIONS || (!chunk.is_empty() && bytes + size > MOST_BYTES)
        };
        if chunks.last().is_some_and(full) {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(operation);
        }
    }
    chunks
}

fn size(operation: &pb::RequestOp) -> usize {
    match &operation.request {
        Some(Request::RequestPut(put)) => put.key.len() + put.value.len(),
        Some(Request::RequestDeleteRange(delete)) => delete.key.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_bounded_in_operations_and_bytes() {
        let sizes = |operations| chunks(operations).iter().map(Vec::len).collect::<Vec<_>>();
        let op = |bytes: usize| put(&KeyValue { value: vec![0; bytes].into(), ..Default::default() }, 0);
        assert_eq!(sizes(Vec::new()), [0]);
        assert_eq!(sizes((0..300).map(|_| op(1)).collect()), [127, 127, 46]);
        assert_eq!(sizes(vec![op(700 << 10), op(700 << 10), op(1)]), [1, 2]);
        // Larger than any: the server says so.
        assert_eq!(sizes(vec![op(2 << 20), op(1)]), [1, 1]);
    }
}
