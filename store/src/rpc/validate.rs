//! The checks of a request that need nothing but the request, in etcd's order, and the two sizes that
//! limits are compared with. Pure: never looks at the keyspace or at the member.

use barque_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use barque_proto::etcdserverpb::request_op::Request;
use barque_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use prost::Message;
use prost::encoding::encoded_len_varint;

use super::overlap;
use crate::command::CommandError;
use crate::error::StoreError;

/// `KV.Range`, alone and inside a transaction.
pub(super) fn range(request: &RangeRequest) -> Result<(), StoreError> {
    if request.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(StoreError::InvalidSortOption);
    }
    Ok(())
}

/// What `KV.RangeStream` cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStreamable {
    /// Would need the whole range before the first chunk.
    #[error("RangeStream does not support custom sort orders")]
    SortOrder,
    /// Likewise.
    #[error("RangeStream does not support revision filters")]
    RevisionFilter,
}

/// Whether a range, valid in itself, can be answered in chunks of key order.
pub(super) fn range_stream(request: &RangeRequest) -> Result<(), NotStreamable> {
    let order = request.sort_order();
    let by_key = request.sort_target() == SortTarget::Key;
    if !(order == SortOrder::None || by_key && order == SortOrder::Ascend) {
        return Err(NotStreamable::SortOrder);
    }
    if request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
    {
        return Err(NotStreamable::RevisionFilter);
    }
    Ok(())
}

/// `KV.Put`, alone and inside a transaction.
pub(super) fn put(request: &PutRequest) -> Result<(), StoreError> {
    if request.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(StoreError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(StoreError::LeaseProvided);
    }
    Ok(())
}

/// `KV.DeleteRange`, alone and inside a transaction.
pub(super) fn delete_range(request: &DeleteRangeRequest) -> Result<(), StoreError> {
    if request.key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

/// `KV.Txn` with all that is nested in it.
pub(super) fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), StoreError> {
    ops_of_txn(request, max_ops)?;
    // After the count of operations, which bounds the work that this takes.
    if overlap::puts_collide(&request.success) || overlap::puts_collide(&request.failure) {
        return Err(StoreError::DuplicateKey);
    }
    Ok(())
}

fn ops_of_txn(request: &TxnRequest, max_ops: usize) -> Result<(), StoreError> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    // A nested transaction may have what its parent left over.
    let left = max_ops.checked_sub(most).ok_or(StoreError::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(StoreError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => ops_of_txn(request, left),
        None => Err(CommandError::KeyNotFound.into()),
    })
}

/// Whether a transaction holds ranges alone. One with a nested transaction counts as writing.
pub(super) fn is_read_only(request: &TxnRequest) -> bool {
    ops(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether every operation is a range that is content with what this member has. A transaction without operations never
/// said so: its comparisons are fresh (etcd answers them by what the member has).
pub(super) fn is_serializable(request: &TxnRequest) -> bool {
    ops(request).next().is_some()
        && ops(request)
            .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn ops(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// What etcd puts around a request before it measures it: the tag of the request (1), the header's tag
/// and length (3) and in it a tag and an id of ten bytes.
const ENVELOPE_BYTES: usize = 15;

/// The size limit that etcd applies to the entry it would propose.
pub(super) fn size(request: &impl Message, max_request_bytes: usize) -> Result<(), StoreError> {
    let bytes = request.encoded_len();
    if bytes + encoded_len_varint(bytes as u64) + ENVELOPE_BYTES > max_request_bytes {
        return Err(StoreError::RequestTooLarge);
    }
    Ok(())
}

/// Bytes that the quota is charged for a lease.
pub(super) const LEASE_COST_BYTES: u64 = 64;

/// Bytes that the quota is charged for a put.
pub(super) fn put_cost_bytes(request: &PutRequest) -> u64 {
    256 + request.key.len() as u64 + request.value.len() as u64
}

/// Bytes that the quota is charged for a transaction: those of its dearer branch. 0 when it puts nothing,
/// which the quota never refuses.
pub(super) fn txn_cost_bytes(request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => put_cost_bytes(put),
                Some(Request::RequestTxn(txn)) => txn_cost_bytes(txn),
                _ => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

/// Longest lease in seconds, about 285 years.
const MAX_LEASE_TTL_S: i64 = 9_000_000_000;

/// The time a lease will be granted for: what was asked, but not less than the minimum.
pub(super) fn lease_ttl_s(asked_s: i64, min_s: i64) -> Result<i64, StoreError> {
    if asked_s > MAX_LEASE_TTL_S {
        return Err(StoreError::LeaseTtlTooLarge);
    }
    Ok(asked_s.max(min_s))
}

/// The peer addresses of a member: trimmed, sorted, each `http(s)://host:port` and nothing behind.
pub(super) fn peer_urls(urls: Vec<String>) -> Result<Vec<String>, StoreError> {
    if urls.is_empty() {
        return Err(StoreError::MemberBadUrls);
    }
    let mut urls = urls
        .into_iter()
        .map(|url| {
            let url = url.trim();
            if is_peer_url(url) { Ok(url.to_owned()) } else { Err(StoreError::MemberBadUrls) }
        })
        .collect::<Result<Vec<_>, _>>()?;
    urls.sort_unstable();
    Ok(urls)
}

fn is_peer_url(url: &str) -> bool {
    let Some((scheme, authority)) = url.split_once("://") else { return false };
    if scheme != "http" && scheme != "https" || authority.contains(['/', '?', '#', '@']) {
        return false;
    }
    authority
        .parse::<http::uri::Authority>()
        .is_ok_and(|authority| !authority.host().is_empty() && authority.port_u16().is_some())
}

/// Whether a text is a version such as `3.5` or `3.5.0`, of which etcd looks at major and minor alone.
pub(super) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    (parts.len() == 2 || parts.len() == 3)
        && parts.iter().all(|part| part.parse::<u32>().is_ok_and(|number| number.to_string() == *part))
}

#[cfg(test)]
mod tests {
    use barque_proto::etcdserverpb::Compare;
    use bytes::Bytes;

    use super::*;

    fn put_of(key: &'static str) -> PutRequest {
        PutRequest { key: Bytes::from_static(key.as_bytes()), ..Default::default() }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn puts(count: usize) -> Vec<RequestOp> {
        (0..count)
            .map(|i| {
                op(Request::RequestPut(PutRequest { key: format!("k{i}").into(), ..Default::default() }))
            })
            .collect()
    }

    fn nested(inner: TxnRequest) -> RequestOp {
        op(Request::RequestTxn(inner))
    }

    #[test]
    fn ranges() {
        let good = RangeRequest { key: "a".into(), ..Default::default() };
        let table = [
            (good.clone(), Ok(())),
            (RangeRequest::default(), Err(StoreError::EmptyKey)),
            (RangeRequest { sort_order: 3, ..good.clone() }, Err(StoreError::InvalidSortOption)),
            (RangeRequest { sort_order: -1, ..good.clone() }, Err(StoreError::InvalidSortOption)),
            (RangeRequest { sort_target: 5, ..good.clone() }, Err(StoreError::InvalidSortOption)),
            (RangeRequest { sort_order: 2, sort_target: 4, ..good }, Ok(())),
            (RangeRequest { sort_order: 9, ..Default::default() }, Err(StoreError::EmptyKey)),
        ];
        for (request, expected) in table {
            assert_eq!(range(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn ranges_in_chunks() {
        let good = RangeRequest { key: "a".into(), ..Default::default() };
        let table = [
            (good.clone(), Ok(())),
            (RangeRequest { sort_order: 1, ..good.clone() }, Ok(())),
            (RangeRequest { sort_target: 4, ..good.clone() }, Ok(())),
            (RangeRequest { sort_order: 2, ..good.clone() }, Err(NotStreamable::SortOrder)),
            (RangeRequest { sort_order: 1, sort_target: 1, ..good.clone() }, Err(NotStreamable::SortOrder)),
            (RangeRequest { min_mod_revision: 1, ..good.clone() }, Err(NotStreamable::RevisionFilter)),
            (RangeRequest { max_mod_revision: 1, ..good.clone() }, Err(NotStreamable::RevisionFilter)),
            (RangeRequest { min_create_revision: 1, ..good.clone() }, Err(NotStreamable::RevisionFilter)),
            (RangeRequest { max_create_revision: 1, ..good }, Err(NotStreamable::RevisionFilter)),
        ];
        for (request, expected) in table {
            assert_eq!(range_stream(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn puts_alone() {
        let table = [
            (put_of("a"), Ok(())),
            (put_of(""), Err(StoreError::EmptyKey)),
            (PutRequest { ignore_value: true, ..put_of("a") }, Ok(())),
            (
                PutRequest { ignore_value: true, value: "v".into(), ..put_of("a") },
                Err(StoreError::ValueProvided),
            ),
            (PutRequest { ignore_lease: true, lease: 1, ..put_of("a") }, Err(StoreError::LeaseProvided)),
            (PutRequest { ignore_lease: true, value: "v".into(), ..put_of("a") }, Ok(())),
            (
                PutRequest {
                    ignore_value: true,
                    value: "v".into(),
                    ignore_lease: true,
                    lease: 1,
                    ..put_of("a")
                },
                Err(StoreError::ValueProvided),
            ),
        ];
        for (request, expected) in table {
            assert_eq!(put(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn operations_are_counted_per_list_and_nested_ones_get_the_rest() {
        let compares = |count| vec![Compare { key: "c".into(), ..Default::default() }; count];
        let table = [
            (TxnRequest::default(), Ok(())),
            (TxnRequest { success: puts(4), failure: puts(4), compare: compares(4) }, Ok(())),
            (TxnRequest { success: puts(5), ..Default::default() }, Err(StoreError::TooManyOps)),
            (TxnRequest { failure: puts(5), ..Default::default() }, Err(StoreError::TooManyOps)),
            (TxnRequest { compare: compares(5), ..Default::default() }, Err(StoreError::TooManyOps)),
            (
                TxnRequest {
                    success: vec![nested(TxnRequest { success: puts(3), ..Default::default() })],
                    ..Default::default()
                },
                Ok(()),
            ),
            (
                TxnRequest {
                    success: vec![nested(TxnRequest { success: puts(4), ..Default::default() })],
                    ..Default::default()
                },
                Err(StoreError::TooManyOps),
            ),
            (
                TxnRequest {
                    compare: compares(3),
                    failure: vec![nested(TxnRequest { failure: puts(2), ..Default::default() })],
                    ..Default::default()
                },
                Err(StoreError::TooManyOps),
            ),
        ];
        for (request, expected) in table {
            assert_eq!(txn(&request, 4), expected, "{request:?}");
        }
    }

    #[test]
    fn every_part_of_a_transaction_is_checked() {
        let table = [
            (TxnRequest { compare: vec![Compare::default()], ..Default::default() }, StoreError::EmptyKey),
            (
                TxnRequest { success: vec![RequestOp::default()], ..Default::default() },
                CommandError::KeyNotFound.into(),
            ),
            (
                TxnRequest {
                    failure: vec![op(Request::RequestRange(RangeRequest {
                        key: "a".into(),
                        sort_order: 7,
                        ..Default::default()
                    }))],
                    ..Default::default()
                },
                StoreError::InvalidSortOption,
            ),
            (
                TxnRequest {
                    failure: vec![op(Request::RequestDeleteRange(DeleteRangeRequest::default()))],
                    ..Default::default()
                },
                StoreError::EmptyKey,
            ),
            (
                TxnRequest {
                    success: vec![nested(TxnRequest {
                        success: vec![op(Request::RequestPut(put_of("")))],
                        ..Default::default()
                    })],
                    ..Default::default()
                },
                StoreError::EmptyKey,
            ),
            (
                TxnRequest { success: [puts(1), puts(1)].concat(), ..Default::default() },
                StoreError::DuplicateKey,
            ),
            (
                TxnRequest { failure: [puts(1), puts(1)].concat(), ..Default::default() },
                StoreError::DuplicateKey,
            ),
        ];
        for (request, expected) in table {
            assert_eq!(txn(&request, 128), Err(expected), "{request:?}");
        }
    }

    #[test]
    fn which_transactions_bypass_the_log() {
        let read = |serializable| {
            op(Request::RequestRange(RangeRequest { key: "a".into(), serializable, ..Default::default() }))
        };
        let table = [
            (TxnRequest::default(), true, false),
            (
                TxnRequest { success: vec![read(true)], failure: vec![read(true)], ..Default::default() },
                true,
                true,
            ),
            (
                TxnRequest { success: vec![read(true)], failure: vec![read(false)], ..Default::default() },
                true,
                false,
            ),
            (TxnRequest { success: vec![read(true)], failure: puts(1), ..Default::default() }, false, false),
            (TxnRequest { success: vec![nested(TxnRequest::default())], ..Default::default() }, false, false),
        ];
        for (request, read_only, serializable) in table {
            assert_eq!((is_read_only(&request), is_serializable(&request)), (read_only, serializable));
        }
    }

    #[test]
    fn sizes_are_of_the_whole_entry() {
        let request = PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() };
        // key 3, value 1003; their length 2; envelope 15.
        assert_eq!(size(&request, 1023), Ok(()));
        assert_eq!(size(&request, 1022), Err(StoreError::RequestTooLarge));
    }

    #[test]
    fn quota_is_charged_for_the_dearer_branch_at_every_depth() {
        let dear = PutRequest { value: vec![0; 100].into(), ..put_of("ab") };
        assert_eq!(put_cost_bytes(&dear), 358);
        let inner = TxnRequest { success: vec![op(Request::RequestPut(dear))], ..Default::default() };
        let outer = TxnRequest {
            success: vec![op(Request::RequestPut(put_of("a")))],
            failure: vec![nested(inner), op(Request::RequestPut(put_of("a")))],
            ..Default::default()
        };
        assert_eq!(txn_cost_bytes(&outer), 358 + 257);
        assert_eq!(txn_cost_bytes(&TxnRequest::default()), 0);
    }

    #[test]
    fn lease_times() {
        for (asked, expected) in [
            (i64::MIN, Ok(2)),
            (0, Ok(2)),
            (1, Ok(2)),
            (2, Ok(2)),
            (60, Ok(60)),
            (9_000_000_000, Ok(9_000_000_000)),
            (9_000_000_001, Err(StoreError::LeaseTtlTooLarge)),
        ] {
            assert_eq!(lease_ttl_s(asked, 2), expected);
        }
    }

    #[test]
    fn addresses_of_peers() {
        for (url, good) in [
            ("http://127.0.0.1:2380", true),
            ("https://[::1]:2380", true),
            (" http://m0.example:1 ", true),
            ("", false),
            ("127.0.0.1:2380", false),
            ("http://127.0.0.1", false),
            ("http://:2380", false),
            ("http://127.0.0.1:2380/", false),
            ("http://127.0.0.1:2380/path", false),
            ("http://127.0.0.1:port", false),
            ("ftp://127.0.0.1:2380", false),
            ("http://", false),
        ] {
            let expected =
                if good { Ok(vec![url.trim().to_owned()]) } else { Err(StoreError::MemberBadUrls) };
            assert_eq!(peer_urls(vec![url.to_owned()]), expected, "{url}");
        }
        assert_eq!(peer_urls(vec![]), Err(StoreError::MemberBadUrls));
        assert_eq!(
            peer_urls(vec!["http://b:1".to_owned(), "http://a:1".to_owned()]),
            Ok(vec!["http://a:1".to_owned(), "http://b:1".to_owned()])
        );
    }

    #[test]
    fn versions() {
        for (text, good) in [
            ("3.5", true),
            ("3.5.0", true),
            ("3", false),
            ("v3.5", false),
            ("", false),
            ("3.05", false),
            ("3.5.0.1", false),
        ] {
            assert_eq!(is_version(text), good, "{text}");
        }
    }
}
