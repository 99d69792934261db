//! The records are written anew to give space back, and the disk is full in the middle of it: the member goes on with what
//! it has, and gives the space back when there is room.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::path::PathBuf;
use std::sync::Arc;

use barque_proto::etcdserverpb as pb;
use bytes::Bytes;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::sick_disk::missing;
use jepsen_like_tests::sick_disk::sickness::FullBelow;
use rand::RngCore as _;
use tokio::task::JoinSet;

/// Values that no compression makes smaller: 24 MiB, of which one part in so many stays.
const KEYS: usize = 1536;
const VALUE_BYTES: usize = 16 << 10;
const STAYS: usize = 16;
const GAVE_UP: &str = "the records could not be written anew; they stay as they are";
const GAVE_BACK: &str = "the records gave space back";

fn key(number: usize) -> String {
    format!("fill/{number:06}")
}

async fn fill(client: &Client) -> Vec<Bytes> {
    let mut puts = JoinSet::new();
    let mut stay = Vec::new();
    for number in 0..KEYS {
        let mut bytes = vec![0; VALUE_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        let value = Bytes::from(bytes);
        if number % STAYS == 0 {
            stay.push(value.clone());
        }
        if puts.len() >= 16 {
            puts.join_next().await.unwrap().unwrap();
        }
        let client = client.clone();
        puts.spawn(async move { drop(client.put(key(number), value).await.unwrap()) });
    }
    puts.join_all().await;
    stay
}

/// Deletes what does not stay.
async fn delete(client: &Client) {
    for from in (0..KEYS).step_by(STAYS) {
        let request = pb::DeleteRangeRequest {
            key: key(from + 1).into(),
            range_end: key(from + STAYS).into(),
            ..Default::default()
        };
        client.kv.clone().delete_range(request).await.unwrap();
    }
}

/// Compacts; the records are looked at then.
async fn compact(client: &Client) {
    let revision = client.put("last", "x").await.unwrap().header.unwrap().revision;
    client.kv.clone().compact(pb::CompactionRequest { revision, physical: false }).await.unwrap();
}

/// Where the copy will be, as the disk knows it.
fn next_generation(cluster: &Cluster) -> PathBuf {
    let names = std::fs::read_dir(cluster.data_dir(0).join("records")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: Vec<u64> = names.filter_map(|name| name.strip_prefix("records-")?.parse().ok()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    PathBuf::from(format!("m1/records/records-{}", found[0] + 1))
}

async fn check(client: &Client, stay: &[Bytes]) {
    for (number, value) in stay.iter().enumerate() {
        assert_eq!(client.get(key(number * STAYS)).await.unwrap().as_ref(), Some(value));
    }
    let all = pb::RangeRequest { key: "fill/".into(), range_end: "fill0".into(), ..Default::default() };
    assert_eq!(client.range(all).await.unwrap().kvs.len(), stay.len());
}

async fn told(cluster: &Cluster, words: &str, times: usize) {
    let told = eventually(words, PATIENCE, || async {
        let found = cluster.log(0).matches(words).count();
        if found >= times { Ok(()) } else { Err(format!("told {found} times, not {times}")) }
    });
    told.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_in_the_middle_of_a_rewrite_loses_nothing() {
    if let Some(what) = missing() {
        println!("skipped: {what}");
        return;
    }
    let options = Options::default().fast_elections().disks(Arc::default());
    let mut cluster = Cluster::start(Flavor::Barque, 1, options).await.unwrap();
    let disk = cluster.disk(0).unwrap();
    let client = cluster.client(0);
    let stay = fill(&client).await;
    delete(&client).await;
    // Names and writes of the copy for which there still is space: none; some of the engine's own files; some records.
    for (times, spared) in [0, 5, 12, 20].into_iter().enumerate() {
        disk.set_full_below(Some(FullBelow { directory: next_generation(&cluster), spared }));
        compact(&client).await;
        told(&cluster, GAVE_UP, times + 1).await;
        // It takes writes all the while, and the old records are there after a crash.
        client.put("goes-on", spared.to_string()).await.unwrap();
        check(&client, &stay).await;
        cluster.kill9(0).unwrap();
        cluster.restart(0).await.unwrap();
        check(&client, &stay).await;
        assert_eq!(client.get("goes-on").await.unwrap(), Some(Bytes::from(spared.to_string())));
        assert!(!cluster.log(0).contains("Discarded"), "the records were thrown away, {spared} spared");
        assert!(!cluster.log(0).contains(GAVE_BACK), "{spared} spared were enough");
    }
    disk.set_full_below(None);
    compact(&client).await;
    told(&cluster, GAVE_BACK, 1).await;
    check(&client, &stay).await;
    cluster.kill9(0).unwrap();
    cluster.restart(0).await.unwrap();
    check(&client, &stay).await;
    assert!(!cluster.log(0).contains("Discarded"), "the records were thrown away");
}
