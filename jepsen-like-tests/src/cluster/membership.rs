//! Who belongs to the cluster, and who leads it.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;

use super::{Cluster, ClusterError};
use crate::client::Client;
use crate::deadline::{PATIENCE, eventually};

/// A member that is asked whether it leads, and does not answer by then, does not.
const LOOK: Duration = Duration::from_secs(1);

impl Cluster {
    /// The member that leads, as soon as one of the running ones says so of itself.
    pub async fn leader(&mut self) -> Result<usize, ClusterError> {
        let running = self.running();
        self.leader_among(&running).await
    }

    /// The member of `indexes` that leads, as soon as it says so of itself.
    pub async fn leader_among(&self, indexes: &[usize]) -> Result<usize, ClusterError> {
        let clients: Vec<(usize, Client)> = indexes.iter().map(|&i| (i, self.client(i))).collect();
        let found = eventually("a leader", PATIENCE, || async {
            for (index, client) in &clients {
                let asked = timeout(LOOK, client.status()).await;
                if let Ok(Ok(status)) = asked
                    && status.leader != 0
                    && status.header.is_some_and(|header| header.member_id == status.leader)
                {
                    return Ok(*index);
                }
            }
            Err("nobody leads")
        });
        Ok(found.await?)
    }

    /// The running members that do not lead.
    pub async fn followers(&mut self) -> Result<Vec<usize>, ClusterError> {
        let leader = self.leader().await?;
        let mut running = self.running();
        running.retain(|&index| index != leader);
        Ok(running)
    }

    /// Adds a member to the running cluster, starts it and waits until it is healthy. Returns its index.
    pub async fn add_member(&mut self) -> Result<usize, ClusterError> {
        self.add(false).await
    }

    /// As [`Self::add_member`], without a vote.
    pub async fn add_learner(&mut self) -> Result<usize, ClusterError> {
        self.add(true).await
    }

    async fn add(&mut self, learner: bool) -> Result<usize, ClusterError> {
        let through = self.leader().await?;
        let index = self.prepare_member("existing")?;
        let url =
            format!("{}://{}:{}", self.scheme(), self.members[index].host, self.members[index].peer_port);
        let client = self.client(through);
        // "unhealthy cluster" until every member has been connected for some seconds.
        let added = eventually("a new member", PATIENCE, || async {
            client.member_add(&url, learner).await.map_err(|status| status.message().to_owned())
        });
        let listed = match added.await {
            Ok(answer) => answer.members,
            Err(why) => {
                self.members.truncate(index);
                return Err(why.into());
            }
        };
        // The new member has no name yet.
        let name =
            |listed: &str| if listed.is_empty() { &self.members[index].name } else { listed }.to_owned();
        let urls = listed
            .iter()
            .flat_map(|member| member.peer_ur_ls.iter().map(|url| format!("{}={url}", name(&member.name))));
        self.members[index].initial_cluster = urls.collect::<Vec<_>>().join(",");
        self.restart(index).await?;
        Ok(index)
    }

    /// The id of member `index`, which runs.
    pub async fn member_id(&self, index: usize) -> Result<u64, ClusterError> {
        let client = self.client(index);
        let id = eventually("the id of a member", PATIENCE, || async {
            let status = client.status().await.map_err(|status| status.message().to_owned())?;
            status
                .header
                .map(|header| header.member_id)
                .ok_or_else(|| "an answer without a header".to_owned())
        });
        Ok(id.await?)
    }

    /// Removes the member with this id through member `through`. Its process ends by itself.
    pub async fn remove_member(&self, id: u64, through: usize) -> Result<(), ClusterError> {
        let asked = self.client(through);
        // "unhealthy cluster" while too few others have been connected for some seconds.
        let removed = eventually("the removal of a member", PATIENCE, || async {
            match asked.member_remove(id).await {
                // An attempt without an answer did it.
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => other.map(drop).map_err(|status| status.message().to_owned()),
            }
        });
        Ok(removed.await?)
    }
}
