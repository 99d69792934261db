//! Reads bbolt databases, the files of etcd. Never writes one, and never trusts one: whatever is in a file, reading
//! it ends, with what it holds or with an error.
//!
//! Only pages that are asked for are read; nothing is mapped into memory.

mod page;
#[cfg(test)]
pub(super) mod testing;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use page::{HEADER_LEN, META_LEN, Meta, Page, Wrong, bucket_root, page_head};

/// Levels of a tree; one with all the pages that a file can have is far flatter.
const MAX_DEPTH: usize = 24;
/// Where the second meta page may be: behind one page, and those are powers of two.
const SECOND_META_AT: std::ops::RangeInclusive<u32> = 9..=16;

/// A database cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BboltError {
    /// The operating system refused.
    #[error("reading fails: {0}")]
    Io(#[from] io::Error),
    /// Neither meta page is one.
    #[error("it has no readable head")]
    NoMeta,
    /// A page is not what it should be.
    #[error("page {page} cannot be right: {what}")]
    Page {
        /// Its number.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
}

fn wrong(page: u64) -> impl Fn(Wrong) -> BboltError {
    move |what| BboltError::Page { page, what }
}

/// An open database, as of its last complete transaction.
#[derive(Debug)]
pub(super) struct Database {
    file: File,
    meta: Meta,
    /// Pages that are wholly in the file.
    pages: u64,
}

/// Where a bucket is.
#[derive(Clone, Debug)]
pub(super) enum Bucket {
    /// Its root is a page.
    Page(u64),
    /// It is so small that its only page lies in this page, inside its parent.
    Inline(u64, Vec<u8>),
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Value(&'a [u8]),
    /// Found with [`Database::bucket`].
    Bucket,
}

impl Database {
    /// Opens the first `len` bytes of a file as a database.
    pub(super) fn open(file: File, len: u64) -> Result<Self, BboltError> {
        let meta_at = |at: u64| -> Result<Option<Meta>, BboltError> {
            let mut bytes = [0; META_LEN];
            if at + META_LEN as u64 > len {
                return Ok(None);
            }
            file.read_exact_at(&mut bytes, at)?;
            Ok(Meta::decode(&bytes).ok())
        };
        let mut found = meta_at(0)?;
        let sizes = match found {
            Some(first) => vec![u64::from(first.page_size)],
            None => SECOND_META_AT.map(|bits| 1 << bits).collect(),
        };
        for size in sizes {
            let second = meta_at(size)?.filter(|meta| u64::from(meta.page_size) == size);
            found = found.into_iter().chain(second).max_by_key(|meta| meta.transaction);
        }
        let meta = found.ok_or(BboltError::NoMeta)?;
        let pages = (len / u64::from(meta.page_size)).min(meta.pages);
        Ok(Self { file, meta, pages })
    }

    /// The bucket of all buckets.
    pub(super) fn root(&self) -> Bucket {
        Bucket::Page(self.meta.root)
    }

    /// The bucket of this name in another one.
    pub(super) fn bucket(&self, within: &Bucket, name: &[u8]) -> Result<Option<Bucket>, BboltError> {
        let mut found = None;
        self.walk(within, &mut |page, entry| {
            if entry.is_bucket && entry.key == name {
                let (root, inline) = bucket_root(entry.value).map_err(wrong(page))?;
                found = Some(match root {
                    0 => Bucket::Inline(page, inline.to_vec()),
                    root => Bucket::Page(root),
                });
            }
            Ok::<_, BboltError>(())
        })?;
        Ok(found)
    }

    /// Hands out every key of a bucket, in order, until `take` fails.
    pub(super) fn for_each<E: From<BboltError>>(
        &self,
        bucket: &Bucket,
        mut take: impl FnMut(&[u8], Item<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk(bucket, &mut |_, entry| {
            let item = if entry.is_bucket { Item::Bucket } else { Item::Value(entry.value) };
            take(entry.key, item)
        })
    }

    fn walk<E: From<BboltError>>(
        &self,
        bucket: &Bucket,
        take: &mut dyn FnMut(u64, page::Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = None;
        match bucket {
            Bucket::Page(number) => self.walk_page(*number, 0, &mut last, take),
            Bucket::Inline(page, bytes) => {
                let decoded = Page::decode(bytes).map_err(wrong(*page))?;
                if !decoded.is_leaf {
                    return Err(wrong(*page)("a bucket inside of it is no leaf").into());
                }
                walk_leaf(*page, &decoded, &mut last, take)
            }
        }
    }

    fn walk_page<E: From<BboltError>>(
        &self,
        number: u64,
        depth: usize,
        last: &mut Option<Vec<u8>>,
        take: &mut dyn FnMut(u64, page::Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if depth == MAX_DEPTH {
            return Err(wrong(number)("the tree is too deep").into());
        }
        let bytes = self.read(number)?;
        let page = Page::decode(&bytes).map_err(wrong(number))?;
        // With no empty page below, and keys that only grow, no page can be met twice.
        if page.count == 0 && (depth > 0 || !page.is_leaf) {
            return Err(wrong(number)("it is empty").into());
        }
        if page.is_leaf {
            return walk_leaf(number, &page, last, take);
        }
        for at in 0..page.count {
            let child = page.child(at).map_err(wrong(number))?;
            self.walk_page(child, depth + 1, last, take)?;
        }
        Ok(())
    }

    /// A page with those that belong to it.
    fn read(&self, number: u64) -> Result<Vec<u8>, BboltError> {
        let size = u64::from(self.meta.page_size);
        // Pages 0 and 1 are the meta pages.
        if number < 2 || number >= self.pages {
            return Err(wrong(number)("it is not in the file, which was perhaps cut off"));
        }
        let mut head = [0; HEADER_LEN];
        self.file.read_exact_at(&mut head, number * size)?;
        let (own, follow) = page_head(&head);
        if own != number {
            return Err(wrong(number)("it says that it is another page"));
        }
        let count = u64::from(follow) + 1;
        if count > self.pages - number {
            return Err(wrong(number)("it reaches behind the end of the file, which was perhaps cut off"));
        }
        let len = usize::try_from(count * size).map_err(|_| wrong(number)("it does not fit into memory"))?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, number * size)?;
        Ok(bytes)
    }
}

fn walk_leaf<E: From<BboltError>>(
    number: u64,
    page: &Page<'_>,
    last: &mut Option<Vec<u8>>,
    take: &mut dyn FnMut(u64, page::Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for at in 0..page.count {
        let entry = page.entry(at).map_err(wrong(number))?;
        match last {
            Some(last) if last.as_slice() >= entry.key => {
                return Err(wrong(number)("its keys are not in order").into());
            }
            Some(last) => {
                last.clear();
                last.extend_from_slice(entry.key);
            }
            None => *last = Some(entry.key.to_vec()),
        }
        take(number, entry)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::testing::{PAGE, branch, bucket_at, file, inline, leaf, meta};
    use super::*;

    fn open(bytes: &[u8]) -> Result<Database, BboltError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Database::open(file, bytes.len() as u64)
    }

    /// A key with its value; `None` for a bucket.
    type Found = (Vec<u8>, Option<Vec<u8>>);

    fn keys(database: &Database, bucket: &Bucket) -> Result<Vec<Found>, BboltError> {
        let mut found = Vec::new();
        database.for_each(bucket, |key, item| {
            let value = match item {
                Item::Value(value) => Some(value.to_vec()),
                Item::Bucket => None,
            };
            found.push((key.to_vec(), value));
            Ok::<_, BboltError>(())
        })?;
        Ok(found)
    }

    /// Everything that can be reached.
    fn all(database: &Database, bucket: &Bucket, depth: usize) -> Result<usize, BboltError> {
        let found = keys(database, bucket)?;
        let mut count = found.len();
        for (key, _) in found.iter().filter(|(_, value)| value.is_none() && depth < 4) {
            if let Some(inner) = database.bucket(bucket, key)? {
                count += all(database, &inner, depth + 1)?;
            }
        }
        Ok(count)
    }

    /// Page 3 is the root; `big` is a branch (4) over two leaves, one of three pages (5 to 7) and one of one (8).
    fn sample() -> Vec<u8> {
        let large = vec![7; 2 * PAGE];
        let nested = inline(&[(b"deep", b"1", false)]);
        let small = inline(&[(b"in", &nested, true), (b"k", b"v", false)]);
        let pages = [
            leaf(3, &[(b"big", &bucket_at(4), true), (b"small", &small, true)]),
            branch(4, &[(b"a", 5), (b"m", 8)]),
            leaf(5, &[(b"a", b"1", false), (b"b", &large, false)]),
            leaf(8, &[(b"m", b"2", false), (b"z", b"", false)]),
        ];
        file(3, &pages)
    }

    #[test]
    fn branches_overflow_nested_and_inline_buckets() {
        let database = open(&sample()).unwrap();
        let root = database.root();
        let big = database.bucket(&root, b"big").unwrap().unwrap();
        let found = keys(&database, &big).unwrap();
        let names: Vec<_> = found.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(names, [b"a", b"b", b"m", b"z"]);
        assert_eq!(found[1].1.as_ref().unwrap().len(), 2 * PAGE);
        let small = database.bucket(&root, b"small").unwrap().unwrap();
        let inner = database.bucket(&small, b"in").unwrap().unwrap();
        assert_eq!(keys(&database, &inner).unwrap(), [(b"deep".to_vec(), Some(b"1".to_vec()))]);
        assert!(database.bucket(&root, b"other").unwrap().is_none());
        assert_eq!(all(&database, &root, 0).unwrap(), 2 + 4 + 2 + 1);
    }

    #[test]
    fn the_newer_valid_head_counts() {
        let bytes = sample();
        for (damaged, good) in [(0, 11), (PAGE, 10)] {
            let mut bytes = bytes.clone();
            bytes[damaged + 20] ^= 1;
            assert_eq!(open(&bytes).unwrap().meta.transaction, good);
        }
        assert_eq!(open(&bytes).unwrap().meta.transaction, 11);
        let mut both = bytes;
        both[20] ^= 1;
        both[PAGE + 20] ^= 1;
        assert!(matches!(open(&both), Err(BboltError::NoMeta)));
        assert!(matches!(open(b"apiVersion: v1\n"), Err(BboltError::NoMeta)));
        assert!(matches!(open(b""), Err(BboltError::NoMeta)));
    }

    #[test]
    fn a_file_that_was_cut_off_is_told() {
        let bytes = sample();
        for pages in 2..bytes.len() / PAGE {
            let database = open(&bytes[..pages * PAGE]).unwrap();
            assert!(matches!(all(&database, &database.root(), 0), Err(BboltError::Page { .. })), "{pages}");
        }
    }

    #[test]
    fn trees_that_lead_to_themselves_end() {
        for pages in [
            vec![branch(3, &[(b"a", 3)])],
            vec![branch(3, &[(b"a", 4), (b"b", 4)]), leaf(4, &[(b"a", b"", false)])],
            vec![branch(3, &[(b"a", 4), (b"b", 4)]), leaf(4, &[])],
            vec![branch(3, &[(b"a", 0)])],
            vec![branch(3, &[])],
        ] {
            let database = open(&file(3, &pages)).unwrap();
            assert!(all(&database, &database.root(), 0).is_err(), "{pages:?}");
        }
        let huge = meta(PAGE as u32, u64::MAX, u64::MAX, 99, 1);
        let mut bytes = sample();
        bytes[PAGE..PAGE + huge.len()].copy_from_slice(&huge);
        let database = open(&bytes).unwrap();
        assert!(all(&database, &database.root(), 0).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_harmless(changes in prop::collection::vec((2 * PAGE..9 * PAGE, any::<u8>()), 1..20)) {
            let mut bytes = sample();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let database = open(&bytes).unwrap();
            let _ = all(&database, &database.root(), 0);
        }

        /// Where it hurts most: heads and elements.
        #[test]
        fn damaged_heads_are_an_error_or_harmless(changes in prop::collection::vec((3_usize..9, 0_usize..64, any::<u8>()), 1..6)) {
            let mut bytes = sample();
            for (page, at, byte) in changes {
                bytes[page * PAGE + at] = byte;
            }
            let database = open(&bytes).unwrap();
            let _ = all(&database, &database.root(), 0);
        }
    }
}
