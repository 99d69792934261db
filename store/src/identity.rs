//! The ids of clusters and members, as they follow from what the members of a new cluster agree on.
//!
//! Every initial member computes them alone, so they must never depend on order, time or randomness.

use sha2::{Digest, Sha256};

use crate::ids::{ClusterId, MemberId};

/// The id of a new cluster: the first 8 bytes of SHA-256 over the sorted peer URLs of all initial members and
/// the token.
pub fn cluster_id(peer_urls: impl IntoIterator<Item = String>, token: &str) -> ClusterId {
    ClusterId(first_8_bytes(peer_urls, token, "cluster"))
}

/// The id of a cluster that is restored from saved files: also over what is restored, so that members with other
/// data, or with none, never meet under the same flags.
pub fn restored_cluster_id(
    peer_urls: impl IntoIterator<Item = String>,
    token: &str,
    content_sha256: &[u8; 32],
) -> ClusterId {
    let content: String = content_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    ClusterId(first_8_bytes(peer_urls, token, &format!("restored {content}")))
}

/// A member's id: the same over its own sorted peer URLs. A member that is added later brings the seconds since
/// 1970 at which that was decided, so that the id of one that was removed never comes back.
pub fn member_id(
    peer_urls: impl IntoIterator<Item = String>,
    token: &str,
    added_at_unix_s: Option<u64>,
) -> MemberId {
    let added = added_at_unix_s.map(|s| s.to_string()).unwrap_or_default();
    MemberId(first_8_bytes(peer_urls, token, &added))
}

/// Never 0, which means "none" on the wire. Each part is closed by a zero byte, so that parts do not run into
/// each other.
fn first_8_bytes(peer_urls: impl IntoIterator<Item = String>, token: &str, more: &str) -> u64 {
    let mut urls: Vec<String> = peer_urls.into_iter().collect();
    urls.sort();
    let mut hash = Sha256::new();
    for part in urls.iter().map(String::as_str).chain([token, more]) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let (first, _) = digest.split_first_chunk::<8>().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    /// Ids are on disk and in other members: a change of these numbers breaks every cluster.
    #[test]
    fn ids_stay_what_they_are() {
        let cluster = cluster_id(urls(&["http://10.0.0.1:2380", "http://10.0.0.2:2380"]), "etcd-cluster");
        let member = member_id(urls(&["http://10.0.0.1:2380"]), "etcd-cluster", None);
        assert_eq!(
            (cluster.to_string(), member.to_string()),
            ("1e31c12f4bf9d9db".into(), "57e6547e9303ddbf".into())
        );
    }

    #[test]
    fn a_restored_cluster_is_another_one_for_each_content() {
        let all = || urls(&["http://a:1", "http://b:1"]);
        let restored = restored_cluster_id(all(), "t", &[1; 32]);
        assert_eq!(restored_cluster_id(all(), "t", &[1; 32]), restored);
        assert_ne!(restored_cluster_id(all(), "t", &[2; 32]), restored);
        assert_ne!(restored_cluster_id(all(), "u", &[1; 32]), restored);
        assert_ne!(cluster_id(all(), "t"), restored);
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let id = |list: &[&str], token: &str, at| member_id(urls(list), token, at);
        let base = id(&["http://a:1", "http://b:1"], "t", None);
        assert_eq!(id(&["http://b:1", "http://a:1"], "t", None), base);
        assert_ne!(id(&["http://a:1"], "t", None), base);
        assert_ne!(id(&["http://a:1", "http://b:1"], "u", None), base);
        assert_ne!(id(&["http://a:1", "http://b:1"], "t", Some(5)), base);
        assert_ne!(
            id(&["http://a:1", "http://b:1"], "t", Some(6)),
            id(&["http://a:1", "http://b:1"], "t", Some(5))
        );
        assert_ne!(id(&["http://a:1"], "t", None).0, cluster_id(urls(&["http://a:1"]), "t").0);
        assert_ne!(id(&["http://a:12"], "3", None), id(&["http://a:1"], "23", None));
    }
}
