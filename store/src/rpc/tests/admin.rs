//! The administrator's calls over a real channel.

use barque_proto::admin as pb;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::etcdserverpb::{TxnRequest, WatchCreateRequest, WatchRequest};

use super::*;
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
    let first = told.message().await.unwrap().unwrap();
    let total = pb::Traffic { reads: 1, read_bytes: 0, writes: 3, written_bytes: 5 + 5 + 7 };
    assert_eq!(first.total, Some(total));
    let prefixes: Vec<_> = first.prefixes.iter().map(|p| (&p.prefix[..], p.traffic.unwrap())).collect();
    assert_eq!(prefixes[0].0, b"/a/");
    assert_eq!((prefixes[0].1.writes, prefixes[0].1.written_bytes), (2, 10));
    assert_eq!(prefixes.len(), 3, "the branch that was not taken counts for nothing");
    assert_eq!(first.clients.len(), 1);
    assert!(first.clients[0].address.starts_with("127.0.0.1:"), "{:?}", first.clients);
    assert_eq!(first.clients[0].traffic, Some(total));
    let second = told.message().await.unwrap().unwrap();
    assert_eq!(second.total, Some(pb::Traffic::default()));
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
