//! Reading snapshots, as a stream, each block verified before its first item is handed out.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::directory::SnapshotFile;
use super::error::SnapshotError;
use super::format::{
    BLOCK_HEADER_LEN, BlockHeader, DIGEST_LEN, FOOTER_LEN, Footer, HEADER_LEN, ItemCursor, Manifest,
    decode_header, decode_manifest, digest,
};
use super::saved::{Trailer, find_footer, read_trailer};
use crate::stored::StoredVersion;

/// Hands out a snapshot's versions in the order in which they were written. After an error it yields nothing
/// more, and what came before must be thrown away: the file is not whole.
///
/// Checks every checksum and all counts, which finds any accidental damage. The digest over the whole file,
/// three times slower, is checked by [`verify`] alone.
#[derive(Debug)]
pub struct SnapshotReader {
    file: File,
    path: PathBuf,
    manifest: Manifest,
    footer: Footer,
    /// Where the footer begins.
    end: u64,
    /// What a client's file has behind it.
    trailer: Option<Trailer>,
    /// Bytes read.
    offset: u64,
    digest: Option<Sha256>,
    block: Vec<u8>,
    cursor: ItemCursor,
    left_in_block: u32,
    blocks: u64,
    versions: u64,
    finished: bool,
}

/// What a completely verified file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The file.
    pub file: SnapshotFile,
    /// What it says about itself.
    pub manifest: Manifest,
    /// Blocks in it.
    pub blocks: u64,
}

/// Reads a file completely, with the digest and every item.
///
/// # Errors
/// When anything in it is not as it was written.
pub fn verify(path: &Path) -> Result<Summary, SnapshotError> {
    verify_while(path, &|| true)
}

/// As [`verify`], as long as `go_on` says so.
///
/// # Errors
/// As [`verify`]; `Stopped`.
pub fn verify_while(path: &Path, go_on: &dyn Fn() -> bool) -> Result<Summary, SnapshotError> {
    let mut reader = SnapshotReader::begin(path, Some(digest()), Ending::Footer)?;
    let mut blocks = 0;
    while let Some(version) = reader.next() {
        version?;
        if reader.blocks > blocks {
            blocks = reader.blocks;
            if !go_on() {
                return Err(SnapshotError::Stopped);
            }
        }
    }
    Ok(reader.summary())
}

/// How a file may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With its footer, as members write it.
    Footer,
    /// Also as clients save it, see [`super::saved`].
    Saved,
}

impl SnapshotReader {
    /// Opens a file and reads what it says about itself.
    ///
    /// # Errors
    /// When it cannot be read, is no snapshot, or is not complete.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        Self::begin(path, None, Ending::Footer)
    }

    /// Opens a file that may have been saved by a client. With `digests` they are compared as well, at the end.
    ///
    /// # Errors
    /// As [`SnapshotReader::open`].
    pub fn open_saved(path: &Path, digests: bool) -> Result<Self, SnapshotError> {
        Self::begin(path, digests.then(digest), Ending::Saved)
    }

    /// Refuses an increment.
    ///
    /// # Errors
    /// When the file does not hold a whole state.
    pub fn whole(self) -> Result<Self, SnapshotError> {
        match self.manifest.since {
            None => Ok(self),
            Some(since) => Err(SnapshotError::Increment { path: self.path, since }),
        }
    }

    /// What the file says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file as others name it.
    #[must_use]
    pub fn described(&self) -> SnapshotFile {
        SnapshotFile {
            path: self.path.clone(),
            size_bytes: self.end + FOOTER_LEN as u64,
            sha256: self.footer.sha256,
            applied_term: self.manifest.state.applied_term,
            applied_index: self.manifest.state.applied_index,
            versions: self.footer.versions,
        }
    }

    /// How many versions will come.
    #[must_use]
    pub fn versions(&self) -> u64 {
        self.footer.versions
    }

    /// What the file holds. Verified once every version was read.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary { file: self.described(), manifest: self.manifest.clone(), blocks: self.footer.blocks }
    }

    /// Bytes read so far, and all that are to be read.
    #[must_use]
    pub fn progress_bytes(&self) -> (u64, u64) {
        (self.offset, self.end)
    }

    fn begin(path: &Path, mut digest: Option<Sha256>, ending: Ending) -> Result<Self, SnapshotError> {
        let io = |action| SnapshotError::io(path, action);
        let mut file = File::open(path).map_err(io("open"))?;
        let size = file.metadata().map_err(io("tell the size"))?.len();
        let cut_off = || SnapshotError::damaged(path, size, "the file is cut off");
        let end = size.checked_sub(FOOTER_LEN as u64).ok_or_else(cut_off)?;
        let mut header = [0; HEADER_LEN];
        if end < HEADER_LEN as u64 {
            return Err(cut_off());
        }
        file.read_exact(&mut header).map_err(io("read"))?;
        let len = decode_header(&header).map_err(|e| SnapshotError::format(path, 0, e))?;
        let offset = HEADER_LEN as u64 + u64::from(len) + 4;
        if offset > end {
            return Err(SnapshotError::damaged(path, 12, "the manifest does not fit into the file"));
        }
        let mut block = vec![0; offset as usize];
        block[..HEADER_LEN].copy_from_slice(&header);
        file.read_exact(&mut block[HEADER_LEN..]).map_err(io("read"))?;
        let manifest =
            decode_manifest(&block).map_err(|e| SnapshotError::format(path, HEADER_LEN as u64, e))?;
        let end = match ending {
            Ending::Footer => end,
            Ending::Saved => find_footer(&file, path, offset, size)?,
        };
        let mut footer = [0; FOOTER_LEN];
        file.read_exact_at(&mut footer, end).map_err(io("read"))?;
        let footer = Footer::decode(&footer).map_err(|e| SnapshotError::format(path, end, e))?;
        let trailer = read_trailer(&file, path, end + FOOTER_LEN as u64, size)?;
        if let Some(digest) = &mut digest {
            digest.update(&block);
        }
        block.clear();
        Ok(Self {
            file,
            path: path.to_owned(),
            manifest,
            footer,
            end,
            trailer,
            offset,
            digest,
            block,
            cursor: ItemCursor::default(),
            left_in_block: 0,
            blocks: 0,
            versions: 0,
            finished: false,
        })
    }

    fn next_version(&mut self) -> Result<Option<StoredVersion>, SnapshotError> {
        if self.left_in_block == 0 {
            if self.offset == self.end {
                self.check_end()?;
                return Ok(None);
            }
            self.read_block()?;
        }
        let begin = self.offset - self.block.len() as u64 + self.cursor.at as u64;
        let version =
            self.cursor.next(&self.block).map_err(|e| SnapshotError::format(&self.path, begin, e))?;
        self.left_in_block -= 1;
        self.versions += 1;
        if self.left_in_block == 0 && self.cursor.at != self.block.len() {
            return Err(SnapshotError::damaged(&self.path, begin, "a block is longer than its items"));
        }
        Ok(Some(version))
    }

    fn read_block(&mut self) -> Result<(), SnapshotError> {
        let begin = self.offset;
        let damaged = |what| SnapshotError::damaged(&self.path, begin, what);
        let room = (self.end - begin).checked_sub(BLOCK_HEADER_LEN as u64);
        let room = room.ok_or_else(|| damaged("the head of a block reaches into the footer"))?;
        let mut head = [0; BLOCK_HEADER_LEN];
        read(&mut self.file, &self.path, &mut head)?;
        let header = BlockHeader::decode(&head);
        if header.len == 0 || u64::from(header.len) > room {
            return Err(damaged("the length of a block cannot be right"));
        }
        self.block.resize(header.len as usize, 0);
        read(&mut self.file, &self.path, &mut self.block)?;
        header.check(self.blocks, &self.block).map_err(|e| SnapshotError::format(&self.path, begin, e))?;
        if let Some(digest) = &mut self.digest {
            digest.update(head);
            digest.update(&self.block);
        }
        self.offset += BLOCK_HEADER_LEN as u64 + u64::from(header.len);
        self.blocks += 1;
        self.left_in_block = header.items;
        self.cursor = ItemCursor::default();
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), SnapshotError> {
        let damaged = |what| SnapshotError::damaged(&self.path, self.end, what);
        if (self.blocks, self.versions) != (self.footer.blocks, self.footer.versions) {
            return Err(damaged("the file holds another number of items than its footer says"));
        }
        if let Some(mut digest) = self.digest.take() {
            digest.update(Footer::encode_counts(self.versions, self.blocks));
            let upto_footer = digest.clone();
            let sha256: [u8; DIGEST_LEN] = digest.finalize().into();
            if sha256 != self.footer.sha256 {
                return Err(damaged("the digest of the file is wrong"));
            }
            if self.trailer.is_some_and(|trailer| !trailer.fits(upto_footer, &sha256)) {
                return Err(damaged("the digest behind the content is wrong"));
            }
        }
        Ok(())
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<StoredVersion, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = self.next_version().transpose();
        self.finished = !matches!(next, Some(Ok(_)));
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The footer's number is not trusted with memory: a version has at least three bytes.
        let most = (self.footer.versions - self.versions.min(self.footer.versions)).min(self.end / 3);
        (0, usize::try_from(most).ok())
    }
}

fn read(file: &mut File, path: &Path, into: &mut [u8]) -> Result<(), SnapshotError> {
    file.read_exact(into).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => {
            SnapshotError::damaged(path, 0, "the file became shorter while it was read")
        }
        _ => SnapshotError::io(path, "read")(e),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs;

    use proptest::prelude::*;

    use super::super::testing::{any_version, manifest, versions};
    use super::super::writer::{SnapshotWriter, write_file};
    use super::*;
    use crate::ids::Revision;

    fn encoded(versions: &[StoredVersion]) -> Vec<u8> {
        let mut writer = SnapshotWriter::new(vec![], &manifest(9)).unwrap();
        versions.iter().for_each(|v| writer.push(v).unwrap());
        writer.finish().unwrap().0
    }

    fn read_all(path: &Path) -> Result<Vec<StoredVersion>, SnapshotError> {
        SnapshotReader::open(path)?.collect()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(versions in prop::collection::vec(any_version(), 0..40)) {
            let dir = tempfile::tempdir().unwrap();
            let written = write_file(dir.path(), &manifest(9), versions.iter().cloned().map(Ok::<_, Infallible>), &mut |_| {}).unwrap();
            prop_assert_eq!(written.size_bytes, fs::metadata(&written.path).unwrap().len());
            let reader = SnapshotReader::open(&written.path).unwrap();
            prop_assert_eq!(reader.manifest(), &manifest(9));
            prop_assert_eq!(reader.versions(), versions.len() as u64);
            prop_assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), versions);
            let summary = verify(&written.path).unwrap();
            prop_assert_eq!(summary.file, written);
            prop_assert_eq!(summary.manifest, manifest(9));
        }

        #[test]
        fn any_changed_byte_is_found(at: prop::sample::Index, change in 1u8..) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            let mut bytes = encoded(&versions(20));
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            fs::write(&path, &bytes).unwrap();
            prop_assert!(verify(&path).is_err(), "byte {}", at);
            // Without the digest everything is found but a change of the digest itself.
            prop_assert!(read_all(&path).is_err() || at >= bytes.len() - DIGEST_LEN, "byte {}", at);
        }
    }

    #[test]
    fn any_cut_and_any_appendix_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let whole = encoded(&versions(20));
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(verify(&path).is_err() && read_all(&path).is_err(), "cut at {cut}");
        }
        for appendix in [&b"\0"[..], &whole, &whole[whole.len() - FOOTER_LEN..]] {
            fs::write(&path, [&whole, appendix].concat()).unwrap();
            assert!(verify(&path).is_err() && read_all(&path).is_err());
        }
    }

    #[test]
    fn blocks_that_changed_places_are_found() {
        let big: Vec<_> = versions(3000);
        let whole = encoded(&big);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, &whole).unwrap();
        let summary = verify(&path).unwrap();
        assert!(summary.blocks >= 3, "{}", summary.blocks);
        assert_eq!(read_all(&path).unwrap(), big);
        let header = super::super::format::encode_header(&manifest(9)).unwrap().len();
        let len =
            |at: usize| BLOCK_HEADER_LEN + u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        let second = header + len(header);
        let third = second + len(second);
        let swapped =
            [&whole[..header], &whole[second..third], &whole[header..second], &whole[third..]].concat();
        fs::write(&path, swapped).unwrap();
        assert!(read_all(&path).is_err());
        // One left out.
        fs::write(&path, [&whole[..header], &whole[second..]].concat()).unwrap();
        assert!(read_all(&path).is_err());
    }

    #[test]
    fn an_increment_is_never_taken_for_a_whole_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (since, whole) in [(None, true), (Some(Revision(4)), false)] {
            let mut writer = SnapshotWriter::new(vec![], &Manifest { since, ..manifest(9) }).unwrap();
            versions(3).iter().for_each(|v| writer.push(v).unwrap());
            fs::write(&path, writer.finish().unwrap().0).unwrap();
            assert_eq!(verify(&path).unwrap().manifest.since, since);
            assert_eq!(SnapshotReader::open(&path).unwrap().whole().is_ok(), whole);
        }
    }

    #[test]
    fn errors_say_file_place_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.snapshot");
        let mut bytes = encoded(&versions(3));
        let version = std::mem::replace(&mut bytes[8], 200);
        fs::write(&path, &bytes).unwrap();
        let text = verify(&path).unwrap_err().to_string();
        assert!(text.contains("x.snapshot") && text.contains("version 200"), "{text}");
        bytes[8] = version;
        bytes.pop();
        fs::write(&path, &bytes).unwrap();
        let text = verify(&path).unwrap_err().to_string();
        assert!(text.contains("at byte ") && text.contains("move the file away"), "{text}");
    }
}
