//! Transactions: which branches are taken, what must hold before the first write, and the execution.
//!
//! All compares, those of nested transactions too, look at the state before the transaction; so do all checks
//! that may fail. Only then is anything written. Never validates requests: that is the front's affair.

use super::keyspace::Keyspace;
use super::range::Span;
use super::view::View;
use crate::command::{
    CommandError, Compare, CompareResult, CompareTarget, OpOutcome, Put, Range, Txn, TxnOp, TxnOutcome,
};
use crate::lease::table::LeaseTable;
use crate::record::Record;

/// Whether a transaction can only read: both branches hold ranges alone. As in etcd, one with a nested
/// transaction counts as writing.
#[must_use]
pub fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op, TxnOp::Range(_)))
}

impl View {
    /// Executes a transaction that [`is_read_only`].
    ///
    /// # Errors
    /// Those of [`View::range`].
    ///
    /// # Panics
    /// When the transaction may write.
    pub fn read_txn(&self, txn: &Txn) -> Result<TxnOutcome, CommandError> {
        let succeeded = self.holds(&txn.compare);
        let ops = branch(txn, succeeded);
        let ranges = || {
            ops.iter().map(|op| match op {
                TxnOp::Range(range) => range,
                _ => panic!("only transactions that cannot write are executed on a view"),
            })
        };
        for range in ranges() {
            check_range(self, range)?;
        }
        let responses =
            ranges().map(|range| self.range(range).map(OpOutcome::Range)).collect::<Result<_, _>>()?;
        Ok(TxnOutcome { succeeded, responses })
    }

    /// Whether all compares hold.
    fn holds(&self, compares: &[Compare]) -> bool {
        compares.iter().all(|compare| {
            let mut versions = self.current_in(Span::of(&compare.range)).peekable();
            if versions.peek().is_none() {
                return satisfies(compare, None);
            }
            versions.all(|version| satisfies(compare, Some(&version.record)))
        })
    }
}

/// A missing key compares as zeros, but its value as nothing at all.
fn satisfies(compare: &Compare, record: Option<&Record>) -> bool {
    let fields = record.map(Record::fields);
    let order = match &compare.target {
        CompareTarget::Version(wanted) => fields.map_or(0, |f| f.version).cmp(wanted),
        CompareTarget::Create(wanted) => fields.map_or(0, |f| f.create_revision.0).cmp(&wanted.0),
        CompareTarget::Mod(wanted) => fields.map_or(0, |f| f.mod_revision.0).cmp(&wanted.0),
        CompareTarget::Lease(wanted) => {
            fields.and_then(|f| f.lease).map_or(0, |lease| lease.0).cmp(&wanted.0)
        }
        CompareTarget::Value(wanted) => match fields {
            None => return false,
            Some(fields) => fields.value.cmp(wanted),
        },
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}

fn branch(txn: &Txn, succeeded: bool) -> &[TxnOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Whether each transaction on the way taken succeeded, in the order in which they are executed.
fn decide(view: &View, txn: &Txn, path: &mut Vec<bool>) {
    let succeeded = view.holds(&txn.compare);
    path.push(succeeded);
    for op in branch(txn, succeeded) {
        if let TxnOp::Txn(inner) = op {
            decide(view, inner, path);
        }
    }
}

/// Calls `check` for every operation on the way that the compares decided, in order.
fn check(
    txn: &Txn,
    path: &mut impl Iterator<Item = bool>,
    each: &mut impl FnMut(&TxnOp) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let succeeded = path.next().expect("every transaction on the way was decided");
    for op in branch(txn, succeeded) {
        match op {
            TxnOp::Txn(inner) => check(inner, path, each)?,
            op => each(op)?,
        }
    }
    Ok(())
}

/// Here, other than in a range alone, a negative revision may be too old: so it is in etcd.
fn check_range(view: &View, range: &Range) -> Result<(), CommandError> {
    if range.revision.0 == 0 {
        Ok(())
    } else if range.revision > view.revision() {
        Err(CommandError::FutureRevision)
    } else if range.revision < view.compact_revision() {
        Err(CommandError::Compacted)
    } else {
        Ok(())
    }
}

/// What must hold for a put alone: the lease is looked at first.
pub(super) fn check_put(view: &View, leases: &LeaseTable, put: &Put) -> Result<(), CommandError> {
    check_lease(leases, put)?;
    check_present(view, put)
}

fn check_lease(leases: &LeaseTable, put: &Put) -> Result<(), CommandError> {
    let unknown = put.lease.is_some_and(|lease| !leases.exists(lease));
    if unknown { Err(CommandError::LeaseNotFound) } else { Ok(()) }
}

fn check_present(view: &View, put: &Put) -> Result<(), CommandError> {
    let absent = (put.ignore_value || put.ignore_lease) && view.get(&put.key).is_none();
    if absent { Err(CommandError::KeyNotFound) } else { Ok(()) }
}

pub(super) fn execute(
    keyspace: &mut Keyspace,
    leases: &mut LeaseTable,
    txn: &Txn,
) -> Result<TxnOutcome, CommandError> {
    let mut path = Vec::new();
    decide(keyspace.state(), txn, &mut path);
    let view = keyspace.state();
    // All puts before all ranges, and the key before the lease: clients see the first error (etcd 3.6).
    check(txn, &mut path.iter().copied(), &mut |op| match op {
        TxnOp::Put(put) => check_present(view, put).and_then(|()| check_lease(leases, put)),
        _ => Ok(()),
    })?;
    check(txn, &mut path.iter().copied(), &mut |op| match op {
        TxnOp::Range(range) => check_range(view, range),
        _ => Ok(()),
    })?;
    run(keyspace, leases, txn, &mut path.into_iter())
}

fn run(
    keyspace: &mut Keyspace,
    leases: &mut LeaseTable,
    txn: &Txn,
    path: &mut impl Iterator<Item = bool>,
) -> Result<TxnOutcome, CommandError> {
    let succeeded = path.next().expect("every transaction on the way was decided");
    let ops = branch(txn, succeeded);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        responses.push(match op {
            TxnOp::Range(range) => OpOutcome::Range(keyspace.state().range(range)?),
            TxnOp::Put(put) => OpOutcome::Put(keyspace.put(leases, put)),
            TxnOp::DeleteRange(delete) => OpOutcome::DeleteRange(keyspace.delete_range(leases, delete)),
            TxnOp::Txn(inner) => OpOutcome::Txn(run(keyspace, leases, inner, path)?),
        });
    }
    Ok(TxnOutcome { succeeded, responses })
}
