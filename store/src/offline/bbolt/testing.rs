//! Pages of bbolt made by hand.

use super::page::{META_LEN, fnv1a};

pub(in crate::offline) const PAGE: usize = 512;

fn head(number: u64, flags: u16, count: usize) -> Vec<u8> {
    let mut out = number.to_le_bytes().to_vec();
    out.extend(flags.to_le_bytes());
    out.extend(u16::try_from(count).unwrap().to_le_bytes());
    out.extend([0; 4]);
    out
}

/// Key, value, and whether the value is a bucket.
pub(in crate::offline) type LeafEntry<'a> = (&'a [u8], &'a [u8], bool);

pub(in crate::offline) fn leaf(number: u64, entries: &[LeafEntry<'_>]) -> Vec<u8> {
    let mut out = head(number, 2, entries.len());
    let mut place = entries.len() * 16;
    for (key, value, is_bucket) in entries {
        for number in [u32::from(*is_bucket), place as u32, key.len() as u32, value.len() as u32] {
            out.extend(number.to_le_bytes());
        }
        place = place + key.len() + value.len() - 16;
    }
    for (key, value, _) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

pub(in crate::offline) fn branch(number: u64, children: &[(&[u8], u64)]) -> Vec<u8> {
    let mut out = head(number, 1, children.len());
    let mut place = children.len() * 16;
    for (key, page) in children {
        out.extend((place as u32).to_le_bytes());
        out.extend((key.len() as u32).to_le_bytes());
        out.extend(page.to_le_bytes());
        place = place + key.len() - 16;
    }
    children.iter().for_each(|(key, _)| out.extend_from_slice(key));
    out
}

pub(in crate::offline) fn meta(
    page_size: u32,
    root: u64,
    pages: u64,
    transaction: u64,
    number: u64,
) -> Vec<u8> {
    let mut out = head(number, 4, 0);
    for number in [0xED0C_DAED, 2, page_size, 0] {
        out.extend(u32::to_le_bytes(number));
    }
    for number in [root, 0, 2, pages, transaction] {
        out.extend(number.to_le_bytes());
    }
    let sum = fnv1a(&out[16..]);
    out.extend(sum.to_le_bytes());
    assert_eq!(out.len(), META_LEN);
    out
}

/// The value that stands for a bucket whose root is a page.
pub(in crate::offline) fn bucket_at(page: u64) -> Vec<u8> {
    [page.to_le_bytes(), [0; 8]].concat()
}

/// The value that stands for a bucket which is so small that it lies in its parent.
pub(in crate::offline) fn inline(entries: &[LeafEntry<'_>]) -> Vec<u8> {
    [vec![0; 16], leaf(0, entries)].concat()
}

/// A file: two meta pages, an empty list of free pages, then `pages` from number 3 on, whose root is `root`. What is
/// longer than a page says how many follow it.
pub(in crate::offline) fn file(root: u64, pages: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for page in pages {
        let mut page = page.clone();
        let follow = page.len().div_ceil(PAGE) - 1;
        page[12..16].copy_from_slice(&(follow as u32).to_le_bytes());
        page.resize((follow + 1) * PAGE, 0);
        body.extend(page);
    }
    let count = 3 + (body.len() / PAGE) as u64;
    let mut out = Vec::new();
    for number in 0..2 {
        let mut page = meta(PAGE as u32, root, count, 10 + number, number);
        page.resize(PAGE, 0);
        out.extend(page);
    }
    let mut free = head(2, 16, 0);
    free.resize(PAGE, 0);
    out.extend(free);
    out.extend(body);
    out
}
