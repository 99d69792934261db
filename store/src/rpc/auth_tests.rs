//! Who may call what: every call of every service, by everybody.

use barque_proto::admin;
use barque_proto::admin::admin_client::AdminClient;
use barque_proto::authpb;
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::auth_client::AuthClient;
use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::kv_client::KvClient;
use barque_proto::etcdserverpb::lease_client::LeaseClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::request_op::Request as Op;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use barque_proto::health::HealthCheckRequest;
use barque_proto::health::health_client::HealthClient;
use barque_proto::v3electionpb::election_client::ElectionClient;
use barque_proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use barque_proto::v3lockpb::lock_client::LockClient;
use barque_proto::v3lockpb::{LockRequest, UnlockRequest};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::tests::Member;
use crate::command::auth::{Access, AuthCommand, Password, Permission, TokenKey};
use crate::command::{Command, KeyRange, Put};
use crate::ids::LeaseId;

/// On this lease hangs the key `a`.
const LEASE: i64 = 16;

fn add_user(member: &Member, name: &str) {
    let add = AuthCommand::UserAdd { name: name.to_owned(), password: Password::Unset };
    member.fake.change_users(&add);
}

fn grant(member: &Member, user: &str, role: &str) {
    let grant = AuthCommand::UserGrantRole { user: user.to_owned(), role: role.to_owned() };
    member.fake.change_users(&grant);
}

fn role(member: &Member, role: &str, access: Access, key: &'static str, range_end: &'static str) {
    member.fake.change_users(&AuthCommand::RoleAdd { name: role.to_owned() });
    let range = KeyRange { key: key.into(), range_end: range_end.into() };
    let permission = Permission { access, range };
    member.fake.change_users(&AuthCommand::RoleGrantPermission { role: role.to_owned(), permission });
}

/// Rights are asked for: `root`, `holder` of all keys from `a` to before `b`, and `powerless` without a role.
async fn guarded() -> Member {
    let member = Member::start().await;
    member.fake.propose_now(Command::LeaseGrant { id: LeaseId(LEASE), ttl_s: 60 });
    let put = Put { key: "a".into(), value: "1".into(), lease: Some(LeaseId(LEASE)), ..Put::default() };
    member.fake.propose_now(Command::Put(put));
    for user in ["root", "holder", "powerless"] {
        add_user(&member, user);
    }
    grant(&member, "root", "root");
    role(&member, "as", Access::ReadWrite, "a", "b");
    grant(&member, "holder", "as");
    member.fake.change_users(&AuthCommand::Enable { token_key: TokenKey([1; 32]) });
    member
}

fn with_token<T>(request: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(request);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    request
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Nothing,
    /// That, if a token is shown, it is good.
    NoBadToken,
    Login,
    /// A right on the key `a`, or a relation to what is asked about.
    Right,
    Admin,
}

type Call = fn(Channel, Option<String>) -> BoxFuture<'static, Result<(), Status>>;

macro_rules! unary {
    ($need:ident, $client:ident.$method:ident($request:expr)) => {
        (
            concat!(stringify!($client), ".", stringify!($method), " ", stringify!($request)),
            Need::$need,
            (|channel, token| {
                async move {
                    let request = with_token($request, token.as_deref());
                    $client::new(channel).$method(request).await.map(|_| ())
                }
                .boxed()
            }) as Call,
        )
    };
}

/// A call whose first answer, or its refusal, comes as a message of a stream.
macro_rules! streaming {
    ($need:ident, $client:ident.$method:ident($request:expr)) => {
        (
            concat!(stringify!($client), ".", stringify!($method), " ", stringify!($request)),
            Need::$need,
            (|channel, token| {
                async move {
                    let request = with_token($request, token.as_deref());
                    let mut answers = $client::new(channel).$method(request).await?.into_inner();
                    answers.message().await.map(|_| ())
                }
                .boxed()
            }) as Call,
        )
    };
}

fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

fn put(key: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: "x".into(), ..Default::default() }
}

fn delete(key: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), ..Default::default() }
}

fn txn(op: Op) -> pb::TxnRequest {
    pb::TxnRequest { success: vec![pb::RequestOp { request: Some(op) }], ..Default::default() }
}

fn leader_key() -> Option<LeaderKey> {
    Some(LeaderKey { name: "ae".into(), key: "ae/10".into(), rev: 2, lease: LEASE })
}

fn permission() -> Option<authpb::Permission> {
    Some(authpb::Permission { perm_type: 0, key: "k".into(), range_end: Default::default() })
}

fn calls() -> Vec<(&'static str, Need, Call)> {
    vec![
        unary!(Right, KvClient.range(get("a"))),
        unary!(Right, KvClient.range(pb::RangeRequest { serializable: true, ..get("a") })),
        unary!(Admin, KvClient.range(get("b"))),
        unary!(Admin, KvClient.range(pb::RangeRequest { range_end: "\0".into(), ..get("a") })),
        streaming!(Right, KvClient.range_stream(get("a"))),
        unary!(Right, KvClient.put(put("a"))),
        unary!(Right, KvClient.put(pb::PutRequest { prev_kv: true, lease: LEASE, ..put("a") })),
        unary!(Admin, KvClient.put(put("b"))),
        unary!(Right, KvClient.delete_range(delete("a"))),
        unary!(Admin, KvClient.delete_range(pb::DeleteRangeRequest { range_end: "c".into(), ..delete("a") })),
        unary!(Right, KvClient.txn(txn(Op::RequestRange(get("a"))))),
        unary!(Right, KvClient.txn(txn(Op::RequestPut(put("a"))))),
        unary!(Admin, KvClient.txn(txn(Op::RequestTxn(txn(Op::RequestRange(get("b"))))))),
        unary!(Admin, KvClient.compact(pb::CompactionRequest { revision: 1, physical: false })),
        unary!(Login, LeaseClient.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })),
        unary!(Right, LeaseClient.lease_revoke(pb::LeaseRevokeRequest { id: LEASE })),
        unary!(Login, LeaseClient.lease_revoke(pb::LeaseRevokeRequest { id: 99 })),
        streaming!(
            Right,
            LeaseClient.lease_keep_alive(stream::iter([pb::LeaseKeepAliveRequest { id: LEASE }]))
        ),
        streaming!(Login, LeaseClient.lease_keep_alive(stream::iter([pb::LeaseKeepAliveRequest { id: 99 }]))),
        unary!(Right, LeaseClient.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: LEASE, keys: true })),
        unary!(Login, LeaseClient.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: LEASE, keys: false })),
        unary!(Right, LeaseClient.lease_leases(pb::LeaseLeasesRequest {})),
        unary!(Login, ClusterClient.member_list(pb::MemberListRequest { linearizable: true })),
        unary!(Login, ClusterClient.member_list(pb::MemberListRequest { linearizable: false })),
        unary!(
            Admin,
            ClusterClient.member_add(pb::MemberAddRequest {
                peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
                is_learner: true
            })
        ),
        unary!(Admin, ClusterClient.member_remove(pb::MemberRemoveRequest { id: 3 })),
        unary!(Admin, ClusterClient.member_update(pb::MemberUpdateRequest { id: 3, peer_ur_ls: vec![] })),
        unary!(Admin, ClusterClient.member_promote(pb::MemberPromoteRequest { id: 4 })),
        unary!(Login, MaintenanceClient.status(pb::StatusRequest {})),
        unary!(Login, MaintenanceClient.alarm(pb::AlarmRequest { action: 0, member_id: 0, alarm: 0 })),
        unary!(Admin, MaintenanceClient.alarm(pb::AlarmRequest { action: 1, member_id: 2, alarm: 1 })),
        unary!(Admin, MaintenanceClient.alarm(pb::AlarmRequest { action: 2, member_id: 2, alarm: 1 })),
        unary!(Admin, MaintenanceClient.defragment(pb::DefragmentRequest {})),
        unary!(Admin, MaintenanceClient.hash(pb::HashRequest {})),
        unary!(Admin, MaintenanceClient.hash_kv(pb::HashKvRequest { revision: 0 })),
        streaming!(Admin, MaintenanceClient.snapshot(pb::SnapshotRequest {})),
        unary!(Admin, MaintenanceClient.move_leader(pb::MoveLeaderRequest { target_id: 3 })),
        unary!(
            Admin,
            MaintenanceClient.downgrade(pb::DowngradeRequest { action: 2, version: String::new() })
        ),
        unary!(Admin, AdminClient.space(admin::SpaceRequest::default())),
        streaming!(Admin, AdminClient.activity(admin::ActivityRequest::default())),
        unary!(Login, AdminClient.revision_at(admin::RevisionAtRequest { time_ms: 1 })),
        unary!(Login, AdminClient.time_of(admin::TimeOfRequest::default())),
        streaming!(Admin, AdminClient.snapshot(admin::SnapshotRequest::default())),
        streaming!(Admin, AdminClient.snapshot(admin::SnapshotRequest { since: 1 })),
        unary!(Admin, AdminClient.list_snapshots(admin::ListSnapshotsRequest {})),
        unary!(Login, AdminClient.clock(admin::ClockRequest {})),
        unary!(NoBadToken, AuthClient.auth_status(pb::AuthStatusRequest {})),
        unary!(Admin, AuthClient.auth_enable(pb::AuthEnableRequest {})),
        unary!(Admin, AuthClient.auth_disable(pb::AuthDisableRequest {})),
        unary!(
            Admin,
            AuthClient.user_add(pb::AuthUserAddRequest {
                name: "new".to_owned(),
                options: Some(authpb::UserAddOptions { no_password: true }),
                ..Default::default()
            })
        ),
        unary!(Right, AuthClient.user_get(pb::AuthUserGetRequest { name: "holder".to_owned() })),
        unary!(Admin, AuthClient.user_get(pb::AuthUserGetRequest { name: "root".to_owned() })),
        unary!(Admin, AuthClient.user_get(pb::AuthUserGetRequest { name: "nobody".to_owned() })),
        unary!(Admin, AuthClient.user_list(pb::AuthUserListRequest {})),
        unary!(Admin, AuthClient.user_delete(pb::AuthUserDeleteRequest { name: "powerless".to_owned() })),
        unary!(
            Admin,
            AuthClient.user_change_password(pb::AuthUserChangePasswordRequest {
                name: "holder".to_owned(),
                ..Default::default()
            })
        ),
        unary!(
            Admin,
            AuthClient.user_grant_role(pb::AuthUserGrantRoleRequest {
                user: "powerless".to_owned(),
                role: "as".to_owned()
            })
        ),
        unary!(
            Admin,
            AuthClient.user_revoke_role(pb::AuthUserRevokeRoleRequest {
                name: "holder".to_owned(),
                role: "as".to_owned()
            })
        ),
        unary!(Admin, AuthClient.role_add(pb::AuthRoleAddRequest { name: "new".to_owned() })),
        unary!(Right, AuthClient.role_get(pb::AuthRoleGetRequest { role: "as".to_owned() })),
        unary!(Admin, AuthClient.role_get(pb::AuthRoleGetRequest { role: "root".to_owned() })),
        unary!(Admin, AuthClient.role_list(pb::AuthRoleListRequest {})),
        unary!(Admin, AuthClient.role_delete(pb::AuthRoleDeleteRequest { role: "as".to_owned() })),
        unary!(
            Admin,
            AuthClient.role_grant_permission(pb::AuthRoleGrantPermissionRequest {
                name: "as".to_owned(),
                perm: permission()
            })
        ),
        unary!(
            Admin,
            AuthClient.role_revoke_permission(pb::AuthRoleRevokePermissionRequest {
                role: "as".to_owned(),
                key: "a".into(),
                range_end: "b".into()
            })
        ),
        unary!(Right, LockClient.lock(LockRequest { name: "al".into(), lease: LEASE })),
        unary!(Right, LockClient.lock(LockRequest { name: "al".into(), lease: 0 })),
        unary!(Admin, LockClient.lock(LockRequest { name: "bl".into(), lease: 0 })),
        unary!(Right, LockClient.unlock(UnlockRequest { key: "al/10".into() })),
        unary!(
            Right,
            ElectionClient.campaign(CampaignRequest { name: "ae".into(), lease: LEASE, value: "v".into() })
        ),
        unary!(
            Admin,
            ElectionClient.campaign(CampaignRequest { name: "be".into(), lease: 0, value: "v".into() })
        ),
        unary!(Right, ElectionClient.proclaim(ProclaimRequest { leader: leader_key(), value: "v".into() })),
        unary!(Right, ElectionClient.leader(LeaderRequest { name: "ae".into() })),
        unary!(Right, ElectionClient.resign(ResignRequest { leader: leader_key() })),
        unary!(Nothing, HealthClient.check(HealthCheckRequest { service: String::new() })),
    ]
}

const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");

/// The refusal, if it is one for want of rights; locks and elections tell the text alone.
fn refusal(answer: &Result<(), Status>) -> Option<&str> {
    let text = answer.as_ref().err()?.message();
    [EMPTY, DENIED, BAD_TOKEN].iter().any(|(_, refusal)| *refusal == text).then_some(text)
}

/// No call forgets to ask (CVE-2026-33413).
#[tokio::test]
async fn everybody_calls_everything() {
    for (name, need, call) in calls() {
        // Who calls, and how it is refused.
        let by = |user: &str| Some(user.to_owned());
        let table = [
            (None, (need >= Need::Login).then_some(EMPTY)),
            (by("bad"), (need >= Need::NoBadToken).then_some(BAD_TOKEN)),
            (by("old"), (need >= Need::NoBadToken).then_some(BAD_TOKEN)),
            (by("powerless"), (need >= Need::Right).then_some(DENIED)),
            (by("holder"), (need >= Need::Admin).then_some(DENIED)),
            (by("root"), None),
        ];
        for (user, refused) in table {
            let member = guarded().await;
            let token = match user.as_deref() {
                None => None,
                Some("bad") => Some("abcdefghijklmnop.12".to_owned()),
                Some("old") => {
                    let token = member.fake.token_of("holder");
                    let name = "holder".to_owned();
                    member.fake.change_users(&AuthCommand::UserChangePassword { name, hash: None });
                    Some(token)
                }
                Some(user) => Some(member.fake.token_of(user)),
            };
            let answer = call(member.channel.clone(), token).await;
            let told = refusal(&answer);
            assert_eq!(told, refused.map(|(_, text)| text), "{name} by {user:?}: {answer:?}");
            let through_a_client = name.starts_with("Lock") || name.starts_with("Election");
            if let (Some((code, _)), Err(status)) = (refused, &answer) {
                let expected = if through_a_client { Code::Unknown } else { code };
                assert_eq!(status.code(), expected, "{name} by {user:?}");
            }
        }
    }
}

/// Opens a stream, asks for one watch, and answers what comes.
async fn watch(member: &Member, token: Option<&str>, create: pb::WatchCreateRequest) -> pb::WatchResponse {
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // The stream stays open behind the request.
    let requests = futures::StreamExt::chain(stream::iter([request]), stream::pending());
    let mut client = WatchClient::new(member.channel.clone());
    let mut answers = client.watch(with_token(requests, token)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap()
}

#[tokio::test]
async fn watches_are_refused_at_their_creation() {
    let member = guarded().await;
    let of = |key: &'static str, range_end: &'static str| pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    };
    let (holder, powerless) = (member.fake.token_of("holder"), member.fake.token_of("powerless"));
    let root = member.fake.token_of("root");
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    let empty = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    let bad = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    let table = [
        (None, of("a", ""), empty),
        (Some("bad"), of("a", ""), bad),
        (Some(&*powerless), of("a", ""), denied),
        (Some(&*holder), of("a", ""), ""),
        (Some(&*holder), of("a", "b"), ""),
        // One key, and every key from it on, are told apart (GHSA-xg4h-6gfc-h4m8).
        (Some(&*holder), of("a", "\0"), denied),
        (Some(&*holder), of("", ""), denied),
        (Some(&*holder), of("b", ""), denied),
        (Some(&*root), of("", "\0"), ""),
    ];
    for (token, create, reason) in table {
        let answer = watch(&member, token, create.clone()).await;
        assert!(answer.created, "{create:?}");
        assert_eq!(answer.cancel_reason, reason, "{create:?}");
        assert_eq!((answer.canceled, answer.watch_id == -1), (!reason.is_empty(), !reason.is_empty()));
    }
    let old = pb::WatchCreateRequest { start_revision: -1, ..of("b", "") };
    let reason = watch(&member, Some(&holder), old).await.cancel_reason;
    assert_eq!(reason, "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn tokens_come_in_either_header_with_or_without_bearer() {
    let member = guarded().await;
    let token = member.fake.token_of("holder");
    let mut kv = KvClient::new(member.channel.clone());
    for (header, value, good) in [
        ("token", token.clone(), true),
        ("token", format!("Bearer {token}"), true),
        ("authorization", token.clone(), true),
        ("authorization", format!("Bearer {token}"), true),
        ("authorization", format!("bearer {token}"), false),
        ("token", String::new(), false),
    ] {
        let mut request = Request::new(get("a"));
        request.metadata_mut().insert(header, value.parse().unwrap());
        assert_eq!(kv.range(request).await.is_ok(), good, "{header}: {value}");
    }
    // The first of both counts, also when it is worth nothing.
    let mut request = with_token(get("a"), Some("bad"));
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    assert_eq!(kv.range(request).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_password_gives_a_token_and_everything_else_the_same_refusal() {
    let member = Member::start().await;
    let mut auth = AuthClient::new(member.channel.clone());
    let login = |name: &str, password: &str| pb::AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    };
    let refused = auth.authenticate(login("root", "secret")).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: authentication is not enabled");

    let add = |name: &str, password: &str, no_password| pb::AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        options: Some(authpb::UserAddOptions { no_password }),
        // Ignored: the member makes the hashes itself.
        hashed_password: "x".to_owned(),
    };
    auth.user_add(add("root", "secret", false)).await.unwrap();
    auth.user_add(add("certificate", "secret", true)).await.unwrap();
    let grant = pb::AuthUserGrantRoleRequest { user: "root".to_owned(), role: "root".to_owned() };
    auth.user_grant_role(grant).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();

    for (name, password) in [
        ("root", ""),
        ("root", "Secret"),
        ("nobody", "secret"),
        ("certificate", "secret"),
        ("certificate", ""),
        ("", ""),
    ] {
        let refused = auth.authenticate(login(name, password)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), "etcdserver: authentication failed, invalid user ID or password");
    }
    let token = auth.authenticate(login("root", "secret")).await.unwrap().into_inner().token;
    let list = || with_token(pb::AuthUserListRequest {}, Some(&token));
    assert_eq!(auth.user_list(list()).await.unwrap().into_inner().users, ["certificate", "root"]);
    // Neither what was proposed nor an answer holds a password.
    assert!(!format!("{:?}", member.fake.proposals()).contains("secret"));

    let status =
        auth.auth_status(with_token(pb::AuthStatusRequest {}, Some(&token))).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (true, 4));
    auth.auth_disable(with_token(pb::AuthDisableRequest {}, Some(&token))).await.unwrap();
    assert!(auth.user_list(pb::AuthUserListRequest {}).await.is_ok());
    // A token of before is worth nothing once rights are asked for again.
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    assert_eq!(auth.user_list(list()).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn what_is_refused_never_reaches_the_log() {
    let member = guarded().await;
    let mut kv = KvClient::new(member.channel.clone());
    let powerless = member.fake.token_of("powerless");
    let before = member.fake.proposals().len();
    for token in [None, Some("bad"), Some(&*powerless)] {
        kv.put(with_token(put("a"), token)).await.unwrap_err();
        kv.delete_range(with_token(delete("a"), token)).await.unwrap_err();
        kv.compact(with_token(pb::CompactionRequest { revision: 1, physical: false }, token))
            .await
            .unwrap_err();
    }
    assert_eq!(member.fake.proposals().len(), before);
    // What is allowed is proposed in the caller's name.
    kv.put(with_token(put("a"), Some(&member.fake.token_of("holder")))).await.unwrap();
    let proposed = member.fake.proposals().pop();
    assert!(matches!(proposed, Some(Command::As { caller, .. }) if caller.user == "holder"));
}
