//! The bytes of bbolt's pages. Pure: every offset and length is compared with what is there, so that damaged and
//! foreign bytes are an error and nothing else.
//!
//! All numbers are little-endian, as on every machine that etcd is built for.
//!
//! ```text
//! page      8  its number
//!           2  flags: 1 branch, 2 leaf, 4 meta, 16 list of free pages
//!           2  number of elements
//!           4  number of pages that follow and belong to it
//! branch   16  for each element: place of the key (4, from the element's begin), its length (4), page (8)
//! leaf     16  for each element: flags (4, 1 for a bucket), place of key and value (4), their lengths (4, 4)
//! meta      4  magic, 4 version, 4 page size, 4 flags, 16 root bucket, 8 list of free pages, 8 number of pages,
//!           8  transaction, 8 FNV-1a of the 56 bytes before
//! bucket    8  page of its root, or 0: then the page itself follows behind these 16 bytes
//!           8  a counter
//! ```

/// Bytes of a page's head.
pub(super) const HEADER_LEN: usize = 16;
/// Bytes of an element in a branch or a leaf.
const ELEMENT_LEN: usize = 16;
/// Bytes of a bucket's head.
const BUCKET_LEN: usize = 16;
/// Bytes from a meta page's begin to the end of its checksum.
pub(super) const META_LEN: usize = 80;
/// Where the checksum is in a meta page.
const META_SUM_AT: usize = 72;

pub(super) const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;
/// Flag of a leaf's element.
const IS_BUCKET: u32 = 1;

/// The smallest and the largest page that bbolt makes.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;

/// What is wrong, as the end of a sentence about a page.
pub(super) type Wrong = &'static str;

/// A page with what describes the whole file. There are two, written in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Bytes of a page.
    pub(super) page_size: u32,
    /// Root page of the bucket of buckets.
    pub(super) root: u64,
    /// Pages that are in use or were once.
    pub(super) pages: u64,
    /// The newer page has the larger one.
    pub(super) transaction: u64,
}

impl Meta {
    /// Reads one.
    pub(super) fn decode(page: &[u8]) -> Result<Self, Wrong> {
        let page: &[u8; META_LEN] = page.first_chunk().ok_or("it is cut off")?;
        if u32_at(page, 16) != Some(MAGIC) || u16_at(page, 8).is_none_or(|flags| flags & META == 0) {
            return Err("it is no page of a bbolt database");
        }
        if u32_at(page, 20) != Some(VERSION) {
            return Err("it has an unknown format version");
        }
        if u64_at(page, META_SUM_AT) != Some(fnv1a(&page[HEADER_LEN..META_SUM_AT])) {
            return Err("its checksum is wrong");
        }
        let numbers = || Some((u32_at(page, 24)?, u64_at(page, 32)?, u64_at(page, 56)?, u64_at(page, 64)?));
        let (page_size, root, pages, transaction) = numbers().ok_or("it is cut off")?;
        if !PAGE_SIZES.contains(&page_size) || !page_size.is_power_of_two() {
            return Err("its page size cannot be right");
        }
        Ok(Self { page_size, root, pages, transaction })
    }
}

/// A branch or a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    bytes: &'a [u8],
    /// Whether it is a leaf.
    pub(super) is_leaf: bool,
    /// Elements in it.
    pub(super) count: usize,
}

/// An element of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// The value is a bucket.
    pub(super) is_bucket: bool,
}

impl<'a> Page<'a> {
    /// Reads the head of a page; `bytes` is all of it.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let head = || Some((u16_at(bytes, 8)?, usize::from(u16_at(bytes, 10)?)));
        let (flags, count) = head().ok_or("it is cut off")?;
        if flags & (BRANCH | LEAF) == 0 || flags & (BRANCH | LEAF) == BRANCH | LEAF {
            return Err("it is neither a branch nor a leaf");
        }
        if HEADER_LEN + count * ELEMENT_LEN > bytes.len() {
            return Err("it has more elements than fit into it");
        }
        Ok(Self { bytes, is_leaf: flags & LEAF != 0, count })
    }

    /// The page below element `at` of a branch.
    pub(super) fn child(&self, at: usize) -> Result<u64, Wrong> {
        u64_at(self.bytes, HEADER_LEN + at * ELEMENT_LEN + 8).ok_or("an element is cut off")
    }

    /// Element `at` of a leaf.
    pub(super) fn entry(&self, at: usize) -> Result<Entry<'a>, Wrong> {
        let begin = HEADER_LEN + at * ELEMENT_LEN;
        let number = |offset: usize| {
            u32_at(self.bytes, begin + offset).map(|number| number as usize).ok_or("an element is cut off")
        };
        let (flags, place, key_len, value_len) = (number(0)?, number(4)?, number(8)?, number(12)?);
        let cut = |from: Option<usize>, len: usize| {
            let from = from.ok_or("an element lies outside of it")?;
            let end = from.checked_add(len).ok_or("an element lies outside of it")?;
            self.bytes.get(from..end).map(|bytes| (bytes, end)).ok_or("an element lies outside of it")
        };
        let (key, end) = cut(begin.checked_add(place), key_len)?;
        let (value, _) = cut(Some(end), value_len)?;
        Ok(Entry { key, value, is_bucket: flags & IS_BUCKET as usize != 0 })
    }
}

/// Where the root of a bucket is, from the value that stands for it: a page, or what follows inside the value.
pub(super) fn bucket_root(value: &[u8]) -> Result<(u64, &[u8]), Wrong> {
    let root = u64_at(value, 0).ok_or("a bucket is cut off")?;
    let inline = value.get(BUCKET_LEN..).ok_or("a bucket is cut off")?;
    Ok((root, inline))
}

/// The number that a page gives itself, and how many pages follow and belong to it.
pub(super) fn page_head(bytes: &[u8; HEADER_LEN]) -> (u64, u32) {
    (u64_at(bytes, 0).unwrap_or_default(), u32_at(bytes, 12).unwrap_or_default())
}

pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{branch, leaf, meta};
    use super::*;

    #[test]
    fn a_leaf_tells_its_elements() {
        let bytes =
            leaf(7, &[(b"a", b"1", false), (b"bucket", b"0123456789abcdef", true), (b"c", b"", false)]);
        let page = Page::decode(&bytes).unwrap();
        assert!(page.is_leaf && page.count == 3);
        assert_eq!(page.entry(0), Ok(Entry { key: b"a", value: b"1", is_bucket: false }));
        assert!(page.entry(1).unwrap().is_bucket);
        assert_eq!(page.entry(2).unwrap().value, b"");
        let bytes = branch(7, &[(b"a", 5), (b"m", 6)]);
        let page = Page::decode(&bytes).unwrap();
        assert!(!page.is_leaf);
        assert_eq!((page.child(0), page.child(1)), (Ok(5), Ok(6)));
    }

    #[test]
    fn a_meta_page_is_believed_when_its_checksum_fits() {
        let bytes = meta(4096, 3, 9, 17, 0);
        let decoded = Meta::decode(&bytes);
        assert_eq!(decoded, Ok(Meta { page_size: 4096, root: 3, pages: 9, transaction: 17 }));
        for at in 16..META_LEN {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Meta::decode(&damaged).is_err(), "byte {at}");
        }
        assert!(Meta::decode(&bytes[..META_LEN - 1]).is_err());
        assert!(Meta::decode(&meta(1000, 3, 9, 17, 0)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_stay_inside(mut bytes in prop::collection::vec(any::<u8>(), 0..300), leaf: bool) {
            if let Some(flags) = bytes.get_mut(8..12) {
                flags[..2].copy_from_slice(&[if leaf { 2 } else { 1 }, 0]);
                flags[3] = 0;
            }
            let _ = Meta::decode(&bytes);
            let _ = bucket_root(&bytes);
            if let Ok(page) = Page::decode(&bytes) {
                for at in 0..page.count {
                    let _ = page.child(at);
                    let _ = page.entry(at);
                }
            }
        }
    }
}
