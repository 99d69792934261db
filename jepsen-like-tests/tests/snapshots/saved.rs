//! `kvctl snapshot save`: what arrives is what the member had, whoever writes meanwhile; mistakes cost nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::etcdctl::Etcdctl;

use super::{digest_is_right, files, holds, json};

const ENDING: &str = ".db";

async fn start(flavor: Flavor, count: usize) -> Cluster {
    Cluster::start(flavor, count, Options::default().fast_elections()).await.unwrap()
}

fn kvctl(cluster: &Cluster, index: usize) -> Etcdctl {
    Etcdctl::kvctl(&[cluster.endpoint(index)])
}

fn file(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.scratch().join(format!("{name}{ENDING}"))
}

/// The format version, from the head of a file of Barque's.
fn format_version(bytes: &[u8]) -> u32 {
    assert_eq!(&bytes[..8], b"BRQSNAP\0");
    u32::from_le_bytes(bytes[8..12].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_is_saved_while_clients_write() {
    let mut cluster = start(Flavor::Barque, 3).await;
    for number in 0..50 {
        cluster.client(0).put(format!("before/{number}/"), "x".repeat(2000)).await.unwrap();
    }
    let leader = cluster.leader().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (client, stop) = (cluster.client(leader), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                client.put(format!("meanwhile/{}/", written % 100), "y".repeat(500)).await.unwrap();
                written += 1;
            }
            written
        })
    };
    for (name, index) in [("leader", leader), ("follower", (leader + 1) % 3)] {
        let before = cluster.client(index).revision().await.unwrap();
        let file = file(&cluster, name);
        let path = file.to_str().unwrap();
        let told = json(&kvctl(&cluster, index).run(&["snapshot", "save", path, "-w", "json"]).await.ok());
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!((bytes.len() % 512, digest_is_right(&bytes)), (32, true), "as etcd's clients expect it");
        assert_eq!(told["size_bytes"], bytes.len());
        assert!(told["revision"].as_i64().unwrap() >= before, "{told} after {before}");
        assert!(format_version(&bytes) < 3, "a whole one");
        assert!((0..50).all(|number| holds(&bytes, &format!("before/{number}/"))), "something is missing");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);

    let third = file(&cluster, "third");
    let said = kvctl(&cluster, 0).run(&["snapshot", "save", third.to_str().unwrap()]).await.ok();
    let revision = cluster.client(0).revision().await.unwrap();
    assert_eq!(
        said,
        format!("Snapshot saved at {}\nServer version 3.6.0\nRevision {revision}\n", third.display())
    );
    assert!(files(cluster.scratch(), ".part").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_increment_holds_what_came_after_a_revision() {
    let cluster = start(Flavor::Barque, 1).await;
    let client = cluster.client(0);
    client.put("old/kept", "first").await.unwrap();
    client.put("old/changed", "was-before").await.unwrap();
    let since = client.put("old/gone", "x").await.unwrap().header.unwrap().revision;
    client.put("old/changed", "is-after").await.unwrap();
    let delete = pb::DeleteRangeRequest { key: "old/gone".into(), ..Default::default() };
    client.kv.clone().delete_range(delete).await.unwrap();
    let revision = client.put("new/key", "y").await.unwrap().header.unwrap().revision;

    let save = |name: &str, since: i64| {
        let (kvctl, file) = (kvctl(&cluster, 0), file(&cluster, name));
        async move {
            let (since, path) = (format!("--since={since}"), file.to_str().unwrap());
            let told = json(&kvctl.run(&["snapshot", "save", path, &since, "-w", "json"]).await.ok());
            (told, std::fs::read(&file).unwrap())
        }
    };
    let (told, bytes) = save("increment", since).await;
    assert_eq!((&told["since"], &told["revision"]), (&since.into(), &revision.into()));
    assert!(digest_is_right(&bytes), "nothing but the file itself");
    assert_eq!(format_version(&bytes), 3);
    for (text, there) in [
        ("is-after", true),
        ("old/gone", true),
        ("new/key", true),
        ("was-before", false),
        ("old/kept", false),
    ] {
        assert_eq!(holds(&bytes, text), there, "{text}");
    }
    // Nothing came after the newest revision.
    let (_, bytes) = save("empty", revision).await;
    assert!(digest_is_right(&bytes) && !holds(&bytes, "new/key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_and_cost_nothing() {
    let cluster = start(Flavor::Barque, 2).await;
    let client = cluster.client(0);
    for value in ["1", "2", "3"] {
        client.put("k", value).await.unwrap();
    }
    let request = pb::CompactionRequest { revision: 3, physical: false };
    client.kv.clone().compact(request).await.unwrap();
    let (one, all) = (kvctl(&cluster, 0), Etcdctl::kvctl(&cluster.endpoints()));
    let (taken, free) = (file(&cluster, "taken"), file(&cluster, "free"));
    std::fs::write(&taken, "precious").unwrap();
    let below_a_file = taken.join("x");
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let (taken_path, free_path, below) = (path(&taken), path(&free), path(&below_a_file));
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    let one_node = "snapshot must be requested to one selected node, not multiple [";
    let table: [(&Etcdctl, Vec<&str>, i32, &str); 9] = [
        (&one, vec!["save", &taken_path], 6, "it is there already; choose another name"),
        (&one, vec!["save", &below], 6, "Not a directory"),
        (&one, vec!["save", &free_path, "--since=2"], 1, compacted),
        (&one, vec!["save", &free_path, "--since=99"], 1, future),
        (&one, vec!["save", &free_path, "--since=0"], 1, "--since"),
        (&all, vec!["save", &free_path], 5, one_node),
        (&one, vec!["save", &free_path, "--command-timeout=1ns"], 5, "raise --command-timeout"),
        (&one, vec!["save"], 128, "FILE"),
        (&one, vec!["save", &free_path, "-w", "table"], 4, "no table output"),
    ];
    for (tool, words, code, text) in table {
        let said = tool.run(&[&["snapshot"], &words[..]].concat()).await;
        assert_eq!((said.code, said.err.contains(text)), (code, true), "{words:?}: {said:?}");
    }
    let increment = ["snapshot", "save", &free_path, "--since=3"];
    assert_eq!(one.run(&increment).await.code, 0, "from the compacted revision on everything is there");
    std::fs::remove_file(&free).unwrap();

    // With users, a snapshot is for root alone.
    for words in [&["user", "add", "root:secret"][..], &["user", "add", "alice:wonder"], &["auth", "enable"]]
    {
        one.run(words).await.ok();
    }
    for (flag, code, text) in [
        ("--auth-jwt-token=nonsense", 1, "invalid auth token"),
        ("--user=alice:wonder", 1, "permission denied"),
        ("--user=alice:wrong", 2, "authentication failed"),
    ] {
        for words in [&["save", &free_path][..], &["save", &free_path, "--since=4"], &["list"]] {
            let said = one.run(&[&["snapshot"], words, &[flag]].concat()).await;
            assert!(said.code != 0 && said.err.contains(text), "{words:?} {flag}: {said:?}");
            assert!(words == ["list"] || said.code == code, "{words:?} {flag}: {said:?}");
        }
    }
    assert_eq!(std::fs::read(&taken).unwrap(), b"precious");
    assert_eq!(files(cluster.scratch(), ".part"), Vec::<String>::new());
    assert_eq!(files(cluster.scratch(), ENDING), ["taken.db"]);
    one.run(&["snapshot", "save", &free_path, "--user=root:secret"]).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_etcd_it_saves_what_etcdctl_saves() {
    let cluster = start(Flavor::Etcd, 1).await;
    let client = cluster.client(0);
    for number in 0..200 {
        client.put(format!("k/{}", number % 60), "x".repeat(1000)).await.unwrap();
    }
    let etcdctl = Etcdctl::to(&[cluster.endpoint(0)]);
    let mut statuses = Vec::new();
    for (name, tool) in [("theirs", &etcdctl), ("ours", &kvctl(&cluster, 0))] {
        let file = file(&cluster, name);
        let path = file.to_str().unwrap();
        assert_eq!(tool.run(&["snapshot", "save", path]).await.ok(), format!("Snapshot saved at {path}\n"));
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() % 512 == 32 && digest_is_right(&bytes), "{name}");
        statuses.push(json(&etcdctl.run(&["snapshot", "status", path, "-w", "json"]).await.ok()));
    }
    assert_eq!(statuses[0], statuses[1]);
    assert_eq!(statuses[1]["revision"], 201);

    let free = file(&cluster, "free");
    let free = free.to_str().unwrap();
    for (words, text) in
        [(&["save", free, "--since=5"][..], "--since needs Barque"), (&["list"], "needs Barque")]
    {
        let said = kvctl(&cluster, 0).run(&[&["snapshot"], words].concat()).await;
        assert_eq!((said.code, said.err.contains(text)), (4, true), "{said:?}");
    }
    assert_eq!(files(cluster.scratch(), ENDING), ["ours.db", "theirs.db"]);
}
