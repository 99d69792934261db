//! How a file ends that a client saved: behind the footer zeros up to a multiple of 512, then SHA-256 over
//! everything before. A file as members write it ends with its footer.
//!
//! Where the footer is cannot be told from the end: it is found by going from block to block.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use barque_proto::SNAPSHOT_ALIGNMENT_BYTES;
use sha2::{Digest as _, Sha256};

use super::error::SnapshotError;
use super::format::{BLOCK_HEADER_LEN, BlockHeader, DIGEST_LEN, FOOTER_LEN};

/// What follows the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    padding_bytes: usize,
    sha256: [u8; DIGEST_LEN],
}

impl Trailer {
    /// Whether the digest is that of the file. `upto_footer` has everything before the footer's digest.
    pub(super) fn fits(&self, upto_footer: Sha256, footer: &[u8; DIGEST_LEN]) -> bool {
        let mut digest = upto_footer;
        digest.update(footer);
        digest.update(vec![0; self.padding_bytes]);
        self.sha256 == <[u8; DIGEST_LEN]>::from(digest.finalize())
    }
}

/// Where the footer begins, from the first block on.
pub(super) fn find_footer(
    file: &File,
    path: &Path,
    first_block: u64,
    size: u64,
) -> Result<u64, SnapshotError> {
    let mut at = first_block;
    loop {
        if at.checked_add(FOOTER_LEN as u64).is_none_or(|end| end > size) {
            return Err(SnapshotError::damaged(path, at.min(size), "the file is cut off"));
        }
        let mut head = [0; BLOCK_HEADER_LEN];
        file.read_exact_at(&mut head, at).map_err(SnapshotError::io(path, "read"))?;
        let block = BlockHeader::decode(&head);
        if block.len == 0 {
            return Ok(at);
        }
        at += BLOCK_HEADER_LEN as u64 + u64::from(block.len);
    }
}

/// What follows the footer, which ends at `end`; nothing in a file as members write it.
pub(super) fn read_trailer(
    file: &File,
    path: &Path,
    end: u64,
    size: u64,
) -> Result<Option<Trailer>, SnapshotError> {
    if size == end {
        return Ok(None);
    }
    let padded = end.next_multiple_of(SNAPSHOT_ALIGNMENT_BYTES);
    if size != padded + DIGEST_LEN as u64 {
        let what = "the file was cut off in what follows its content, or something was appended";
        return Err(SnapshotError::damaged(path, end, what));
    }
    let mut rest = vec![0; (size - end) as usize];
    file.read_exact_at(&mut rest, end).map_err(SnapshotError::io(path, "read"))?;
    let padding_bytes = rest.len() - DIGEST_LEN;
    if let Some(at) = rest[..padding_bytes].iter().position(|byte| *byte != 0) {
        let what = "there is something where zeros fill the file up";
        return Err(SnapshotError::damaged(path, end + at as u64, what));
    }
    let mut sha256 = [0; DIGEST_LEN];
    sha256.copy_from_slice(&rest[padding_bytes..]);
    Ok(Some(Trailer { padding_bytes, sha256 }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::testing::{manifest, versions};
    use super::super::writer::SnapshotWriter;
    use super::super::{SnapshotReader, Summary};
    use super::*;

    /// As a client saves it.
    fn saved(count: i64) -> Vec<u8> {
        let mut writer = SnapshotWriter::new(vec![], &manifest(9)).unwrap();
        versions(count).iter().for_each(|v| writer.push(v).unwrap());
        let mut bytes = writer.finish().unwrap().0;
        bytes.resize(bytes.len().next_multiple_of(SNAPSHOT_ALIGNMENT_BYTES as usize), 0);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Summary, SnapshotError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("saved");
        fs::write(&path, bytes).unwrap();
        let mut reader = SnapshotReader::open_saved(&path, true)?;
        for version in reader.by_ref() {
            version?;
        }
        Ok(reader.summary())
    }

    #[test]
    fn both_endings_are_read() {
        for count in [0, 1, 20, 3000] {
            let bytes = saved(count);
            let summary = read(&bytes).unwrap();
            assert_eq!(summary.file.versions, count as u64);
            let own = &bytes[..summary.file.size_bytes as usize];
            assert_eq!(read(own).unwrap().manifest, summary.manifest);
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(at: prop::sample::Index, change in 1u8..) {
            let mut bytes = saved(20);
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(read(&bytes).is_err(), "byte {}", at);
        }

        #[test]
        fn foreign_bytes_behind_the_header_never_panic(noise: Vec<u8>) {
            let mut bytes = saved(0);
            bytes.truncate(bytes.len() - 700.min(bytes.len()));
            bytes.extend_from_slice(&noise);
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn any_cut_is_found_but_that_of_the_whole_trailer() {
        let bytes = saved(20);
        let own = read(&bytes).unwrap().file.size_bytes as usize;
        for cut in (0..bytes.len()).filter(|cut| *cut != own) {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&[&bytes[..], b"x"].concat()).is_err());
        assert!(read(&[&bytes[..], &bytes].concat()).is_err());
    }
}
