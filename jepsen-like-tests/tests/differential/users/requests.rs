//! Random requests about users, roles and keys, and how a store answers them. Never names what the known differences of
//! `users` leave out.

use barque_proto::authpb::{Permission, UserAddOptions};
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::request_op::Request as Op;
use bytes::Bytes;
use jepsen_like_tests::client::{Client, with_token};
use jepsen_like_tests::replay::without_ids;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tonic::{Code, Response, Status};

/// Users with passwords.
pub(super) const USERS: [&str; 4] = ["root", "u", "v", "w"];
/// A user without a password; it never logs in (known difference 5).
const WITHOUT_PASSWORD: &str = "certificate";
const ROLES: [&str; 4] = ["root", "r", "s", "t"];
const PASSWORDS: [&str; 2] = ["one", "two"];
/// First keys and ends of permissions; each first key is there once (known difference 2).
const PERMISSIONS: [(&str, &str); 7] =
    [("a", ""), ("b", "d"), ("b1", "f"), ("c", "\0"), ("d", "e"), ("e", ""), ("\0", "b")];
const KEYS: [&str; 7] = ["a", "b", "b1", "c", "d", "e", "f"];
const ENDS: [&str; 8] = ["", "", "", "b", "c", "e", "f", "\0"];
const LEASES: [i64; 2] = [7, 8];
/// So long that none ends while the test runs.
const TTL_S: i64 = 10_000;

/// One request; who asks is said beside it.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    LogIn(pb::AuthenticateRequest),
    Enable(pb::AuthEnableRequest),
    Disable(pb::AuthDisableRequest),
    UserAdd(pb::AuthUserAddRequest),
    UserDelete(pb::AuthUserDeleteRequest),
    UserGet(pb::AuthUserGetRequest),
    UserList(pb::AuthUserListRequest),
    ChangePassword(pb::AuthUserChangePasswordRequest),
    GrantRole(pb::AuthUserGrantRoleRequest),
    RevokeRole(pb::AuthUserRevokeRoleRequest),
    RoleAdd(pb::AuthRoleAddRequest),
    RoleDelete(pb::AuthRoleDeleteRequest),
    RoleGet(pb::AuthRoleGetRequest),
    RoleList(pb::AuthRoleListRequest),
    Grant(pb::AuthRoleGrantPermissionRequest),
    Revoke(pb::AuthRoleRevokePermissionRequest),
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
}

impl Ask {
    /// Whether nobody may ask it of Barque though etcd asks for no right (known difference 8).
    pub(super) fn needs_login(&self) -> bool {
        let does_nothing = |txn: &pb::TxnRequest| *txn == pb::TxnRequest::default();
        match self {
            Self::LeaseGrant(_) | Self::LeaseRevoke(_) => true,
            Self::Txn(txn) => does_nothing(txn),
            Self::UserGet(get) => get.name.is_empty(),
            _ => false,
        }
    }

    /// Whether it is about keys, not about users and roles.
    pub(super) fn is_about_keys(&self) -> bool {
        matches!(
            self,
            Self::Range(_)
                | Self::Put(_)
                | Self::Delete(_)
                | Self::Txn(_)
                | Self::LeaseGrant(_)
                | Self::LeaseRevoke(_)
        )
    }
}

/// A login with this password.
pub(super) fn login(name: &str, password: &str) -> Ask {
    Ask::LogIn(pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() })
}

/// What brings Auth about, one after the other.
pub(super) fn enabling() -> [Ask; 3] {
    let name = || "root".to_owned();
    let (user, role) = (name(), name());
    [
        Ask::UserAdd(pb::AuthUserAddRequest {
            name: name(),
            password: PASSWORDS[0].to_owned(),
            ..Default::default()
        }),
        Ask::GrantRole(pb::AuthUserGrantRoleRequest { user, role }),
        Ask::Enable(pb::AuthEnableRequest {}),
    ]
}

/// Makes requests; the same seed makes the same ones.
pub(super) struct Asks {
    pub(super) random: StdRng,
    /// Whether local reads are asked for too.
    serializable: bool,
}

impl Asks {
    pub(super) fn new(seed: u64, serializable: bool) -> Self {
        Self { random: StdRng::seed_from_u64(seed), serializable }
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.random).unwrap()
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn user(&mut self) -> String {
        let name = match self.random.random_range(0..100) {
            0..2 => "",
            2..10 => WITHOUT_PASSWORD,
            _ => self.pick(&USERS),
        };
        name.to_owned()
    }

    fn role(&mut self) -> String {
        if self.chance(2) { String::new() } else { self.pick(&ROLES).to_owned() }
    }

    fn password(&mut self) -> String {
        self.pick(&PASSWORDS).to_owned()
    }

    pub(super) fn next(&mut self) -> Ask {
        match self.random.random_range(0..100) {
            0..4 => Ask::Enable(pb::AuthEnableRequest {}),
            4 => Ask::Disable(pb::AuthDisableRequest {}),
            5..8 => {
                let name = self.pick(&[&USERS[..], &["nobody", ""]].concat());
                login(name, self.pick(&PASSWORDS))
            }
            8..14 => Ask::UserAdd(self.user_add()),
            14..16 => Ask::UserDelete(pb::AuthUserDeleteRequest { name: self.user() }),
            16..20 => Ask::UserGet(pb::AuthUserGetRequest { name: self.user() }),
            20..22 => Ask::UserList(pb::AuthUserListRequest {}),
            22..24 => Ask::ChangePassword(pb::AuthUserChangePasswordRequest {
                name: self.user(),
                password: self.password(),
                ..Default::default()
            }),
            24..32 => Ask::GrantRole(pb::AuthUserGrantRoleRequest { user: self.user(), role: self.role() }),
            32..34 => Ask::RevokeRole(pb::AuthUserRevokeRoleRequest { name: self.user(), role: self.role() }),
            34..38 => Ask::RoleAdd(pb::AuthRoleAddRequest { name: self.role() }),
            38..40 => Ask::RoleDelete(pb::AuthRoleDeleteRequest { role: self.role() }),
            40..44 => Ask::RoleGet(pb::AuthRoleGetRequest { role: self.role() }),
            44..46 => Ask::RoleList(pb::AuthRoleListRequest {}),
            46..54 => {
                let (key, end) = self.pick(&PERMISSIONS);
                let perm_type = self.pick(&[0, 1, 2]);
                let perm = Some(Permission { perm_type, key: key.into(), range_end: end.into() });
                Ask::Grant(pb::AuthRoleGrantPermissionRequest { name: self.role(), perm })
            }
            54..58 => {
                let (key, end) = if self.chance(15) { ("a", "b") } else { self.pick(&PERMISSIONS) };
                let (key, range_end) = (key.into(), end.into());
                Ask::Revoke(pb::AuthRoleRevokePermissionRequest { role: self.role(), key, range_end })
            }
            58..72 => Ask::Range(self.range()),
            72..82 => Ask::Put(self.put()),
            82..87 => Ask::Delete(self.delete()),
            87..95 => Ask::Txn(self.txn()),
            95..98 => Ask::LeaseGrant(pb::LeaseGrantRequest { id: self.pick(&LEASES), ttl: TTL_S }),
            _ => Ask::LeaseRevoke(pb::LeaseRevokeRequest { id: self.pick(&LEASES) }),
        }
    }

    fn user_add(&mut self) -> pb::AuthUserAddRequest {
        let (name, password) = (self.user(), self.password());
        let no_password = name == WITHOUT_PASSWORD;
        let options = (no_password || self.chance(30)).then_some(UserAddOptions { no_password });
        pb::AuthUserAddRequest { name, password, options, ..Default::default() }
    }

    fn key(&mut self) -> &'static str {
        if self.chance(1) { "" } else { self.pick(&KEYS) }
    }

    /// One key, all from a key on, or a range that has keys (known difference 9).
    fn key_range(&mut self) -> (Bytes, Bytes) {
        let (key, end) = (self.key(), self.pick(&ENDS));
        let has_keys = end == "\0" || key < end;
        (key.into(), if has_keys { end } else { "" }.into())
    }

    fn range(&mut self) -> pb::RangeRequest {
        let (key, range_end) = self.key_range();
        let revision = if self.chance(90) { 0 } else { self.pick(&[1, 2, 1_000_000]) };
        pb::RangeRequest {
            key,
            range_end,
            revision,
            count_only: self.chance(20),
            serializable: self.serializable && self.chance(30),
            ..Default::default()
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key().into(),
            value: "value".into(),
            lease: if self.chance(30) { self.pick(&[LEASES[0], LEASES[1], 9]) } else { 0 },
            prev_kv: self.chance(30),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.key_range();
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.chance(30) }
    }

    fn op(&mut self) -> pb::RequestOp {
        let request = match self.random.random_range(0..3) {
            0 => Op::RequestRange(self.range()),
            // Known difference 6.
            1 => Op::RequestPut(pb::PutRequest { prev_kv: false, lease: 0, ..self.put() }),
            _ => Op::RequestDeleteRange(self.delete()),
        };
        pb::RequestOp { request: Some(request) }
    }

    fn txn(&mut self) -> pb::TxnRequest {
        let (key, range_end) = self.key_range();
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Version.into(),
            key,
            range_end,
            target_union: Some(pb::compare::TargetUnion::Version(self.pick(&[0, 1]))),
        };
        let compare = if self.chance(60) { vec![compare] } else { Vec::new() };
        let (success, failure) = (self.pick(&[0, 1, 1, 2]), self.pick(&[0, 0, 1]));
        pb::TxnRequest {
            compare,
            success: (0..success).map(|_| self.op()).collect(),
            failure: (0..failure).map(|_| self.op()).collect(),
        }
    }
}

/// The code and the exact text.
pub(super) type Refused = (Code, String);

/// What a store said.
#[derive(Debug)]
pub(super) struct Told {
    /// All fields but for what belongs to one cluster; a token is none of them.
    pub(super) answer: Result<String, Refused>,
    /// What the login brought.
    pub(super) token: Option<String>,
}

macro_rules! call {
    ($client:expr, $method:ident, $request:expr, $token:expr) => {{
        let answer: Result<Response<_>, Status> =
            $client.clone().$method(with_token($request.clone(), $token)).await;
        answer.map(|answer| {
            let mut answer = answer.into_inner();
            without_ids(&mut answer.header);
            format!("{answer:?}")
        })
    }};
}

/// Sends the request with this token.
pub(super) async fn ask(client: &Client, ask: &Ask, token: Option<&str>) -> Told {
    let (auth, kv, lease) = (&client.auth, &client.kv, &client.lease);
    let mut given = None;
    let answer = match ask {
        Ask::LogIn(request) => auth.clone().authenticate(request.clone()).await.map(|answer| {
            let mut answer = answer.into_inner();
            without_ids(&mut answer.header);
            assert!(!answer.token.is_empty(), "a login without a token");
            given = Some(std::mem::take(&mut answer.token));
            format!("{answer:?}")
        }),
        Ask::Enable(request) => call!(auth, auth_enable, request, token),
        Ask::Disable(request) => call!(auth, auth_disable, request, token),
        Ask::UserAdd(request) => call!(auth, user_add, request, token),
        Ask::UserDelete(request) => call!(auth, user_delete, request, token),
        Ask::UserGet(request) => call!(auth, user_get, request, token),
        Ask::UserList(request) => call!(auth, user_list, request, token),
        Ask::ChangePassword(request) => call!(auth, user_change_password, request, token),
        Ask::GrantRole(request) => call!(auth, user_grant_role, request, token),
        Ask::RevokeRole(request) => call!(auth, user_revoke_role, request, token),
        Ask::RoleAdd(request) => call!(auth, role_add, request, token),
        Ask::RoleDelete(request) => call!(auth, role_delete, request, token),
        Ask::RoleGet(request) => role_get(client, request, token).await,
        Ask::RoleList(request) => call!(auth, role_list, request, token),
        Ask::Grant(request) => call!(auth, role_grant_permission, request, token),
        Ask::Revoke(request) => call!(auth, role_revoke_permission, request, token),
        Ask::Range(request) => call!(kv, range, request, token),
        Ask::Put(request) => call!(kv, put, request, token),
        Ask::Delete(request) => call!(kv, delete_range, request, token),
        Ask::Txn(request) => call!(kv, txn, request, token),
        Ask::LeaseGrant(request) => call!(lease, lease_grant, request, token),
        Ask::LeaseRevoke(request) => call!(lease, lease_revoke, request, token),
    };
    Told { answer: answer.map_err(|status| (status.code(), status.message().to_owned())), token: given }
}

/// What the role `root` may is left out (known difference 7).
async fn role_get(
    client: &Client,
    request: &pb::AuthRoleGetRequest,
    token: Option<&str>,
) -> Result<String, Status> {
    let answer = client.auth.clone().role_get(with_token(request.clone(), token)).await?;
    let mut answer = answer.into_inner();
    without_ids(&mut answer.header);
    if request.role == "root" {
        answer.perm.clear();
    }
    Ok(format!("{answer:?}"))
}
