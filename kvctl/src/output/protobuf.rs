//! `-w protobuf`: the answer's message as bytes. Lists of endpoints are no message of the protocol.

use prost::Message;

use super::Answer;

pub(super) fn render(answer: &Answer) -> Option<Vec<u8>> {
    Some(match answer {
        Answer::Get { response, .. } => response.encode_to_vec(),
        Answer::Put(response) => response.encode_to_vec(),
        Answer::Delete(response) => response.encode_to_vec(),
        Answer::Txn(response) => response.encode_to_vec(),
        Answer::Watch(response) => response.encode_to_vec(),
        Answer::LeaseGrant(response) => response.encode_to_vec(),
        Answer::LeaseRevoke { response, .. } => response.encode_to_vec(),
        Answer::LeaseKeepAlive(response) => response.encode_to_vec(),
        Answer::LeaseTimeToLive { response, .. } => response.encode_to_vec(),
        Answer::Leases(response) => response.encode_to_vec(),
        Answer::MemberAdd(response) => response.encode_to_vec(),
        Answer::MemberRemove { response, .. } => response.encode_to_vec(),
        Answer::MemberUpdate { response, .. } => response.encode_to_vec(),
        Answer::MemberPromote { response, .. } => response.encode_to_vec(),
        Answer::MemberList(response) => response.encode_to_vec(),
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => return None,
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::Downgrade { response, .. } => response.encode_to_vec(),
        Answer::Alarm(response) => response.encode_to_vec(),
        Answer::RoleAdd { response, .. } => response.encode_to_vec(),
        Answer::RoleGet { response, .. } => response.encode_to_vec(),
        Answer::RoleDelete { response, .. } => response.encode_to_vec(),
        Answer::RoleList(response) => response.encode_to_vec(),
        Answer::RoleGrant { response, .. } => response.encode_to_vec(),
        Answer::RoleRevoke { response, .. } => response.encode_to_vec(),
        Answer::UserAdd { response, .. } => response.encode_to_vec(),
        Answer::UserGet { response, .. } => response.encode_to_vec(),
        Answer::UserDelete { response, .. } => response.encode_to_vec(),
        Answer::UserList(response) => response.encode_to_vec(),
        Answer::UserPassword(response) => response.encode_to_vec(),
        Answer::UserGrant { response, .. } => response.encode_to_vec(),
        Answer::UserRevoke { response, .. } => response.encode_to_vec(),
        Answer::AuthStatus(response) => response.encode_to_vec(),
    })
}
