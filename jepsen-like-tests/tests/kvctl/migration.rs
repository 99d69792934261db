//! `kvctl migrate`: a live etcd becomes Barque.

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::etcdctl::Etcdctl;

use super::json;

/// Everything that matters of a store: keys, values, versions of leases.
async fn contents(kvctl: &Etcdctl) -> Vec<(String, String, String)> {
    let all = json(&kvctl.run(&["get", "--prefix", "", "-w", "json"]).await.ok());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let row = |kv: &serde_json::Value| (text(&kv["key"]), text(&kv["value"]), kv["lease"].to_string());
    all["kvs"].as_array().map(|kvs| kvs.iter().map(row).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_etcd_is_copied_followed_and_left() {
    let etcd = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let barque = Cluster::start(Flavor::Barque, 3, Options::default()).await.unwrap();
    let source = Etcdctl::kvctl(&etcd.endpoints());
    let destination = Etcdctl::kvctl(&barque.endpoints());
    let from = etcd.endpoint(0);

    // More than one page and one transaction.
    for page in 0..7 {
        let puts: String = (0..100).map(|key| format!("put k/{page}/{key:03} \"value {key}\"\n")).collect();
        source.run_with(&["txn"], &format!("\n{puts}\n\n"), PATIENCE).await.ok();
    }
    let granted = source.run(&["lease", "grant", "600"]).await.ok();
    let lease = granted.split(' ').nth(1).unwrap().to_owned();
    source.run(&["put", "leased", "x", &format!("--lease={lease}")]).await.ok();

    let copied = json(&destination.run(&["migrate", &from, "--once", "-w", "json"]).await.ok());
    assert_eq!((&copied["phase"], &copied["keys"]), (&"follow".into(), &701.into()), "{copied}");
    let position = |rows: Vec<(String, String, String)>| {
        rows.into_iter().filter(|row| !row.0.starts_with("a3ZjdGwvbWlncmF0ZS")).collect::<Vec<_>>()
    };
    assert_eq!(position(contents(&destination).await), contents(&source).await);
    let left = destination.run(&["lease", "timetolive", &lease, "--keys"]).await.ok();
    assert!(left.contains("granted with TTL(600s)") && left.ends_with("attached keys([leased])\n"), "{left}");

    // Followed while both live: deletions, transactions with many keys, other leases.
    let mut arrives = destination.open(&["watch", "last", "--rev=1"]);
    let mut following = destination.open(&["migrate", &from]);
    assert!(following.lines(1).await[0].starts_with("following from revision"));
    source.run(&["del", "--prefix", "k/1/"]).await.ok();
    source.run(&["del", "--prefix", "k/2/"]).await.ok();
    source.run(&["put", "k/3/000", "new"]).await.ok();
    source.run(&["lease", "revoke", &lease]).await.ok();
    source.run(&["put", "last", "1"]).await.ok();
    assert_eq!(arrives.lines(3).await, ["PUT", "last", "1"]);
    assert_eq!(following.interrupt().await, 0);
    assert_eq!(position(contents(&destination).await), contents(&source).await);

    // Interrupted, and the source has meanwhile compacted what would come next: everything is compared again.
    source.run(&["del", "k/3/001"]).await.ok();
    source.run(&["del", "k/3/002"]).await.ok();
    let now = json(&source.run(&["put", "k/3/003", "newer", "-w", "json"]).await.ok());
    let now = now["header"]["revision"].to_string();
    source.run(&["compaction", &now]).await.ok();
    let again = destination.run(&["migrate", &from, "--once"]).await.ok();
    assert!(again.contains("everything is compared again"), "{again}");
    assert_eq!(position(contents(&destination).await), contents(&source).await);

    let finished = destination.run(&["migrate", &from, "--finish"]).await.ok();
    assert!(finished.contains("finished: "), "{finished}");
    assert_eq!(contents(&destination).await, contents(&source).await);

    // A destination with keys of its own is left alone.
    let refused = destination.run(&["migrate", &from, "--once"]).await;
    assert!(refused.code == 3 && refused.err.contains("--overwrite"), "{refused:?}");
    let itself = destination.run(&["migrate", &barque.endpoint(1)]).await;
    assert!(itself.code == 128 && itself.err.contains("same cluster"), "{itself:?}");
    arrives.interrupt().await;
}
