//! What the machine can do of what a node that runs containers needs, found out by trying. Must never leave anything behind.

use std::path::Path;

use serde::Serialize;

use crate::config::ContainerConfig;

/// Below this nobody can pull much, in bytes.
const ROOM: u64 = 512 << 20;

/// One thing that a node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For what: `containers`, `network`, `services`, `node`.
    pub part: &'static str,
    /// What.
    pub name: String,
    /// It is there.
    pub ok: bool,
    /// What it is for, and what is missing.
    pub story: String,
}

/// Looks at everything that a node with this configuration needs.
///
/// # Errors
/// When the trial itself does not work.
pub async fn check(config: &ContainerConfig) -> Result<Vec<Finding>, tokio::task::JoinError> {
    let (containers, services) =
        tokio::task::spawn_blocking(|| (barque_containers::check(), barque_proxy::check())).await?;
    let mut all = Vec::new();
    for found in containers {
        all.push(Finding {
            part: "containers",
            name: found.name.to_owned(),
            ok: found.ok,
            story: found.story,
        });
    }
    for found in barque_network::check().await {
        all.push(Finding { part: "network", name: found.name.to_owned(), ok: found.ok, story: found.story });
    }
    let plugins = crate::pod_network::look(config).await;
    let ok = plugins.is_ok();
    let story = plugins.unwrap_or_else(|story| story);
    all.push(Finding { part: "network", name: "CNI".to_owned(), ok, story });
    for found in services {
        all.push(Finding { part: "services", name: found.name, ok: found.ok, story: found.story });
    }
    all.push(of_node("disk", disk(&config.root_dir)));
    all.push(of_node("node API", port(config).await));
    Ok(all)
}

fn of_node(name: &str, found: Result<String, String>) -> Finding {
    let ok = found.is_ok();
    Finding { part: "node", name: name.to_owned(), ok, story: found.unwrap_or_else(|story| story) }
}

/// The file system that has the directory, or will have it.
fn disk(root: &Path) -> Result<String, String> {
    let there = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    let found = rustix::fs::statvfs(there)
        .map_err(|error| format!("--root-dir: {} cannot be looked at: {error}", there.display()))?;
    room(root, found.f_bavail.saturating_mul(found.f_frsize))
}

fn room(root: &Path, bytes: u64) -> Result<String, String> {
    let story = format!("--root-dir: {} has room for {} MiB", root.display(), bytes >> 20);
    if bytes < ROOM {
        Err(format!("{story}; images and volumes need {} MiB or more", ROOM >> 20))
    } else {
        Ok(story)
    }
}

/// Whether the port can be had, or is had by the agent of this node.
async fn port(config: &ContainerConfig) -> Result<String, String> {
    let address = config.node_api.address;
    let Err(error) = tokio::net::TcpListener::bind(address).await else {
        return Ok(format!("{address} can be listened on"));
    };
    if barque_containers::is_used(&config.run_dir.join("containers")) {
        return Ok(format!(
            "{address} is taken, as it should be: an agent uses {}",
            config.run_dir.display()
        ));
    }
    Err(format!("{address} cannot be listened on: {error}; --address and --port say another one"))
}

/// As people read it.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|found| found.name.len()).max().unwrap_or_default().max(4);
    let mut text = format!("{:<10}  {:<width$}  {:<7}  STORY\n", "PART", "NAME", "OK");
    for found in findings {
        let ok = if found.ok { "yes" } else { "MISSING" };
        text.push_str(&format!("{:<10}  {:<width$}  {ok:<7}  {}\n", found.part, found.name, found.story));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_or_not() {
        let root = Path::new("/r");
        assert_eq!(room(root, ROOM).unwrap(), "--root-dir: /r has room for 512 MiB");
        let story = room(root, ROOM - 1).unwrap_err();
        assert_eq!(story, "--root-dir: /r has room for 511 MiB; images and volumes need 512 MiB or more");
        assert!(
            disk(Path::new("/not/there/yet")).unwrap_or_else(|story| story).contains("/not/there/yet has")
        );
    }

    #[test]
    fn what_is_missing_stands_out() {
        let found = |name: &str, ok| Finding { part: "network", name: name.into(), ok, story: "why".into() };
        let text = table(&[found("vxlan", true), found("nat", false)]);
        assert_eq!(
            text,
            "PART        NAME   OK       STORY\nnetwork     vxlan  yes      why\nnetwork     nat    MISSING  why\n"
        );
    }
}
