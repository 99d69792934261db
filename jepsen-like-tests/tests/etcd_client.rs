//! The crate `etcd-client` on a cluster of three, connected to the leader and to each follower.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions,
    SortOrder, SortTarget, Txn, TxnOp, WatchOptions, WatchStream,
};
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_through_every_member() {
    let cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    for index in 0..3 {
        println!("through {}", cluster.name(index));
        let mut client = Client::connect([cluster.endpoint(index)], None).await.unwrap();
        let mut other = Client::connect([cluster.endpoint((index + 1) % 3)], None).await.unwrap();
        let prefix = format!("through-{index}/");
        key_value(&mut client, &prefix).await;
        transactions(&mut client, &prefix).await;
        watches(&mut client, &mut other, &prefix).await;
        leases(&mut client, &mut other, &prefix).await;
        locks(&mut client, &mut other, &prefix).await;
        elections(&mut client, &mut other, &prefix).await;
        maintenance(&mut client).await;
        members(&mut client, &cluster).await;
        compaction(&mut client, &prefix).await;
    }
}

/// A member that is added catches up, votes and serves; removed, it is gone from everybody's list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_updated_and_removed() {
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    cluster.client(0).put("before", "1").await.unwrap();
    let added = cluster.add_member().await.unwrap();
    let new = cluster.client(added);
    assert_eq!(new.get("before").await.unwrap().as_deref(), Some(&b"1"[..]));
    new.put("after", "2").await.unwrap();

    let mut client = Client::connect([cluster.endpoint(0)], None).await.unwrap();
    let listed = client.member_list().await.unwrap();
    assert_eq!(listed.members().len(), 4);
    let member = listed.members().iter().find(|member| member.name() == cluster.name(added)).unwrap();
    assert_eq!(member.client_urls(), [cluster.endpoint(added)]);
    assert!(!member.is_learner());

    let urls = [format!("http://127.0.0.1:{}", cluster.peer_port(added)), "http://127.0.0.1:1".to_owned()];
    let updated = client.member_update(member.id(), urls.clone()).await.unwrap();
    let updated = updated.members().iter().find(|m| m.id() == member.id()).unwrap().peer_urls().to_vec();
    assert!(urls.iter().all(|url| updated.contains(url)), "{updated:?}");

    let removed = client.member_remove(member.id()).await.unwrap();
    assert_eq!(removed.members().len(), 3);
    refused(client.member_remove(member.id()).await, "etcdserver: member not found");
    assert_eq!(cluster.client(1).get("after").await.unwrap().as_deref(), Some(&b"2"[..]));
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, text: &str) {
    match answer {
        Err(Error::GRpcStatus(status)) => assert_eq!(status.message(), text),
        other => panic!("`{text}` was expected, not {other:?}"),
    }
}

async fn key_value(client: &mut Client, prefix: &str) {
    let key = format!("{prefix}kv");
    let put = client.put(key.clone(), "1", None).await.unwrap();
    let revision = put.header().unwrap().revision();
    let again = client.put(key.clone(), "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    let previous = again.prev_key().unwrap();
    assert_eq!((previous.value(), previous.mod_revision(), previous.version()), (&b"1"[..], revision, 1));
    assert_eq!(again.header().unwrap().revision(), revision + 1);

    for suffix in ["a", "b", "c"] {
        client.put(format!("{key}/{suffix}"), suffix, None).await.unwrap();
    }
    let descending =
        GetOptions::new().with_prefix().with_limit(2).with_sort(SortTarget::Key, SortOrder::Descend);
    let page = client.get(format!("{key}/"), Some(descending)).await.unwrap();
    let values: Vec<&[u8]> = page.kvs().iter().map(etcd_client::KeyValue::value).collect();
    assert_eq!((values, page.more(), page.count()), (vec![&b"c"[..], b"b"], true, 3));
    let past = client.get(key.clone(), Some(GetOptions::new().with_revision(revision))).await.unwrap();
    assert_eq!(past.kvs()[0].value(), b"1");
    let future = client.get(key.clone(), Some(GetOptions::new().with_revision(revision + 1_000_000))).await;
    refused(future, "etcdserver: mvcc: required revision is a future revision");

    let deleted =
        client.delete(key.clone(), Some(DeleteOptions::new().with_prefix().with_prev_key())).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (4, 4));
    assert_eq!(client.get(key, Some(GetOptions::new().with_prefix())).await.unwrap().count(), 0);
}

async fn transactions(client: &mut Client, prefix: &str) {
    let key = format!("{prefix}txn");
    let create = Txn::new()
        .when([Compare::mod_revision(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key.clone(), "1", None)])
        .or_else([TxnOp::get(key.clone(), None)]);
    let created = client.txn(create.clone()).await.unwrap();
    assert!(created.succeeded());
    assert!(!client.txn(create).await.unwrap().succeeded());

    let nested = Txn::new().and_then([
        TxnOp::put(key.clone(), "2", None),
        TxnOp::txn(
            Txn::new()
                .and_then([TxnOp::get(key.clone(), None), TxnOp::put(format!("{key}/inner"), "3", None)]),
        ),
    ]);
    let answer = client.txn(nested).await.unwrap();
    assert_eq!(answer.header().unwrap().revision(), created.header().unwrap().revision() + 1);
    assert_eq!(answer.op_responses().len(), 2);
    let twice = [TxnOp::put(key.clone(), "1", None), TxnOp::put(key, "2", None)];
    refused(client.txn(Txn::new().and_then(twice)).await, "etcdserver: duplicate key given in txn request");
}

async fn next(stream: &mut WatchStream) -> etcd_client::WatchResponse {
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap()
}

async fn watches(client: &mut Client, other: &mut Client, prefix: &str) {
    let key = format!("{prefix}watch");
    let start = other.put(key.clone(), "1", None).await.unwrap().header().unwrap().revision();
    let options = WatchOptions::new().with_start_revision(start).with_prev_key().with_watch_id(7);
    let mut stream = client.watch(key.clone(), Some(options)).await.unwrap();
    let created = next(&mut stream).await;
    assert!(created.created() && created.watch_id() == 7);
    other.put(key.clone(), "2", None).await.unwrap();
    other.delete(key.clone(), None).await.unwrap();

    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(next(&mut stream).await.events().to_vec());
    }
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            let previous = event.prev_kv().map(|kv| kv.value().to_vec());
            (event.event_type(), event.kv().unwrap().mod_revision() - start, previous)
        })
        .collect();
    let expected = [
        (EventType::Put, 0, None),
        (EventType::Put, 1, Some(b"1".to_vec())),
        (EventType::Delete, 2, Some(b"2".to_vec())),
    ];
    assert_eq!(seen, expected);

    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert!(progress.events().is_empty() && progress.header().unwrap().revision() >= start + 2);
    stream.cancel(7).await.unwrap();
    assert!(next(&mut stream).await.canceled());
}

async fn leases(client: &mut Client, other: &mut Client, prefix: &str) {
    let id = 1000 + i64::from(prefix.as_bytes()[8]);
    let granted = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(id))).await.unwrap();
    assert_eq!((granted.id(), granted.ttl()), (id, 60));
    let twice = other.lease_grant(60, Some(LeaseGrantOptions::new().with_id(id))).await;
    refused(twice, "etcdserver: lease already exists");
    let key = format!("{prefix}leased");
    other.put(key.clone(), "x", Some(PutOptions::new().with_lease(id))).await.unwrap();
    let left = client.lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert!((58..=60).contains(&left.ttl()) && left.granted_ttl() == 60, "{left:?}");
    assert_eq!(left.keys(), [key.clone().into_bytes()]);

    let (mut keeper, mut answers) = client.lease_keep_alive(id).await.unwrap();
    keeper.keep_alive().await.unwrap();
    let kept = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((kept.id(), kept.ttl()), (id, 60));
    assert!(client.leases().await.unwrap().leases().iter().any(|lease| lease.id() == id));

    other.lease_revoke(id).await.unwrap();
    assert_eq!(client.get(key, None).await.unwrap().count(), 0);
    refused(client.lease_revoke(id).await, "etcdserver: requested lease not found");
    assert_eq!(client.lease_time_to_live(id, None).await.unwrap().ttl(), -1);
}

async fn locks(client: &mut Client, other: &mut Client, prefix: &str) {
    let name = format!("{prefix}lock");
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let held = client.lock(name.clone(), Some(LockOptions::new().with_lease(lease))).await.unwrap();
    assert_eq!(held.key(), format!("{name}/{lease:x}").as_bytes());
    let again = client.lock(name.clone(), Some(LockOptions::new().with_lease(lease))).await.unwrap();
    assert_eq!(again.key(), held.key(), "the same lease holds it already");

    let rival = other.lease_grant(60, None).await.unwrap().id();
    let waiting = other.lock(name.clone(), Some(LockOptions::new().with_lease(rival)));
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), waiting.as_mut()).await.is_err(), "two hold the lock");
    client.unlock(held.key()).await.unwrap();
    let next = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(next.key(), format!("{name}/{rival:x}").as_bytes());
    // The end of its lease frees a lock too.
    client.lease_revoke(rival).await.unwrap();
    assert_eq!(client.get(next.key(), None).await.unwrap().count(), 0);
    client.lease_revoke(lease).await.unwrap();
}

async fn elections(client: &mut Client, other: &mut Client, prefix: &str) {
    let name = format!("{prefix}election");
    refused(other.leader(name.clone()).await, "election: no leader");
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let won = client.campaign(name.clone(), "one", lease).await.unwrap();
    let leader = won.leader().unwrap().clone();
    assert_eq!((leader.name(), leader.lease()), (name.as_bytes(), lease));
    assert_eq!(other.leader(name.clone()).await.unwrap().kv().unwrap().value(), b"one");

    let mut observed = other.observe(name.clone()).await.unwrap();
    let first = timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.kv().unwrap().value(), b"one");
    client.proclaim("two", Some(ProclaimOptions::new().with_leader(leader.clone()))).await.unwrap();
    let second = timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.kv().unwrap().value(), b"two");

    let rival = other.lease_grant(60, None).await.unwrap().id();
    let mut candidate = other.clone();
    let campaign = candidate.campaign(name.clone(), "three", rival);
    let mut campaign = std::pin::pin!(campaign);
    assert!(timeout(Duration::from_millis(300), campaign.as_mut()).await.is_err(), "two have won");
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
    timeout(PATIENCE, campaign).await.unwrap().unwrap();
    let third = timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(third.kv().unwrap().value(), b"three");
    for lease in [lease, rival] {
        client.lease_revoke(lease).await.unwrap();
    }
}

async fn maintenance(client: &mut Client) {
    let status = client.status().await.unwrap();
    assert!(status.leader() > 0 && status.db_size() > 0 && status.raft_term() > 0, "{status:?}");
    assert!(status.raft_index() > 0 && status.errors().is_empty(), "{status:?}");
    assert!(client.hash_kv(0).await.unwrap().hash() != 0);
    assert!(client.hash().await.unwrap().hash() != 0);
    client.defragment().await.unwrap();
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert!(alarms.alarms().is_empty());

    let mut file = Vec::new();
    let mut stream = client.snapshot().await.unwrap();
    let mut left = None;
    while let Some(part) = timeout(PATIENCE, stream.message()).await.unwrap().unwrap() {
        file.extend_from_slice(part.blob());
        left = Some(part.remaining_bytes());
    }
    assert_eq!(left, Some(0));
    let (content, digest) = file.split_at(file.len() - 32);
    assert!(Sha256::digest(content)[..] == *digest, "the snapshot does not end with its digest");
}

async fn members(client: &mut Client, cluster: &Cluster) {
    let listed = client.member_list().await.unwrap();
    let mut names: Vec<&str> = listed.members().iter().map(etcd_client::Member::name).collect();
    names.sort_unstable();
    assert_eq!(names, ["m1", "m2", "m3"]);
    for member in listed.members() {
        let index = (0..3).find(|&index| cluster.name(index) == member.name()).unwrap();
        assert_eq!(member.client_urls(), [cluster.endpoint(index)]);
        assert_eq!(member.peer_urls(), [format!("http://127.0.0.1:{}", cluster.peer_port(index))]);
    }
    refused(client.member_remove(1).await, "etcdserver: member not found");
    refused(
        client.member_promote(listed.members()[0].id()).await,
        "etcdserver: can only promote a learner member",
    );
}

async fn compaction(client: &mut Client, prefix: &str) {
    let key = format!("{prefix}compacted");
    let first = client.put(key.clone(), "1", None).await.unwrap().header().unwrap().revision();
    let second = client.put(key.clone(), "2", None).await.unwrap().header().unwrap().revision();
    client.compact(second, None).await.unwrap();
    refused(client.compact(second, None).await, "etcdserver: mvcc: required revision has been compacted");
    let past = client.get(key.clone(), Some(GetOptions::new().with_revision(first))).await;
    refused(past, "etcdserver: mvcc: required revision has been compacted");
    let options = WatchOptions::new().with_start_revision(first);
    let mut stream = client.watch(key, Some(options)).await.unwrap();
    assert!(next(&mut stream).await.created());
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.compact_revision() == second, "{cancelled:?}");
}
