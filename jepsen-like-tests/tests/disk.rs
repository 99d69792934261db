//! Data that is wiped, damaged, torn, far behind, or has no room: told in a sentence, never guessed around.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::path::PathBuf;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::small_disk::SmallDisk;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A member that cannot go on must say so within this time.
const VERDICT: Duration = Duration::from_secs(15);

/// The segments of a member's log, oldest first.
fn segments(cluster: &Cluster, index: usize) -> Vec<PathBuf> {
    let below = if cluster.flavor().is_barque() { "wal" } else { "member/wal" };
    let files = std::fs::read_dir(cluster.data_dir(index).join(below)).unwrap();
    let mut segments: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    segments.sort();
    assert!(!segments.is_empty(), "{} has no log", cluster.name(index));
    segments
}

/// Where the content of a segment that was filled with zeros in advance ends.
fn content_end(segment: &[u8]) -> usize {
    segment.iter().rposition(|&byte| byte != 0).expect("a segment is not empty")
}

async fn put_some(client: &Client, prefix: &str, count: usize) {
    for number in 0..count {
        client.put(format!("{prefix}{number}"), "x".repeat(200)).await.unwrap();
    }
}

/// The member must end with an error, or at least never become healthy; its log says `words` (one of them).
async fn refuses_to_run(cluster: &mut Cluster, index: usize, words: &[&str]) {
    let ended = cluster.ended(index, VERDICT).await.unwrap();
    if let Some(status) = ended {
        assert!(!status.success(), "it ended as if all were well");
    } else {
        let health = http_get(cluster.client_port(index), "/health").await;
        assert!(health.is_err() || health.unwrap().status != 200, "it runs and calls itself healthy");
    }
    let log = cluster.log(index).to_lowercase();
    assert!(words.iter().any(|word| log.contains(word)), "its log says none of {words:?}");
}

/// A member that comes back with nothing may have acknowledged what it no longer knows: it must not vote.
/// `state` is the `--initial-cluster-state` with which somebody starts it again.
async fn a_wiped_member_stays_outside(state: &str) {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    put_some(&cluster.client(0), "before/", 50).await;
    let leader = cluster.leader().await.unwrap();
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill9(wiped).unwrap();
    cluster.wipe(wiped).unwrap();
    let mut flags = cluster.flags(wiped);
    flags.insert("--initial-cluster-state".to_owned(), state.to_owned());
    cluster.spawn_with(wiped, &flags).unwrap();
    refuses_to_run(&mut cluster, wiped, &["wiped", "lost its data", "already been bootstrapped"]).await;
    // The other two go on.
    put_some(&cluster.client(leader), "two/", 10).await;

    // With one member left and the wiped one perhaps still there, nothing may be acknowledged.
    cluster.kill9(other).unwrap();
    let unacknowledged = timeout(Duration::from_secs(3), cluster.client(leader).put("lost", "x")).await;
    assert!(!matches!(unacknowledged, Ok(Ok(_))), "a write was acknowledged by a wiped member's vote");
    cluster.restart(other).await.unwrap();
    put_some(&cluster.client(other), "again/", 10).await;

    // It comes back under a new id: the old one is removed, a new one added.
    cluster.kill9(wiped).unwrap();
    let id = member_id(&cluster, leader, cluster.name(wiped)).await;
    let request = pb::MemberRemoveRequest { id };
    cluster.client(leader).cluster.clone().member_remove(request).await.unwrap();
    let added = cluster.add_member().await.unwrap();
    assert!(cluster.client(added).get("before/0").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_is_refused_under_its_old_id() {
    a_wiped_member_stays_outside("new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_is_refused_even_when_told_that_the_cluster_exists() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd takes it back, with nothing");
        return;
    }
    a_wiped_member_stays_outside("existing").await;
}

async fn member_id(cluster: &Cluster, ask: usize, name: &str) -> u64 {
    let request = pb::MemberListRequest { linearizable: true };
    let listed = cluster.client(ask).cluster.clone().member_list(request).await.unwrap().into_inner();
    listed.members.iter().find(|member| member.name == name).unwrap().id
}

/// One flipped byte in front of later records is damage: the member stops and says where; the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_stops_the_member_with_a_sentence() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    put_some(&cluster.client(0), "before/", 200).await;
    let leader = cluster.leader().await.unwrap();
    let damaged = (leader + 1) % 3;
    cluster.kill9(damaged).unwrap();

    let segment = segments(&cluster, damaged).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = content_end(&bytes) / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&segment, bytes).unwrap();
    cluster.spawn(damaged).unwrap();

    let ended = cluster.ended(damaged, VERDICT).await.unwrap().expect("it must not run with a damaged log");
    assert!(!ended.success());
    let log = cluster.log(damaged);
    if cluster.flavor().is_barque() {
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(log.contains("damaged") && log.contains(name), "the log does not say what is damaged");
    } else {
        assert!(log.contains("crc mismatch"));
    }
    put_some(&cluster.client(leader), "after/", 10).await;
}

/// A record that a crash cut off was never acknowledged: it is dropped, everything before it stays.
#[tokio::test]
async fn a_torn_tail_is_cut_off() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd takes only whole missing sectors for torn");
        return;
    }
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);
    put_some(&client, "kept/", 50).await;
    client.put("torn", "x".repeat(5000)).await.unwrap();
    cluster.kill9(0).unwrap();

    // Its last bytes never reached the disk.
    let segment = segments(&cluster, 0).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = content_end(&bytes);
    bytes[end - 10..=end].fill(0);
    std::fs::write(&segment, bytes).unwrap();

    cluster.restart(0).await.unwrap();
    for number in 0..50 {
        assert!(client.get(format!("kept/{number}")).await.unwrap().is_some(), "kept/{number} is gone");
    }
    client.put("after", "x").await.unwrap();
    cluster.kill9(0).unwrap();
    cluster.restart(0).await.unwrap();
    assert!(client.get("after").await.unwrap().is_some());
}

/// What the follower lacks is no longer in the leader's log, so it gets a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_far_behind_catches_up_by_snapshot() {
    let options = Options::default().flag("--snapshot-count", 100);
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let behind = (leader + 1) % 3;
    put_some(&cluster.client(leader), "before/", 20).await;
    cluster.kill9(behind).unwrap();

    // More than the 5000 entries that are kept for followers that are a little behind.
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let client = cluster.client(leader);
        writers.spawn(async move {
            for number in 0..400 {
                let key = format!("while-away/{writer}/{}", number % 50);
                client.put(key, "y".repeat(2048)).await.unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    cluster.restart(behind).await.unwrap();

    let revision = cluster.client(behind).revision().await.unwrap();
    let expected = cluster.client(leader).hash_kv(revision).await.unwrap();
    let caught_up = cluster.client(behind).hash_kv(revision).await.unwrap();
    assert_eq!((expected.hash, expected.compact_revision), (caught_up.hash, caught_up.compact_revision));
    let metrics = http_get(cluster.client_port(behind), "/metrics").await.unwrap().body;
    let received = metrics.lines().any(|line| {
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        line.starts_with("etcd_network_snapshot_receive_success") && value.is_some_and(|value| value > 0.0)
    });
    assert!(received, "it caught up, but not by a snapshot");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a-file");
    std::fs::write(&file, "not a directory").unwrap();
    let options = Options::default().data_root(0, file.clone());
    let mut cluster = Cluster::prepare(Flavor::under_test(), 1, options).unwrap();
    cluster.spawn(0).unwrap();
    let ended = cluster.ended(0, VERDICT).await.unwrap().expect("it must not run without its directory");
    assert!(!ended.success());
    let log = cluster.log(0);
    assert!(log.contains(&file.display().to_string()), "the log does not name the directory");
}

/// Writes until there is no room: whatever was acknowledged is there when there is room again.
#[tokio::test]
async fn a_full_disk_loses_nothing() {
    // etcd takes 64 MiB for each piece of its log in advance.
    let mebibytes = if Flavor::under_test().is_barque() { 128 } else { 320 };
    let Some(disk) = SmallDisk::mount(mebibytes) else { return };
    let options = Options::default().fast_elections().data_root(0, disk.path().to_owned());
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);

    let value = "z".repeat(256 << 10);
    let mut acknowledged = 0;
    let refusal = loop {
        assert!(acknowledged < mebibytes * 4, "more was acknowledged than the disk can hold");
        match timeout(PATIENCE, client.put(format!("full/{acknowledged}"), value.clone())).await {
            Ok(Ok(_)) => acknowledged += 1,
            Ok(Err(status)) => break status,
            Err(_) => panic!("no answer at all once the disk is full"),
        }
    };
    println!("{acknowledged} writes were acknowledged, then: {:?} {}", refusal.code(), refusal.message());
    assert!(acknowledged > 20, "the disk was full too early");
    let said = format!("{} {}", refusal.message(), cluster.log(0)).to_lowercase();
    assert!(said.contains("no space left") || said.contains("space exceeded"), "nobody says what is wrong");

    disk.grow(1024);
    if cluster.ended(0, Duration::from_secs(2)).await.unwrap().is_none() {
        cluster.kill9(0).unwrap();
    }
    cluster.restart(0).await.unwrap();
    for number in 0..acknowledged {
        let found = client.get(format!("full/{number}")).await.unwrap();
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "full/{number} was acknowledged");
    }
    client.put("after", "x").await.unwrap();
    // The disk must outlive the member that uses it.
    drop(cluster);
    drop(disk);
}
