//! What each logical client asks next and what it learns from answers: pure state machines, one per kind of
//! load. Never I/O and never a clock.

use super::keyspace::Keyspace;
use super::message::{self, Fields, Value, header_revision};

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// A call to make; its request is in the buffer that came with the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) path: &'static str,
    /// The client's calls to this path share one stream of requests and answers.
    pub(super) streaming: bool,
}

/// What an answer means for the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done; which of [`Workload::kinds`] it was.
    Done(usize),
    /// The operation needs another call.
    Again,
    /// The server answered, but wrongly.
    Failed(&'static str),
}

/// A kind of load. An operation is one or more calls of one client.
pub(super) trait Workload {
    /// Names of what operations can turn out to be.
    fn kinds(&self) -> &'static [&'static str];
    /// The next call of `client`: the first of an operation if `fresh`. `request` is empty.
    fn call(&mut self, client: usize, fresh: bool, now_ns: u64, request: &mut Vec<u8>) -> Call;
    /// Reads the answer to the latest call of `client`.
    fn answer(&mut self, client: usize, body: &[u8]) -> Outcome;
}

fn unary(path: &'static str) -> Call {
    Call { path, streaming: false }
}

/// Writes a RangeRequest.
pub(super) fn put_range(
    request: &mut Vec<u8>,
    key: &[u8],
    end: &[u8],
    limit: u64,
    revision: u64,
    serializable: bool,
) {
    message::put_bytes(request, 1, key);
    if !end.is_empty() {
        message::put_bytes(request, 2, end);
    }
    for (field, value) in [(3, limit), (4, revision), (7, u64::from(serializable))] {
        if value != 0 {
            message::put_number(request, field, value);
        }
    }
}

/// Puts on random keys, or on each key in turn.
pub(super) struct Puts {
    pub(super) keys: Keyspace,
    pub(super) sequential: bool,
    pub(super) next: u64,
}

impl Workload for Puts {
    fn kinds(&self) -> &'static [&'static str] {
        &["put"]
    }
    fn call(&mut self, _client: usize, _fresh: bool, now_ns: u64, request: &mut Vec<u8>) -> Call {
        let count = self.keys.count();
        let n = if self.sequential { self.next % count } else { self.keys.random(count) };
        self.next += 1;
        self.keys.put(n, now_ns, request);
        unary(PUT)
    }
    fn answer(&mut self, _client: usize, _body: &[u8]) -> Outcome {
        Outcome::Done(0)
    }
}

/// Writes every key once, many to a transaction.
pub(super) struct Fill {
    pub(super) keys: Keyspace,
    pub(super) batch: u64,
    pub(super) next: u64,
    pub(super) put: Vec<u8>,
}

impl Workload for Fill {
    fn kinds(&self) -> &'static [&'static str] {
        &["batch"]
    }
    fn call(&mut self, _client: usize, _fresh: bool, now_ns: u64, request: &mut Vec<u8>) -> Call {
        let end = (self.next + self.batch).min(self.keys.count());
        for n in self.next..end {
            self.put.clear();
            self.keys.put(n, now_ns, &mut self.put);
            put_operation(request, 2, 2, &self.put);
        }
        self.next = end;
        unary(TXN)
    }
    fn answer(&mut self, _client: usize, _body: &[u8]) -> Outcome {
        Outcome::Done(0)
    }
}

/// Appends to a TxnRequest an operation: in `branch` (2 success, 3 failure), of `kind` (1 range, 2 put).
fn put_operation(request: &mut Vec<u8>, branch: u32, kind: u32, operation: &[u8]) {
    let length = operation.len();
    let varint_bytes = (usize::BITS - length.leading_zeros()).max(1).div_ceil(7) as usize;
    message::put_length(request, branch, 1 + varint_bytes + length);
    message::put_bytes(request, kind, operation);
}

/// Reads random single keys.
pub(super) struct Gets {
    pub(super) keys: Keyspace,
    pub(super) serializable: bool,
}

impl Workload for Gets {
    fn kinds(&self) -> &'static [&'static str] {
        &["get"]
    }
    fn call(&mut self, _client: usize, _fresh: bool, _now_ns: u64, request: &mut Vec<u8>) -> Call {
        let n = self.keys.random(self.keys.count());
        put_range(request, self.keys.key(n), &[], 0, 0, self.serializable);
        unary(RANGE)
    }
    fn answer(&mut self, _client: usize, body: &[u8]) -> Outcome {
        // A found key carries its value; nothing else makes the answer this long.
        if body.len() > self.keys.value_size() { Outcome::Done(0) } else { Outcome::Failed("key not found") }
    }
}

#[derive(Default, Clone)]
struct Listing {
    from: Vec<u8>,
    revision: u64,
    seen: u64,
}

/// Reads all keys page by page at one revision, as Kubernetes lists.
pub(super) struct Lists {
    key_count: u64,
    start: Vec<u8>,
    end: Vec<u8>,
    page: u64,
    serializable: bool,
    clients: Vec<Listing>,
}

impl Lists {
    pub(super) fn new(keys: &Keyspace, page: u64, serializable: bool, clients: usize) -> Self {
        let (start, end) = keys.whole();
        Self {
            key_count: keys.count(),
            start,
            end,
            page,
            serializable,
            clients: vec![Listing::default(); clients],
        }
    }
}

impl Workload for Lists {
    fn kinds(&self) -> &'static [&'static str] {
        &["list"]
    }
    fn call(&mut self, client: usize, fresh: bool, _now_ns: u64, request: &mut Vec<u8>) -> Call {
        let listing = &mut self.clients[client];
        if fresh {
            listing.from.clone_from(&self.start);
            (listing.revision, listing.seen) = (0, 0);
        }
        put_range(request, &listing.from, &self.end, self.page, listing.revision, self.serializable);
        unary(RANGE)
    }
    fn answer(&mut self, client: usize, body: &[u8]) -> Outcome {
        let listing = &mut self.clients[client];
        let (mut last, mut more) = (None, false);
        for (field, value) in Fields(body) {
            match (field, value) {
                (1, Value::Bytes(header)) if listing.revision == 0 => {
                    listing.revision = Fields(header).number(3);
                }
                (2, Value::Bytes(record)) => {
                    last = Some(record);
                    listing.seen += 1;
                }
                (3, Value::Number(flag)) => more = flag != 0,
                _ => {}
            }
        }
        match last {
            Some(record) if more => {
                listing.from.clear();
                listing.from.extend_from_slice(Fields(record).bytes(1));
                listing.from.push(0);
                Outcome::Again
            }
            _ if listing.seen >= self.key_count => Outcome::Done(0),
            _ => Outcome::Failed("the list is not complete"),
        }
    }
}

/// Updates of own keys, guarded by their revision as Kubernetes does it: if the key is at the revision that the
/// client knows, put, else get.
pub(super) struct Updates {
    keys: Keyspace,
    clients: Vec<Guard>,
    put: Vec<u8>,
    range: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Guard {
    key: u64,
    revision: u64,
}

impl Updates {
    /// Each client has its own key; beyond the number of keys clients share and conflict.
    pub(super) fn new(keys: Keyspace, clients: usize) -> Self {
        let count = keys.count().max(1);
        let clients = (0..clients as u64).map(|client| Guard { key: client % count, revision: 0 }).collect();
        Self { keys, clients, put: Vec::new(), range: Vec::new() }
    }
}

impl Workload for Updates {
    fn kinds(&self) -> &'static [&'static str] {
        &["update", "conflict"]
    }
    fn call(&mut self, client: usize, _fresh: bool, now_ns: u64, request: &mut Vec<u8>) -> Call {
        let guard = self.clients[client];
        self.range.clear();
        // Compare: result EQUAL is 0, target MOD is 2, key 3, mod_revision 6.
        message::put_number(&mut self.range, 2, 2);
        message::put_bytes(&mut self.range, 3, self.keys.key(guard.key));
        message::put_number(&mut self.range, 6, guard.revision);
        message::put_bytes(request, 1, &self.range);
        self.put.clear();
        self.keys.put(guard.key, now_ns, &mut self.put);
        put_operation(request, 2, 2, &self.put);
        self.range.clear();
        message::put_bytes(&mut self.range, 1, self.keys.key(guard.key));
        put_operation(request, 3, 1, &self.range);
        unary(TXN)
    }
    fn answer(&mut self, client: usize, body: &[u8]) -> Outcome {
        let guard = &mut self.clients[client];
        if Fields(body).number(2) != 0 {
            guard.revision = header_revision(body);
            return Outcome::Done(0);
        }
        // ResponseOp.response_range.kvs[0].mod_revision
        let record = Fields(Fields(Fields(body).bytes(3)).bytes(1)).bytes(2);
        guard.revision = Fields(record).number(3);
        Outcome::Done(1)
    }
}

/// What the lease load does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LeaseOperation {
    /// Keep one lease per client alive, each on its own stream.
    KeepAlive,
    /// Grant a lease, revoke it, and so on.
    Grant,
}

/// Leases.
pub(super) struct Leases {
    operation: LeaseOperation,
    ttl_s: u64,
    clients: Vec<u64>,
}

impl Leases {
    pub(super) fn new(operation: LeaseOperation, ttl_s: u64, clients: usize) -> Self {
        Self { operation, ttl_s, clients: vec![0; clients] }
    }
}

impl Workload for Leases {
    fn kinds(&self) -> &'static [&'static str] {
        &["grant", "revoke", "keep-alive"]
    }
    fn call(&mut self, client: usize, _fresh: bool, _now_ns: u64, request: &mut Vec<u8>) -> Call {
        let id = self.clients[client];
        if id == 0 {
            message::put_number(request, 1, self.ttl_s);
            return unary(LEASE_GRANT);
        }
        message::put_number(request, 1, id);
        match self.operation {
            LeaseOperation::KeepAlive => Call { path: LEASE_KEEP_ALIVE, streaming: true },
            LeaseOperation::Grant => unary(LEASE_REVOKE),
        }
    }
    fn answer(&mut self, client: usize, body: &[u8]) -> Outcome {
        let id = &mut self.clients[client];
        if *id == 0 {
            *id = Fields(body).number(2);
            return Outcome::Done(0);
        }
        match self.operation {
            LeaseOperation::KeepAlive if Fields(body).number(3) == 0 => {
                *id = 0;
                Outcome::Failed("the lease is gone")
            }
            LeaseOperation::KeepAlive => Outcome::Done(2),
            LeaseOperation::Grant => {
                *id = 0;
                Outcome::Done(1)
            }
        }
    }
}

/// Of a hundred operations of the mix, so many are guarded updates, then so many gets; the others are lists of
/// all keys by page.
const MIX_UPDATES: u64 = 45;
const MIX_GETS: u64 = 50;
const MIX_WHOLE_LISTS_IN: u64 = 10;

/// The mix of a Kubernetes API server: guarded updates and gets, pages of lists, now and then a whole list.
pub(super) struct Mix {
    pub(super) updates: Updates,
    pub(super) gets: Gets,
    pub(super) pages: Lists,
    pub(super) lists: Lists,
    pub(super) chosen: Vec<u8>,
}

const MIX_KINDS: [&str; 5] = ["update", "conflict", "get", "page", "list"];

impl Workload for Mix {
    fn kinds(&self) -> &'static [&'static str] {
        &MIX_KINDS
    }
    fn call(&mut self, client: usize, fresh: bool, now_ns: u64, request: &mut Vec<u8>) -> Call {
        if fresh {
            let n = self.gets.keys.random(100);
            self.chosen[client] = if n < MIX_UPDATES {
                0
            } else if n < MIX_UPDATES + MIX_GETS {
                2
            } else if self.gets.keys.random(MIX_WHOLE_LISTS_IN) > 0 {
                3
            } else {
                4
            };
        }
        match self.chosen[client] {
            0 => self.updates.call(client, fresh, now_ns, request),
            2 => self.gets.call(client, fresh, now_ns, request),
            3 => self.pages.call(client, fresh, now_ns, request),
            _ => self.lists.call(client, fresh, now_ns, request),
        }
    }
    fn answer(&mut self, client: usize, body: &[u8]) -> Outcome {
        let chosen = usize::from(self.chosen[client]);
        match chosen {
            0 => self.updates.answer(client, body),
            2 => match self.gets.answer(client, body) {
                Outcome::Done(_) => Outcome::Done(2),
                other => other,
            },
            3 => match self.pages.answer(client, body) {
                Outcome::Done(_) | Outcome::Again => Outcome::Done(3),
                other @ Outcome::Failed(_) => other,
            },
            _ => match self.lists.answer(client, body) {
                Outcome::Done(_) => Outcome::Done(4),
                other => other,
            },
        }
    }
}
