//! A whole snapshot and increments make up what the cluster had, also at a revision in the middle of one; what is no
//! chain is told in a sentence.

use std::fs;
use std::path::{Path, PathBuf};

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb::KeyValue;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::etcdctl::{Etcdctl, Printed};

use super::{everything, json, kvctl, restore_each, text};

/// So that the past can be compared too.
const WITH_HISTORY: [&str; 2] = ["--bump-revision=0", "--mark-compacted=false"];
const TTL_S: i64 = 5000;

async fn put(client: &Client, key: impl Into<String>, value: &str, lease: i64) -> i64 {
    let (key, value) = (key.into().into(), value.to_owned().into());
    let put = pb::PutRequest { key, value, lease, ..Default::default() };
    client.kv.clone().put(put).await.unwrap().into_inner().header.unwrap().revision
}

async fn delete(client: &Client, key: &'static str, range_end: &'static str) -> i64 {
    let delete =
        pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    let answer = client.kv.clone().delete_range(delete).await.unwrap().into_inner();
    assert!(answer.deleted > 0, "nothing was deleted at {key}");
    answer.header.unwrap().revision
}

async fn compact(client: &Client, revision: i64) {
    client.kv.clone().compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
}

async fn revoke(client: &Client, id: i64) {
    client.lease.clone().lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap();
}

/// Every lease with its time and its keys.
async fn leases(client: &Client) -> Vec<(i64, i64, Vec<bytes::Bytes>)> {
    let all = client.lease.clone().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    let mut told = Vec::new();
    for lease in all.leases {
        let mut lease = client.lease_time_to_live(lease.id, true).await.unwrap();
        lease.keys.sort();
        told.push((lease.id, lease.granted_ttl, lease.keys));
    }
    told.sort();
    told
}

/// A cluster, and what was saved of it.
struct Saved {
    cluster: Cluster,
    /// The whole snapshot and both increments.
    files: [PathBuf; 3],
    /// Where each of them ends.
    ends: [i64; 3],
    /// A revision in the middle of each increment, and the keys at it.
    middles: [(i64, Vec<KeyValue>); 2],
}

async fn save(cluster: &Cluster, name: &str, since: Option<i64>) -> (PathBuf, i64) {
    let file = cluster.scratch().join(name);
    let since = since.map(|revision| format!("--since={revision}"));
    let words: Vec<&str> =
        ["snapshot", "save", text(&file), "-w", "json"].into_iter().chain(since.as_deref()).collect();
    let told = json(&Etcdctl::kvctl(&[cluster.endpoint(0)]).run(&words).await.ok());
    (file, told["revision"].as_i64().unwrap())
}

/// Keys come, change and go, alone, in ranges and with their leases, before and between the saves; each time what came
/// before the last save is compacted.
async fn saved() -> Saved {
    let cluster = Cluster::start(Flavor::Barque, 1, Options::default().fast_elections()).await.unwrap();
    let client = cluster.client(0);
    for id in [71, 72, 73] {
        client.lease_grant(id, TTL_S + id).await.unwrap();
    }
    for number in 0..60 {
        put(&client, format!("k/{number:02}"), "first", 0).await;
    }
    for (key, lease) in [("l/stays", 71), ("l/revoked", 72), ("l/moves", 73), ("l/loses", 73)] {
        put(&client, key, "leased", lease).await;
    }
    delete(&client, "k/55", "k/60").await;
    let (whole, first_end) = save(&cluster, "whole", None).await;

    put(&client, "k/00", "second", 0).await;
    delete(&client, "k/10", "k/20").await;
    put(&client, "k/56", "is back", 0).await;
    revoke(&client, 72).await;
    client.lease_grant(74, TTL_S).await.unwrap();
    put(&client, "l/moves", "leased", 74).await;
    let middle = put(&client, "l/loses", "free", 0).await;
    let first_middle = (middle, everything(&client, middle).await);
    put(&client, "k/12", "between", 0).await;
    put(&client, "new/1", "x", 0).await;
    delete(&client, "k/01", "").await;
    compact(&client, first_end).await;
    let (first, second_end) = save(&cluster, "first", Some(first_end)).await;

    delete(&client, "new/1", "").await;
    delete(&client, "k/12", "").await;
    for round in 0..30 {
        put(&client, format!("k/{:02}", 20 + round % 7), &"y".repeat(round), 0).await;
    }
    revoke(&client, 74).await;
    let middle = put(&client, "k/10", "is back", 71).await;
    let second_middle = (middle, everything(&client, middle).await);
    delete(&client, "k/3", "k/4").await;
    client.lease_grant(75, TTL_S).await.unwrap();
    put(&client, "l/late", "leased", 75).await;
    compact(&client, second_end).await;
    let (second, third_end) = save(&cluster, "second", Some(second_end)).await;
    assert_eq!(client.revision().await.unwrap(), third_end);
    assert!(first_end < first_middle.0 && first_middle.0 < second_end);
    assert!(second_end < second_middle.0 && second_middle.0 < third_end);
    Saved {
        cluster,
        files: [whole, first, second],
        ends: [first_end, second_end, third_end],
        middles: [first_middle, second_middle],
    }
}

async fn restore(files: &[&Path], dir: &Path, more: &[&str]) -> Printed {
    let files = files.iter().map(|file| text(file));
    let words: Vec<&str> = ["snapshot", "restore", "--data-dir", text(dir)]
        .into_iter()
        .chain(files)
        .chain(more.iter().copied())
        .collect();
    kvctl().run(&words).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_bring_back_what_the_cluster_has() {
    let saved = saved().await;
    let live = saved.cluster.client(0);
    let [whole, first, second] = &saved.files;
    let [_, compacted, now] = saved.ends;
    let mut restored = Cluster::prepare(Flavor::Barque, 3, Options::default().fast_elections()).unwrap();
    let more = [&[text(first), text(second)][..], &WITH_HISTORY].concat();
    restore_each(&restored, whole, &more).await;
    restored.restart_all(&[0, 1, 2]).await.unwrap();
    let expected = everything(&live, 0).await;
    assert!(expected.len() > 20);
    let hash = live.hash_kv(now).await.unwrap();
    for index in 0..3 {
        let client = restored.client(index);
        assert_eq!(client.revision().await.unwrap(), now);
        assert_eq!(everything(&client, 0).await, expected, "keys of {}", restored.name(index));
        let told = client.hash_kv(now).await.unwrap();
        assert_eq!((told.hash, told.compact_revision), (hash.hash, compacted), "{}", restored.name(index));
    }
    let client = restored.client(0);
    for revision in compacted..=now {
        assert_eq!(
            everything(&client, revision).await,
            everything(&live, revision).await,
            "at revision {revision}"
        );
    }
    let early = pb::RangeRequest { key: "k/00".into(), revision: compacted - 1, ..Default::default() };
    assert!(client.range(early).await.unwrap_err().message().contains("compacted"));
    let kept = leases(&live).await;
    assert_eq!(kept.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [71, 73, 75]);
    assert_eq!(leases(&client).await, kept);

    // By default old clients are told that it is another cluster, and nothing else differs.
    let mut leapt = Cluster::prepare(Flavor::Barque, 1, Options::default().fast_elections()).unwrap();
    restore_each(&leapt, whole, &[text(first), text(second)]).await;
    leapt.restart(0).await.unwrap();
    assert_eq!(everything(&leapt.client(0), 0).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_within_an_increment_is_restored() {
    let saved = saved().await;
    let [whole, first, second] = &saved.files;
    for (revision, expected) in &saved.middles {
        let mut restored = Cluster::prepare(Flavor::Barque, 1, Options::default().fast_elections()).unwrap();
        let to = format!("--to-revision={revision}");
        let more = [&[text(first), text(second), to.as_str()][..], &WITH_HISTORY].concat();
        restore_each(&restored, whole, &more).await;
        restored.restart(0).await.unwrap();
        let client = restored.client(0);
        assert_eq!(client.revision().await.unwrap(), *revision);
        assert_eq!(everything(&client, 0).await, *expected, "at revision {revision}");
        let put = client.put("goes/on", "x").await.unwrap();
        assert_eq!(put.header.unwrap().revision, revision + 1);
    }
    let dir = saved.cluster.scratch().join("restored");
    let beyond = format!("--to-revision={}", saved.ends[2] + 1);
    let told = restore(&[whole, first, second], &dir, &[&beyond]).await;
    let sentence = format!("{beyond}: the files end at revision {}", saved.ends[2]);
    assert!(told.code == 128 && told.err.contains(&sentence.replace('=', " ")), "{told:?}");
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_chain_is_told_in_a_sentence() {
    let saved = saved().await;
    let [whole, first, second] = &saved.files;
    let [first_end, second_end, _] = saved.ends;
    let dir = saved.cluster.scratch().join("restored");
    let gap = format!(
        "{}: begins after revision {second_end}, but the files before it end at revision {first_end}",
        text(second)
    );
    for (files, sentence) in [
        (&[whole, second][..], gap.as_str()),
        (&[whole, second, first], &gap),
        (&[first, second], "name the whole snapshot that it continues first"),
        (&[first, whole, second], "name the whole snapshot that it continues first"),
        (&[whole, first, second, first], "name the files from old to new"),
        (&[whole, first, whole], "can only be the first file"),
    ] {
        let files: Vec<&Path> = files.iter().map(|file| file.as_path()).collect();
        let told = restore(&files, &dir, &[]).await;
        assert!(told.code == 128 && told.err.contains(sentence), "{files:?}: {told:?}");
        assert_eq!(told.err.trim_end().lines().count(), 1, "{told:?}");
        assert!(!dir.exists(), "{files:?}");
    }
}

/// One byte anywhere in an increment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_byte_of_an_increment_is_found() {
    let saved = saved().await;
    let [whole, first, second] = &saved.files;
    let verify = async |file: &Path| kvctl().run(&["snapshot", "verify", text(file)]).await;
    for file in &saved.files {
        assert_eq!(verify(file).await.code, 0, "{}", file.display());
    }
    let bytes = fs::read(first).unwrap();
    let (damaged, dir) = (saved.cluster.scratch().join("damaged"), saved.cluster.scratch().join("restored"));
    let ends = [0, 8, 20, bytes.len() - 1, bytes.len() - 32, bytes.len() - 33];
    for at in (0..bytes.len()).step_by(bytes.len() / 25).chain(ends) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        fs::write(&damaged, bytes).unwrap();
        let verdict = verify(&damaged).await;
        assert!(verdict.code == 1 && verdict.err.contains(text(&damaged)), "byte {at}: {verdict:?}");
        let told = restore(&[whole, &damaged, second], &dir, &[]).await;
        assert!(told.code != 0 && told.err.contains(text(&damaged)), "byte {at}: {told:?}");
        assert!(!dir.exists() && !dir.with_extension("part").exists(), "byte {at}");
    }
}
