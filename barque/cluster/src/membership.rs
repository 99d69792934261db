//! The members of the store, as a machine sees them that becomes one: a place for it among them, and that of who it replaces freed.
//! Must never remove a member that answers.

use std::sync::Arc;
use std::time::Duration;

use barque_proto::etcdserverpb::cluster_client::ClusterClient;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest, StatusRequest,
};
use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, PeerConnector, TlsError};
use tonic::transport::{Channel, Endpoint};

/// How long connecting and an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A change of the members waits for a majority.
const CHANGE: Duration = Duration::from_secs(30);

/// Why this machine has no place among the members.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The certificates for the store.
    #[error("the store's certificates cannot be used")]
    Tls(#[from] TlsError),
    /// Nobody answers.
    #[error("no member of the store answers: {0}")]
    Nobody(String),
    /// The store refuses.
    #[error("the store refuses to {what}: {why}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// Nobody would be left.
    #[error("{0:?} is the only master of its cluster, which would end with it")]
    Last(String),
    /// No such member.
    #[error("the store has no member that is called {0:?}")]
    Stranger(String),
    /// There is such a master already.
    #[error(
        "a master that is called {name:?} or has the address {url} answers already; --name and --advertise-address must be this \
         machine's own"
    )]
    Alive {
        /// The name.
        name: String,
        /// Its address for members.
        url: String,
    },
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// It is added.
    Add,
    /// It was added before, and did not come to start.
    Resume,
    /// First somebody goes whose name or address it has; it must not answer.
    Replace(u64),
}

/// Decides by who is there already.
#[must_use]
pub fn plan(members: &[Member], name: &str, peer_url: &str) -> Join {
    let has_url = |member: &&Member| member.peer_ur_ls.iter().any(|url| url == peer_url);
    match members.iter().find(has_url) {
        // Only who has started has a name.
        Some(member) if member.name.is_empty() => Join::Resume,
        Some(member) => Join::Replace(member.id),
        None => {
            members.iter().find(|member| member.name == name).map_or(Join::Add, |it| Join::Replace(it.id))
        }
    }
}

/// All members as `--initial-cluster` has them.
#[must_use]
pub fn initial_cluster(members: &[Member], name: &str, peer_url: &str) -> String {
    let named = members.iter().flat_map(|member| {
        member.peer_ur_ls.iter().map(move |url| match () {
            () if url == peer_url => format!("{name}={url}"),
            // Names only matter for who starts.
            () if member.name.is_empty() => format!("{:x}={url}", member.id),
            () => format!("{}={url}", member.name),
        })
    });
    named.collect::<Vec<_>>().join(",")
}

/// The way to the members.
pub struct Members {
    connector: PeerConnector,
    channel: Channel,
}

impl Members {
    /// By the first of these URLs that answers.
    ///
    /// # Errors
    /// When none does, or the certificates cannot be used.
    pub async fn connect(urls: &[String], tls: &TlsFiles) -> Result<Self, MembershipError> {
        let connector = PeerConnector::new(Some(Arc::new(ClientTls::load(tls)?)), PATIENCE);
        let mut problems = Vec::new();
        for url in urls {
            match dial(url, &connector).await {
                Ok(channel) => return Ok(Self { connector, channel }),
                Err(problem) => problems.push(format!("{url}: {problem}")),
            }
        }
        Err(MembershipError::Nobody(problems.join("; ")))
    }

    /// Gives this machine a place; the answer is `--initial-cluster`.
    ///
    /// # Errors
    /// When the store refuses, or somebody with this name or address answers.
    pub async fn join(&self, name: &str, peer_url: &str) -> Result<String, MembershipError> {
        let members = self.list().await?;
        match plan(&members, name, peer_url) {
            Join::Resume => return Ok(initial_cluster(&members, name, peer_url)),
            Join::Add => {}
            Join::Replace(id) => {
                let old = members.iter().find(|member| member.id == id);
                for url in old.iter().flat_map(|old| &old.client_ur_ls) {
                    if self.answers(url, id).await {
                        let (name, url) = (name.to_owned(), peer_url.to_owned());
                        return Err(MembershipError::Alive { name, url });
                    }
                }
                tracing::info!(
                    member = format!("{id:x}"),
                    "takes the place of a member that does not answer"
                );
                self.remove(id, "remove the member whose place this one takes").await?;
            }
        }
        let mut request = tonic::Request::new(MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: false,
        });
        request.set_timeout(CHANGE);
        let added = ClusterClient::new(self.channel.clone()).member_add(request).await;
        let added = added.map_err(|status| refused("add this member", &status))?.into_inner();
        Ok(initial_cluster(&added.members, name, peer_url))
    }

    /// Takes the member of this name out of the store.
    ///
    /// # Errors
    /// When it is the last one, is not there, or the store refuses.
    pub async fn leave(&self, name: &str) -> Result<(), MembershipError> {
        let members = self.list().await?;
        let own = members.iter().find(|member| member.name == name);
        let id = own.ok_or_else(|| MembershipError::Stranger(name.to_owned()))?.id;
        if members.len() == 1 {
            return Err(MembershipError::Last(name.to_owned()));
        }
        self.remove(id, "let this member go").await
    }

    async fn remove(&self, id: u64, what: &'static str) -> Result<(), MembershipError> {
        let mut request = tonic::Request::new(MemberRemoveRequest { id });
        request.set_timeout(CHANGE);
        let removed = ClusterClient::new(self.channel.clone()).member_remove(request).await;
        removed.map(drop).map_err(|status| refused(what, &status))
    }

    /// Everybody.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self) -> Result<Vec<Member>, MembershipError> {
        let mut request = tonic::Request::new(MemberListRequest { linearizable: true });
        request.set_timeout(CHANGE);
        let listed = ClusterClient::new(self.channel.clone()).member_list(request).await;
        Ok(listed.map_err(|status| refused("list its members", &status))?.into_inner().members)
    }

    /// Whether a member answers at this URL.
    async fn answers(&self, url: &str, id: u64) -> bool {
        let Ok(channel) = dial(url, &self.connector).await else { return false };
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(PATIENCE);
        let status = MaintenanceClient::new(channel).status(request).await;
        let header = status.ok().and_then(|status| status.into_inner().header);
        header.is_some_and(|header| header.member_id == id)
    }
}

/// What lies behind an error at last; those before it only say that something failed, and whose URL it was.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

pub(crate) async fn dial(url: &str, connector: &PeerConnector) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| error.to_string())?;
    let dialled = endpoint.connect_with_connector(connector.clone()).await;
    dialled.map_err(|error| innermost(&error))
}

fn refused(what: &'static str, status: &tonic::Status) -> MembershipError {
    MembershipError::Refused { what, why: status.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member { id, name: name.to_owned(), peer_ur_ls: vec![url.to_owned()], ..Member::default() }
    }

    #[test]
    fn who_joins_is_added_goes_on_or_takes_a_place() {
        let all = [member(1, "m1", "https://a:2380"), member(2, "", "https://b:2380")];
        let cases = [
            ("m3", "https://c:2380", Join::Add),
            ("m2", "https://b:2380", Join::Resume),
            ("m1", "https://a:2380", Join::Replace(1)),
            // The same name on another machine, and another name on the same one.
            ("m1", "https://c:2380", Join::Replace(1)),
            ("m9", "https://a:2380", Join::Replace(1)),
        ];
        for (name, url, expected) in cases {
            assert_eq!(plan(&all, name, url), expected, "{name} {url}");
        }
        assert_eq!(initial_cluster(&all, "m2", "https://b:2380"), "m1=https://a:2380,m2=https://b:2380");
    }
}
