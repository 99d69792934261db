//! `-w json`: field names, their order and what is left out as Go's JSON encoder makes them of etcd's types.
//!
//! Byte strings are base64, enumerations numbers, ids decimal numbers.

use barque_proto::authpb;
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::response_op::Response;
use barque_proto::mvccpb;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{Answer, EndpointHash, EndpointHealth, EndpointStatus};

/// One document and a line break.
pub(super) fn render(answer: &Answer, hex: bool) -> String {
    let mut out = String::new();
    match answer {
        Answer::Get { response, .. } => response.write(&mut out),
        Answer::Put(response) => response.write(&mut out),
        Answer::Delete(response) => response.write(&mut out),
        Answer::Txn(response) => response.write(&mut out),
        Answer::Watch(response) => watch(response).write_to(&mut out),
        Answer::LeaseGrant(response) => {
            let object = Object::of_header(response.header.as_ref());
            let object = object.always("ID", &response.id).always("TTL", &response.ttl);
            object.always("Error", &response.error).write_to(&mut out);
        }
        Answer::LeaseRevoke { response, .. } => response.write(&mut out),
        Answer::LeaseKeepAlive(response) => {
            let object = Object::of_header(response.header.as_ref());
            object.always("ID", &response.id).always("TTL", &response.ttl).write_to(&mut out);
        }
        Answer::LeaseTimeToLive { response, .. } => {
            let object = Object::of_header(response.header.as_ref());
            let object = object.always("id", &response.id).always("ttl", &response.ttl);
            let object = object.always("granted-ttl", &response.granted_ttl);
            object.or_null("keys", &response.keys).write_to(&mut out);
        }
        Answer::Leases(response) => {
            let leases: Vec<_> = response.leases.iter().map(|lease| LeaseId(lease.id)).collect();
            let object = Object::of_header(response.header.as_ref());
            object.always("leases", &leases).write_to(&mut out);
        }
        Answer::MemberAdd(response) => response.write(&mut out),
        Answer::MemberRemove { response, .. } => response.write(&mut out),
        Answer::MemberUpdate { response, .. } => response.write(&mut out),
        Answer::MemberPromote { response, .. } => response.write(&mut out),
        Answer::MemberList(response) if hex => members_in_hex(response).write_to(&mut out),
        Answer::MemberList(response) => response.write(&mut out),
        Answer::Health(endpoints) => list_or_null(endpoints, &mut out),
        Answer::Status(endpoints) => list_or_null(endpoints, &mut out),
        Answer::HashKv(endpoints) => list_or_null(endpoints, &mut out),
        Answer::MoveLeader { response, .. } => response.write(&mut out),
        Answer::Downgrade { response, .. } => response.write(&mut out),
        Answer::Alarm(response) => response.write(&mut out),
        Answer::RoleAdd { response, .. } => response.write(&mut out),
        Answer::RoleGet { response, .. } => response.write(&mut out),
        Answer::RoleDelete { response, .. } => response.write(&mut out),
        Answer::RoleList(response) => response.write(&mut out),
        Answer::RoleGrant { response, .. } => response.write(&mut out),
        Answer::RoleRevoke { response, .. } => response.write(&mut out),
        Answer::UserAdd { response, .. } => response.write(&mut out),
        Answer::UserGet { response, .. } => response.write(&mut out),
        Answer::UserDelete { response, .. } => response.write(&mut out),
        Answer::UserList(response) => response.write(&mut out),
        Answer::UserPassword(response) => response.write(&mut out),
        Answer::UserGrant { response, .. } => response.write(&mut out),
        Answer::UserRevoke { response, .. } => response.write(&mut out),
        Answer::AuthStatus(response) => response.write(&mut out),
    }
    out.push('\n');
    out
}

/// A value that can be written, and left out where Go leaves it out.
trait Json {
    fn write(&self, out: &mut String);
    /// What Go's `omitempty` leaves out.
    fn is_empty(&self) -> bool;
}

/// An object that is being written.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }

    /// The header's fields lie in the object itself, as Go puts embedded structures.
    fn of_header(header: Option<&pb::ResponseHeader>) -> Self {
        header.map_or_else(Self::new, header_fields)
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn always(mut self, name: &str, value: &impl Json) -> Self {
        self.name(name);
        value.write(&mut self.0);
        self
    }

    fn omit_empty(self, name: &str, value: &impl Json) -> Self {
        if value.is_empty() { self } else { self.always(name, value) }
    }

    fn or_null(mut self, name: &str, value: &impl Json) -> Self {
        if !value.is_empty() {
            return self.always(name, value);
        }
        self.name(name);
        self.0.push_str("null");
        self
    }

    fn write_to(mut self, out: &mut String) {
        self.0.push('}');
        out.push_str(&self.0);
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Json for $number {
            fn write(&self, out: &mut String) {
                out.push_str(&self.to_string());
            }
            fn is_empty(&self) -> bool {
                *self == Self::default()
            }
        }
    )*};
}

numbers!(i32, i64, u32, u64, bool);

impl Json for String {
    fn write(&self, out: &mut String) {
        string(self, out);
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// As Go's encoder, which also keeps HTML harmless.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl Json for Bytes {
    fn write(&self, out: &mut String) {
        out.push('"');
        STANDARD.encode_string(self, out);
        out.push('"');
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Json> Json for Vec<T> {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (place, value) in self.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            value.write(out);
        }
        out.push(']');
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Json> Json for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

fn list_or_null<T: Json>(list: &Vec<T>, out: &mut String) {
    if list.is_empty() { out.push_str("null") } else { list.write(out) }
}

/// Messages as objects: each field with its name in JSON, left out when it has its default value.
macro_rules! messages {
    ($($message:ty { $($field:ident: $name:literal),* $(,)? })*) => {$(
        impl Json for $message {
            fn write(&self, out: &mut String) {
                Object::new()$(.omit_empty($name, &self.$field))*.write_to(out);
            }
            fn is_empty(&self) -> bool {
                false
            }
        }
    )*};
}

fn header_fields(header: &pb::ResponseHeader) -> Object {
    let object = Object::new().omit_empty("cluster_id", &header.cluster_id);
    let object = object.omit_empty("member_id", &header.member_id);
    object.omit_empty("revision", &header.revision).omit_empty("raft_term", &header.raft_term)
}

impl Json for pb::ResponseHeader {
    fn write(&self, out: &mut String) {
        header_fields(self).write_to(out);
    }
    fn is_empty(&self) -> bool {
        false
    }
}

messages! {
    mvccpb::KeyValue {
        key: "key", create_revision: "create_revision", mod_revision: "mod_revision", version: "version",
        value: "value", lease: "lease",
    }
    mvccpb::Event { r#type: "type", kv: "kv", prev_kv: "prev_kv" }
    pb::RangeResponse { header: "header", kvs: "kvs", more: "more", count: "count" }
    pb::PutResponse { header: "header", prev_kv: "prev_kv" }
    pb::DeleteRangeResponse { header: "header", deleted: "deleted", prev_kvs: "prev_kvs" }
    pb::TxnResponse { header: "header", succeeded: "succeeded", responses: "responses" }
    pb::LeaseRevokeResponse { header: "header" }
    pb::Member {
        id: "ID", name: "name", peer_ur_ls: "peerURLs", client_ur_ls: "clientURLs", is_learner: "isLearner",
    }
    pb::MemberAddResponse { header: "header", member: "member", members: "members" }
    pb::MemberRemoveResponse { header: "header", members: "members" }
    pb::MemberUpdateResponse { header: "header", members: "members" }
    pb::MemberPromoteResponse { header: "header", members: "members" }
    pb::MemberListResponse { header: "header", members: "members" }
    pb::StatusResponse {
        header: "header", version: "version", db_size: "dbSize", leader: "leader", raft_index: "raftIndex",
        raft_term: "raftTerm", raft_applied_index: "raftAppliedIndex", errors: "errors",
        db_size_in_use: "dbSizeInUse", is_learner: "isLearner", storage_version: "storageVersion",
        db_size_quota: "dbSizeQuota", downgrade_info: "downgradeInfo",
    }
    pb::DowngradeInfo { enabled: "enabled", target_version: "targetVersion" }
    pb::HashKvResponse {
        header: "header", hash: "hash", compact_revision: "compact_revision", hash_revision: "hash_revision",
    }
    pb::MoveLeaderResponse { header: "header" }
    pb::DowngradeResponse { header: "header", version: "version" }
    pb::AlarmMember { member_id: "memberID", alarm: "alarm" }
    pb::AlarmResponse { header: "header", alarms: "alarms" }
    authpb::Permission { perm_type: "permType", key: "key", range_end: "range_end" }
    pb::AuthRoleAddResponse { header: "header" }
    pb::AuthRoleGetResponse { header: "header", perm: "perm" }
    pb::AuthRoleDeleteResponse { header: "header" }
    pb::AuthRoleListResponse { header: "header", roles: "roles" }
    pb::AuthRoleGrantPermissionResponse { header: "header" }
    pb::AuthRoleRevokePermissionResponse { header: "header" }
    pb::AuthUserAddResponse { header: "header" }
    pb::AuthUserGetResponse { header: "header", roles: "roles" }
    pb::AuthUserDeleteResponse { header: "header" }
    pb::AuthUserListResponse { header: "header", users: "users" }
    pb::AuthUserChangePasswordResponse { header: "header" }
    pb::AuthUserGrantRoleResponse { header: "header" }
    pb::AuthUserRevokeRoleResponse { header: "header" }
    pb::AuthStatusResponse { header: "header", enabled: "enabled", auth_revision: "authRevision" }
}

impl Json for pb::ResponseOp {
    fn write(&self, out: &mut String) {
        let one = match &self.response {
            Some(Response::ResponseRange(range)) => Object::new().always("response_range", range),
            Some(Response::ResponsePut(put)) => Object::new().always("response_put", put),
            Some(Response::ResponseDeleteRange(delete)) => {
                Object::new().always("response_delete_range", delete)
            }
            Some(Response::ResponseTxn(txn)) => Object::new().always("response_txn", txn),
            None => return Object::new().always("Response", &None::<bool>).write_to(out),
        };
        out.push_str("{\"Response\":");
        one.write_to(out);
        out.push('}');
    }
    fn is_empty(&self) -> bool {
        false
    }
}

struct LeaseId(i64);

impl Json for LeaseId {
    fn write(&self, out: &mut String) {
        Object::new().always("id", &self.0).write_to(out);
    }
    fn is_empty(&self) -> bool {
        false
    }
}

fn watch(response: &pb::WatchResponse) -> Object {
    let object = Object::new().always("Header", &response.header.unwrap_or_default());
    let object = object.always("Events", &response.events);
    let object = object.always("CompactRevision", &response.compact_revision);
    object.always("Canceled", &response.canceled).always("Created", &response.created)
}

/// etcdctl 3.6 writes this one by hand: ids as hexadecimal strings, no revision, no learners.
fn members_in_hex(response: &pb::MemberListResponse) -> Object {
    let header = response.header.unwrap_or_default();
    let hex = |id: u64| format!("{id:x}");
    let header = Hexed(vec![
        ("cluster_id", Hex::Text(hex(header.cluster_id))),
        ("member_id", Hex::Text(hex(header.member_id))),
        ("raft_term", Hex::Number(header.raft_term)),
    ]);
    let member = |member: &pb::Member| {
        Hexed(vec![
            ("ID", Hex::Text(hex(member.id))),
            ("name", Hex::Text(member.name.clone())),
            ("peerURLs", Hex::List(member.peer_ur_ls.clone())),
            ("clientURLs", Hex::List(member.client_ur_ls.clone())),
        ])
    };
    let members: Vec<_> = response.members.iter().map(member).collect();
    Object::new().always("header", &header).omit_empty("members", &members)
}

struct Hexed(Vec<(&'static str, Hex)>);

enum Hex {
    Text(String),
    Number(u64),
    List(Vec<String>),
}

impl Json for Hexed {
    fn write(&self, out: &mut String) {
        let object = self.0.iter().fold(Object::new(), |object, (name, value)| match value {
            Hex::Text(text) => object.always(name, text),
            Hex::Number(number) => object.always(name, number),
            Hex::List(list) => object.or_null(name, list),
        });
        object.write_to(out);
    }
    fn is_empty(&self) -> bool {
        false
    }
}

impl Json for EndpointHealth {
    fn write(&self, out: &mut String) {
        let object = Object::new().always("endpoint", &self.endpoint).always("health", &self.healthy());
        object.always("took", &self.took).omit_empty("error", &self.error).write_to(out);
    }
    fn is_empty(&self) -> bool {
        false
    }
}

impl Json for EndpointStatus {
    fn write(&self, out: &mut String) {
        Object::new().always("Endpoint", &self.endpoint).always("Status", &self.response).write_to(out);
    }
    fn is_empty(&self) -> bool {
        false
    }
}

impl Json for EndpointHash {
    fn write(&self, out: &mut String) {
        Object::new().always("Endpoint", &self.endpoint).always("HashKV", &self.response).write_to(out);
    }
    fn is_empty(&self) -> bool {
        false
    }
}
