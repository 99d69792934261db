//! Logs of runs that nobody tells of any more: they go with their containers, as the kubelet removes them. Must never touch the log
//! of the run before the last one, which people ask for.

use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use tokio::fs;

use super::Provisions;

/// The files among these that belong to runs from before the one before this, with those of their rotations.
fn outlived(names: Vec<String>, attempt: u32) -> Vec<String> {
    let is_old = |name: &String| {
        let run = name.split_once(".log").filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'));
        run.and_then(|(run, _)| run.parse::<u32>().ok()).is_some_and(|run| run.saturating_add(1) < attempt)
    };
    names.into_iter().filter(is_old).collect()
}

async fn remove(directory: &Path, attempt: u32) -> io::Result<()> {
    let mut names = Vec::new();
    let mut entries = match fs::read_dir(directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    while let Some(entry) = entries.next_entry().await? {
        names.extend(entry.file_name().into_string());
    }
    for name in outlived(names, attempt) {
        fs::remove_file(directory.join(name)).await?;
    }
    Ok(())
}

impl Provisions {
    /// A run of a container begins: of those before it only the last one is told of.
    pub(in super::super) async fn remove_outlived_logs(&self, pod: &Pod, container: &str, attempt: u32) {
        if attempt < 2 {
            return;
        }
        let directory = self.log_directory(pod).join(container);
        if let Err(error) = remove(&directory, attempt).await {
            tracing::warn!(path = %directory.display(), %error, "old logs are not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_and_the_one_before_keep_their_logs() {
        let names = ["0.log", "0.log.20260101-000000", "1.log", "2.log", "10.log", "x.log", "1.logs", "1"];
        let of = |attempt| outlived(names.iter().map(|name| (*name).to_owned()).collect(), attempt).join(" ");
        assert_eq!(of(0), "");
        assert_eq!(of(1), "");
        assert_eq!(of(2), "0.log 0.log.20260101-000000");
        assert_eq!(of(11), "0.log 0.log.20260101-000000 1.log 2.log");
    }
}
