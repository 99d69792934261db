//! Before a member starts: who it is, and whether the others let it take part.
//!
//! A new data directory gets its identity from the command line (a new cluster) or from the members that
//! run (an existing one). A member that the cluster knows by another data directory is refused here, in a
//! sentence, before it could vote.

use std::time::Duration;

use futures::future::join_all;

use barque_proto::peer as wire;

use crate::ids::{ClusterId, Incarnation, MemberId};
use crate::raft::identity::Refusal;
use crate::raft::peers::{PeerError, Peers};

/// How long the other members are asked before this one starts without their word.
const ASK: Duration = Duration::from_secs(2);

/// A member of the initial cluster, from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
}

/// This member may not start.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The others know why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The others' words.
    #[error("the cluster refuses this member: {0}")]
    Said(String),
    /// The cluster does not know its addresses.
    #[error(
        "--initial-cluster-state existing: no member of the cluster has the peer URLs {0}; add this member first \
         (member add), then start it with the same --initial-advertise-peer-urls"
    )]
    NotAdded(String),
    /// Nobody answered.
    #[error(
        "--initial-cluster-state existing: none of the members in --initial-cluster answered ({0}); are they running \
         and reachable?"
    )]
    NobodyAnswered(String),
}

/// What the others answered to "who are the members?".
pub type Answers = Vec<Result<wire::MembersReply, String>>;

/// Asks every other member of the initial cluster, all at once.
pub async fn ask_members(peers: &Peers, others: &[Named]) -> Answers {
    let calls = others.iter().map(|other| async move {
        let mut client = peers.client(&other.peer_urls).map_err(|e| format!("{}: {e}", other.name))?;
        let call = client.members(peers.request(wire::MembersRequest {}));
        match tokio::time::timeout(ASK, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(format!("{}: {}", other.name, status.message())),
            Err(_) => Err(format!("{}: no answer", other.name)),
        }
    });
    join_all(calls).await
}

/// The identity of an empty data directory in a new cluster. Who knows this member already, knows it by
/// the data directory that is gone.
///
/// # Errors
/// When the member is known, or the others belong to another cluster.
pub fn found_new(cluster: ClusterId, member: MemberId, answers: &Answers) -> Result<(), JoinError> {
    for reply in answers.iter().flatten() {
        if reply.cluster_id != cluster.0 {
            return Err(Refusal::OtherCluster { own: cluster, peer: ClusterId(reply.cluster_id) }.into());
        }
        if reply.removed.contains(&member.0) {
            return Err(Refusal::Removed(member).into());
        }
        if reply.members.iter().any(|known| known.id == member.0 && known.incarnation != 0) {
            return Err(Refusal::OtherDisk(member).into());
        }
    }
    Ok(())
}

/// The identity of an empty data directory that joins an existing cluster.
///
/// # Errors
/// When nobody answered, or the cluster does not expect this member.
pub fn find_existing(own_urls: &[String], answers: &Answers) -> Result<(ClusterId, MemberId), JoinError> {
    let mut problems = Vec::new();
    let mut answered = false;
    for answer in answers {
        match answer {
            Err(problem) => problems.push(problem.as_str()),
            Ok(reply) => {
                answered = true;
                let own = reply.members.iter().find(|member| same_urls(&member.peer_urls, own_urls));
                if let Some(own) = own {
                    let member = MemberId(own.id);
                    if own.incarnation != 0 {
                        return Err(Refusal::OtherDisk(member).into());
                    }
                    return Ok((ClusterId(reply.cluster_id), member));
                }
            }
        }
    }
    if answered {
        Err(JoinError::NotAdded(own_urls.join(",")))
    } else {
        Err(JoinError::NobodyAnswered(problems.join("; ")))
    }
}

fn same_urls(a: &[String], b: &[String]) -> bool {
    let mut a: Vec<_> = a.iter().map(|url| url.trim_end_matches('/')).collect();
    let mut b: Vec<_> = b.iter().map(|url| url.trim_end_matches('/')).collect();
    a.sort_unstable();
    b.sort_unstable();
    a == b
}

/// Greets the members that this one knows of, before it takes part again.
///
/// # Errors
/// When one of them refuses it. Those that do not answer are no reason to wait: after all members were
/// stopped, none of them answers the first one.
pub async fn greet(
    peers: &Peers,
    others: &[(MemberId, crate::raft::types::PeerNode)],
    vote: Option<wire::Vote>,
    last_log_id: Option<wire::LogId>,
) -> Result<(), JoinError> {
    let own = *peers.own();
    let calls = others.iter().map(|(id, node)| async move {
        let peer = peers.peer(*id, node)?;
        let greeting = wire::Greeting {
            cluster_id: own.cluster.0,
            from: own.member.0,
            to: id.0,
            incarnation: own.incarnation.0,
            vote,
            last_log_id,
        };
        let reply = peer.control().greet(peers.request(greeting)).await?;
        Ok::<_, PeerError>(reply.into_inner())
    });
    let answers = join_all(calls.map(|call| tokio::time::timeout(ASK, call))).await;
    for (answer, (id, _)) in answers.into_iter().zip(others) {
        match answer {
            Ok(Ok(reply)) if !reply.refusal.is_empty() => return Err(JoinError::Said(reply.refusal)),
            Ok(Ok(reply)) => {
                tracing::debug!(member = %id, incarnation = %Incarnation(reply.incarnation), "greeted");
            }
            Ok(Err(error)) => tracing::info!(member = %id, %error, "does not answer yet"),
            Err(_) => tracing::info!(member = %id, "does not answer yet"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(members: &[(u64, &str, u64)], removed: &[u64]) -> Result<wire::MembersReply, String> {
        let members = members.iter().map(|&(id, url, incarnation)| wire::PeerMember {
            id,
            peer_urls: vec![url.to_owned()],
            incarnation,
            ..Default::default()
        });
        Ok(wire::MembersReply { cluster_id: 7, members: members.collect(), removed: removed.to_vec() })
    }

    #[test]
    fn a_wiped_member_does_not_start() {
        let new = |answers| found_new(ClusterId(7), MemberId(1), &answers);
        assert!(new(vec![Err("down".into())]).is_ok());
        assert!(new(vec![reply(&[(1, "http://a", 0)], &[])]).is_ok(), "not started yet");
        let wiped = new(vec![Err("down".into()), reply(&[(1, "http://a", 5)], &[])]).unwrap_err();
        assert!(wiped.to_string().contains("another data directory"), "{wiped}");
        let removed = new(vec![reply(&[], &[1])]).unwrap_err();
        assert!(removed.to_string().contains("was removed"), "{removed}");
        let foreign = found_new(ClusterId(8), MemberId(1), &vec![reply(&[], &[])]).unwrap_err();
        assert!(foreign.to_string().contains("--initial-cluster"), "{foreign}");
    }

    #[test]
    fn a_new_member_finds_its_id() {
        let own = ["http://a/".to_owned()];
        let found = find_existing(&own, &vec![Err("b: down".into()), reply(&[(3, "http://a", 0)], &[])]);
        assert_eq!(found.unwrap(), (ClusterId(7), MemberId(3)));
        let wiped = find_existing(&own, &vec![reply(&[(3, "http://a", 9)], &[])]).unwrap_err();
        assert!(wiped.to_string().contains("another data directory"), "{wiped}");
        let unknown = find_existing(&own, &vec![reply(&[(3, "http://b", 0)], &[])]).unwrap_err();
        assert!(unknown.to_string().contains("member add"), "{unknown}");
        let alone = find_existing(&own, &vec![Err("b: down".into())]).unwrap_err();
        assert!(alone.to_string().contains("b: down"), "{alone}");
    }
}
