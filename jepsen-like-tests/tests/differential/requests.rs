//! Random requests of every kind, near to each other enough to meet: few keys, few leases, revisions around now.

use barque_proto::etcdserverpb as pb;
use bytes::Bytes;
use jepsen_like_tests::call::Call;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// At most twelve: Go sorts up to so many in a stable way, more of them not.
pub(crate) const KEYS: [&[u8]; 12] =
    [b"a", b"aa", b"ab", b"b", b"b/1", b"b/2", b"b/3", b"c", b"c\0", b"d", b"e", b"\xff"];

const LEASES: [i64; 5] = [1, 2, 3, 0x7fff_ffff_ffff_ffff, 77];
const MAX_NESTING: u32 = 3;

/// Makes requests; knows as much of the store as a client would.
pub(crate) struct Requests {
    random: StdRng,
    /// The newest revision that an answer has named.
    pub(crate) revision: i64,
    /// The newest compaction that succeeded.
    pub(crate) compacted: i64,
    /// Whether local reads are asked for. A follower may answer them from a past state.
    pub(crate) serializable: bool,
}

impl Requests {
    pub(crate) fn new(random: StdRng, serializable: bool) -> Self {
        Self { random, revision: 1, compacted: -1, serializable }
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.random).expect("there is something to pick from")
    }

    pub(crate) fn next(&mut self) -> Call {
        match self.random.random_range(0..100) {
            0..26 => Call::Range(self.range(false)),
            26..52 => Call::Put(self.put()),
            52..60 => Call::Delete(self.delete()),
            60..84 => Call::Txn(self.survivable_txn()),
            84..87 => Call::Compact(self.compaction()),
            87..91 => {
                let ttl = if self.chance(8) { 9_000_000_001 } else { self.random.random_range(600..100_000) };
                Call::Grant(pb::LeaseGrantRequest { id: self.pick(&LEASES), ttl })
            }
            91..93 => Call::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            93..95 => Call::KeepAlive(pb::LeaseKeepAliveRequest { id: self.lease() }),
            95..98 => {
                let keys = self.chance(60);
                Call::TimeToLive(pb::LeaseTimeToLiveRequest { id: self.lease(), keys })
            }
            _ => Call::Leases(pb::LeaseLeasesRequest {}),
        }
    }

    fn lease(&mut self) -> i64 {
        if self.chance(10) { 424_242 } else { self.pick(&LEASES) }
    }

    fn key(&mut self) -> Bytes {
        if self.chance(1) { Bytes::new() } else { Bytes::from_static(self.pick(&KEYS)) }
    }

    /// A key and a range end: one key, a range (perhaps the wrong way round), a prefix, from a key on, all.
    pub(crate) fn key_range(&mut self) -> (Bytes, Bytes) {
        match self.random.random_range(0..100) {
            0..45 => (self.key(), Bytes::new()),
            45..70 => (self.key(), self.key()),
            70..80 => (Bytes::from_static(b"b/"), Bytes::from_static(b"b0")),
            80..90 => (self.key(), Bytes::from_static(b"\0")),
            _ => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        }
    }

    /// A revision to read at or to start from; mostly 0, which is "now".
    pub(crate) fn read_revision(&mut self, now_percent: u32) -> i64 {
        if self.chance(now_percent) {
            return 0;
        }
        match self.random.random_range(0..100) {
            0..60 => self.random.random_range(self.compacted.max(1)..=self.revision),
            60..70 => self.compacted,
            70..78 => self.compacted - 1,
            78..86 => self.revision,
            86..94 => self.revision + 1,
            94..97 => self.revision + 1000,
            _ => -1,
        }
    }

    fn filter_revision(&mut self) -> i64 {
        if self.chance(85) { 0 } else { self.random.random_range(0..=self.revision + 1) }
    }

    fn range(&mut self, inside_txn: bool) -> pb::RangeRequest {
        let (key, range_end) = self.key_range();
        let sort_order =
            self.pick(&[SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
        let targets =
            [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
        let sort_target = if self.chance(50) { SortTarget::Key } else { self.pick(&targets) };
        let limit = self.pick(&[0, 0, 0, 1, 2, 5, 100, -1]);
        let now_percent = if inside_txn { 92 } else { 55 };
        pb::RangeRequest {
            key,
            range_end,
            limit,
            revision: self.read_revision(now_percent),
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: self.serializable && self.chance(20),
            keys_only: self.chance(15),
            count_only: self.chance(10),
            min_mod_revision: self.filter_revision(),
            max_mod_revision: self.filter_revision(),
            min_create_revision: self.filter_revision(),
            max_create_revision: self.filter_revision(),
        }
    }

    fn value(&mut self) -> Bytes {
        let length = self.pick(&[0, 1, 1, 2, 20, 300]);
        (0..length).map(|_| self.random.random_range(b'a'..=b'f')).collect()
    }

    fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.chance(8), self.chance(8));
        let value = if ignore_value && self.chance(90) { Bytes::new() } else { self.value() };
        let with_lease = if ignore_lease { 10 } else { 35 };
        let lease = if self.chance(with_lease) { self.lease() } else { 0 };
        pb::PutRequest { key: self.key(), value, lease, prev_kv: self.chance(25), ignore_value, ignore_lease }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, mut range_end) = self.key_range();
        // Everything at once is rare, or the store would always be empty.
        if key.as_ref() == b"\0" && self.chance(80) {
            range_end = Bytes::new();
        }
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.chance(40) }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = match self.random.random_range(0..100) {
            0..60 => (self.compacted.max(1) + self.random.random_range(1..20)).min(self.revision),
            60..68 => self.revision,
            68..78 => self.compacted,
            78..86 => self.revision + 1,
            86..92 => 0,
            92..96 => -1,
            _ => self.compacted - 3,
        };
        pb::CompactionRequest { revision, physical: self.chance(50) }
    }

    fn compare(&mut self) -> pb::Compare {
        let (key, range_end) = self.key_range();
        let range_end = if self.chance(75) { Bytes::new() } else { range_end };
        let number = match self.random.random_range(0..4) {
            0 => 0,
            1 => self.random.random_range(0..4),
            2 => self.random.random_range(1..=self.revision),
            _ => self.revision,
        };
        let (target, union) = match self.random.random_range(0..5) {
            0 => (CompareTarget::Version, TargetUnion::Version(number)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
            3 => (CompareTarget::Value, TargetUnion::Value(self.value())),
            _ => (CompareTarget::Lease, TargetUnion::Lease(self.pick(&LEASES))),
        };
        // A client may leave the operand out, or send one that does not belong to the target.
        let target_union = match self.random.random_range(0..100) {
            0..3 => None,
            3..5 => Some(TargetUnion::Version(number)),
            _ => Some(union),
        };
        let result = self.pick(&[
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]);
        pb::Compare { result: result.into(), target: target.into(), key, range_end, target_union }
    }

    fn op(&mut self, depth: u32) -> pb::RequestOp {
        let request = match self.random.random_range(0..100) {
            0..35 => Some(Op::RequestRange(self.range(true))),
            35..68 => Some(Op::RequestPut(self.put())),
            68..80 => Some(Op::RequestDeleteRange(self.delete())),
            80..99 if depth < MAX_NESTING => Some(Op::RequestTxn(self.txn(depth + 1))),
            80..99 => Some(Op::RequestPut(self.put())),
            _ => None,
        };
        pb::RequestOp { request }
    }

    fn ops(&mut self, depth: u32) -> Vec<pb::RequestOp> {
        let count = self.pick(&[0, 1, 1, 2, 2, 3, 5]);
        (0..count).map(|_| self.op(depth)).collect()
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let compares = self.pick(&[0, 0, 1, 1, 2, 3]);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let mut txn = pb::TxnRequest { compare, success: self.ops(depth), failure: self.ops(depth) };
        if self.chance(2) {
            self.enlarge(&mut txn);
        }
        txn
    }

    /// A whole transaction, without what kills etcd (known difference 5).
    fn survivable_txn(&mut self) -> pb::TxnRequest {
        let mut txn = self.txn(1);
        if deletes(&txn) {
            forget_ignoring(&mut txn);
        }
        txn
    }

    /// About as many operations as are allowed, just below or just above.
    fn enlarge(&mut self, txn: &mut pb::TxnRequest) {
        let count = self.pick(&[126, 127, 128, 129]);
        let get = |key: &'static [u8]| pb::RequestOp {
            request: Some(Op::RequestRange(pb::RangeRequest {
                key: Bytes::from_static(key),
                ..Default::default()
            })),
        };
        let branch = if self.chance(50) { &mut txn.success } else { &mut txn.failure };
        branch.extend((branch.len()..count).map(|index| get(KEYS[index % KEYS.len()])));
    }
}

fn ops(txn: &pb::TxnRequest) -> impl Iterator<Item = &Op> {
    txn.success.iter().chain(&txn.failure).filter_map(|op| op.request.as_ref())
}

/// Whether a transaction deletes anything on any way through it.
fn deletes(txn: &pb::TxnRequest) -> bool {
    ops(txn).any(|op| match op {
        Op::RequestDeleteRange(_) => true,
        Op::RequestTxn(inner) => deletes(inner),
        _ => false,
    })
}

/// Makes all its puts bring their value and lease themselves.
fn forget_ignoring(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure).filter_map(|op| op.request.as_mut()) {
        match op {
            Op::RequestPut(put) => (put.ignore_value, put.ignore_lease) = (false, false),
            Op::RequestTxn(inner) => forget_ignoring(inner),
            _ => {}
        }
    }
}
