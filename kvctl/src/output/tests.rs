//! Answers in every format, as etcdctl 3.6 prints them.

use barque_proto::authpb::{Permission, permission};
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::response_op::Response;
use barque_proto::mvccpb::{Event, KeyValue, event};

use super::*;

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: 0xcdf8_181e_3277_9b2f,
        member_id: 0x8e9e_05c5_2164_694d,
        revision,
        raft_term: 2,
    })
}

fn kv(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: value.to_owned().into(),
        lease: 0,
    }
}

fn text(answer: &Answer, format: Format, hex: bool) -> String {
    let rendered = Output { format, hex }.render(answer).unwrap();
    String::from_utf8(rendered.out).unwrap()
}

/// Simple, JSON and fields of an answer.
fn three(answer: &Answer) -> [String; 3] {
    [Format::Simple, Format::Json, Format::Fields].map(|format| text(answer, format, false))
}

fn range() -> pb::RangeResponse {
    pb::RangeResponse { header: header(3), kvs: vec![kv("foo", "b<r")], more: false, count: 1 }
}

#[test]
fn a_range() {
    let answer = Answer::Get { response: range(), value_only: false };
    assert_eq!(
        three(&answer),
        [
            "foo\nb<r\n",
            "{\"header\":{\"cluster_id\":14841639089974254383,\"member_id\":10276657743932975437,\"revision\":3,\"raft_term\":2},\
             \"kvs\":[{\"key\":\"Zm9v\",\"create_revision\":2,\"mod_revision\":3,\"version\":2,\"value\":\"Yjxy\"}],\"count\":1}\n",
            "\"ClusterID\" : 14841639089974254383\n\"MemberID\" : 10276657743932975437\n\"Revision\" : 3\n\"RaftTerm\" : 2\n\
             \"Key\" : \"foo\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 3\n\"Version\" : 2\n\"Value\" : \"b<r\"\n\"Lease\" : 0\n\
             \"More\" : false\n\"Count\" : 1\n",
        ]
    );
    assert_eq!(text(&answer, Format::Simple, true), "\\x66\\x6f\\x6f\n\\x62\\x3c\\x72\n");
    let values = Answer::Get { response: range(), value_only: true };
    assert_eq!(text(&values, Format::Simple, false), "b<r\n");
    assert!(Output { format: Format::Table, hex: false }.render(&answer).is_none());
}

#[test]
fn a_transaction() {
    let op = |response| pb::ResponseOp { response: Some(response) };
    let put = pb::PutResponse {
        header: Some(pb::ResponseHeader { revision: 4, ..Default::default() }),
        prev_kv: None,
    };
    let deleted = pb::DeleteRangeResponse { header: None, deleted: 1, prev_kvs: vec![kv("k", "v")] };
    let responses = vec![op(Response::ResponsePut(put)), op(Response::ResponseDeleteRange(deleted))];
    let answer = Answer::Txn(pb::TxnResponse { header: None, succeeded: true, responses });
    let [simple, json, _] = three(&answer);
    assert_eq!(simple, "SUCCESS\n\nOK\n\n1\nk\nv\n");
    assert_eq!(
        json,
        "{\"succeeded\":true,\"responses\":[{\"Response\":{\"response_put\":{\"header\":{\"revision\":4}}}},\
         {\"Response\":{\"response_delete_range\":{\"deleted\":1,\"prev_kvs\":[{\"key\":\"aw==\",\"create_revision\":2,\
         \"mod_revision\":3,\"version\":2,\"value\":\"dg==\"}]}}}]}\n"
    );
}

#[test]
fn events() {
    let put =
        Event { r#type: event::EventType::Put.into(), kv: Some(kv("a", "1")), prev_kv: Some(kv("a", "0")) };
    let gone = KeyValue { key: "a".into(), mod_revision: 4, ..Default::default() };
    let delete = Event { r#type: event::EventType::Delete.into(), kv: Some(gone), prev_kv: None };
    let answer = Answer::Watch(pb::WatchResponse { events: vec![put, delete], ..Default::default() });
    let [simple, json, _] = three(&answer);
    assert_eq!(simple, "PUT\na\n0\na\n1\nDELETE\na\n\n");
    assert!(json.starts_with("{\"Header\":{},\"Events\":[{\"kv\":{\"key\":\"YQ==\""), "{json}");
    assert!(json.ends_with("{\"type\":1,\"kv\":{\"key\":\"YQ==\",\"mod_revision\":4}}],\"CompactRevision\":0,\"Canceled\":false,\"Created\":false}\n"), "{json}");
}

#[test]
fn leases() {
    let granted =
        Answer::LeaseGrant(pb::LeaseGrantResponse { header: None, id: 31, ttl: 60, error: String::new() });
    let [simple, json, fields] = three(&granted);
    assert_eq!(simple, "lease 000000000000001f granted with TTL(60s)\n");
    assert_eq!(json, "{\"ID\":31,\"TTL\":60,\"Error\":\"\"}\n");
    assert!(fields.ends_with("\"ID\" : 31\n\"TTL\" : 60\n"));
    assert!(text(&granted, Format::Fields, true).ends_with("\"ID\" : 000000000000001f\n\"TTL\" : 60\n"));

    let left = |keys: bool, ttl, granted_ttl| Answer::LeaseTimeToLive {
        response: pb::LeaseTimeToLiveResponse {
            header: None,
            id: 31,
            ttl,
            granted_ttl,
            keys: if keys { vec!["a".into(), "b".into()] } else { Vec::new() },
        },
        keys,
    };
    let [simple, json, _] = three(&left(true, 50, 60));
    assert_eq!(
        simple,
        "lease 000000000000001f granted with TTL(60s), remaining(50s), attached keys([a b])\n"
    );
    assert_eq!(json, "{\"id\":31,\"ttl\":50,\"granted-ttl\":60,\"keys\":[\"YQ==\",\"Yg==\"]}\n");
    assert!(three(&left(false, 50, 60))[1].ends_with("\"keys\":null}\n"));
    assert_eq!(three(&left(false, -1, 0))[0], "lease 000000000000001f already expired\n");

    let leases =
        Answer::Leases(pb::LeaseLeasesResponse { header: None, leases: vec![pb::LeaseStatus { id: 31 }] });
    assert_eq!(three(&leases)[0], "found 1 leases\n000000000000001f\n");
    assert_eq!(three(&leases)[1], "{\"leases\":[{\"id\":31}]}\n");
}

fn members() -> Answer {
    let member = pb::Member {
        id: 0x8e9e_05c5_2164_694d,
        name: "m1".into(),
        peer_ur_ls: vec!["http://a:2380".into()],
        client_ur_ls: vec!["http://a:2379".into()],
        is_learner: false,
    };
    let learner = pb::Member {
        id: 0x1f,
        peer_ur_ls: vec!["http://b:2380".into()],
        is_learner: true,
        ..Default::default()
    };
    Answer::MemberList(pb::MemberListResponse { header: header(0), members: vec![member, learner] })
}

#[test]
fn members_in_every_format() {
    let [simple, json, fields] = three(&members());
    assert_eq!(
        simple,
        "8e9e05c52164694d, started, m1, http://a:2380, http://a:2379, false\n1f, unstarted, , http://b:2380, , true\n"
    );
    assert!(json.contains(
        "\"members\":[{\"ID\":10276657743932975437,\"name\":\"m1\",\"peerURLs\":[\"http://a:2380\"],\"clientURLs\":[\"http://a:2379\"]},\
         {\"ID\":31,\"peerURLs\":[\"http://b:2380\"],\"isLearner\":true}]"
    ));
    assert!(fields.ends_with(
        "\"ID\" : 31\n\"Name\" : \"\"\n\"PeerURL\" : \"http://b:2380\"\n\"IsLearner\" : true\n\n"
    ));
    assert_eq!(
        text(&members(), Format::Json, true),
        "{\"header\":{\"cluster_id\":\"cdf8181e32779b2f\",\"member_id\":\"8e9e05c52164694d\",\"raft_term\":2},\
         \"members\":[{\"ID\":\"8e9e05c52164694d\",\"name\":\"m1\",\"peerURLs\":[\"http://a:2380\"],\"clientURLs\":[\"http://a:2379\"]},\
         {\"ID\":\"1f\",\"name\":\"\",\"peerURLs\":[\"http://b:2380\"],\"clientURLs\":null}]}\n"
    );
    assert_eq!(
        text(&members(), Format::Table, false),
        "\
+------------------+-----------+------+---------------+---------------+------------+
|        ID        |  STATUS   | NAME |  PEER ADDRS   | CLIENT ADDRS  | IS LEARNER |
+------------------+-----------+------+---------------+---------------+------------+
| 8e9e05c52164694d |   started |   m1 | http://a:2380 | http://a:2379 |      false |
|               1f | unstarted |      | http://b:2380 |               |       true |
+------------------+-----------+------+---------------+---------------+------------+
"
    );
}

#[test]
fn endpoints() {
    let well = EndpointHealth { endpoint: "a:1".into(), took: "1.5ms".into(), error: String::new() };
    let ill = EndpointHealth { endpoint: "b:1".into(), took: String::new(), error: "down".into() };
    let answer = Answer::Health(vec![well, ill]);
    let rendered = Output { format: Format::Simple, hex: false }.render(&answer).unwrap();
    assert_eq!(rendered.out, b"a:1 is healthy: successfully committed proposal: took = 1.5ms\n");
    assert_eq!(rendered.err, "b:1 is unhealthy: failed to commit proposal: down\n");
    assert_eq!(
        text(&answer, Format::Json, false),
        "[{\"endpoint\":\"a:1\",\"health\":true,\"took\":\"1.5ms\"},{\"endpoint\":\"b:1\",\"health\":false,\"took\":\"\",\"error\":\"down\"}]\n"
    );

    let response = pb::StatusResponse {
        header: header(9),
        version: "3.6.5".into(),
        db_size: 40_960,
        db_size_in_use: 20_480,
        leader: 0x8e9e_05c5_2164_694d,
        raft_index: 12,
        raft_term: 2,
        raft_applied_index: 12,
        ..Default::default()
    };
    let answer = Answer::Status(vec![EndpointStatus { endpoint: "a:1".into(), response }]);
    let [simple, json, fields] = three(&answer);
    assert_eq!(
        simple,
        "a:1, 8e9e05c52164694d, 3.6.5, , 41 kB, 20 kB, 50%, 0 B, true, false, 2, 12, 12, , , false\n"
    );
    assert!(json.starts_with("[{\"Endpoint\":\"a:1\",\"Status\":{\"header\":{"), "{json}");
    assert!(json.ends_with("\"dbSize\":40960,\"leader\":10276657743932975437,\"raftIndex\":12,\"raftTerm\":2,\"raftAppliedIndex\":12,\"dbSizeInUse\":20480}}]\n"), "{json}");
    assert!(
        fields.contains("\"Errors\" : []\n\"Endpoint\" : \"a:1\"\n\"DowngradeTargetVersion\" : \"\"\n"),
        "{fields}"
    );

    assert_eq!(text(&Answer::HashKv(Vec::new()), Format::Json, false), "null\n");
}

#[test]
fn roles_and_users() {
    let permission = |kind: permission::Type, key: &str, end: &str| Permission {
        perm_type: kind.into(),
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
    };
    let perm = vec![
        permission(permission::Type::Readwrite, "foo", ""),
        permission(permission::Type::Read, "a", "b"),
        permission(permission::Type::Write, "x", "\0"),
        permission(permission::Type::Write, "p", "s"),
    ];
    let answer =
        Answer::RoleGet { role: "r".into(), response: pb::AuthRoleGetResponse { header: None, perm } };
    assert_eq!(
        three(&answer)[0],
        "Role r\nKV Read:\n\tfoo\n\t[a, b) (prefix a)\nKV Write:\n\tfoo\n\t[x, <open ended>\n\t[p, s)\n"
    );
    let root = Answer::RoleGet { role: "root".into(), response: pb::AuthRoleGetResponse::default() };
    assert_eq!(three(&root)[0], "Role root\nKV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>\n");

    let user = pb::AuthUserGetResponse { header: None, roles: vec!["a".into(), "b".into()] };
    assert_eq!(three(&Answer::UserGet { user: "u".into(), response: user })[0], "User: u\nRoles: a b\n");
    let revoked = Answer::RoleRevoke {
        role: "r".into(),
        key: b"a".to_vec(),
        range_end: b"b".to_vec(),
        response: pb::AuthRoleRevokePermissionResponse::default(),
    };
    assert_eq!(three(&revoked)[0], "Permission of range [a, b) is revoked from role r\n");
}

#[test]
fn alarms() {
    let alarm = pb::AlarmMember { member_id: 31, alarm: pb::AlarmType::Nospace.into() };
    let answer = Answer::Alarm(pb::AlarmResponse { header: None, alarms: vec![alarm] });
    let [simple, json, fields] = three(&answer);
    assert_eq!(simple, "memberID:31 alarm:NOSPACE \n");
    assert_eq!(json, "{\"alarms\":[{\"memberID\":31,\"alarm\":1}]}\n");
    assert!(fields.ends_with("\"MemberID\" : 31\n\"AlarmType\" : NOSPACE\n\n"));
}

#[test]
fn protobuf_is_the_message() {
    use prost::Message;
    let rendered = Output { format: Format::Protobuf, hex: false }
        .render(&Answer::Get { response: range(), value_only: false });
    assert_eq!(pb::RangeResponse::decode(&rendered.unwrap().out[..]).unwrap(), range());
    assert!(Output { format: Format::Protobuf, hex: false }.render(&Answer::Health(Vec::new())).is_none());
}
