//! Which files make up a state: a whole snapshot and the increments after it, up to a revision. Pure.
//!
//! An increment continues a state when it has everything that came after it: its `since` is not above the
//! revision that was reached. It must not have been compacted above that revision either: compaction forgets
//! deletions, so keys that were deleted meanwhile would come back.
//!
//! A revision in the middle is exact when no file that is needed for it was compacted above it: of what came
//! before its compact revision a file has only what could still be seen there.

use std::path::PathBuf;

use crate::ids::{ClusterId, Revision};

/// What is asked of a file before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: PathBuf,
    pub(super) cluster: ClusterId,
    /// For an increment.
    pub(super) since: Option<Revision>,
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
}

/// How much of a chain is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// So many files, from the first.
    pub(super) files: usize,
    /// Up to this revision.
    pub(super) revision: Revision,
}

/// Files that are no chain.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum ChainError {
    #[error("no file is named")]
    Nothing,
    #[error(
        "{}: is an increment, which holds only what came after revision {since}: name the whole snapshot that it \
         continues first",
        path.display()
    )]
    NoWhole { path: PathBuf, since: Revision },
    #[error("{}: is a whole snapshot and can only be the first file; restore it without the files before it", path.display())]
    SecondWhole { path: PathBuf },
    #[error("{}: is of cluster {found}, the files before it are of cluster {first}", path.display())]
    OtherCluster { path: PathBuf, found: ClusterId, first: ClusterId },
    #[error(
        "{}: begins after revision {since}, but the files before it end at revision {reached}: name the file between \
         them too, all from old to new",
        path.display()
    )]
    Gap { path: PathBuf, since: Revision, reached: Revision },
    #[error("{}: ends at revision {revision}, before the files before it do ({reached}): name the files from old to new", path.display())]
    Backwards { path: PathBuf, revision: Revision, reached: Revision },
    #[error(
        "{}: was compacted at revision {compact}, and does not have what was deleted between there and revision \
         {reached}, where the files before it end: only a newer whole snapshot brings it",
        path.display()
    )]
    CompactedBetween { path: PathBuf, compact: Revision, reached: Revision },
    #[error("--to-revision {revision}: the files end at revision {reached}")]
    Future { revision: Revision, reached: Revision },
    #[error(
        "--to-revision {revision}: {} was compacted at revision {compact}, so that the state before is not in it any \
         more",
        path.display()
    )]
    Compacted { revision: Revision, path: PathBuf, compact: Revision },
}

/// Whether the files follow each other.
pub(super) fn check(links: &[Link]) -> Result<(), ChainError> {
    let first = links.first().ok_or(ChainError::Nothing)?;
    if let Some(since) = first.since {
        return Err(ChainError::NoWhole { path: first.path.clone(), since });
    }
    for pair in links.windows(2) {
        let (reached, link) = (pair[0].revision, &pair[1]);
        let path = link.path.clone();
        let since = link.since.ok_or_else(|| ChainError::SecondWhole { path: path.clone() })?;
        if link.cluster != first.cluster {
            return Err(ChainError::OtherCluster { path, found: link.cluster, first: first.cluster });
        }
        if link.revision < reached {
            return Err(ChainError::Backwards { path, revision: link.revision, reached });
        }
        if since > reached {
            return Err(ChainError::Gap { path, since, reached });
        }
        // The deletions of the compact revision itself are kept.
        if link.compact_revision > reached.next() {
            return Err(ChainError::CompactedBetween { path, compact: link.compact_revision, reached });
        }
    }
    Ok(())
}

/// How much of a chain gives the state at `to`, or the newest.
pub(super) fn cut(links: &[Link], to: Option<Revision>) -> Result<Cut, ChainError> {
    check(links)?;
    let newest = links[links.len() - 1].revision;
    let Some(revision) = to else { return Ok(Cut { files: links.len(), revision: newest }) };
    let last = links.iter().position(|link| link.revision >= revision);
    let last = last.ok_or(ChainError::Future { revision, reached: newest })?;
    let Link { path, compact_revision, .. } = &links[last];
    if revision < *compact_revision || revision < Revision::EMPTY {
        return Err(ChainError::Compacted { revision, path: path.clone(), compact: *compact_revision });
    }
    Ok(Cut { files: last + 1, revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(since: Option<i64>, revision: i64, compact: i64) -> Link {
        Link {
            path: format!("f{revision}").into(),
            cluster: ClusterId(1),
            since: since.map(Revision),
            revision: Revision(revision),
            compact_revision: Revision(compact),
        }
    }

    #[test]
    fn a_chain_has_no_hole() {
        let whole = || link(None, 10, -1);
        for (links, text) in [
            (vec![], "no file"),
            (vec![link(Some(5), 10, -1)], "is an increment"),
            (vec![whole(), link(None, 20, -1)], "only be the first file"),
            (vec![whole(), link(Some(11), 20, -1)], "name the file between them too"),
            (vec![whole(), link(Some(4), 9, -1)], "from old to new"),
            (vec![whole(), link(Some(10), 20, 12)], "only a newer whole snapshot"),
            (vec![whole(), Link { cluster: ClusterId(2), ..link(Some(10), 20, -1) }], "is of cluster 2"),
        ] {
            let error = check(&links).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        for links in [
            vec![whole()],
            vec![whole(), link(Some(10), 20, 11), link(Some(20), 30, 20)],
            vec![whole(), link(Some(3), 10, -1), link(Some(10), 10, -1)],
            vec![link(None, 10, 10), link(Some(8), 12, 10)],
        ] {
            assert_eq!(check(&links), Ok(()));
        }
    }

    #[test]
    fn a_revision_is_in_the_first_file_that_reaches_it() {
        let links = [link(None, 10, 5), link(Some(10), 20, 8), link(Some(20), 30, 20)];
        let to = |revision| cut(&links, Some(Revision(revision)));
        let cut_at = |files, revision| Ok(Cut { files, revision: Revision(revision) });
        assert_eq!(cut(&links, None), cut_at(3, 30));
        for (revision, files) in [(5, 1), (7, 1), (10, 1), (11, 2), (20, 2), (21, 3), (30, 3)] {
            assert_eq!(to(revision), cut_at(files, revision));
        }
        assert!(matches!(to(31), Err(ChainError::Future { .. })));
        for revision in [-3, 0, 4] {
            assert!(matches!(to(revision), Err(ChainError::Compacted { .. })), "{revision}");
        }
        // The increment was compacted up to what is asked for, though the file before it was not.
        let links = [link(None, 10, -1), link(Some(10), 20, 11)];
        assert_eq!(cut(&links, Some(Revision(11))), cut_at(2, 11));
        assert_eq!(cut(&links, Some(Revision(10))), cut_at(1, 10));
        assert!(matches!(cut(&[link(None, 10, -1)], Some(Revision(0))), Err(ChainError::Compacted { .. })));
    }
}
