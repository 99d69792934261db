//! A member whose data went bad without anybody noticing is found by the others and shut out; they go on.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::memory;
use tonic::Code;

async fn alarms(client: &Client) -> Vec<pb::AlarmMember> {
    client.maintenance.clone().alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms
}

/// Three members with the same data; one of which then holds a value with a bit flipped. `leads` says which.
async fn a_flipped_bit_is_found(leads: bool) {
    if !Flavor::under_test().is_barque() {
        println!("skipped: etcd's current values are not in memory but in a mapped file");
        return;
    }
    let options = Options::default().fast_elections().flag("--corrupt-check-time", "500ms");
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let (damaged, healthy) = if leads { (leader, (leader + 1) % 3) } else { ((leader + 1) % 3, leader) };
    let value: String = (0..4).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    let client = cluster.client(healthy);
    client.put("flipped", value.clone()).await.unwrap();
    let revision = client.put("other", "x").await.unwrap().header.unwrap().revision;
    let mut watch = cluster
        .client(damaged)
        .watch(pb::WatchCreateRequest { key: "k".into(), ..Default::default() })
        .await
        .unwrap();
    // All hold the same, and several checks that find nothing raise nothing.
    let expected = client.hash_kv(revision).await.unwrap().hash;
    for index in 0..3 {
        cluster.client(index).revision().await.unwrap();
        assert_eq!(cluster.client(index).hash_kv(revision).await.unwrap().hash, expected);
    }
    assert_eq!(alarms(&client).await, []);

    // A member that does not answer holds up the check that asks it, and none after that.
    let silent = (0..3).find(|index| *index != damaged && *index != leader).unwrap();
    cluster.pause(silent).unwrap();
    let unheard = eventually("a check without the silent member", PATIENCE, || async {
        let log = cluster.log(leader);
        log.contains("a member's hash could not be had").then_some(()).ok_or(log)
    });
    unheard.await.unwrap();
    cluster.resume(silent).unwrap();

    let id = cluster.process_id(damaged).unwrap();
    assert!(memory::flip(id, value.as_bytes()).unwrap() > 0, "the value is not in memory");

    let raised = eventually("an alarm", PATIENCE, || async {
        alarms(&client).await.pop().ok_or("no alarm is raised")
    });
    let raised = raised.await.unwrap();
    let wrong = cluster.client(damaged);
    let status = wrong.status().await.unwrap();
    let member_id = status.header.unwrap().member_id;
    assert_eq!(raised, pb::AlarmMember { member_id, alarm: pb::AlarmType::Corrupt.into() });

    // It knows by the log, a moment later than the others perhaps, and serves nothing from then on.
    let refused = eventually("a refusal", PATIENCE, || async {
        let request = pb::RangeRequest { key: "flipped".into(), serializable: true, ..Default::default() };
        match wrong.range(request).await {
            Ok(answer) => Err(format!("{answer:?}")),
            Err(status) => Ok(status),
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!((refused.code(), refused.message()), (Code::DataLoss, "etcdserver: corrupt cluster"));
    assert_eq!(wrong.get("flipped").await.unwrap_err().code(), Code::DataLoss);
    assert_eq!(wrong.put("a", "b").await.unwrap_err().code(), Code::DataLoss);
    let ended = loop {
        if let Err(status) = watch.next(PATIENCE).await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::DataLoss, "a watch that was open: {ended:?}");
    let ready = http_get(cluster.client_port(damaged), "/readyz").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("[-]data_corruption failed"), "{}", ready.body);
    assert!(cluster.log(damaged).contains("member remove"), "its log does not say how to recover");
    let metrics = http_get(cluster.client_port(damaged), "/metrics").await.unwrap().body;
    let gauge =
        format!("etcd_debugging_server_alarms{{alarm_type=\"CORRUPT\",server_id=\"{member_id:x}\"}} 1");
    assert!(metrics.contains(&gauge), "no {gauge}");

    // The others go on, one of them leads, and the member comes back as a new one.
    let rest: Vec<usize> = (0..3).filter(|index| *index != damaged).collect();
    let leads_now = cluster.leader_among(&rest).await.unwrap();
    for &index in &rest {
        let client = cluster.client(index);
        assert_eq!(client.get("flipped").await.unwrap().as_deref(), Some(value.as_bytes()));
        client.put("after", "x").await.unwrap();
        assert_eq!(http_get(cluster.client_port(index), "/readyz").await.unwrap().status, 200);
    }
    let client = cluster.client(leads_now);
    cluster.kill9(damaged).unwrap();
    client.cluster.clone().member_remove(pb::MemberRemoveRequest { id: member_id }).await.unwrap();
    assert_eq!(alarms(&client).await, [], "the alarm goes with its member");
    let added = cluster.add_member().await.unwrap();
    let revision = cluster.client(added).revision().await.unwrap();
    let hash = cluster.client(added).hash_kv(revision).await.unwrap().hash;
    assert_eq!(hash, client.hash_kv(revision).await.unwrap().hash);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_flipped_bit_is_shut_out() {
    a_flipped_bit_is_found(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_flipped_bit_is_shut_out_and_leads_no_more() {
    a_flipped_bit_is_found(true).await;
}
