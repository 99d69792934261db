//! The view that clients of this member read, with each read counted.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::Rights;
use crate::command::{CommandError, Range, RangeOutcome, Txn, TxnOutcome};
use crate::ids::Revision;
use crate::metrics::{InProgress, Metrics};
use crate::mvcc::kept::KeptVersions;
use crate::mvcc::view::View;
use crate::record::KeptVersion;
use crate::rpc::backend::{self, ReadView};
use crate::state::published::Picture;

/// A consistent picture of the keyspace that counts how it is read.
pub struct CountedView {
    view: View,
    /// While rights are asked for.
    rights: Option<Arc<Picture>>,
    metrics: Arc<Metrics>,
    _open: InProgress,
}

impl CountedView {
    /// A view that is open from now on.
    #[must_use]
    pub fn new(picture: &Arc<Picture>, metrics: &Arc<Metrics>) -> Self {
        let open = InProgress::new(&metrics.mvcc.db_open_read_transactions);
        let rights = picture.auth.is_enabled().then(|| Arc::clone(picture));
        Self { view: picture.view.clone(), rights, metrics: Arc::clone(metrics), _open: open }
    }

    /// The view itself, for what is neither a range nor a transaction.
    #[must_use]
    pub fn uncounted(&self) -> &View {
        &self.view
    }
}

impl backend::KeptVersions for KeptVersions {
    fn advance(
        &mut self,
        max_versions: usize,
        tell: &mut dyn FnMut(KeptVersion<'_>),
    ) -> Result<bool, CommandError> {
        Self::advance(self, max_versions, tell)
    }
}

impl ReadView for CountedView {
    type Kept = KeptVersions;

    fn rights(&self) -> Option<&dyn Rights> {
        self.rights.as_deref().map(|picture| picture as &dyn Rights)
    }

    fn revision(&self) -> Revision {
        self.view.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.view.compact_revision()
    }

    fn kept_versions(&self, prefix: &[u8]) -> KeptVersions {
        self.view.kept_versions(prefix)
    }

    fn range(&self, range: &Range) -> Result<RangeOutcome, CommandError> {
        let began = Instant::now();
        let outcome = self.view.range(range);
        self.metrics.server.ranged(outcome.is_ok(), began.elapsed().as_secs_f64());
        self.metrics.mvcc.range.inc();
        outcome
    }

    fn read_txn(&self, txn: &Txn) -> Result<TxnOutcome, CommandError> {
        let outcome = self.view.read_txn(txn)?;
        self.metrics.mvcc.read_txn(txn, &outcome);
        Ok(outcome)
    }
}
