//! `-w fields`: every field of the answer as `"Name" : value` on a line of its own.
//!
//! etcdctl refuses this format for some answers about members and users; here they are written in the same way.

use std::fmt::{Display, Write};

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::response_op::Response;
use barque_proto::mvccpb::{KeyValue, event};

use super::go_quote::quote;
use super::{Answer, EndpointHash, EndpointHealth, EndpointStatus};

/// The lines under construction.
struct Lines {
    out: String,
    hex: bool,
}

pub(super) fn render(answer: &Answer, hex: bool) -> String {
    let mut lines = Lines { out: String::new(), hex };
    match answer {
        Answer::Get { response, .. } => lines.range(response),
        Answer::Put(response) => lines.put(response),
        Answer::Delete(response) => lines.delete(response),
        Answer::Txn(response) => lines.txn(response),
        Answer::Watch(response) => lines.watch(response),
        Answer::LeaseGrant(lease) => {
            lines.header(lease.header);
            lines.lease(lease.id);
            lines.field("TTL", lease.ttl);
        }
        Answer::LeaseRevoke { response, .. } => lines.header(response.header),
        Answer::LeaseKeepAlive(lease) => {
            lines.header(lease.header);
            lines.lease(lease.id);
            lines.field("TTL", lease.ttl);
        }
        Answer::LeaseTimeToLive { response, .. } => {
            lines.header(response.header);
            lines.lease(response.id);
            lines.field("TTL", response.ttl);
            lines.field("GrantedTTL", response.granted_ttl);
            response.keys.iter().for_each(|key| lines.field("Key", quote(key)));
        }
        Answer::Leases(response) => {
            lines.header(response.header);
            response.leases.iter().for_each(|lease| lines.lease(lease.id));
        }
        Answer::MemberAdd(response) => {
            lines.header(response.header);
            response.member.iter().for_each(|member| lines.id("AddedID", member.id));
            lines.members(&response.members);
        }
        Answer::MemberRemove { response, .. } => lines.member_change(response.header, &response.members),
        Answer::MemberUpdate { response, .. } => lines.member_change(response.header, &response.members),
        Answer::MemberPromote { response, .. } => lines.member_change(response.header, &response.members),
        Answer::MemberList(response) => lines.member_change(response.header, &response.members),
        Answer::Health(endpoints) => endpoints.iter().for_each(|one| lines.health(one)),
        Answer::Status(endpoints) => endpoints.iter().for_each(|one| lines.status(one)),
        Answer::HashKv(endpoints) => endpoints.iter().for_each(|one| lines.hash(one)),
        Answer::MoveLeader { response, .. } => lines.header(response.header),
        Answer::Downgrade { response, .. } => {
            lines.header(response.header);
            lines.text("Version", &response.version);
        }
        Answer::Alarm(response) => {
            lines.header(response.header);
            for alarm in &response.alarms {
                lines.id("MemberID", alarm.member_id);
                lines.field("AlarmType", alarm.alarm().as_str_name());
                lines.empty();
            }
        }
        Answer::RoleAdd { response, .. } => lines.header(response.header),
        Answer::RoleGet { response, .. } => {
            lines.header(response.header);
            for permission in &response.perm {
                // Two spaces, as etcdctl has them.
                lines.field("PermType", format!(" {}", permission.perm_type().as_str_name()));
                lines.field("Key", quote(&permission.key));
                lines.field("RangeEnd", quote(&permission.range_end));
            }
        }
        Answer::RoleDelete { response, .. } => lines.header(response.header),
        Answer::RoleList(response) => lines.names(response.header, "Roles", &response.roles),
        Answer::RoleGrant { response, .. } => lines.header(response.header),
        Answer::RoleRevoke { response, .. } => lines.header(response.header),
        Answer::UserAdd { response, .. } => lines.header(response.header),
        Answer::UserGet { response, .. } => lines.names(response.header, "Roles", &response.roles),
        Answer::UserDelete { response, .. } => lines.header(response.header),
        Answer::UserList(response) => lines.names(response.header, "Users", &response.users),
        Answer::UserPassword(response) => lines.header(response.header),
        Answer::UserGrant { response, .. } => lines.header(response.header),
        Answer::UserRevoke { response, .. } => lines.header(response.header),
        Answer::AuthStatus(response) => {
            lines.header(response.header);
            lines.field("Enabled", response.enabled);
            lines.field("AuthRevision", response.auth_revision);
        }
    }
    lines.out
}

impl Lines {
    fn field(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "\"{name}\" : {value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.field(name, quote(value.as_bytes()));
    }

    fn empty(&mut self) {
        self.out.push('\n');
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn lease(&mut self, id: i64) {
        if self.hex { self.field("ID", format_args!("{id:016x}")) } else { self.field("ID", id) }
    }

    fn header(&mut self, header: Option<pb::ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn key_value(&mut self, prefix: &str, kv: &KeyValue) {
        self.field(&format!("{prefix}Key"), quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), quote(&kv.value));
        let name = format!("{prefix}Lease");
        if self.hex {
            self.field(&name, format_args!("{:016x}", kv.lease));
        } else {
            self.field(&name, kv.lease);
        }
    }

    fn range(&mut self, response: &pb::RangeResponse) {
        self.header(response.header);
        response.kvs.iter().for_each(|kv| self.key_value("", kv));
        self.field("More", response.more);
        self.field("Count", response.count);
    }

    fn put(&mut self, response: &pb::PutResponse) {
        self.header(response.header);
        response.prev_kv.iter().for_each(|kv| self.key_value("Prev", kv));
    }

    fn delete(&mut self, response: &pb::DeleteRangeResponse) {
        self.header(response.header);
        self.field("Deleted", response.deleted);
        response.prev_kvs.iter().for_each(|kv| self.key_value("Prev", kv));
    }

    fn txn(&mut self, response: &pb::TxnResponse) {
        self.header(response.header);
        self.field("Succeeded", response.succeeded);
        for one in &response.responses {
            match &one.response {
                Some(Response::ResponseRange(range)) => self.range(range),
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseDeleteRange(delete)) => self.delete(delete),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => {}
            }
        }
    }

    fn watch(&mut self, response: &pb::WatchResponse) {
        self.header(response.header);
        for event in &response.events {
            self.field("Type", if event.r#type() == event::EventType::Put { "PUT" } else { "DELETE" });
            event.prev_kv.iter().for_each(|kv| self.key_value("Prev", kv));
            event.kv.iter().for_each(|kv| self.key_value("", kv));
        }
    }

    fn member_change(&mut self, header: Option<pb::ResponseHeader>, members: &[pb::Member]) {
        self.header(header);
        self.members(members);
    }

    fn members(&mut self, members: &[pb::Member]) {
        for member in members {
            self.id("ID", member.id);
            self.text("Name", &member.name);
            member.peer_ur_ls.iter().for_each(|url| self.text("PeerURL", url));
            member.client_ur_ls.iter().for_each(|url| self.text("ClientURL", url));
            self.field("IsLearner", member.is_learner);
            self.empty();
        }
    }

    fn names(&mut self, header: Option<pb::ResponseHeader>, name: &str, names: &[String]) {
        self.header(header);
        let quoted: String = names.iter().map(|name| format!(" {}", quote(name.as_bytes()))).collect();
        let _ = writeln!(self.out, "\"{name}\" :{quoted}");
    }

    fn health(&mut self, one: &EndpointHealth) {
        self.text("Endpoint", &one.endpoint);
        self.field("Health", one.healthy());
        self.field("Took", &one.took);
        self.field("Error", &one.error);
        self.empty();
    }

    fn status(&mut self, one: &EndpointStatus) {
        let status = &one.response;
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        self.header(status.header);
        self.text("Version", &status.version);
        self.text("StorageVersion", &status.storage_version);
        self.field("DBSize", status.db_size);
        self.field("DBSizeInUse", status.db_size_in_use);
        self.field("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftTerm", status.raft_term);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")));
        self.text("Endpoint", &one.endpoint);
        self.text("DowngradeTargetVersion", &downgrade.target_version);
        self.field("DowngradeEnabled", downgrade.enabled);
        self.empty();
    }

    fn hash(&mut self, one: &EndpointHash) {
        self.header(one.response.header);
        self.text("Endpoint", &one.endpoint);
        self.field("Hash", one.response.hash);
        self.field("HashRevision", one.response.hash_revision);
        self.empty();
    }
}
