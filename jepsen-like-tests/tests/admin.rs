//! What an administrator asks of a live cluster: who takes how much space, what goes on, what it was like then.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barque_proto::admin as pb;
use barque_proto::etcdserverpb as etcd;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::etcdctl::{Etcdctl, json};

fn numbers(
    live_keys: u64,
    live_bytes: u64,
    historic_versions: u64,
    historic_bytes: u64,
) -> Option<pb::SpaceNumbers> {
    Some(pb::SpaceNumbers { live_keys, live_bytes, historic_versions, historic_bytes })
}

/// The member's numbers, without what tells members apart.
async fn space(client: &Client) -> pb::SpaceResponse {
    let told = client.space(pb::SpaceRequest::default()).await.unwrap();
    pb::SpaceResponse { header: None, ..told }
}

async fn delete(client: &Client, key: &'static str) -> i64 {
    let request = etcd::DeleteRangeRequest { key: key.into(), ..Default::default() };
    client.kv.clone().delete_range(request).await.unwrap().into_inner().header.unwrap().revision
}

async fn put(client: &Client, key: &'static str, value: &'static str) -> i64 {
    client.put(key, value).await.unwrap().header.unwrap().revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_data_has_known_numbers_on_every_member() {
    let mut cluster = Cluster::start(Flavor::Barque, 3, Options::default()).await.unwrap();
    let client = cluster.client(0);
    for value in ["1", "22", "333"] {
        put(&client, "/app/deep", value).await;
    }
    put(&client, "/app/gone", "12345").await;
    let compacted = delete(&client, "/app/gone").await;
    put(&client, "/app/gone", "again").await;
    delete(&client, "/app/gone").await;
    client.put("/big/1", vec![b'x'; 1000]).await.unwrap();
    put(&client, "alone", "").await;

    let group = |prefix: &'static str, numbers| pb::SpaceGroup { prefix: prefix.into(), numbers };
    let deep =
        |key: &'static str, versions, bytes, live| pb::DeepKey { key: key.into(), versions, bytes, live };
    let big = |key: &'static str, value_bytes| pb::BigValue { key: key.into(), value_bytes };
    let all = pb::SpaceResponse {
        header: None,
        compact_revision: -1,
        total: numbers(3, 1023, 6, 67),
        groups: vec![
            group("/big/", numbers(1, 1006, 0, 0)),
            group("/app/", numbers(1, 12, 6, 67)),
            group("", numbers(1, 5, 0, 0)),
        ],
        rest: Some(pb::SpaceNumbers::default()),
        rest_groups: 0,
        deepest_keys: vec![deep("/app/gone", 4, 46, false), deep("/app/deep", 3, 33, true)],
        biggest_values: vec![big("/big/1", 1000), big("/app/deep", 3), big("alone", 0)],
    };
    for index in 0..3 {
        assert_eq!(space(&cluster.client(index)).await, all, "{}", cluster.name(index));
    }

    // Only what can be read counts: of what was deleted by then nothing is left, of the other key its last version.
    let request = etcd::CompactionRequest { revision: compacted, physical: false };
    client.kv.clone().compact(request).await.unwrap();
    let left = pb::SpaceResponse {
        compact_revision: compacted,
        total: numbers(3, 1023, 2, 23),
        groups: vec![
            group("/big/", numbers(1, 1006, 0, 0)),
            group("/app/", numbers(1, 12, 2, 23)),
            group("", numbers(1, 5, 0, 0)),
        ],
        deepest_keys: vec![deep("/app/gone", 2, 23, false)],
        ..all
    };
    for index in 0..3 {
        assert_eq!(space(&cluster.client(index)).await, left, "{}", cluster.name(index));
    }
    for index in 0..3 {
        cluster.kill9(index).unwrap();
    }
    cluster.restart_all(&[0, 1, 2]).await.unwrap();
    for index in 0..3 {
        assert_eq!(space(&cluster.client(index)).await, left, "{} after a restart", cluster.name(index));
    }

    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    let told = json(&kvctl.run(&["space", "/app/", "--depth=2", "-w", "json"]).await.ok());
    assert_eq!((&told["total"]["historic_bytes"], &told["history"]), (&23.into(), &true.into()), "{told}");
    let text = kvctl.run(&["space", "--top=1"]).await.ok();
    assert!(text.contains("\"/big/\"") && text.contains("2 others"), "{text}");
    let wrong = kvctl.run(&["space", "--depth=0"]).await;
    assert!(wrong.code != 0 && wrong.err.contains("--depth"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_sees_a_hot_prefix_its_client_and_its_watch() {
    let cluster = Cluster::start(Flavor::Barque, 3, Options::default()).await.unwrap();
    let client = cluster.client(0);
    let create =
        etcd::WatchCreateRequest { key: "/hot/".into(), range_end: "/hot0".into(), ..Default::default() };
    let mut watch = cluster.client(1).watch(create).await.unwrap();
    assert!(watch.next(PATIENCE).await.unwrap().created);

    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, writer) = (Arc::clone(&stop), client.clone());
    let load = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            put(&writer, "/hot/key", "value").await;
            put(&writer, "/cold/key", "value").await;
            put(&writer, "/hot/other", "value").await;
        }
    });
    let reader = tokio::spawn(async move { while watch.next(PATIENCE).await.is_ok() {} });
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    let told = json(&kvctl.run(&["top", "--once", "-w", "json"]).await.ok());
    let text = kvctl.run(&["top", "--once"]).await.ok();
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    reader.abort();

    let prefixes = told["prefixes"].as_array().unwrap();
    assert_eq!(prefixes[0]["prefix"], "L2hvdC8=", "the hottest is /hot/: {told}");
    assert!(prefixes[0]["writes"].as_f64().unwrap() > prefixes[1]["writes"].as_f64().unwrap(), "{told}");
    assert!(prefixes[0]["written_bytes"].as_f64().unwrap() > 0.0, "{told}");
    let members = told["members"].as_array().unwrap();
    let writes = |name: &str| {
        let member = members.iter().find(|member| member["name"] == name);
        member.and_then(|member| member["writes"].as_f64()).unwrap()
    };
    assert!(
        writes("m1") > 0.0 && writes("m2") == 0.0 && writes("m3") == 0.0,
        "clients speak with m1: {told}"
    );
    let clients = told["clients"].as_array().unwrap();
    assert!(clients[0]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{told}");
    assert!(clients[0]["writes"].as_f64().unwrap() > 0.0, "{told}");
    let watch = &told["watches"][0];
    assert_eq!((&watch["key"], &watch["watches"]), (&"L2hvdC8=".into(), &1.into()), "{told}");
    assert!(watch["events"].as_f64().unwrap() > 0.0, "{told}");
    assert!(text.contains("\"/hot/\"*") && text.contains("127.0.0.1:"), "{text}");
}

/// The time of a revision's mark, once there is one.
async fn marked_ms(client: &Client, revision: i64) -> i64 {
    let found = eventually("a mark of time", PATIENCE, || async {
        let times = client.time_of(vec![revision]).await.map_err(|status| status.to_string())?;
        Some(times[0].until_ms).filter(|ms| *ms > 0).ok_or_else(|| "not marked yet".to_owned())
    });
    found.await.unwrap()
}

/// `--at` for a number of milliseconds.
fn at(ms: i64) -> String {
    format!("--at={}.{:03}", ms / 1000, ms % 1000)
}

async fn the_past_is_seen(cluster: &Cluster, indexes: &[usize], expected: &[(i64, &str)]) {
    for &index in indexes {
        let kvctl = Etcdctl::kvctl(&[cluster.endpoint(index)]);
        for (ms, printed) in expected {
            let got = kvctl.run(&["get", "k", &at(*ms), "--print-value-only"]).await.ok();
            assert_eq!(got, *printed, "at {ms} on {}", cluster.name(index));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_value_of_a_time_is_found_also_after_a_leader_change_and_restarts() {
    // Snapshots often enough that members start from them.
    let options = Options::default().flag("--snapshot-count", 20);
    let mut cluster = Cluster::start(Flavor::Barque, 3, options).await.unwrap();
    let client = cluster.client(0);
    let first = put(&client, "k", "one").await;
    let first_ms = marked_ms(&client, first).await;
    let second = put(&client, "k", "two").await;
    let second_ms = marked_ms(&client, second).await;
    assert!(first_ms < second_ms, "{first_ms} {second_ms}");
    let deleted = delete(&client, "k").await;
    let deleted_ms = marked_ms(&client, deleted).await;
    let expected = [(first_ms, "one\n"), (second_ms - 1, "one\n"), (second_ms, "two\n"), (deleted_ms, "")];
    the_past_is_seen(&cluster, &[0, 1, 2], &expected).await;

    let leader = cluster.leader().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    cluster.kill9(leader).unwrap();
    let next = cluster.leader_among(&others).await.unwrap();
    let client = cluster.client(next);
    eventually("a write through the new leader", PATIENCE, || client.put("k", "three")).await.unwrap();
    let third = client.revision().await.unwrap();
    let third_ms = marked_ms(&client, third).await;
    assert!(third_ms > deleted_ms);
    let expected = [&expected[..], &[(third_ms, "three\n")]].concat();
    the_past_is_seen(&cluster, &others, &expected).await;
    // Enough that the one that was away gets a snapshot.
    for _ in 0..300 {
        client.put("other", vec![b'x'; 4096]).await.unwrap();
    }
    cluster.restart(leader).await.unwrap();
    the_past_is_seen(&cluster, &[leader], &expected).await;

    for index in 0..3 {
        cluster.kill9(index).unwrap();
    }
    cluster.restart_all(&[0, 1, 2]).await.unwrap();
    the_past_is_seen(&cluster, &[0, 1, 2], &expected).await;

    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    let history = json(&kvctl.run(&["history", "k", "-w", "json"]).await.ok());
    assert!(
        history["versions"].as_array().unwrap().iter().all(|one| one["written_by"].is_string()),
        "{history}"
    );
    let early = kvctl.run(&["get", "k", "--at=1000000000"]).await;
    assert!(
        early.code == 1 && early.err.contains("does not reach back to 2001-09-09T01:46:40.000Z"),
        "{early:?}"
    );
    let future = kvctl.run(&["get", "k", "--at=2999-01-01T00:00:00Z"]).await;
    assert!(future.code == 1 && future.err.contains("in the future"), "{future:?}");
    let wrong = kvctl.run(&["get", "k", "--at=yesterday"]).await;
    assert!(wrong.err.contains("is not a time"), "{wrong:?}");

    // What was compacted cannot be read, and its times are not offered.
    kvctl.run(&["compaction", &second.to_string()]).await.ok();
    let gone = kvctl.run(&["get", "k", &at(first_ms)]).await;
    assert!(gone.code == 1 && gone.err.contains("does not reach back"), "{gone:?}");
    the_past_is_seen(&cluster, &[0, 1, 2], &expected[2..]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_cluster_proposes_nothing() {
    let mut cluster = Cluster::start(Flavor::Barque, 3, Options::default()).await.unwrap();
    let client = cluster.client(0);
    // Every member tells its name once, some time after its start.
    let told = eventually("all members' names", PATIENCE, || async {
        let request = etcd::MemberListRequest { linearizable: true };
        let list = client.cluster.clone().member_list(request).await.map_err(|status| status.to_string())?;
        let all = list.get_ref().members.iter().all(|member| !member.name.is_empty());
        if all { Ok(()) } else { Err("some are not known yet".to_owned()) }
    });
    told.await.unwrap();
    // What is left of a lease is told without an entry of the log.
    const CLOCK: i64 = 77;
    client.lease_grant(CLOCK, 10_000).await.unwrap();
    let revision = put(&client, "k", "v").await;
    let marked = marked_ms(&client, revision).await;
    let leader = cluster.leader().await.unwrap();
    let leader = cluster.client(leader);
    let before = leader.status().await.unwrap().raft_index;
    // Longer than between two marks, by the leader's own clock.
    let left_s = async || leader.lease_time_to_live(CLOCK, false).await.map(|lease| lease.ttl);
    let begin_s = left_s().await.unwrap();
    let passed = eventually("three seconds of the leader's", PATIENCE, || async {
        let left_s = left_s().await.map_err(|status| status.to_string())?;
        if left_s <= begin_s - 3 { Ok(()) } else { Err(format!("{left_s} s are left of {begin_s}")) }
    });
    passed.await.unwrap();
    let after = leader.status().await.unwrap();
    assert_eq!(after.raft_index, before, "entries of an idle cluster");
    assert_eq!(marked_ms(&client, revision).await, marked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_told_of_as_far_as_it_goes() {
    let cluster = Cluster::start(Flavor::Etcd, 1, Options::default()).await.unwrap();
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    for count in 0..40 {
        kvctl.run(&["put", &format!("/a/{count:02}"), "12345"]).await.ok();
    }
    kvctl.run(&["put", "/b/1", "1"]).await.ok();
    let told = json(&kvctl.run(&["space", "-w", "json"]).await.ok());
    assert_eq!(told["history"], false, "{told}");
    assert_eq!(
        (&told["total"]["live_keys"], &told["total"]["live_bytes"]),
        (&41.into(), &405.into()),
        "{told}"
    );
    assert_eq!(told["groups"][0]["live_bytes"], 400, "{told}");
    let text = kvctl.run(&["space", "/b"]).await.ok();
    assert!(text.contains("this server does not count history"), "{text}");

    let top = kvctl.run(&["top", "--once"]).await;
    assert!(top.code == 4 && top.err.contains("this server does not tell what goes on"), "{top:?}");
    let at = kvctl.run(&["get", "k", "--at=now"]).await;
    assert!(at.code == 4 && at.err.contains("does not keep the times"), "{at:?}");
    let history = json(&kvctl.run(&["history", "/b/1", "-w", "json"]).await.ok());
    assert!(history["versions"][0].get("written_by").is_none(), "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_comes_near_is_told_once() {
    let options = Options::default().flag("--quota-backend-bytes", 100_000);
    let cluster = Cluster::start(Flavor::Barque, 1, options).await.unwrap();
    let client = cluster.client(0);
    let warns = async || {
        let page = http_get(cluster.client_port(0), "/metrics").await.unwrap().body;
        let gauge = page.lines().find_map(|line| line.strip_prefix("barque_quota_warning "));
        gauge.unwrap().to_owned()
    };
    let becomes = async |expected: &str| {
        // Only what grows the log is looked at.
        eventually("the warning", PATIENCE, || async {
            client.put("small", "x").await.unwrap();
            let gauge = warns().await;
            if gauge == expected { Ok(()) } else { Err(gauge) }
        })
        .await
        .unwrap();
    };
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    for round in 1..=2 {
        for number in 0..85 {
            client.put(format!("big/{number}"), "x".repeat(1000)).await.unwrap();
        }
        becomes("1").await;
        let status = json(&kvctl.run(&["status", "-w", "json"]).await.ok());
        assert_eq!(status["members"][0]["quota_used_percent"], 85, "{status}");
        let text = kvctl.run(&["status"]).await.ok();
        assert!(text.contains("! m1: 85 % of its quota of 100 kB are used"), "{text}");
        let errors = client.status().await.unwrap().errors;
        assert!(errors.is_empty(), "as in etcd, only alarms are errors: {errors:?}");
        let said = cluster.log(0).matches("% of --quota-backend-bytes are used").count();
        assert_eq!(said, round, "once each time");

        let all =
            etcd::DeleteRangeRequest { key: "big/".into(), range_end: "big0".into(), ..Default::default() };
        client.kv.clone().delete_range(all).await.unwrap();
        becomes("0").await;
        let text = kvctl.run(&["status"]).await.ok();
        assert!(!text.contains("of its quota"), "{text}");
    }
}
