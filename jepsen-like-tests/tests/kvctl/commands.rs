//! What takes time, waits, or concerns more than one member, on a live cluster of three.

use std::time::Duration;

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::etcdctl::Etcdctl;

use super::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_through_every_member() {
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    for index in 0..3 {
        let through = Etcdctl::kvctl(&[cluster.endpoint(index)]);
        let other = Etcdctl::kvctl(&[cluster.endpoint((index + 1) % 3)]);
        watches(&through, &other, &cluster, index).await;
        leases(&through, &other).await;
        locks(&through, &other).await;
        elections(&through, &other).await;
    }
    endpoints(&cluster).await;
    move_leader(&mut cluster).await;
    mirror(&cluster).await;
    checks(&cluster).await;
    shell_parts(&cluster).await;
}

async fn watches(through: &Etcdctl, other: &Etcdctl, cluster: &Cluster, index: usize) {
    let (key, prefix) = (format!("w{index}/a"), format!("w{index}/"));
    let put = json(&other.run(&["put", &key, "1", "-w", "json"]).await.ok());
    let revision = put["header"]["revision"].as_i64().unwrap();

    let mut past = through.open(&["watch", "--prefix", &prefix, &format!("--rev={revision}"), "--prev-kv"]);
    assert_eq!(past.lines(3).await, ["PUT", &key, "1"]);
    other.run(&["put", &key, "2"]).await.ok();
    assert_eq!(past.lines(5).await, ["PUT", &key, "1", &key, "2"]);
    other.run(&["del", &key]).await.ok();
    assert_eq!(past.lines(5).await, ["DELETE", &key, "2", &key, ""]);
    past.interrupt().await;

    // A command for each event, with the event in its environment. It writes a file, whose end ends the watch.
    let script = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; exit 3";
    let one = format!("x{index}");
    let put = json(&other.run(&["put", &one, "1", "-w", "json"]).await.ok());
    let since = format!("--rev={}", put["header"]["revision"]);
    let mut exec = through.open(&["watch", &one, &since, "--", "sh", "-c", script]);
    assert_eq!(exec.lines(4).await, ["PUT", &one, "1", &format!("\"PUT\" \"{one}\" \"1\"")]);
    assert_eq!(exec.ended().await, 1);

    let mut interactive = through.open(&["watch", "-i"]);
    interactive.write_line(&format!("watch {key} --rev={revision}")).await;
    assert_eq!(interactive.lines(3).await, ["PUT", &key, "1"]);
    assert_eq!(interactive.lines(6).await, ["PUT", &key, "2", "DELETE", &key, ""]);
    interactive.write_line("progress").await;
    assert!(interactive.lines(1).await[0].starts_with("progress notify: "));
    interactive.interrupt().await;

    // Two endpoints of which the first is nobody: the second is asked.
    let nobody = "http://127.0.0.1:1".to_owned();
    let two = Etcdctl::kvctl(&[nobody, cluster.endpoint(index)]);
    assert_eq!(two.run(&["get", &key]).await.ok(), "");
}

async fn leases(through: &Etcdctl, other: &Etcdctl) {
    let granted = through.run(&["lease", "grant", "1000"]).await.ok();
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(1000s)\n"));
    let attached = format!("--lease={id}");
    other.run(&["put", "leased", "x", &attached]).await.ok();
    let left = through.run(&["lease", "timetolive", &id, "--keys"]).await.ok();
    assert!(left.starts_with(&format!("lease {id} granted with TTL(1000s), remaining(")), "{left}");
    assert!(left.ends_with("s), attached keys([leased])\n"), "{left}");
    assert!(other.run(&["lease", "list"]).await.ok().contains(&id));
    let kept = other.run(&["lease", "keep-alive", "--once", &id]).await.ok();
    assert_eq!(kept, format!("lease {id} keepalived with TTL(1000)\n"));
    let mut renewing = through.open(&["lease", "keep-alive", &id]);
    assert_eq!(renewing.lines(1).await, [format!("lease {id} keepalived with TTL(1000)")]);
    renewing.interrupt().await;
    assert_eq!(other.run(&["lease", "revoke", &id]).await.ok(), format!("lease {id} revoked\n"));
    assert_eq!(through.run(&["get", "leased"]).await.ok(), "");
    let gone = other.run(&["lease", "timetolive", &id]).await.ok();
    assert_eq!(gone, format!("lease {id} already expired\n"));
}

async fn locks(through: &Etcdctl, other: &Etcdctl) {
    let mut first = through.open(&["lock", "the-lock"]);
    let held = first.lines(2).await;
    assert!(held[0].starts_with("the-lock/"), "{held:?}");
    let mut second = other.open(&["lock", "the-lock"]);
    // The first is released by its end, and only then has the second the lock.
    first.interrupt().await;
    let next = second.lines(2).await;
    assert!(next[0].starts_with("the-lock/") && next[0] != held[0], "{next:?}");
    second.interrupt().await;
    let script = "test -n \"$ETCD_LOCK_KEY\" && test \"$ETCD_LOCK_REV\" -gt 0 && echo $1; exit 7";
    let ran = through.run(&["lock", "the-lock", "sh", "--", "-c", script, "sh", "in"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (7, "in\n"), "{}", ran.err);
    // Nothing is left behind.
    assert_eq!(other.run(&["get", "--prefix", "the-lock/"]).await.ok(), "");
}

async fn elections(through: &Etcdctl, other: &Etcdctl) {
    let mut observer = other.open(&["elect", "-l", "the-office"]);
    let mut first = through.open(&["elect", "the-office", "one"]);
    assert_eq!(first.lines(2).await[1], "one");
    assert_eq!(observer.lines(2).await[1], "one");
    let mut second = other.open(&["elect", "the-office", "two"]);
    first.interrupt().await;
    assert_eq!(second.lines(2).await[1], "two");
    assert_eq!(observer.lines(2).await[1], "two");
    second.interrupt().await;
    assert_eq!(observer.interrupt().await, 0);
}

async fn endpoints(cluster: &Cluster) {
    let all = Etcdctl::kvctl(&cluster.endpoints());
    let one = Etcdctl::kvctl(&[cluster.endpoint(0)]);
    let health = json(&one.run(&["endpoint", "health", "--cluster", "-w", "json"]).await.ok());
    assert_eq!(health.as_array().unwrap().len(), 3, "{health}");
    let status = json(&all.run(&["endpoint", "status", "-w", "json"]).await.ok());
    let leads = |one: &serde_json::Value| one["Status"]["leader"] == one["Status"]["header"]["member_id"];
    assert_eq!(status.as_array().unwrap().iter().filter(|one| leads(one)).count(), 1, "{status}");
    let table = all.run(&["endpoint", "status", "-w", "table"]).await.ok();
    assert_eq!(table.lines().filter(|line| line.starts_with("| http://")).count(), 3, "{table}");
    let hashes = json(&all.run(&["endpoint", "hashkv", "-w", "json", "--cluster"]).await.ok());
    assert_eq!(hashes[0]["HashKV"]["hash"], hashes[2]["HashKV"]["hash"], "{hashes}");
    let defrag = one.run(&["defrag", "--cluster"]).await.ok();
    assert_eq!(
        defrag.lines().filter(|line| line.starts_with("Finished defragmenting")).count(),
        3,
        "{defrag}"
    );
    assert_eq!(one.run(&["alarm", "list"]).await.ok(), "");
    let half = Etcdctl::kvctl(&[cluster.endpoint(0), "http://127.0.0.1:1".to_owned()]);
    let health = half.run(&["endpoint", "health"]).await;
    assert_eq!(health.code, 1);
    assert!(
        health.err.contains("http://127.0.0.1:1 is unhealthy") && health.err.contains("unhealthy cluster"),
        "{}",
        health.err
    );
    assert!(health.out.contains("is healthy: successfully committed proposal"), "{}", health.out);
}

async fn move_leader(cluster: &mut Cluster) {
    let to = cluster.followers().await.unwrap()[0];
    let status =
        json(&Etcdctl::kvctl(&[cluster.endpoint(to)]).run(&["endpoint", "status", "-w", "json"]).await.ok());
    let id = format!("{:x}", status[0]["Status"]["header"]["member_id"].as_u64().unwrap());
    let followers: Vec<String> =
        cluster.followers().await.unwrap().iter().map(|&index| cluster.endpoint(index)).collect();
    let refused = Etcdctl::kvctl(&followers).run(&["move-leader", &id]).await;
    assert_eq!(refused.code, 128, "{}", refused.err);
    let moved = Etcdctl::kvctl(&cluster.endpoints()).run(&["move-leader", &id]).await.ok();
    assert!(moved.starts_with("Leadership transferred from ") && moved.trim_end().ends_with(&id), "{moved}");
    assert_eq!(cluster.leader().await.unwrap(), to);
}

async fn mirror(cluster: &Cluster) {
    let other = Cluster::start(Flavor::under_test(), 1, Options::default().fast_elections()).await.unwrap();
    let (here, there) = (Etcdctl::kvctl(&cluster.endpoints()), Etcdctl::kvctl(&other.endpoints()));
    here.run(&["put", "mirror/a", "1"]).await.ok();
    let mut arrives = there.open(&["watch", "--prefix", "copy/", "--rev=1"]);
    let destination = other.endpoint(0);
    let mirror = here.open(&["make-mirror", "--prefix=mirror/", "--dest-prefix=copy/", &destination]);
    assert_eq!(arrives.lines(3).await, ["PUT", "copy/a", "1"]);
    here.run(&["put", "mirror/b", "2"]).await.ok();
    here.run(&["put", "elsewhere", "2"]).await.ok();
    here.run(&["del", "mirror/a"]).await.ok();
    assert_eq!(arrives.lines(6).await, ["PUT", "copy/b", "2", "DELETE", "copy/a", ""]);
    mirror.interrupt().await;
    arrives.interrupt().await;
    assert_eq!(there.run(&["get", "--prefix", "", "--keys-only"]).await.ok(), "copy/b\n\n");
}

async fn checks(cluster: &Cluster) {
    let all = Etcdctl::kvctl(&cluster.endpoints());
    let perf = all.run_with(&["check", "perf", "--duration=2s"], "", PATIENCE).await;
    // How fast this machine is today is not what is tested.
    assert!(perf.out.contains("writes/s\n"), "{perf:?}");
    assert!(perf.out.ends_with("PASS\n") || perf.code == 1, "{perf:?}");
    let scale = all.run_with(&["check", "datascale", "--auto-compact"], "", 3 * PATIENCE).await.ok();
    assert!(scale.contains("PASS: Approximate system memory used : "), "{scale}");
    assert_eq!(all.run(&["get", "--prefix", "/etcdctl-check", "--keys-only"]).await.ok(), "");
    all.run(&["put", "/etcdctl-check-perf/x", "mine"]).await.ok();
    let refused = all.run(&["check", "perf"]).await;
    assert_eq!(refused.code, 3, "{refused:?}");
}

async fn shell_parts(cluster: &Cluster) {
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    assert!(kvctl.run(&["version"]).await.ok().contains("API version: 3.6\n"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = kvctl.run(&["completion", shell]).await.ok();
        assert!(script.contains("kvctl") && script.contains("move-leader"), "{shell}");
    }
    let page = kvctl.run(&["man"]).await.ok();
    assert!(page.contains(".TH kvctl 1"), "{page}");
    let pages = cluster.scratch().join("man");
    kvctl.run(&["man", pages.to_str().unwrap()]).await.ok();
    assert!(pages.join("kvctl-get.1").is_file());
    // `kvctl bench` is there as before.
    let bench = kvctl
        .run_with(
            &[
                "bench",
                "lease",
                "--endpoints",
                cluster.endpoint(0).trim_start_matches("http://"),
                "--total=20",
                "--json",
            ],
            "",
            Duration::from_secs(60),
        )
        .await
        .ok();
    assert_eq!(json(&bench)["operations"], 20, "{bench}");
}
