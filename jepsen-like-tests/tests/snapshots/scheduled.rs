//! `--snapshot-schedule`: files come and go by themselves, and what goes wrong is told and tried again.

use std::collections::BTreeSet;
use std::path::Path;

use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::etcdctl::Etcdctl;
use jepsen_like_tests::small_disk::SmallDisk;
use serde_json::Value;

use super::{digest_is_right, files, holds, json};

const ENDING: &str = ".snapshot";

fn each_second() -> Options {
    Options::default().fast_elections().flag("--snapshot-schedule", "@every 1s")
}

/// What the member at `endpoint` tells of its snapshots.
async fn listed(endpoint: &str) -> Value {
    let kvctl = Etcdctl::kvctl(&[endpoint.to_owned()]);
    json(&kvctl.run(&["snapshot", "list", "-w", "json"]).await.ok())["endpoints"][0].take()
}

fn names(listed: &Value) -> Vec<String> {
    let snapshots = listed["snapshots"].as_array().unwrap();
    snapshots.iter().map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
}

async fn metric(cluster: &Cluster, index: usize, name: &str) -> f64 {
    let page = http_get(cluster.client_port(index), "/metrics").await.unwrap().body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in the metrics")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_and_the_oldest_go() {
    let options = each_second().flag("--snapshot-retention", 2);
    let cluster = Cluster::start(Flavor::Barque, 3, options).await.unwrap();
    cluster.client(0).put("some/key", "x").await.unwrap();
    for index in 0..3 {
        let endpoint = cluster.endpoint(index);
        let first = eventually("a first snapshot", PATIENCE, || async {
            names(&listed(&endpoint).await).first().cloned().ok_or("none yet")
        });
        let first = first.await.unwrap();
        let dir = cluster.data_dir(index).join("backups");
        let gone = eventually("retention", PATIENCE, || async {
            let told = listed(&endpoint).await;
            let all = names(&told);
            if all.len() == 2 && !all.contains(&first) { Ok(told) } else { Err(format!("{all:?}")) }
        });
        let told = gone.await.unwrap();
        assert!(!dir.join(&first).exists());
        assert_eq!((&told["schedule"], &told["retention"]), (&"@every 1s".into(), &2.into()), "{told}");
        assert_eq!(told["directory"], dir.display().to_string());
        assert!(told["last_error"].is_null() && told["next_ms"].is_number(), "{told}");
        for snapshot in told["snapshots"].as_array().unwrap() {
            assert_eq!(snapshot["verified"], true, "{told}");
        }
        // Between two looks a file may go: one that is there is whole.
        let whole = eventually("a whole file", PATIENCE, || async {
            let name = files(&dir, ENDING).pop().ok_or("no file")?;
            let bytes = std::fs::read(dir.join(name)).map_err(|_| "it went")?;
            if holds(&bytes, "some/key") { Ok(bytes) } else { Err("an earlier state") }
        });
        assert!(digest_is_right(&whole.await.unwrap()));
        assert!(files(&dir, ENDING).len() <= 3, "two are kept, and one has just come");

        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age_s = now_s - metric(&cluster, index, "barque_snapshot_last_success_timestamp_seconds").await;
        assert!((0.0..PATIENCE.as_secs_f64()).contains(&age_s), "{age_s}");
        assert!(metric(&cluster, index, "barque_snapshot_size_bytes").await > 100.0);
        assert!(metric(&cluster, index, "barque_snapshot_duration_seconds_count").await >= 3.0);
        assert_eq!(metric(&cluster, index, "barque_snapshot_failures_total").await, 0.0);
    }
    let text = Etcdctl::kvctl(&cluster.endpoints()).run(&["snapshot", "list"]).await.ok();
    assert_eq!(text.matches("\"@every 1s\", the newest 2 are kept in ").count(), 3, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_run_left_is_looked_at_when_the_member_starts() {
    let mut cluster = Cluster::start(Flavor::Barque, 1, each_second()).await.unwrap();
    let endpoint = cluster.endpoint(0);
    let dir = cluster.data_dir(0).join("backups");
    let three = eventually("three snapshots", PATIENCE, || async {
        let names = names(&listed(&endpoint).await);
        if names.len() >= 3 { Ok(()) } else { Err(format!("{names:?}")) }
    });
    three.await.unwrap();
    cluster.kill9(0).unwrap();
    let left = files(&dir, ENDING);
    let damaged = left.last().unwrap();
    let mut bytes = std::fs::read(dir.join(damaged)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join(damaged), bytes).unwrap();
    let unfinished = dir.join(damaged.replace(ENDING, ".writing"));
    std::fs::write(&unfinished, "half of it").unwrap();
    std::fs::write(dir.join("notes.writing"), "somebody's").unwrap();

    let mut flags = cluster.flags(0);
    flags.insert("--snapshot-schedule".to_owned(), "@every 24h".to_owned());
    cluster.spawn_with(0, &flags).unwrap();
    cluster.ready(0).await.unwrap();
    assert!(!unfinished.exists() && dir.join("notes.writing").exists());
    let looked = eventually("all files read", PATIENCE, || async {
        let told = listed(&endpoint).await;
        let good: BTreeSet<&str> = told["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|snapshot| snapshot["verified"] == true)
            .map(|snapshot| snapshot["name"].as_str().unwrap())
            .collect();
        let expected: BTreeSet<&str> = left[..left.len() - 1].iter().map(String::as_str).collect();
        if good == expected { Ok(told) } else { Err(told.to_string()) }
    });
    let told = looked.await.unwrap();
    assert_eq!(names(&told), left, "the damaged one is told, and not removed");
    assert!(told["last_error"]["text"].as_str().unwrap().contains(damaged), "{told}");
    assert!(metric(&cluster, 0, "barque_snapshot_last_success_timestamp_seconds").await > 0.0);
    assert_eq!(metric(&cluster, 0, "barque_snapshot_failures_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_directory_is_told_and_gets_over_it() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    let options = each_second().flag("--snapshot-dir", disk.path().display());
    let cluster = Cluster::start(Flavor::Barque, 1, options).await.unwrap();
    let (endpoint, client) = (cluster.endpoint(0), cluster.client(0));
    for number in 0..20 {
        client.put(format!("much/{number}"), "z".repeat(100 << 10)).await.unwrap();
    }
    let told = eventually("an error", PATIENCE, || async {
        let told = listed(&endpoint).await;
        let text = told["last_error"]["text"].as_str().unwrap_or_default();
        if text.contains("No space left") { Ok(told) } else { Err(told.to_string()) }
    });
    let told = told.await.unwrap();
    assert!(metric(&cluster, 0, "barque_snapshot_failures_total").await >= 1.0);
    assert!(cluster.log(0).contains("a scheduled snapshot failed"), "the log does not say it");
    // Those that were good before stay, and the store goes on.
    let kept = names(&told);
    assert!(kept.iter().all(|name| is_whole(&disk.path().join(name))), "{kept:?}");
    client.put("goes/on", "x").await.unwrap();
    let text = Etcdctl::kvctl(&cluster.endpoints()).run(&["snapshot", "list"]).await.ok();
    assert!(text.contains("! ") && text.contains("No space left"), "{text}");

    disk.grow(64);
    let recovered = eventually("a snapshot", PATIENCE, || async {
        let told = listed(&endpoint).await;
        let newest = names(&told).pop();
        match newest.filter(|name| !kept.contains(name) && told["last_error"].is_null()) {
            Some(name) => Ok(name),
            None => Err(told.to_string()),
        }
    });
    let name = recovered.await.unwrap();
    assert!(std::fs::metadata(disk.path().join(name)).unwrap().len() > 2_000_000);
    // The disk must outlive the member that uses it.
    drop(cluster);
    drop(disk);
}

fn is_whole(path: &Path) -> bool {
    digest_is_right(&std::fs::read(path).unwrap())
}
