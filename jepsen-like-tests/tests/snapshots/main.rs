//! Snapshots for administrators: saved from a live cluster, taken by members on a schedule, verified, restored; lost
//! clusters recovered; and what is refused.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod imported;
mod increments;
mod mistakes;
mod recovering;
mod restored;
mod saved;
mod scheduled;

use std::path::{Path, PathBuf};

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::KeyValue;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::Cluster;
use jepsen_like_tests::etcdctl::{Etcdctl, json};
use sha2::{Digest as _, Sha256};

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

/// The tool, for what needs no cluster.
fn kvctl() -> Etcdctl {
    Etcdctl::kvctl(&["127.0.0.1:1".to_owned()])
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file as `etcdctl` saves it.
async fn save(cluster: &Cluster, name: &str) -> PathBuf {
    let file = cluster.scratch().join(name);
    Etcdctl::to(&[cluster.endpoint(0)]).run(&["snapshot", "save", text(&file)]).await.ok();
    file
}

/// The flags that lead a restore to member `index`, with the file first.
fn restore_flags(cluster: &Cluster, index: usize, file: &Path) -> Vec<String> {
    let flags = cluster.flags(index);
    let wanted = [
        "--name",
        "--data-dir",
        "--initial-cluster",
        "--initial-cluster-token",
        "--initial-advertise-peer-urls",
    ];
    let mut words = vec!["snapshot".to_owned(), "restore".to_owned(), text(file).to_owned()];
    words.extend(wanted.iter().map(|flag| format!("{flag}={}", flags[*flag])));
    words
}

/// Restores every member of a cluster that was prepared, each by itself.
async fn restore_each(cluster: &Cluster, file: &Path, more: &[&str]) {
    for index in 0..cluster.len() {
        let words = restore_flags(cluster, index, file);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        kvctl().run(&words).await.ok();
    }
}

/// Every key at a revision (0: now), with all of its fields.
async fn everything(client: &Client, revision: i64) -> Vec<KeyValue> {
    let request =
        pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() };
    client.range(request).await.unwrap().kvs
}
