//! Users and roles: the same random sequences of changes, logins and calls in everybody's name.
//!
//! Known differences, kept out of the comparison here:
//!
//! 1. A second permission with the first key of another one: etcd does not find it again and grants it twice.
//!    Permissions of one role have different first keys, or the same range.
//! 2. What 3.4 does not ask for and newer etcd does: who grants or revokes a lease or compacts without a token, who
//!    compacts without the role root, and the rights on the version before and on the lease of a put in a
//!    transaction. Barque is held to these by its own table of every call by everybody.
//! 3. The refusal of a watch: newer etcd tells more reasons, under the id -1. Only whether it is refused is compared.
//! 4. A permission that is missing in its request: 3.4 does not expect that.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_proto::authpb;
use barque_proto::etcdserverpb as pb;
use bytes::Bytes;
use jepsen_like_tests::client::{Client, with_token};
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use pb::request_op::Request as Op;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tonic::Status;

use crate::answers::without_ids;
use crate::number_from;

const USERS: [&str; 5] = ["root", "u", "v", "w", ""];
const ROLES: [&str; 5] = ["root", "r", "s", "t", ""];
const PASSWORDS: [&str; 3] = ["one", "two", "three"];
const KEYS: [&[u8]; 6] = [b"a", b"aa", b"b", b"c", b"c\0", b"d"];
const LEASES: [i64; 3] = [1, 2, 3];

/// In whose name a call is made.
#[derive(Clone, Copy, Debug)]
enum Who {
    Nobody,
    Stranger,
    /// With the last token that this user was given.
    User(&'static str),
}

#[derive(Clone, Debug)]
enum Call {
    Enable,
    Disable,
    LogIn(&'static str, &'static str),
    UserAdd(pb::AuthUserAddRequest),
    UserGet(&'static str),
    UserList,
    UserDelete(&'static str),
    UserPassword(&'static str, &'static str),
    UserGrant(&'static str, &'static str),
    UserRevoke(&'static str, &'static str),
    RoleAdd(&'static str),
    RoleGet(&'static str),
    RoleList,
    RoleDelete(&'static str),
    RoleGrant(&'static str, authpb::Permission),
    RoleRevoke(pb::AuthRoleRevokePermissionRequest),
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(i64),
    Revoke(i64),
    Watch(pb::WatchCreateRequest),
}

struct Calls(StdRng);

impl Calls {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.0).expect("there is something to pick from")
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(self.pick(&KEYS))
    }

    /// A key, and none, another one behind it or "without end" as the end.
    fn range(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let end = match self.0.random_range(0..6) {
            0..3 => Bytes::new(),
            3 => Bytes::from_static(b"\0"),
            _ => Some(self.key()).filter(|end| *end > key).unwrap_or_default(),
        };
        (key, end)
    }

    /// One first key has one range only, see the known differences.
    fn granted(&mut self) -> (Bytes, Bytes) {
        let at = self.0.random_range(0..KEYS.len());
        let end: &[u8] = [&b""[..], b"b", b"\0", b"", b"d", b"\0"][at];
        (Bytes::from_static(KEYS[at]), Bytes::from_static(end))
    }

    fn who(&mut self) -> Who {
        match self.0.random_range(0..100) {
            0..45 => Who::User("root"),
            45..90 => Who::User(self.pick(&["u", "v", "w"])),
            90..96 => Who::Nobody,
            _ => Who::Stranger,
        }
    }

    fn get(&mut self) -> pb::RangeRequest {
        let (key, range_end) = self.range();
        pb::RangeRequest { key, range_end, ..Default::default() }
    }

    fn put(&mut self) -> pb::PutRequest {
        let lease = if self.chance(25) { self.pick(&LEASES) } else { 0 };
        pb::PutRequest {
            key: self.key(),
            value: "x".into(),
            lease,
            prev_kv: self.chance(30),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.range();
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.chance(30) }
    }

    fn txn(&mut self) -> pb::TxnRequest {
        let compare = (0..self.0.random_range(1..3))
            .map(|_| pb::Compare {
                key: self.key(),
                target_union: Some(pb::compare::TargetUnion::Version(1)),
                ..Default::default()
            })
            .collect();
        let op = |request| vec![pb::RequestOp { request: Some(request) }];
        let success = match self.0.random_range(0..3) {
            0 => op(Op::RequestRange(self.get())),
            1 => op(Op::RequestPut(pb::PutRequest { prev_kv: false, lease: 0, ..self.put() })),
            _ => op(Op::RequestDeleteRange(self.delete())),
        };
        pb::TxnRequest { compare, success, failure: op(Op::RequestRange(self.get())) }
    }

    fn next(&mut self) -> (Who, Call) {
        let who = self.who();
        let (user, role) = (self.pick(&USERS), self.pick(&ROLES));
        let call = match self.0.random_range(0..100) {
            0..3 => Call::Enable,
            3 => Call::Disable,
            4..17 => Call::LogIn(user, self.pick(&PASSWORDS)),
            17..23 => Call::UserAdd(pb::AuthUserAddRequest {
                name: user.to_owned(),
                password: self.pick(&PASSWORDS).to_owned(),
                ..Default::default()
            }),
            23..26 => Call::UserGet(user),
            26 => Call::UserList,
            27 => Call::UserDelete(user),
            28..30 => Call::UserPassword(user, self.pick(&PASSWORDS)),
            30..36 => Call::UserGrant(user, role),
            36..38 => Call::UserRevoke(user, role),
            38..42 => Call::RoleAdd(role),
            42..45 => Call::RoleGet(role),
            45 => Call::RoleList,
            46 => Call::RoleDelete(role),
            47..56 => {
                let (key, range_end) = self.granted();
                let permission = authpb::Permission { perm_type: self.0.random_range(0..3), key, range_end };
                Call::RoleGrant(role, permission)
            }
            56..58 => {
                let (key, range_end) = self.granted();
                Call::RoleRevoke(pb::AuthRoleRevokePermissionRequest {
                    role: role.to_owned(),
                    key,
                    range_end,
                })
            }
            58..70 => Call::Range(self.get()),
            70..80 => Call::Put(self.put()),
            80..86 => Call::Delete(self.delete()),
            86..92 => Call::Txn(self.txn()),
            92 => {
                Call::Compact(pb::CompactionRequest { revision: self.0.random_range(1..40), physical: false })
            }
            93..95 => Call::Grant(self.pick(&LEASES)),
            95..97 => Call::Revoke(self.pick(&LEASES)),
            _ => {
                let (key, range_end) = self.range();
                Call::Watch(pb::WatchCreateRequest { key, range_end, ..Default::default() })
            }
        };
        (who, call)
    }
}

/// One store, and the tokens that it gave.
struct Side<'a> {
    client: &'a Client,
    tokens: BTreeMap<&'static str, String>,
}

macro_rules! call {
    ($client:expr, $method:ident, $request:expr, $token:expr) => {
        $client.clone().$method(with_token($request, $token)).await.map(|answer| {
            let mut answer = answer.into_inner();
            without_ids(&mut answer.header);
            format!("{answer:?}")
        })
    };
}

impl Side<'_> {
    /// See the second of the known differences.
    fn is_asked_for_less(&self, who: Who, call: &Call) -> bool {
        let without_token = match who {
            Who::Nobody => true,
            Who::Stranger => false,
            Who::User(name) => !self.tokens.contains_key(name),
        };
        match call {
            Call::Compact(_) => without_token || !matches!(who, Who::User("root")),
            Call::Grant(_) | Call::Revoke(_) => without_token,
            _ => false,
        }
    }

    async fn ask(&mut self, who: Who, call: &Call) -> Result<String, String> {
        let answer = self.send(who, call).await;
        answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
    }

    async fn send(&mut self, who: Who, call: &Call) -> Result<String, Status> {
        let own = |name: &str| name.to_owned();
        let token = match who {
            Who::Nobody => None,
            Who::Stranger => Some("abcdefghijklmnop.7".to_owned()),
            Who::User(name) => self.tokens.get(name).cloned(),
        };
        let token = token.as_deref();
        let (auth, kv, lease) = (&self.client.auth, &self.client.kv, &self.client.lease);
        match call.clone() {
            Call::Enable => call!(auth, auth_enable, pb::AuthEnableRequest {}, token),
            Call::Disable => call!(auth, auth_disable, pb::AuthDisableRequest {}, token),
            Call::LogIn(name, password) => {
                let token = self.client.log_in(name, password).await?;
                self.tokens.insert(name, token);
                Ok("a token".to_owned())
            }
            Call::UserAdd(request) => call!(auth, user_add, request, token),
            Call::UserGet(name) => call!(auth, user_get, pb::AuthUserGetRequest { name: own(name) }, token),
            Call::UserList => call!(auth, user_list, pb::AuthUserListRequest {}, token),
            Call::UserDelete(name) => {
                call!(auth, user_delete, pb::AuthUserDeleteRequest { name: own(name) }, token)
            }
            Call::UserPassword(name, password) => {
                let request = pb::AuthUserChangePasswordRequest {
                    name: own(name),
                    password: own(password),
                    ..Default::default()
                };
                call!(auth, user_change_password, request, token)
            }
            Call::UserGrant(user, role) => {
                let request = pb::AuthUserGrantRoleRequest { user: own(user), role: own(role) };
                call!(auth, user_grant_role, request, token)
            }
            Call::UserRevoke(name, role) => {
                let request = pb::AuthUserRevokeRoleRequest { name: own(name), role: own(role) };
                call!(auth, user_revoke_role, request, token)
            }
            Call::RoleAdd(name) => call!(auth, role_add, pb::AuthRoleAddRequest { name: own(name) }, token),
            Call::RoleGet(role) => call!(auth, role_get, pb::AuthRoleGetRequest { role: own(role) }, token),
            Call::RoleList => call!(auth, role_list, pb::AuthRoleListRequest {}, token),
            Call::RoleDelete(role) => {
                call!(auth, role_delete, pb::AuthRoleDeleteRequest { role: own(role) }, token)
            }
            Call::RoleGrant(name, perm) => {
                let request = pb::AuthRoleGrantPermissionRequest { name: own(name), perm: Some(perm) };
                call!(auth, role_grant_permission, request, token)
            }
            Call::RoleRevoke(request) => call!(auth, role_revoke_permission, request, token),
            Call::Range(request) => call!(kv, range, request, token),
            Call::Put(request) => call!(kv, put, request, token),
            Call::Delete(request) => call!(kv, delete_range, request, token),
            Call::Txn(request) => call!(kv, txn, request, token),
            Call::Compact(request) => call!(kv, compact, request, token),
            Call::Grant(id) => call!(lease, lease_grant, pb::LeaseGrantRequest { id, ttl: 6000 }, token),
            Call::Revoke(id) => call!(lease, lease_revoke, pb::LeaseRevokeRequest { id }, token),
            Call::Watch(create) => {
                let mut stream = self.client.watch_as(create, token).await?;
                let answer = stream.next(Duration::from_secs(10)).await?;
                assert!(answer.created, "{answer:?}");
                Ok(format!("refused: {}", answer.canceled))
            }
        }
    }
}

async fn compare(seed: u64, count: u64) {
    let seed = number_from("DIFFERENTIAL_SEED").unwrap_or(seed);
    let count = number_from("DIFFERENTIAL_REQUESTS").unwrap_or(count);
    println!("DIFFERENTIAL_SEED={seed} DIFFERENTIAL_REQUESTS={count}");
    // Cheap hashes: this is about rules.
    let options = Options::default().fast_elections().flag("--bcrypt-cost", 4);
    let etcd = Cluster::start(Flavor::Etcd, 1, options).await.unwrap();
    let options = Options::default().fast_elections();
    let subject = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let (reference, client) = (etcd.client(0), subject.client(0));
    let mut reference = Side { client: &reference, tokens: BTreeMap::new() };
    let mut subject = Side { client: &client, tokens: BTreeMap::new() };
    let mut calls = Calls(StdRng::seed_from_u64(seed));
    // So that rights are asked for most of the time.
    let user = |name: &str, password: &str| pb::AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    };
    let mut script = vec![
        (Who::Nobody, Call::Enable),
        (Who::Nobody, Call::UserAdd(user("root", "one"))),
        (Who::Nobody, Call::Enable),
        (Who::Nobody, Call::UserGrant("root", "root")),
        (Who::Nobody, Call::Enable),
        (Who::Nobody, Call::LogIn("root", "one")),
        (Who::User("root"), Call::UserAdd(user("u", "one"))),
        (Who::User("root"), Call::RoleAdd("r")),
        (Who::User("root"), Call::UserGrant("u", "r")),
        (Who::User("root"), Call::LogIn("u", "one")),
    ];
    script.extend((0..count).map(|_| calls.next()));
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    for (place, (who, call)) in script.iter().enumerate() {
        if reference.is_asked_for_less(*who, call) {
            continue;
        }
        let (expected, answer) = (reference.ask(*who, call).await, subject.ask(*who, call).await);
        if expected != answer {
            for (place, step) in script.iter().enumerate().take(place + 1) {
                println!("{place:>5} {step:?}");
            }
            panic!("seed {seed}: {call:?} by {who:?}\netcd:    {expected:?}\nsubject: {answer:?}");
        }
        *told.entry(answer.err().unwrap_or_else(|| "done".to_owned())).or_default() += 1;
    }
    told.iter().for_each(|(text, times)| println!("{times:>6} {text}"));
    let denied = told.keys().filter(|text| text.contains("permission denied")).count();
    assert!(denied > 0 && told["done"] > 20, "the calls tell nothing of rights");
}

#[tokio::test]
async fn users_and_rights_are_like_etcds_1() {
    compare(1, 600).await;
}

#[tokio::test]
async fn users_and_rights_are_like_etcds_2() {
    compare(2, 600).await;
}

#[tokio::test]
async fn users_and_rights_are_like_etcds_with_a_new_seed() {
    compare(rand::random_range(100..u64::from(u32::MAX)), 600).await;
}
