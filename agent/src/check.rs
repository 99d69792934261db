//! What the machine can do of what a node that runs containers needs, found out by trying. Must never leave anything behind.

use serde::Serialize;

/// One thing that a node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For what: `containers`, `network`, `services`.
    pub part: &'static str,
    /// What.
    pub name: String,
    /// It is there.
    pub ok: bool,
    /// What it is for, and what is missing.
    pub story: String,
}

/// Looks at everything.
///
/// # Errors
/// When the trial itself does not work.
pub async fn check() -> Result<Vec<Finding>, tokio::task::JoinError> {
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
    for found in services {
        all.push(Finding { part: "services", name: found.name, ok: found.ok, story: found.story });
    }
    Ok(all)
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
    fn what_is_missing_stands_out() {
        let found = |name: &str, ok| Finding { part: "network", name: name.into(), ok, story: "why".into() };
        let text = table(&[found("vxlan", true), found("nat", false)]);
        assert_eq!(
            text,
            "PART        NAME   OK       STORY\nnetwork     vxlan  yes      why\nnetwork     nat    MISSING  why\n"
        );
    }
}
