//! What the state machine counts while it executes commands: gathered without touching memory that others
//! share, and handed over once for each batch of entries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::local::LocalHistogram;

use super::Metrics;
use crate::command::auth::AuthCommand;
use crate::command::{Command, CommandError, OpOutcome, Outcome, Txn, TxnOp, TxnOutcome};

/// A command that takes longer is slow (etcd: `--warning-apply-duration`).
const SLOW: Duration = Duration::from_millis(100);

/// etcd's names of what can be applied; the last one is Barque's own.
const OPS: [&str; 21] = [
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseCheckpoint",
    "Alarm",
    "ClusterMemberAttrSet",
    "AuthEnable",
    "AuthDisable",
    "AuthUserAdd",
    "AuthUserDelete",
    "AuthUserChangePassword",
    "AuthUserGrantRole",
    "AuthUserRevokeRole",
    "AuthRoleAdd",
    "AuthRoleDelete",
    "AuthRoleGrantPermission",
    "AuthRoleRevokePermission",
    "MarkTime",
];

fn op(command: &Command) -> usize {
    match command {
        Command::Put(_) => 0,
        Command::DeleteRange(_) => 1,
        Command::Txn(_) => 2,
        Command::Compact { .. } => 3,
        Command::LeaseGrant { .. } => 4,
        Command::LeaseRevoke { .. } | Command::LeaseExpire { .. } => 5,
        Command::LeaseCheckpoint { .. } => 6,
        Command::Alarm { .. } => 7,
        Command::PublishMember { .. } => 8,
        Command::Auth(change) => match change {
            AuthCommand::Enable { .. } => 9,
            AuthCommand::Disable => 10,
            AuthCommand::UserAdd { .. } => 11,
            AuthCommand::UserDelete { .. } => 12,
            AuthCommand::UserChangePassword { .. } => 13,
            AuthCommand::UserGrantRole { .. } => 14,
            AuthCommand::UserRevokeRole { .. } => 15,
            AuthCommand::RoleAdd { .. } => 16,
            AuthCommand::RoleDelete { .. } => 17,
            AuthCommand::RoleGrantPermission { .. } => 18,
            AuthCommand::RoleRevokePermission { .. } => 19,
        },
        Command::As { command, .. } => op(command),
        Command::MarkTime { .. } => 20,
    }
}

/// Operations on keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Operations {
    pub(super) ranges: u64,
    pub(super) puts: u64,
    pub(super) put_bytes: u64,
    pub(super) deletes: u64,
    pub(super) txns: u64,
}

impl Operations {
    fn count(&mut self, command: &Command, outcome: &Outcome) {
        match (command.unsigned(), outcome) {
            (Command::Put(put), _) => {
                self.puts += 1;
                self.put_bytes += (put.key.len() + put.value.len()) as u64;
            }
            (Command::DeleteRange(_), _) => self.deletes += 1,
            (Command::Txn(txn), Outcome::Txn(outcome)) => self.count_txn(txn, outcome),
            _ => {}
        }
    }

    /// Counts a transaction and what it did, nested ones too.
    pub(super) fn count_txn(&mut self, txn: &Txn, outcome: &TxnOutcome) {
        self.txns += 1;
        let taken = if outcome.succeeded { &txn.success } else { &txn.failure };
        for (op, response) in taken.iter().zip(&outcome.responses) {
            match (op, response) {
                (TxnOp::Range(_), _) => self.ranges += 1,
                (TxnOp::Put(put), _) => {
                    self.puts += 1;
                    self.put_bytes += (put.key.len() + put.value.len()) as u64;
                }
                (TxnOp::DeleteRange(_), _) => self.deletes += 1,
                (TxnOp::Txn(nested), OpOutcome::Txn(outcome)) => self.count_txn(nested, outcome),
                (TxnOp::Txn(_), _) => {}
            }
        }
    }
}

/// The counts of one state machine, which has it for itself.
pub struct ApplyCounts {
    metrics: Arc<Metrics>,
    operations: Operations,
    slow: u64,
    /// By op and success, made when first needed. The lock is never taken: it only lets the state machine
    /// be shared between threads.
    seconds: Mutex<[[Option<LocalHistogram>; 2]; OPS.len()]>,
    /// When the command that is executed now began.
    began: Instant,
}

impl ApplyCounts {
    /// Moves `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            operations: Operations::default(),
            slow: 0,
            seconds: Mutex::new([const { [const { None }; 2] }; OPS.len()]),
            began: Instant::now(),
        }
    }

    /// The next command begins now. Between commands that follow each other at once it need not be called:
    /// the end of one is the beginning of the next.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// A command was executed.
    pub fn executed(&mut self, command: &Command, result: &Result<Outcome, CommandError>) {
        let now = Instant::now();
        let took = now - self.began;
        self.began = now;
        if let Ok(outcome) = result {
            self.operations.count(command, outcome);
        }
        self.slow += u64::from(took > SLOW);
        let op = op(command);
        let seconds = self.seconds.get_mut()[op][usize::from(result.is_ok())]
            .get_or_insert_with(|| self.metrics.server.apply_seconds(OPS[op], result.is_ok()).local());
        seconds.observe(took.as_secs_f64());
    }

    /// Hands over what was counted since the last time.
    pub fn flush(&mut self) {
        let metrics = &self.metrics;
        metrics.mvcc.count(&std::mem::take(&mut self.operations));
        metrics.server.slow_apply.inc_by(std::mem::take(&mut self.slow));
        for seconds in self.seconds.get_mut().iter().flatten().flatten() {
            seconds.flush();
        }
    }
}
