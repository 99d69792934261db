//! How members of a store are asked for what they say of themselves. Must never wait for one that is silent longer than for
//! the others, nor take one member's answer for another's.

use std::collections::HashMap;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_store::tls::PeerConnector;
use futures::future::join_all;
use tonic::transport::{Endpoint, Uri};

use super::connection::causes;
use super::convert;
use crate::storage::members::{MemberReport, StoreMember};

/// A member that does not answer within this time is silent.
pub(in crate::storage) const PATIENCE: Duration = Duration::from_secs(3);

/// What one of these endpoints says of the member behind it, with the member's id.
pub(in crate::storage) async fn ask(
    urls: &[String],
    connector: &PeerConnector,
) -> Result<(u64, MemberReport), String> {
    if urls.is_empty() {
        return Err("it has not told where clients reach it".to_owned());
    }
    let asking = async {
        let mut failures = Vec::new();
        for url in urls {
            match status(url, connector).await {
                Ok(answer) => return Ok(told(answer)),
                Err(why) => failures.push(format!("{url}: {why}")),
            }
        }
        Err(failures.join("; "))
    };
    // On the heap: the futures of gRPC calls are large.
    let answered = tokio::time::timeout(PATIENCE, Box::pin(asking)).await;
    answered.unwrap_or_else(|_| Err(format!("{}: silent for {} s", urls.join(", "), PATIENCE.as_secs())))
}

/// The same of one member: what another one answers there is not believed.
pub(in crate::storage) async fn report_of(
    id: u64,
    urls: &[String],
    connector: &PeerConnector,
) -> Result<MemberReport, String> {
    match ask(urls, connector).await? {
        (answered, report) if answered == id => Ok(report),
        (other, _) => Err(format!("{}: another member, {other:x}, answers there", urls.join(", "))),
    }
}

async fn status(url: &str, connector: &PeerConnector) -> Result<pb::StatusResponse, String> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let endpoint = Endpoint::from(uri);
    let channel = endpoint.connect_with_connector(connector.clone()).await.map_err(|error| causes(&error))?;
    let answer = MaintenanceClient::new(channel).status(pb::StatusRequest {}).await;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner())
}

fn told(answer: pb::StatusResponse) -> (u64, MemberReport) {
    let revision = convert::revision(answer.header.as_ref());
    let report = MemberReport {
        leader: answer.leader,
        term: answer.raft_term,
        revision,
        committed_index: answer.raft_index,
        // etcd before 3.4 does not tell it.
        applied_index: if answer.raft_applied_index == 0 {
            answer.raft_index
        } else {
            answer.raft_applied_index
        },
        size_bytes: u64::try_from(answer.db_size).unwrap_or(0),
        version: answer.version,
        errors: answer.errors.iter().map(|text| text.trim().to_owned()).collect(),
    };
    (answer.header.map_or(0, |header| header.member_id), report)
}

/// All members of a list. Those that the configured endpoints did not lead to are asked where they say that clients reach them.
pub(super) async fn all(
    listed: Vec<pb::Member>,
    mut known: HashMap<u64, MemberReport>,
    connector: &PeerConnector,
) -> Vec<StoreMember> {
    let asked = listed.into_iter().map(|member| {
        let known = known.remove(&member.id);
        async move {
            let report = match known {
                Some(report) => Ok(report),
                None => report_of(member.id, &member.client_ur_ls, connector).await,
            };
            StoreMember {
                id: member.id,
                name: member.name,
                client_urls: member.client_ur_ls,
                is_learner: member.is_learner,
                report,
            }
        }
    });
    join_all(asked).await
}
