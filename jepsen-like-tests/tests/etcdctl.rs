//! Debian's `etcdctl` on a cluster of three, through the leader and through each follower.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::time::Duration;

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::etcdctl::Etcdctl;
use serde_json::Value;

/// A JSON answer without what belongs to one cluster only.
fn comparable(json: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for own in ["cluster_id", "member_id", "raft_term"] {
                    fields.remove(own);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(json).unwrap_or_else(|why| panic!("{why}: {json}"));
    strip(&mut value);
    value
}

/// Commands whose output is the same on every store with the same history: arguments and standard input.
const SCRIPT: &[(&[&str], &str)] = &[
    (&["put", "foo", "bar"], ""),
    (&["put", "foo1", "bar1"], ""),
    (&["put", "foo2"], "from standard input"),
    (&["put", "foo", "bar2", "--prev-kv"], ""),
    (&["put", "foo", "--ignore-value"], ""),
    (&["put", "nothing-here", "--ignore-value"], ""),
    (&["put", "foo", "bar", "--lease=123456789"], ""),
    (&["get", "foo"], ""),
    (&["get", "foo", "-w", "json"], ""),
    (&["get", "foo", "-w", "fields"], ""),
    (&["get", "foo", "--hex"], ""),
    (&["get", "foo", "foo2"], ""),
    (&["get", "--prefix", "foo", "-w", "json"], ""),
    (&["get", "--prefix", "foo", "--limit=2", "-w", "json"], ""),
    (&["get", "--prefix", "foo", "--sort-by=modify", "--order=descend"], ""),
    (&["get", "--prefix", "foo", "--sort-by=value", "--order=ascend", "--print-value-only"], ""),
    (&["get", "--prefix", "foo", "--keys-only"], ""),
    (&["get", "--from-key", "foo1"], ""),
    (&["get", "--prefix", "foo", "--rev=2", "-w", "json"], ""),
    (&["get", "foo", "--rev=100000"], ""),
    (&["get", ""], ""),
    (&["txn", "-w", "json"], "mod(\"foo\") > \"0\"\n\nput txn \"yes\"\nget foo\n\nput txn \"no\"\n\n"),
    (
        &["txn"],
        "value(\"foo\") = \"other\"\nversion(\"foo\") > \"0\"\n\nput txn \"yes\"\n\nget txn\ndel foo1\n\n",
    ),
    (&["txn"], "\n\nput twice \"1\"\nput twice \"2\"\n\n\n"),
    (&["del", "foo2", "--prev-kv"], ""),
    (&["del", "foo2"], ""),
    (&["put", "p/1", "1"], ""),
    (&["put", "p/2", "2"], ""),
    (&["put", "q", "3"], ""),
    (&["del", "p/1", "p/2", "-w", "json"], ""),
    (&["del", "--prefix", "p/", "--prev-kv"], ""),
    (&["del", "--from-key", "q", "-w", "json"], ""),
    (&["put", "foo", "bar"], ""),
    (&["compaction", "5"], ""),
    (&["compaction", "5"], ""),
    (&["compaction", "99999"], ""),
    (&["get", "foo", "--rev=3"], ""),
    (&["watch", "--help"], ""),
];

/// Runs the script three times, each command through another member than in the round before.
#[tokio::test]
async fn the_same_commands_print_the_same_as_on_etcd() {
    let etcd = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let reference = Etcdctl::to(&etcd.endpoints());
    let cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let members: Vec<Etcdctl> = cluster.endpoints().into_iter().map(|url| Etcdctl::to(&[url])).collect();
    for round in 0..3 {
        for (place, (arguments, input)) in SCRIPT.iter().enumerate() {
            let member = (place + round) % 3;
            let (expected, mut printed) = tokio::join!(
                reference.run_with(arguments, input, PATIENCE),
                members[member].run_with(arguments, input, PATIENCE)
            );
            if arguments.contains(&"json") && expected.code == 0 && printed.code == 0 {
                assert_eq!(
                    comparable(&expected.out),
                    comparable(&printed.out),
                    "left is etcd; {arguments:?} through m{}",
                    member + 1
                );
                continue;
            }
            if arguments.contains(&"fields") {
                let own =
                    |line: &&str| !["ClusterID", "MemberID", "RaftTerm"].iter().any(|s| line.contains(s));
                let lines = |text: &str| text.lines().filter(own).collect::<Vec<_>>().join("\n");
                assert_eq!(lines(&expected.out), lines(&printed.out), "left is etcd; {arguments:?}");
                continue;
            }
            // A refused request is logged with the time and with the endpoint before the error's own line.
            let last_line = |text: &str| text.lines().last().unwrap_or_default().to_owned();
            printed.err = last_line(&printed.err);
            let mut expected = expected;
            expected.err = last_line(&expected.err);
            assert_eq!(expected, printed, "left is etcd; {arguments:?} through m{}", member + 1);
        }
    }
}

/// Everything that has to do with time, waiting or the cluster itself, through every member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_leases_locks_elections_and_maintenance_work_through_every_member() {
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    for index in 0..3 {
        let through = Etcdctl::to(&[cluster.endpoint(index)]);
        let other = Etcdctl::to(&[cluster.endpoint((index + 1) % 3)]);
        watches(&through, &other, index).await;
        leases(&through, &other).await;
        locks(&through, &other).await;
        elections(&through, &other).await;
        snapshot(&through, &cluster).await;
    }
    cluster_commands(&cluster).await;
    move_leader(&mut cluster).await;
}

async fn watches(through: &Etcdctl, other: &Etcdctl, index: usize) {
    let key = format!("watched-{index}/a");
    let prefix = format!("watched-{index}/");
    let put = other.run(&["put", &key, "1", "-w", "json"]).await.ok();
    let revision = comparable(&put)["header"]["revision"].as_i64().unwrap();

    let mut past = through.open(&["watch", "--prefix", &prefix, &format!("--rev={revision}"), "--prev-kv"]);
    assert_eq!(past.lines(3).await, ["PUT", &key, "1"]);
    other.run(&["put", &key, "2"]).await.ok();
    assert_eq!(past.lines(5).await, ["PUT", &key, "1", &key, "2"]);
    other.run(&["del", &key]).await.ok();
    assert_eq!(past.lines(5).await, ["DELETE", &key, "2", &key, ""]);

    // The first watch has just told the deletion, so a second one from the next revision on is a future one.
    let next = format!("--rev={}", revision + 3);
    let mut future = through.open(&["watch", &key, &next]);
    other.run(&["put", &key, "3"]).await.ok();
    assert_eq!(future.lines(3).await, ["PUT", &key, "3"]);
    past.interrupt().await;
    future.interrupt().await;
}

async fn leases(through: &Etcdctl, other: &Etcdctl) {
    // "lease 694d77aa9e38260f granted with TTL(60s)"
    let granted = through.run(&["lease", "grant", "60"]).await.ok();
    let words: Vec<&str> = granted.split_whitespace().collect();
    let id = words[1];
    assert_eq!(words[2..], ["granted", "with", "TTL(60s)"], "{granted}");
    other.run(&["put", "leased", "x", &format!("--lease={id}")]).await.ok();
    let left = other.run(&["lease", "timetolive", id, "--keys"]).await.ok();
    assert!(left.contains("granted with TTL(60s), remaining(5"), "{left}");
    assert!(left.contains("attached keys([leased])"), "{left}");
    let listed = through.run(&["lease", "list"]).await.ok();
    // An interrupted `elect` leaves its lease behind, so there may be others.
    assert!(listed.starts_with("found ") && listed.lines().any(|line| line == id), "{listed}");
    let kept = through.run(&["lease", "keep-alive", "--once", id]).await.ok();
    assert_eq!(kept.trim(), format!("lease {id} keepalived with TTL(60)"));
    assert_eq!(through.run(&["lease", "revoke", id]).await.ok().trim(), format!("lease {id} revoked"));
    assert_eq!(other.run(&["get", "leased"]).await.ok(), "");
    let gone = through.run(&["lease", "timetolive", id]).await.ok();
    assert_eq!(gone.trim(), format!("lease {id} already expired"));
    let refused = through.run(&["lease", "revoke", id]).await;
    assert!(
        refused.code != 0 && refused.err.contains("etcdserver: requested lease not found"),
        "{refused:?}"
    );

    // A lease that nobody keeps ends by itself and takes its key with it.
    let granted = through.run(&["lease", "grant", "2"]).await.ok();
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    through.run(&["put", "short-lived", "x", &format!("--lease={id}")]).await.ok();
    // From the put on, since nothing tells when a watch that starts now has started.
    let fields = other.run(&["get", "short-lived", "--write-out=fields"]).await.ok();
    let written = fields.lines().find_map(|line| line.strip_prefix("\"ModRevision\" : ")).unwrap();
    let mut watch = other.open(&["watch", "short-lived", &format!("--rev={written}")]);
    assert_eq!(watch.lines(6).await, ["PUT", "short-lived", "x", "DELETE", "short-lived", ""]);
    watch.interrupt().await;
}

async fn locks(through: &Etcdctl, other: &Etcdctl) {
    let mut first = through.open(&["lock", "the-lock"]);
    let held = first.lines(1).await.remove(0);
    assert!(held.starts_with("the-lock/"), "{held}");
    let mut second = other.open(&["lock", "the-lock"]);
    let none = second.line(Duration::from_millis(500)).await;
    assert_eq!(none, None, "two contenders hold the lock");
    first.interrupt().await;
    let taken_over = second.lines(1).await.remove(0);
    assert!(taken_over.starts_with("the-lock/") && taken_over != held, "{taken_over}");
    second.interrupt().await;
    let command = through.run(&["lock", "the-lock", "echo", "under", "the", "lock"]).await.ok();
    assert_eq!(command, "under the lock\n");
}

async fn elections(through: &Etcdctl, other: &Etcdctl) {
    let mut first = through.open(&["elect", "the-election", "one"]);
    let won = first.lines(2).await;
    assert!(won[0].starts_with("the-election/") && won[1] == "one", "{won:?}");
    let mut observer = other.open(&["elect", "--listen", "the-election"]);
    assert_eq!(observer.lines(2).await, won);
    let mut second = other.open(&["elect", "the-election", "two"]);
    let none = second.line(Duration::from_millis(300)).await;
    assert_eq!(none, None, "two candidates have won");
    first.interrupt().await;
    let next = second.lines(2).await;
    assert_eq!(next[1], "two");
    assert_eq!(observer.lines(2).await, next);
    second.interrupt().await;
    observer.interrupt().await;
}

async fn snapshot(through: &Etcdctl, cluster: &Cluster) {
    let file = cluster.scratch().join("saved.snapshot");
    let saved = through.run(&["snapshot", "save", &file.display().to_string()]).await.ok();
    assert!(saved.contains("Snapshot saved at"), "{saved}");
    let length = std::fs::metadata(&file).unwrap().len();
    assert_eq!(length % 512, 32, "clients tell by the length of {length} bytes that a digest ends the file");
    std::fs::remove_file(&file).unwrap();
}

async fn cluster_commands(cluster: &Cluster) {
    let all = Etcdctl::to(&cluster.endpoints());
    let one = Etcdctl::to(&[cluster.endpoint(1)]);

    // It prints good news on standard error.
    let health = one.run(&["endpoint", "health", "--cluster"]).await;
    assert!(health.code == 0 && health.err.matches("is healthy").count() == 3, "{health:?}");

    let status: Value =
        serde_json::from_str(&one.run(&["endpoint", "status", "--cluster", "-w", "json"]).await.ok())
            .unwrap();
    let answers = status.as_array().unwrap();
    assert_eq!(answers.len(), 3);
    for answer in answers {
        assert_eq!(answer["Status"]["leader"], answers[0]["Status"]["leader"], "{status:#}");
        assert!(answer["Status"]["leader"].as_u64().unwrap() > 0);
        assert!(answer["Status"]["dbSize"].as_i64().unwrap() > 0);
        assert!(answer["Status"]["raftIndex"].as_u64().unwrap() > 0);
        let version = answer["Status"]["version"].as_str().unwrap();
        let expected = if cluster.flavor().is_barque() { "3.6." } else { "3.4." };
        assert!(version.starts_with(expected), "{version}");
    }

    let hashes: Value =
        serde_json::from_str(&all.run(&["endpoint", "hashkv", "--cluster", "-w", "json"]).await.ok())
            .unwrap();
    let hash = |index: usize| &hashes[index]["HashKV"]["hash"];
    assert!(hash(0).as_u64().unwrap() > 0);
    assert!(hash(0) == hash(1) && hash(1) == hash(2), "{hashes:#}");

    let members = one.run(&["member", "list"]).await.ok();
    assert_eq!(members.lines().count(), 3, "{members}");
    for index in 0..3 {
        let line = members.lines().find(|line| line.contains(&format!(" {}, ", cluster.name(index))));
        let line = line.unwrap_or_else(|| panic!("{} is missing in {members}", cluster.name(index)));
        // "8e9e05c52164694d, started, m1, http://127.0.0.1:2380, http://127.0.0.1:2379, false"
        assert!(line.contains(", started, "), "{line}");
        assert!(line.contains(&format!("http://127.0.0.1:{}", cluster.peer_port(index))), "{line}");
        assert!(line.contains(&cluster.endpoint(index)) && line.ends_with(", false"), "{line}");
    }

    assert_eq!(all.run(&["alarm", "list"]).await.ok(), "");
    let defragmented = one.run(&["defrag", "--cluster"]).await.ok();
    assert_eq!(defragmented.matches("Finished defragmenting").count(), 3, "{defragmented}");
}

async fn move_leader(cluster: &mut Cluster) {
    let all = Etcdctl::to(&cluster.endpoints());
    let from = cluster.leader().await.unwrap();
    let to = (from + 1) % 3;
    let target = cluster.client(to).status().await.unwrap().header.unwrap().member_id;
    let moved = all.run(&["move-leader", &format!("{target:x}")]).await.ok();
    assert!(moved.starts_with("Leadership transferred from "), "{moved}");
    // The other members hear of it with the next message.
    let everybody = [cluster.client(0), cluster.client(1), cluster.client(2)];
    let agreed = eventually("the same new leader everywhere", PATIENCE, || async {
        for client in &everybody {
            let status = client.status().await.map_err(|status| status.to_string())?;
            if status.leader != target {
                return Err(format!("{:x} leads, not {target:x}", status.leader));
            }
        }
        Ok(())
    });
    agreed.await.unwrap();
    let follower = Etcdctl::to(&[cluster.endpoint(from)]);
    let refused = follower.run(&["move-leader", &format!("{target:x}")]).await;
    assert!(refused.code != 0 && refused.err.contains("no leader endpoint given"), "{refused:?}");
}

/// The smallest load that it knows; it takes a minute, during which the other tests of this file run. Whether the
/// times please it is a matter of the machine; that every one of its writes succeeds is not.
#[tokio::test]
async fn check_perf_runs_without_an_error() {
    let cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let all = Etcdctl::to(&cluster.endpoints());
    let checked = all.run_with(&["check", "perf", "--load=s"], "", Duration::from_secs(100)).await;
    let verdict: Vec<&str> =
        checked.out.lines().chain(checked.err.lines()).filter(|line| line.contains(": ")).collect();
    println!("{}", verdict.join("\n"));
    let finished = checked.out.contains("Throughput is") || checked.out.contains("Throughput too low");
    assert!(finished && !checked.out.contains("ERROR") && !checked.err.contains("ERROR"), "{checked:?}");
}
