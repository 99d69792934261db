//! What a change of membership is judged by: who is a member, who votes, who answers.

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::StatusRequest;

use super::quorum::Seen;
use crate::command::endpoint::each;
use crate::connection::{Connection, Endpoint};
use crate::error::Failure;

/// All members; each is asked at its own client URLs, all at the same time.
pub(super) async fn members(connection: &Connection) -> Result<Vec<Seen>, Failure> {
    let list = connection.member_list(pb::MemberListRequest { linearizable: false }).await?;
    let urls: Vec<(u64, Endpoint)> = list
        .members
        .iter()
        .flat_map(|member| member.client_ur_ls.iter().map(|url| (member.id, url)))
        .filter_map(|(id, url)| Some((id, Endpoint::parse(url).ok()?)))
        .collect();
    let endpoints: Vec<_> = urls.iter().map(|(_, endpoint)| endpoint.clone()).collect();
    let ask = |_, one: Connection| async move { one.status(StatusRequest {}).await };
    let answers = each(connection, &endpoints, ask).await;
    let seen = list.members.into_iter().map(|member| {
        let of_it = urls.iter().zip(&answers).filter(|((id, _), _)| *id == member.id);
        let status = of_it.filter_map(|(_, answer)| answer.as_ref().ok()).next().cloned();
        Seen {
            id: member.id,
            name: member.name,
            votes: !member.is_learner,
            answers: status.as_ref().is_some_and(|status| status.leader != 0),
            leads: status.as_ref().is_some_and(|status| status.leader == member.id),
            applied_index: status.map(|status| status.raft_applied_index),
        }
    });
    Ok(seen.collect())
}
