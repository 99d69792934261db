//! Snapshots for administrators: saved from a live cluster, and taken by members on a schedule.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod saved;
mod scheduled;

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A JSON answer.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// Whether a file ends with the SHA-256 of everything before.
fn digest_is_right(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<32>().is_some_and(|(content, digest)| Sha256::digest(content)[..] == digest[..])
}

/// The names of the files in a directory that end with `ending`, sorted.
fn files(dir: &Path, ending: &str) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

/// Whether `bytes` hold `part` somewhere.
fn holds(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}
