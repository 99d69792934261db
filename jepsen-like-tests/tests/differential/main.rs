//! The same requests to etcd and to the store under test must be answered alike: revisions, records, counts,
//! error codes and error texts.
//!
//! Every run prints its seed; `DIFFERENTIAL_SEED=n` repeats one, `DIFFERENTIAL_REQUESTS=n` makes it longer.
//!
//! Users and roles have a page of their own, with differences of their own: `users`.
//!
//! What is known to differ is told in `jepsen_like_tests::replay::known`, and kept out of the comparison where it is named:
//! the generator makes none of 1, 2, 5 and 6, and `requests_that_only_newer_etcd_refuses` asks Barque for 1 and 2; progress
//! (3) is only asked for when no watch is behind; a cancellation's revision (4) is not compared.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod requests;
mod users;
mod watches;

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use bytes::Bytes;
use jepsen_like_tests::call::{Call, Reply};
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::replay::{Answer, ask, without_ids};
use rand::SeedableRng;
use rand::rngs::StdRng;
use requests::{KEYS, Requests};
use tonic::Code;

/// Requests of the failing sequence that are shown.
const SHOWN: usize = 30;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Sends one sequence to both and compares after each request; then replays watches over its history.
async fn compare(seed: u64, count: u64, reference: &Client, subject: &Client, serializable: bool) {
    let seed = number_from("DIFFERENTIAL_SEED").unwrap_or(seed);
    let count = number_from("DIFFERENTIAL_REQUESTS").unwrap_or(count);
    println!("DIFFERENTIAL_SEED={seed} DIFFERENTIAL_REQUESTS={count}");
    let mut requests = Requests::new(StdRng::seed_from_u64(seed), serializable);
    let mut sent: Vec<Call> = Vec::new();
    let (mut failures, mut texts) = (0, std::collections::BTreeSet::new());
    for _ in 0..count {
        let request = requests.next();
        sent.push(request.clone());
        let (expected, answer) = tokio::join!(ask(reference, &request), ask(subject, &request));
        if !expected.agrees_with(&answer) {
            for (place, request) in sent.iter().enumerate().skip(sent.len().saturating_sub(SHOWN)) {
                println!("{:>5} {request:?}", place + 1);
            }
            panic!(
                "seed {seed}: request {} is answered differently\nrequest: {request:#?}\netcd:    \
                 {expected:#?}\nsubject: {answer:#?}",
                sent.len()
            );
        }
        if let Some(revision) = expected.revision() {
            requests.revision = revision;
        }
        match (&request, &expected) {
            (Call::Compact(compaction), Answer::Reply(Reply::Compact(_))) => {
                requests.compacted = compaction.revision;
            }
            (_, Answer::Error(code, text)) => {
                failures += 1;
                texts.insert(format!("{code:?}: {text}"));
            }
            _ => {}
        }
    }
    println!("{count} requests up to revision {}, {failures} refused:", requests.revision);
    texts.iter().for_each(|text| println!("    {text}"));
    replay_watches(&mut requests, reference, subject).await;
}

async fn replay_watches(requests: &mut Requests, reference: &Client, subject: &Client) {
    let plans: Vec<watches::Plan> =
        (0..6).map(|_| (0..10).map(|_| watches::random(requests)).collect()).collect();
    let mut open = Vec::new();
    for plan in &plans {
        open.push(tokio::join!(watches::Open::start(reference, plan), watches::Open::start(subject, plan)));
    }

    let put = |key: &&'static [u8]| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: Bytes::from_static(key),
            value: "last".into(),
            ..Default::default()
        })),
    };
    let all = Bytes::from_static(b"\0");
    let last_writes = [
        Call::Txn(pb::TxnRequest { success: KEYS.iter().map(put).collect(), ..Default::default() }),
        Call::Delete(pb::DeleteRangeRequest { key: all.clone(), range_end: all, prev_kv: true }),
    ];
    let mut revisions = Vec::new();
    for request in &last_writes {
        let (expected, answer) = tokio::join!(ask(reference, request), ask(subject, request));
        assert_eq!(expected, answer);
        revisions.push(expected.revision().unwrap());
    }

    for (plan, (reference, subject)) in plans.iter().zip(open) {
        let expected = reference.finish(plan, revisions[0], revisions[1]);
        let told = subject.finish(plan, revisions[0], revisions[1]);
        let (expected, told) = tokio::join!(expected, told);
        for ((create, expected), told) in plan.iter().zip(expected).zip(told) {
            assert_eq!(expected, told, "\nleft is etcd, right the subject, of the watch {create:#?}");
        }
    }
}

/// A fresh single member of etcd and a client of it.
async fn reference() -> (Cluster, Client) {
    let cluster = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let client = cluster.client(0);
    (cluster, client)
}

async fn compare_with_one_member(seed: u64) {
    let (_etcd, reference) = reference().await;
    let options = Options::default().fast_elections();
    let cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    compare(seed, 2500, &reference, &cluster.client(0), true).await;
}

#[tokio::test]
async fn one_member_answers_like_etcd_1() {
    compare_with_one_member(1).await;
}

#[tokio::test]
async fn one_member_answers_like_etcd_2() {
    compare_with_one_member(2).await;
}

#[tokio::test]
async fn one_member_answers_like_etcd_with_a_new_seed() {
    compare_with_one_member(rand::random_range(100..u64::from(u32::MAX))).await;
}

/// Local reads are left out: a follower may answer them from a past state.
#[tokio::test]
async fn a_follower_answers_like_etcd() {
    let (_etcd, reference) = reference().await;
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let follower = cluster.followers().await.unwrap()[0];
    compare(3, 1500, &reference, &cluster.client(follower), false).await;
}

/// TTLs at and below the minimum, and ids that the server chooses.
#[tokio::test]
async fn short_and_unnamed_leases_are_granted_like_etcd_does() {
    let (_etcd, reference) = reference().await;
    let cluster = Cluster::start(Flavor::under_test(), 1, Options::default().fast_elections()).await.unwrap();
    let subject = cluster.client(0);
    for ttl in [-5, 0, 1, 2, 3, 60, 9_000_000_000, 9_000_000_001] {
        let mut answers = Vec::new();
        for client in [&reference, &subject] {
            let granted = client.lease_grant(0, ttl).await;
            answers.push(match granted {
                Ok(answer) => {
                    assert!(answer.id > 0, "{answer:?}");
                    let request = pb::LeaseRevokeRequest { id: answer.id };
                    // It may have expired already.
                    drop(client.lease.clone().lease_revoke(request).await);
                    Ok((answer.ttl, answer.error))
                }
                Err(status) => Err((status.code(), status.message().to_owned())),
            });
        }
        assert_eq!(answers[0], answers[1], "left is etcd, right the subject, for a TTL of {ttl} s");
    }
}

/// Progress on request names the present revision when every watch of the stream has told everything.
#[tokio::test]
async fn progress_on_request_is_answered_like_etcd_does() {
    let (_etcd, reference) = reference().await;
    let cluster = Cluster::start(Flavor::under_test(), 1, Options::default().fast_elections()).await.unwrap();
    let subject = cluster.client(0);
    let mut answers = Vec::new();
    for client in [&reference, &subject] {
        let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
        let mut stream = client.watch(create.clone()).await.unwrap();
        stream.next(Duration::from_secs(5)).await.unwrap();
        stream.create(create).await.unwrap();
        stream.next(Duration::from_secs(5)).await.unwrap();
        for _ in 0..3 {
            client.put("elsewhere", "x").await.unwrap();
        }
        client.put("a", "x").await.unwrap();
        for _ in 0..2 {
            assert_eq!(stream.next(Duration::from_secs(5)).await.unwrap().events.len(), 1);
        }
        stream.progress().await.unwrap();
        let mut answer = stream.next(Duration::from_secs(5)).await.unwrap();
        without_ids(&mut answer.header);
        answers.push(answer);
    }
    assert_eq!(answers[0], answers[1]);
}

/// The known differences 1 and 2, as newer etcd has them.
#[tokio::test]
async fn requests_that_only_newer_etcd_refuses() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: Debian's etcd is older than this behaviour");
        return;
    }
    let cluster = Cluster::start(Flavor::under_test(), 1, Options::default().fast_elections()).await.unwrap();
    let client = cluster.client(0);
    client.put("a", "x").await.unwrap();

    for (sort_order, sort_target) in [(7, 0), (1, 9), (-1, 0)] {
        let range = pb::RangeRequest { key: "a".into(), sort_order, sort_target, ..Default::default() };
        let refused = client.range(range).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::InvalidArgument, "etcdserver: invalid sort option")
        );
    }

    let create = pb::WatchCreateRequest { key: "a".into(), start_revision: -1, ..Default::default() };
    let mut stream = client.watch(create).await.unwrap();
    let answer = stream.next(Duration::from_secs(5)).await.unwrap();
    assert!(answer.created && answer.canceled, "{answer:?}");
    assert_eq!(answer.watch_id, -1);
    assert_eq!(answer.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
}
