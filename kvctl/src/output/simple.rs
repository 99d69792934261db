//! `-w simple`: what people read and scripts cut. Bytes are written as they are, or with `--hex` as `\x61\x62`.

use barque_proto::authpb::{Permission, permission};
use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::response_op::Response;
use barque_proto::mvccpb::{Event, KeyValue, event};

use super::{Answer, Rendered, rows};
use crate::range::prefix_end;

/// The text under construction.
struct Text {
    out: Vec<u8>,
    hex: bool,
    value_only: bool,
}

pub(super) fn render(answer: &Answer, hex: bool) -> Rendered {
    let mut text = Text { out: Vec::new(), hex, value_only: false };
    match answer {
        Answer::Get { response, value_only } => {
            text.value_only = *value_only;
            text.range(response);
        }
        Answer::Put(response) => text.put(response),
        Answer::Delete(response) => text.delete(response),
        Answer::Txn(response) => text.txn(response),
        Answer::Watch(response) => response.events.iter().for_each(|event| text.event(event)),
        Answer::LeaseGrant(lease) => {
            text.line(&format!("lease {:016x} granted with TTL({}s)", lease.id, lease.ttl));
        }
        Answer::LeaseRevoke { id, .. } => text.line(&format!("lease {id:016x} revoked")),
        Answer::LeaseKeepAlive(lease) => {
            text.line(&format!("lease {:016x} keepalived with TTL({})", lease.id, lease.ttl));
        }
        Answer::LeaseTimeToLive { response, keys } => text.time_to_live(response, *keys),
        Answer::Leases(response) => {
            text.line(&format!("found {} leases", response.leases.len()));
            response.leases.iter().for_each(|lease| text.line(&format!("{:016x}", lease.id)));
        }
        Answer::MemberAdd(response) => {
            let member = response.member.clone().unwrap_or_default();
            let how = if member.is_learner { " as learner " } else { " " };
            let cluster = cluster(response.header.as_ref());
            text.line(&format!("Member {:16x} added{how}to cluster {cluster:16x}", member.id));
        }
        Answer::MemberRemove { id, response } => {
            let cluster = cluster(response.header.as_ref());
            text.line(&format!("Member {id:16x} removed from cluster {cluster:16x}"));
        }
        Answer::MemberUpdate { id, response } => {
            let cluster = cluster(response.header.as_ref());
            text.line(&format!("Member {id:16x} updated in cluster {cluster:16x}"));
        }
        Answer::MemberPromote { id, response } => {
            let cluster = cluster(response.header.as_ref());
            text.line(&format!("Member {id:16x} promoted in cluster {cluster:16x}"));
        }
        Answer::MemberList(list) => text.rows(&rows::members(list)),
        Answer::Status(endpoints) => text.rows(&rows::status(endpoints)),
        Answer::HashKv(endpoints) => text.rows(&rows::hashes(endpoints)),
        Answer::Health(endpoints) => {
            let mut err = String::new();
            for one in endpoints {
                if one.healthy() {
                    let line = "is healthy: successfully committed proposal: took";
                    text.line(&format!("{} {line} = {}", one.endpoint, one.took));
                } else {
                    let line = "is unhealthy: failed to commit proposal";
                    err.push_str(&format!("{} {line}: {}\n", one.endpoint, one.error));
                }
            }
            return Rendered { out: text.out, err };
        }
        Answer::MoveLeader { from, to, .. } => {
            text.line(&format!("Leadership transferred from {from:x} to {to:x}"));
        }
        Answer::Downgrade { action, response } => {
            text.line(&format!("Downgrade {action} success, cluster version {}", response.version));
        }
        Answer::Alarm(response) => {
            for alarm in &response.alarms {
                text.line(&format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name()));
            }
        }
        Answer::RoleAdd { role, .. } => text.line(&format!("Role {role} created")),
        Answer::RoleGet { role, response } => text.role(role, response),
        Answer::RoleDelete { role, .. } => text.line(&format!("Role {role} deleted")),
        Answer::RoleList(response) => response.roles.iter().for_each(|role| text.line(role)),
        Answer::RoleGrant { role, .. } => text.line(&format!("Role {role} updated")),
        Answer::RoleRevoke { role, key, range_end, .. } => text.revoked(role, key, range_end),
        Answer::UserAdd { user, .. } => text.line(&format!("User {user} created")),
        Answer::UserGet { user, response } => {
            text.line(&format!("User: {user}"));
            let roles: String = response.roles.iter().map(|role| format!(" {role}")).collect();
            text.line(&format!("Roles:{roles}"));
        }
        Answer::UserDelete { user, .. } => text.line(&format!("User {user} deleted")),
        Answer::UserList(response) => response.users.iter().for_each(|user| text.line(user)),
        Answer::UserPassword(_) => text.line("Password updated"),
        Answer::UserGrant { user, role, .. } => text.line(&format!("Role {role} is granted to user {user}")),
        Answer::UserRevoke { user, role, .. } => {
            text.line(&format!("Role {role} is revoked from user {user}"));
        }
        Answer::AuthStatus(response) => {
            text.line(&format!("Authentication Status: {}", response.enabled));
            text.line(&format!("AuthRevision: {}", response.auth_revision));
        }
    }
    text.out.into()
}

fn cluster(header: Option<&pb::ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

impl Text {
    fn line(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.out.push(b'\n');
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            let text: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            self.line(&text);
        } else {
            self.raw(bytes);
        }
    }

    fn rows(&mut self, rows: &[Vec<String>]) {
        rows.iter().for_each(|row| self.line(&row.join(", ")));
    }

    fn key_value(&mut self, kv: &KeyValue) {
        if !self.value_only {
            self.bytes(&kv.key);
        }
        self.bytes(&kv.value);
    }

    fn range(&mut self, response: &pb::RangeResponse) {
        response.kvs.iter().for_each(|kv| self.key_value(kv));
    }

    fn put(&mut self, response: &pb::PutResponse) {
        self.line("OK");
        response.prev_kv.iter().for_each(|kv| self.key_value(kv));
    }

    fn delete(&mut self, response: &pb::DeleteRangeResponse) {
        self.line(&response.deleted.to_string());
        response.prev_kvs.iter().for_each(|kv| self.key_value(kv));
    }

    fn txn(&mut self, response: &pb::TxnResponse) {
        self.line(if response.succeeded { "SUCCESS" } else { "FAILURE" });
        for one in &response.responses {
            self.line("");
            match &one.response {
                Some(Response::ResponseRange(range)) => self.range(range),
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.line(if event.r#type() == event::EventType::Put { "PUT" } else { "DELETE" });
        event.prev_kv.iter().for_each(|kv| self.key_value(kv));
        event.kv.iter().for_each(|kv| self.key_value(kv));
    }

    fn time_to_live(&mut self, lease: &pb::LeaseTimeToLiveResponse, keys: bool) {
        if lease.granted_ttl == 0 && lease.ttl == -1 {
            return self.line(&format!("lease {:016x} already expired", lease.id));
        }
        let head = format!("lease {:016x} granted with TTL({}s), ", lease.id, lease.granted_ttl);
        self.out.extend_from_slice(format!("{head}remaining({}s)", lease.ttl).as_bytes());
        if keys {
            let keys = lease.keys.join(&b' ');
            self.out.extend_from_slice(b", attached keys([");
            self.out.extend_from_slice(&keys);
            self.out.extend_from_slice(b"])");
        }
        self.line("");
    }

    fn role(&mut self, role: &str, response: &pb::AuthRoleGetResponse) {
        self.line(&format!("Role {role}"));
        if role == "root" && response.perm.is_empty() {
            return self.line("KV Read:\n\t[, <open ended>\nKV Write:\n\t[, <open ended>");
        }
        for (heading, other) in [("KV Read:", permission::Type::Write), ("KV Write:", permission::Type::Read)]
        {
            self.line(heading);
            for permission in response.perm.iter().filter(|permission| permission.perm_type() != other) {
                self.permission(permission);
            }
        }
    }

    fn permission(&mut self, permission: &Permission) {
        let (key, end) = (&permission.key[..], &permission.range_end[..]);
        let mut line = vec![b'\t'];
        match end {
            [] => line.extend_from_slice(key),
            end => {
                line.push(b'[');
                line.extend_from_slice(key);
                line.extend_from_slice(b", ");
                line.extend_from_slice(if end == b"\0" { b"<open ended>" } else { end });
                if end != b"\0" {
                    line.push(b')');
                }
                if !key.is_empty() && prefix_end(key) == end {
                    line.extend_from_slice(b" (prefix ");
                    line.extend_from_slice(key);
                    line.push(b')');
                }
            }
        }
        self.raw(&line);
    }

    fn revoked(&mut self, role: &str, key: &[u8], range_end: &[u8]) {
        let key = String::from_utf8_lossy(key);
        let end = String::from_utf8_lossy(range_end);
        let what = match range_end {
            [] => format!("key {key}"),
            b"\0" => format!("range [{key}, <open ended>"),
            _ => format!("range [{key}, {end})"),
        };
        self.line(&format!("Permission of {what} is revoked from role {role}"));
    }
}
