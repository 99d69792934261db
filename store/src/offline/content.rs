//! The keyspace of one file or of a chain, built like a member builds it at start.

use std::collections::{BTreeMap, BTreeSet};

use super::Progress;
use super::chain::Cut;
use super::error::OfflineError;
use super::file::SavedFile;
use crate::ids::{LeaseId, Revision};
use crate::mvcc::builder::KeyspaceBuilder;
use crate::mvcc::keyspace::{Config, Keyspace};
use crate::snapshot::Summary;
use crate::stored::{StateMeta, StoredVersion};

/// A chain, read.
pub(super) struct Content {
    /// At the revisions that were asked for.
    pub(super) keyspace: Keyspace,
    /// Everything else, of the last file that was used.
    pub(super) meta: StateMeta,
    /// Leases of the files before it, with their full time; newer files count more.
    pub(super) earlier_leases: BTreeMap<LeaseId, i64>,
}

impl Content {
    /// The leases that live keys hang on.
    pub(super) fn named_leases(&self) -> BTreeSet<LeaseId> {
        self.keyspace.state().iter().filter_map(|record| record.fields().lease).collect()
    }
}

/// An empty keyspace at these revisions. All history will be in memory.
fn builder(revision: Revision, compact_revision: Revision) -> KeyspaceBuilder {
    KeyspaceBuilder::new(revision, compact_revision, Config::default(), None)
}

/// Reads the files that a cut needs; `revision` and `compact_revision` are those of the keyspace.
pub(super) fn load(
    files: Vec<SavedFile>,
    cut: Cut,
    revision: Revision,
    compact_revision: Revision,
    progress: Progress<'_>,
) -> Result<Content, OfflineError> {
    let mut builder = builder(revision, compact_revision);
    let mut reached = Revision(i64::MIN);
    let mut earlier_leases = BTreeMap::new();
    let mut meta = StateMeta::default();
    for file in files.into_iter().take(cut.files) {
        earlier_leases.extend(meta.leases.iter().map(|&(id, ttl_s, _)| (id, ttl_s)));
        // What comes before is in the files before.
        let wanted = |version: &StoredVersion| version.at.main > reached && version.at.main <= cut.revision;
        let summary = file.read(progress, |version| {
            if wanted(&version) {
                builder.push(version);
            }
        })?;
        meta = summary.manifest.state;
        reached = meta.revision;
    }
    Ok(Content { keyspace: builder.finish(), meta, earlier_leases })
}

/// Reads one file alone. Of an increment the keyspace holds only what it brings.
pub(super) fn load_one(file: SavedFile, progress: Progress<'_>) -> Result<(Keyspace, Summary), OfflineError> {
    let state = &file.manifest().state;
    let mut builder = builder(state.revision, state.compact_revision);
    let summary = file.read(progress, |version| builder.push(version))?;
    Ok((builder.finish(), summary))
}
