//! What clients ask and what they are told, and how a member is asked: the real calls below the gRPC services.

use std::fmt;

use barque_store::command::auth::Caller;
use barque_store::command::{
    AlarmKind, Command, CommandError, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, Outcome,
    Put, Txn, TxnOp,
};
use barque_store::error::StoreError;
use barque_store::ids::{LeaseId, Revision};
use barque_store::member::Member;
use barque_store::rpc::backend::{ActiveAlarm, Applied, Backend as _};
use bytes::Bytes;

/// Keys of leases begin with this; clients never delete them.
pub const LEASE_KEYS: &[u8] = b"lease/";

/// The key that hangs on a lease.
#[must_use]
pub fn lease_key(id: i64) -> Bytes {
    [LEASE_KEYS, format!("{id:x}").as_bytes()].concat().into()
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Writes a value that nobody else ever writes.
    Put {
        /// Which key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The lease that the key hangs on.
        lease: Option<i64>,
    },
    /// Writes if the key was last changed at `expected`; 0 if it does not exist.
    CompareAndPut {
        /// Which key.
        key: Bytes,
        /// The revision to compare with.
        expected: i64,
        /// The value, which nobody else ever writes.
        value: Bytes,
    },
    /// Deletes a key.
    Delete {
        /// Which key.
        key: Bytes,
    },
    /// Reads a key, linearizably.
    Get {
        /// Which key.
        key: Bytes,
    },
    /// Makes a lease.
    Grant {
        /// Its id.
        id: i64,
        /// Its time.
        ttl_s: i64,
    },
    /// Renews a lease.
    KeepAlive {
        /// Its id.
        id: i64,
    },
    /// Forgets history.
    Compact {
        /// Up to there.
        revision: i64,
    },
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Executed.
    Written {
        /// The keyspace's revision after it.
        revision: i64,
        /// Whether it changed something.
        took_effect: bool,
    },
    /// Read.
    Read {
        /// The revision that was read.
        revision: i64,
        /// When the key was changed last, and its value; `None` when it does not exist.
        found: Option<(i64, Bytes)>,
    },
    /// About a renewal.
    Renewed {
        /// Whether there is such a lease.
        is_alive: bool,
    },
    /// Executed, and refused.
    Refused(String),
    /// Nobody knows, yet or for ever.
    Unknown,
}

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number.
    pub id: u64,
    /// Who asks.
    pub client: usize,
    /// Which machine.
    pub place: usize,
    /// When, in milliseconds.
    pub asked_ms: u64,
    /// The newest revision that any client had been told by then.
    pub floor: i64,
    /// What.
    pub request: Request,
    /// What came of it.
    pub answer: Answer,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, client, place, asked_ms, request, answer, .. } = self;
        write!(
            f,
            "operation {id}: client {client} asked m{place} at {asked_ms} ms: {request:?}, answered {answer:?}"
        )
    }
}

/// How clients reach a member: the real way, or one with a fault planted into it.
pub trait Access: Send + Sync {
    /// Has a command executed.
    fn write(
        &self,
        member: Member,
        command: Command,
    ) -> futures::future::BoxFuture<'static, Result<Applied, StoreError>>;

    /// Waits until the member may answer a linearizable read.
    fn read_barrier(&self, member: Member) -> futures::future::BoxFuture<'static, Result<(), StoreError>>;
}

/// As the gRPC services do it: in the name of a user while rights are asked for, and not beyond the quota.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

/// Who clients are.
pub const USER: &str = "root";

/// About what a command adds.
fn cost_bytes(command: &Command) -> u64 {
    let put = |put: &Put| (put.key.len() + put.value.len()) as u64;
    match command {
        Command::Put(one) => put(one),
        Command::Txn(txn) => barque_store::state::txn_puts(txn).map(put).sum(),
        _ => 0,
    }
}

/// Has a command executed in the name of [`USER`], if the member asks for names.
///
/// # Errors
/// What the member says.
pub async fn propose(member: &Member, command: Command) -> Result<Applied, StoreError> {
    let auth = std::sync::Arc::clone(&member.published().peek().auth);
    let caller = Caller { user: USER.to_owned(), revision: auth.revision() };
    member.propose(command.by(auth.is_enabled().then_some(caller))).await
}

async fn write(member: Member, command: Command) -> Result<Applied, StoreError> {
    if !member.has_space_for(cost_bytes(&command)) {
        let own = ActiveAlarm { member: member.identity().member, kind: AlarmKind::NoSpace };
        if !member.alarms().contains(&own) {
            // By the member itself, whoever asks.
            member.propose(Command::Alarm { raise: true, member: own.member, kind: own.kind }).await?;
        }
        return Err(CommandError::NoSpace.into());
    }
    propose(&member, command).await
}

impl Access for Direct {
    fn write(
        &self,
        member: Member,
        command: Command,
    ) -> futures::future::BoxFuture<'static, Result<Applied, StoreError>> {
        Box::pin(write(member, command))
    }

    fn read_barrier(&self, member: Member) -> futures::future::BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move { member.read_barrier().await })
    }
}

fn single(key: &Bytes) -> KeyRange {
    KeyRange { key: key.clone(), range_end: Bytes::new() }
}

fn put(key: &Bytes, value: &Bytes, lease: Option<i64>) -> Put {
    Put { key: key.clone(), value: value.clone(), lease: lease.map(LeaseId), ..Put::default() }
}

fn command(request: &Request) -> Option<Command> {
    Some(match request {
        Request::Put { key, value, lease } => Command::Put(put(key, value, *lease)),
        Request::CompareAndPut { key, expected, value } => Command::Txn(Txn {
            compare: vec![Compare {
                range: single(key),
                result: CompareResult::Equal,
                target: CompareTarget::Mod(Revision(*expected)),
            }],
            success: vec![TxnOp::Put(put(key, value, None))],
            failure: vec![],
        }),
        Request::Delete { key } => {
            Command::DeleteRange(DeleteRange { range: single(key), ..DeleteRange::default() })
        }
        Request::Grant { id, ttl_s } => Command::LeaseGrant { id: LeaseId(*id), ttl_s: *ttl_s },
        Request::Compact { revision } => Command::Compact { revision: Revision(*revision) },
        Request::Get { .. } | Request::KeepAlive { .. } => return None,
    })
}

/// Asks a member.
pub async fn ask(access: std::sync::Arc<dyn Access>, member: Member, request: Request) -> Answer {
    if let Some(command) = command(&request) {
        return match access.write(member, command).await {
            Ok(applied) => Answer::Written {
                revision: applied.revision.0,
                took_effect: match &applied.outcome {
                    Outcome::Txn(txn) => txn.succeeded,
                    Outcome::DeleteRange(deleted) => deleted.deleted > 0,
                    Outcome::Put(_) => true,
                    Outcome::Done => false,
                },
            },
            Err(StoreError::Command(error)) => refused(&error),
            Err(_) => Answer::Unknown,
        };
    }
    match request {
        Request::Get { key } => match access.read_barrier(member.clone()).await {
            Ok(()) => {
                let view = member.view();
                let view = view.uncounted();
                let found = view.get(&key).map(|record| {
                    let fields = record.fields();
                    (fields.mod_revision.0, Bytes::copy_from_slice(fields.value))
                });
                Answer::Read { revision: view.revision().0, found }
            }
            Err(_) => Answer::Unknown,
        },
        Request::KeepAlive { id } => match member.lease_keep_alive(vec![LeaseId(id)]).await {
            Ok(ttls) => Answer::Renewed { is_alive: ttls.first().copied().flatten().is_some() },
            Err(_) => Answer::Unknown,
        },
        _ => Answer::Unknown,
    }
}

fn refused(error: &CommandError) -> Answer {
    Answer::Refused(error.to_string())
}
