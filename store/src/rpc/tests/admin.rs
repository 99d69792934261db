//! The administrator's calls over a real channel.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use barque_proto::admin as pb;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{CompactionRequest, TxnRequest, WatchCreateRequest, WatchRequest};

use super::*;
use crate::rpc::backend::{ScheduledSnapshot, ScheduledSnapshots};
use crate::timeline::{Mark, Timeline};

fn admin(member: &Member) -> AdminClient<Channel> {
    AdminClient::new(member.channel.clone())
}

#[tokio::test]
async fn space_is_told_by_group_and_asks_the_leader_first() {
    let member = Member::start().await;
    member.put("/a/1", "x").await;
    member.put("/a/2", "xxxx").await;
    member.put("/b/1", "xx").await;
    let barriers = member.fake.barriers();
    let grouping = pb::Grouping { top: 1, ..pb::Grouping::default() };
    let request = pb::SpaceRequest { grouping: Some(grouping), ..pb::SpaceRequest::default() };
    let told = admin(&member).space(request).await.unwrap().into_inner();
    assert_eq!(told.header, header(4));
    assert_eq!(told.compact_revision, -1);
    let live = |live_keys, live_bytes| {
        Some(pb::SpaceNumbers { live_keys, live_bytes, ..pb::SpaceNumbers::default() })
    };
    assert_eq!(told.total, live(3, 19));
    assert_eq!(told.groups, [pb::SpaceGroup { prefix: "/a/".into(), numbers: live(2, 13) }]);
    assert_eq!((told.rest, told.rest_groups), (live(1, 6), 1));
    assert_eq!(told.biggest_values, [pb::BigValue { key: "/a/2".into(), value_bytes: 4 }]);
    assert_eq!(member.fake.barriers(), barriers + 1);

    let of_b = pb::SpaceRequest { prefix: "/b".into(), serializable: true, ..pb::SpaceRequest::default() };
    let told = admin(&member).space(of_b).await.unwrap().into_inner();
    assert_eq!(told.total, live(1, 6));
    assert_eq!(member.fake.barriers(), barriers + 1, "a serializable answer asks nobody");

    member.fake.lose_leader();
    let error = admin(&member).space(pb::SpaceRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn activity_is_told_while_somebody_looks() {
    let member = Member::start().await;
    let mut told = admin(&member).activity(pb::ActivityRequest::default()).await.unwrap().into_inner();
    member.put("/a/1", "x").await;
    member.put("/a/2", "x").await;
    member.kv().range(get("/b/1")).await.unwrap();
    let compare = barque_proto::etcdserverpb::Compare {
        key: "/c/1".into(),
        ..barque_proto::etcdserverpb::Compare::default()
    };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestPut(put("/c/1", "new")))],
        failure: vec![op(Op::RequestRange(get("/d/1")))],
    };
    assert!(member.kv().txn(txn).await.unwrap().into_inner().succeeded);
    let expected = pb::Traffic { reads: 1, read_bytes: 0, writes: 3, written_bytes: 5 + 5 + 7 };
    // How many answers it takes depends on when the requests came.
    let (mut total, mut hot, mut prefixes) =
        (pb::Traffic::default(), pb::Traffic::default(), BTreeSet::new());
    let mut clients = BTreeSet::new();
    while total.reads + total.writes < 4 {
        let answer = told.message().await.unwrap().unwrap();
        add(&mut total, answer.total);
        for prefix in answer.prefixes {
            if prefix.prefix == "/a/" {
                add(&mut hot, prefix.traffic);
            }
            prefixes.insert(prefix.prefix);
        }
        clients.extend(answer.clients.into_iter().map(|client| client.address));
    }
    assert_eq!(total, expected);
    assert_eq!((hot.writes, hot.written_bytes), (2, 10));
    assert_eq!(prefixes.len(), 3, "the branch that was not taken counts for nothing");
    assert_eq!(clients.len(), 1);
    assert!(clients.iter().all(|address| address.starts_with("127.0.0.1:")), "{clients:?}");
    let next = told.message().await.unwrap().unwrap();
    assert_eq!(next.total, Some(pb::Traffic::default()), "what was told is not told again");
}

fn add(to: &mut pb::Traffic, more: Option<pb::Traffic>) {
    let more = more.unwrap_or_default();
    to.reads += more.reads;
    to.read_bytes += more.read_bytes;
    to.writes += more.writes;
    to.written_bytes += more.written_bytes;
}

#[tokio::test]
async fn watches_are_told_with_those_behind() {
    let member = Member::start().await;
    let create = WatchCreateRequest { key: "/w/".into(), range_end: "/w0".into(), ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut watch = WatchClient::new(member.channel.clone())
        .watch(futures::stream::iter([request]).chain(futures::stream::pending()))
        .await
        .unwrap()
        .into_inner();
    assert!(watch.message().await.unwrap().unwrap().created);
    let mut told = admin(&member).activity(pb::ActivityRequest::default()).await.unwrap().into_inner();
    let first = told.message().await.unwrap().unwrap();
    assert_eq!(first.watches_total, 1);
    assert!(first.watches.is_empty(), "nothing happened in it, and it is not behind");
}

#[tokio::test]
async fn times_and_revisions_are_told() {
    let member = Member::start().await;
    let mut timeline = Timeline::default();
    for (revision, time_ms) in [(5, 1000), (9, 2000)] {
        timeline.mark(Mark { revision: Revision(revision), time_ms });
    }
    member.fake.set_timeline(timeline);
    let at = pb::RevisionAtRequest { time_ms: 1999 };
    let found = admin(&member).revision_at(at).await.unwrap().into_inner();
    assert_eq!((found.revision, found.since_ms, found.until_ms), (5, 1000, 2000));
    let times = pb::TimeOfRequest { revisions: vec![9, 3, 77] };
    let times = admin(&member).time_of(times).await.unwrap().into_inner().times;
    let times: Vec<_> = times.iter().map(|time| (time.revision, time.after_ms, time.until_ms)).collect();
    assert_eq!(times, [(9, 1000, 2000), (3, 0, 1000), (77, 2000, 0)]);
    let many = pb::TimeOfRequest { revisions: vec![1; 10_001] };
    assert_eq!(admin(&member).time_of(many).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_clock_is_told() {
    let member = Member::start().await;
    let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let before = now();
    let told = admin(&member).clock(pb::ClockRequest {}).await.unwrap().into_inner().time_ms;
    assert!(before <= told && told <= now(), "{before} {told}");
}

#[tokio::test]
async fn snapshots_come_whole_or_since_a_revision() {
    let member = Member::start().await;
    member.put("a", "1").await;
    let pieces = |since| {
        let mut client = admin(&member);
        async move {
            let pieces = client.snapshot(pb::SnapshotRequest { since }).await?.into_inner();
            Ok::<_, Status>(pieces.map(|piece| piece.unwrap()).collect::<Vec<_>>().await)
        }
    };
    for (since, first) in [(0, 1), (1, 0), (2, 0)] {
        let pieces = pieces(since).await.unwrap();
        let told: Vec<_> = pieces.iter().map(|piece| (piece.total_bytes, piece.remaining_bytes)).collect();
        assert_eq!(told, [(812, 300), (812, 0)], "nothing but the file");
        assert_eq!((pieces[0].header, pieces[0].blob[0]), (header(2), first), "since {since}");
    }
    let refusal = |status: Status| (status.code(), status.message().to_owned());
    let future = "etcdserver: mvcc: required revision is a future revision".to_owned();
    assert_eq!(refusal(pieces(3).await.unwrap_err()), (Code::OutOfRange, future));
    let negative = "since: a revision, or 0 for a whole snapshot".to_owned();
    assert_eq!(refusal(pieces(-1).await.unwrap_err()), (Code::InvalidArgument, negative));
    member.kv().compact(CompactionRequest { revision: 2, physical: false }).await.unwrap();
    let compacted = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert_eq!(refusal(pieces(1).await.unwrap_err()), (Code::OutOfRange, compacted));
    assert_eq!(pieces(2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn scheduled_snapshots_are_listed() {
    let member = Member::start().await;
    let listed =
        || async { admin(&member).list_snapshots(pb::ListSnapshotsRequest {}).await.unwrap().into_inner() };
    let none = pb::ListSnapshotsResponse { header: header(1), ..pb::ListSnapshotsResponse::default() };
    assert_eq!(listed().await, none);
    member.fake.set_scheduled(ScheduledSnapshots {
        schedule: "@daily".to_owned(),
        retention: 3,
        directory: "/backups".to_owned(),
        next_ms: Some(9),
        last_error: Some((7, "no space".to_owned())),
        snapshots: vec![ScheduledSnapshot {
            name: "a.snapshot".to_owned(),
            size_bytes: 5,
            revision: Revision(4),
            taken_ms: 6,
            verified: true,
        }],
    });
    let snapshot = pb::ScheduledSnapshot {
        name: "a.snapshot".to_owned(),
        size_bytes: 5,
        revision: 4,
        since: 0,
        taken_ms: 6,
        verified: true,
    };
    let expected = pb::ListSnapshotsResponse {
        header: header(1),
        schedule: "@daily".to_owned(),
        retention: 3,
        directory: "/backups".to_owned(),
        next_ms: 9,
        last_error: "no space".to_owned(),
        last_error_ms: 7,
        snapshots: vec![snapshot],
    };
    assert_eq!(listed().await, expected);
    member.fake.become_learner();
    member.fake.become_corrupt();
    assert_eq!(listed().await, expected, "files of a member are told whatever became of its data");
}
