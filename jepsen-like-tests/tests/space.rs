//! Space that deleted keys took goes back to the file system while writes go on, though the member is killed at it.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use bytes::Bytes;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};
use jepsen_like_tests::deadline::eventually;
use rand::RngCore as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;
/// What is written at first: 192 MiB that cannot be compressed.
const KEYS: usize = 12_288;
const VALUE_BYTES: usize = 16 << 10;
/// One of so many keys stays, so that what is deleted lies scattered between them.
const STAYS: usize = 24;
const LIVE_BYTES: u64 = (KEYS / STAYS * VALUE_BYTES) as u64;
/// What does not depend on the data: log that is kept for members that lag, and segments made in advance.
const FIXED_BYTES: u64 = 64 * MIB;
/// The log, the newest snapshot and the records, with room to grow.
const BOUND_BYTES: u64 = FIXED_BYTES + 6 * LIVE_BYTES;
/// What a member logs when it has written its records anew.
const GAVE_BACK: &str = "the records gave space back";
/// The slowest of machines.
const DEADLINE: Duration = Duration::from_secs(120);

/// Blocks that everything below `dir` takes on disk; files come and go meanwhile.
fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut bytes = 0;
    let entries = match std::fs::read_dir(dir) {
        Err(error) if absent(&error) => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += disk_bytes(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(error) if absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// The same by folder, for a message.
fn told_by_folder(dir: &Path) -> String {
    let folders = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut told: Vec<String> = folders
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{name} {} MiB", disk_bytes(&path).unwrap_or(0) / MIB)
        })
        .collect();
    told.sort();
    told.join(", ")
}

fn key(number: usize) -> String {
    format!("fill/{number:06}")
}

/// Values that no compression makes smaller.
fn value() -> Bytes {
    let mut bytes = vec![0; VALUE_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes.into()
}

/// Does `work` for all numbers, some at a time.
async fn for_all<F>(client: &Client, work: impl Fn(Client, usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..KEYS {
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
        tasks.spawn(work(client.clone(), number));
    }
    tasks.join_all().await;
}

/// Puts one new key after the other until `stop`, each until it is acknowledged; how many.
async fn go_on_writing(client: Client, written: watch::Sender<usize>, stop: watch::Receiver<bool>) -> usize {
    while !*stop.borrow() {
        let number = *written.borrow();
        let put = || client.put(format!("goes-on/{number:09}"), number.to_string());
        eventually("a write", DEADLINE, put).await.unwrap();
        written.send_replace(number + 1);
    }
    *written.borrow()
}

/// The generations of the records in a data directory.
fn generations(dir: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(dir.join("records")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut found: Vec<u64> =
        names.filter_map(|n| n.to_str()?.strip_prefix("records-")?.parse().ok()).collect();
    found.sort_unstable();
    found
}

/// How often the member has written its records anew since it was started.
async fn rewrites(cluster: &Cluster) -> usize {
    let page = http_get(cluster.client_port(0), "/metrics").await.unwrap().body;
    let name = "etcd_disk_backend_defrag_duration_seconds_count ";
    page.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacted_space_comes_back_while_writes_go_on_and_after_a_kill() {
    let options = Options::default().flag("--snapshot-count", 500);
    let mut cluster = Cluster::start(Flavor::Barque, 1, options).await.unwrap();
    let client = cluster.client(0);
    let dir = cluster.data_dir(0).to_owned();
    let kept: Arc<Vec<Bytes>> = Arc::new((0..KEYS / STAYS).map(|_| value()).collect());
    let values = Arc::clone(&kept);
    for_all(&client, move |client, number| {
        let value = if number % STAYS == 0 { values[number / STAYS].clone() } else { value() };
        async move { drop(client.put(key(number), value).await.unwrap()) }
    })
    .await;
    let full = disk_bytes(&dir).unwrap();
    println!("filled: {}", told_by_folder(&dir));
    assert!(full > 2 * KEYS as u64 * VALUE_BYTES as u64, "{full} bytes hold the log and the records");

    let (written, mut count) = watch::channel(0);
    let stop = watch::Sender::new(false);
    let writer = tokio::spawn(go_on_writing(client.clone(), written, stop.subscribe()));
    for_all(&client, |client, number| async move {
        if number % STAYS != 0 {
            let request = pb::DeleteRangeRequest { key: key(number).into(), ..Default::default() };
            client.kv.clone().delete_range(request).await.unwrap();
        }
    })
    .await;
    let revision = client.revision().await.unwrap();
    let first = generations(&dir);
    assert_eq!(first.len(), 1, "nothing was compacted yet");
    let compaction = pb::CompactionRequest { revision, physical: false };
    client.kv.clone().compact(compaction).await.unwrap();

    // The next generation of the records appears while it is being filled.
    let rewriting = eventually("a rewrite", DEADLINE, || async {
        let now = generations(&dir);
        if now == first { Err(told_by_folder(&dir)) } else { Ok(now) }
    });
    let rewriting = rewriting.await.unwrap();
    cluster.kill9(0).unwrap();
    println!("killed at: {rewriting:?}, now {:?}, {}", generations(&dir), told_by_folder(&dir));
    let told_before = cluster.log(0).matches(GAVE_BACK).count();
    cluster.restart(0).await.unwrap();

    let shrunk = eventually("a small directory", DEADLINE, || async {
        // Reads are answered all the while.
        assert_eq!(client.get(key(0)).await.unwrap().as_ref(), Some(&kept[0]));
        let bytes = disk_bytes(&dir).map_err(|error| error.to_string())?;
        // The old generation is removed right after the new one counts.
        if bytes < BOUND_BYTES && generations(&dir).len() == 1 {
            Ok(bytes)
        } else {
            Err(told_by_folder(&dir))
        }
    });
    let shrunk = shrunk.await;
    println!("after: {} of {full}, {}", disk_bytes(&dir).unwrap(), told_by_folder(&dir));
    shrunk.unwrap();
    // It has not stopped meanwhile.
    let before = *count.borrow();
    count.wait_for(|count| *count > before + 100).await.unwrap();
    stop.send_replace(true);
    let written = writer.await.unwrap();
    check(&client, written, &kept).await;
    let told = cluster.log(0).matches(GAVE_BACK).count();
    assert_eq!(rewrites(&cluster).await, told - told_before, "rewrites that the metric counts");

    // What the next start reads is what was written anew.
    cluster.kill9(0).unwrap();
    cluster.restart(0).await.unwrap();
    check(&client, written, &kept).await;
    // The kill may fall between the moment when the new generation counts and the line that tells of it: then what was being
    // written is what there is, and nothing was left to be told.
    let done_when_killed = generations(&dir)[..] == rewriting[1..];
    assert!(told > 0 || done_when_killed, "the log does not tell of it");
    let log = cluster.log(0);
    assert!(!log.contains("Discarded"), "the records were thrown away");
}

/// Everything that was acknowledged is there.
async fn check(client: &Client, written: usize, kept: &[Bytes]) {
    let all = pb::RangeRequest { key: "goes-on/".into(), range_end: "goes-on0".into(), ..Default::default() };
    let found = client.range(all).await.unwrap().kvs;
    assert_eq!(found.len(), written, "acknowledged writes");
    for (number, kv) in found.iter().enumerate() {
        assert_eq!(kv.value, number.to_string(), "the write {number}");
    }
    for (number, value) in kept.iter().enumerate() {
        assert_eq!(client.get(key(number * STAYS)).await.unwrap().as_ref(), Some(value));
    }
}
