//! How the API servers and nodes are. Decisions.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::super::Finding;
use super::{MemberSeen, listed};

/// A master's API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MasterSeen {
    pub(crate) name: String,
    pub(crate) url: String,
    /// Its version when it is ready; why it is not otherwise.
    pub(crate) api: Result<String, String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSeen {
    pub(crate) name: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) is_ready: bool,
    /// Sentences about what is wrong with it.
    pub(crate) trouble: Vec<String>,
}

impl NodeSeen {
    #[cfg(test)]
    pub(crate) fn ready(name: &str, address: Option<IpAddr>) -> Self {
        Self { name: name.to_owned(), address, is_ready: true, trouble: Vec::new() }
    }
}

/// Whether API servers are ready.
pub(crate) fn api_servers(masters: &[MasterSeen]) -> Finding {
    const CHECK: &str = "API servers";
    let silent: Vec<String> = masters
        .iter()
        .filter_map(|it| Some(format!("{} at {} ({})", it.name, it.url, it.api.as_ref().err()?)))
        .collect();
    let ready = masters.len() - silent.len();
    let found = format!("{ready} of {} ready", masters.len());
    if silent.is_empty() {
        return Finding::ok(CHECK, found);
    }
    let found = format!("{found}; not {}", silent.join(", "));
    let advice = "see the log of `barque server` there; one without a majority of the store is not ready";
    if ready == 0 { Finding::failed(CHECK, found, advice) } else { Finding::warning(CHECK, found, advice) }
}

/// Whether masters are of one release.
pub(crate) fn versions(masters: &[MasterSeen], members: &Result<Vec<MemberSeen>, String>) -> Finding {
    const CHECK: &str = "versions";
    let mut releases: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for master in masters {
        let member = members.iter().flatten().find(|member| member.name == master.name);
        let store =
            member.and_then(|member| member.answer.as_ref().ok()).map(|answer| answer.version.as_str());
        let version = match (&master.api, store) {
            (Ok(api), Some(store)) => format!("API {api}, store {store}"),
            _ => continue,
        };
        releases.entry(version).or_default().push(&master.name);
    }
    let told: Vec<String> = releases
        .iter()
        .map(|(version, names)| format!("{version} on {}", listed(names.iter().copied())))
        .collect();
    match told.as_slice() {
        [] => Finding::skipped(CHECK, "no master tells both of its versions"),
        [one] => Finding::ok(CHECK, one),
        all => {
            Finding::warning(CHECK, all.join("; "), "bring all masters to one release, one after the other")
        }
    }
}

/// A finding for each node that is not ready, or one that all are.
pub(crate) fn nodes(nodes: &Result<Vec<NodeSeen>, String>) -> Vec<Finding> {
    const CHECK: &str = "nodes";
    let nodes = match nodes {
        Ok(nodes) if nodes.is_empty() => return vec![Finding::ok(CHECK, "there is none")],
        Ok(nodes) => nodes,
        Err(why) => return vec![Finding::skipped(CHECK, why)],
    };
    let ready = nodes.iter().filter(|node| node.is_ready).count();
    let mut all: Vec<Finding> = nodes
        .iter()
        .filter(|node| !node.is_ready)
        .map(|node| {
            let why = node.trouble.first().map_or("it says nothing of why", String::as_str);
            Finding::failed(
                CHECK,
                format!("{} is not ready: {why}", node.name),
                "see the log of `barque agent` there, and `barque agent check`",
            )
        })
        .collect();
    let troubled = nodes.iter().filter(|node| node.is_ready && !node.trouble.is_empty());
    all.extend(troubled.map(|node| {
        let found = format!("{}: {}", node.name, node.trouble.join("; "));
        Finding::warning(CHECK, found, format!("`kubectl describe node {}` says more", node.name))
    }));
    if ready > 0 {
        all.push(Finding::ok(CHECK, format!("{ready} of {} ready", nodes.len())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::judge::store::Answer;

    fn master(name: &str, api: Result<&str, &str>) -> MasterSeen {
        let api = api.map(str::to_owned).map_err(str::to_owned);
        MasterSeen { name: name.to_owned(), url: "https://h:6443".to_owned(), api }
    }

    #[test]
    fn api_servers_are_ready_or_say_why_not() {
        let (up, down) = (master("m1", Ok("v1")), master("m2", Err("refused")));
        assert_eq!(api_servers(std::slice::from_ref(&up)), Finding::ok("API servers", "1 of 1 ready"));
        let some = api_servers(&[up, down.clone()]);
        assert_eq!(
            (some.result, some.found.as_str()),
            (Level::Warning, "1 of 2 ready; not m2 at https://h:6443 (refused)")
        );
        assert_eq!(api_servers(&[down]).result, Level::Failed);
    }

    #[test]
    fn releases_that_differ_are_told_with_who_has_them() {
        let member = |name: &str, version: &str| MemberSeen {
            answer: Ok(Answer { version: version.to_owned(), ..Answer::default() }),
            ..MemberSeen::silent(name, "10.0.0.1")
        };
        let masters = [master("m1", Ok("v1")), master("m2", Ok("v1")), master("m3", Err(""))];
        let same = versions(&masters, &Ok(vec![member("m1", "3"), member("m2", "3")]));
        assert_eq!(same, Finding::ok("versions", "API v1, store 3 on m1, m2"));
        let other = versions(&masters, &Ok(vec![member("m1", "3"), member("m2", "4")]));
        assert_eq!(
            (other.result, other.found.as_str()),
            (Level::Warning, "API v1, store 3 on m1; API v1, store 4 on m2")
        );
        assert_eq!(versions(&masters, &Err(String::new())).result, Level::Skipped);
    }

    #[test]
    fn nodes_that_are_not_ready_say_why() {
        let ready = NodeSeen::ready("n1", None);
        let lost = NodeSeen {
            is_ready: false,
            trouble: vec!["Ready: agent stopped posting".to_owned()],
            ..NodeSeen::ready("n2", None)
        };
        let cordoned = NodeSeen { trouble: vec!["cordoned".to_owned()], ..NodeSeen::ready("n3", None) };
        let all = nodes(&Ok(vec![ready, lost, cordoned]));
        let told: Vec<_> = all.iter().map(|it| (it.result, it.found.as_str())).collect();
        assert_eq!(
            told,
            [
                (Level::Failed, "n2 is not ready: Ready: agent stopped posting"),
                (Level::Warning, "n3: cordoned"),
                (Level::Ok, "2 of 3 ready"),
            ]
        );
        assert_eq!(nodes(&Ok(Vec::new()))[0].result, Level::Ok);
        assert_eq!(nodes(&Err("no API server".to_owned()))[0].result, Level::Skipped);
    }
}
