//! Saved snapshots and lost clusters: restored, recovered, and what is refused.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod mistakes;
mod recovering;
mod restored;

use std::path::{Path, PathBuf};

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::KeyValue;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::Cluster;
use jepsen_like_tests::etcdctl::Etcdctl;
use serde_json::Value;

/// A JSON answer.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
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
