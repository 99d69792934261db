//! The members of a cluster that is made of files: their ids, and the membership with which they begin.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::error::OfflineError;
use super::rebase::FIRST_POSITION;
use crate::config::{ConfigError, InitialMember, Url, parse_initial_cluster};
use crate::identity;
use crate::ids::{ClusterId, MemberId};
use crate::raft::codec;
use crate::raft::types::{Membership, PeerNode, StoredMembership, log_id};

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewMember {
    pub(super) name: String,
    pub(super) id: MemberId,
    pub(super) peer_urls: Vec<String>,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewCluster {
    pub(super) id: ClusterId,
    /// By name.
    pub(super) members: Vec<NewMember>,
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

impl NewCluster {
    /// The cluster of `--initial-cluster`, restored from what has this origin. Whoever computes it with the same
    /// flags and files gets the same ids.
    pub(super) fn restored(
        initial_cluster: &str,
        token: &str,
        origin: &[u8; 32],
    ) -> Result<Self, OfflineError> {
        let members = parse_initial_cluster(initial_cluster)?;
        let all = members.iter().flat_map(|member| texts(&member.peer_urls));
        let id = identity::restored_cluster_id(all, token, origin);
        let member = |InitialMember { name, peer_urls }: InitialMember| {
            let peer_urls = texts(&peer_urls);
            NewMember { name, id: identity::member_id(peer_urls.clone(), token, None), peer_urls }
        };
        Ok(Self { id, members: members.into_iter().map(member).collect() })
    }

    /// The member of `--name`, which must have exactly these URLs in `--initial-cluster`.
    pub(super) fn member(&self, name: &str, advertised: &[String]) -> Result<&NewMember, OfflineError> {
        let advertised = checked_urls(advertised)?;
        let Some(own) = self.members.iter().find(|member| member.name == name) else {
            let url = advertised.first().cloned().unwrap_or_default();
            return Err(ConfigError::NotInInitialCluster { name: name.to_owned(), url }.into());
        };
        if own.peer_urls != advertised {
            let (listed, advertised) = (own.peer_urls.join(","), advertised.join(","));
            return Err(ConfigError::PeerUrlsDiffer { name: name.to_owned(), listed, advertised }.into());
        }
        Ok(own)
    }

    /// All of them as voters, encoded as a state keeps it.
    pub(super) fn membership(&self) -> Vec<u8> {
        membership(self.members.iter().map(|member| (member.id, member.peer_urls.clone())))
    }
}

/// The URLs of `--initial-advertise-peer-urls`, sorted and spelled like those of `--initial-cluster`.
pub(super) fn checked_urls(urls: &[String]) -> Result<Vec<String>, OfflineError> {
    const FLAG: &str = "--initial-advertise-peer-urls";
    let listed = urls.iter().map(|url| format!("own={url}")).collect::<Vec<_>>().join(",");
    let own = parse_initial_cluster(&listed).map_err(|error| match error {
        ConfigError::Url { url, source, .. } => ConfigError::Url { flag: FLAG, url, source },
        ConfigError::InitialClusterSyntax(_) => {
            ConfigError::NoUrl { flag: FLAG, example: "http://10.0.0.1:2380" }
        }
        other => other,
    })?;
    Ok(own.iter().flat_map(|member| texts(&member.peer_urls)).collect())
}

/// A membership of voters at the first position.
pub(super) fn membership(voters: impl IntoIterator<Item = (MemberId, Vec<String>)>) -> Vec<u8> {
    let nodes: BTreeMap<u64, PeerNode> = voters
        .into_iter()
        .map(|(id, peer_urls)| (id.0, PeerNode { peer_urls, vote_when_ready: false }))
        .collect();
    let ids: BTreeSet<u64> = nodes.keys().copied().collect();
    let members = Membership::new(vec![ids], nodes).expect("every voter has a node");
    let (term, index) = FIRST_POSITION;
    codec::encode_stored_membership(&StoredMembership::new(Some(log_id(term, index)), members))
}

/// What a restored cluster is made of: the files and how they are used.
pub(super) fn origin(
    files_sha256: impl IntoIterator<Item = [u8; 32]>,
    revisions: impl IntoIterator<Item = i64>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let (mut files, mut numbers) = (0u64, Vec::new());
    for sha256 in files_sha256 {
        hash.update(sha256);
        files += 1;
    }
    for revision in revisions {
        numbers.extend_from_slice(&revision.to_le_bytes());
    }
    hash.update(numbers);
    hash.update(files.to_le_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "b=http://127.0.0.2:2380,a=http://127.0.0.1:2380";

    fn urls(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn members_that_are_restored_apart_agree() {
        let cluster = |origin| NewCluster::restored(CLUSTER, "t", &[origin; 32]).unwrap();
        let names: Vec<_> = cluster(1).members.into_iter().map(|member| member.name).collect();
        assert_eq!(names, ["a", "b"]);
        let turned = "a=http://127.0.0.1:2380,b=http://127.0.0.2:2380";
        assert_eq!(NewCluster::restored(turned, "t", &[1; 32]).unwrap(), cluster(1));
        assert_ne!(cluster(1).id, cluster(2).id, "from other files");
        let membership = codec::decode_stored_membership(&cluster(1).membership()).unwrap();
        let voters: BTreeSet<_> = membership.voter_ids().map(MemberId).collect();
        assert_eq!(voters, cluster(1).members.iter().map(|member| member.id).collect());
    }

    #[test]
    fn a_member_is_one_of_the_cluster() {
        let cluster = NewCluster::restored(CLUSTER, "t", &[1; 32]).unwrap();
        assert_eq!(cluster.member("a", &urls("http://127.0.0.1:2380")).unwrap().name, "a");
        for (name, advertised, text) in [
            ("c", "http://127.0.0.1:2380", "--initial-cluster does not name this member"),
            ("a", "http://127.0.0.2:2380", "they must be equal"),
            ("a", "http://127.0.0.1:2380,http://127.0.0.3:2380", "they must be equal"),
            ("a", "127.0.0.1:2380", "--initial-advertise-peer-urls"),
        ] {
            let error = cluster.member(name, &urls(advertised)).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let wrong = NewCluster::restored("a=1,b", "t", &[1; 32]).unwrap_err().to_string();
        assert!(wrong.contains("--initial-cluster"), "{wrong}");
    }

    #[test]
    fn an_origin_is_of_all_files_and_of_how_they_are_used() {
        let one = origin([[1; 32]], [5, 6]);
        assert_eq!(origin([[1; 32]], [5, 6]), one);
        assert_ne!(origin([[2; 32]], [5, 6]), one);
        assert_ne!(origin([[1; 32]], [5, 7]), one);
        assert_ne!(origin([[1; 32], [1; 32]], [5, 6]), one);
    }
}
