//! The pods of a directory: read at the start and whenever something in it changes. A file that describes no pod is told of once, and
//! what it described before stays. Must never write to the directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_inotify::{Changes, WatchFlags};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::manifest;
use crate::clock::Clock;

/// Pods by uid.
pub type Described = BTreeMap<String, Arc<Pod>>;

/// A directory of files.
pub struct Files {
    directory: PathBuf,
    node: String,
    clock: Clock,
    changes: Changes,
    /// What each file said last that was a pod, with the text.
    known: BTreeMap<PathBuf, (String, Option<Arc<Pod>>)>,
}

impl Files {
    /// Of the node with this name. Needs a runtime.
    ///
    /// # Errors
    /// When the directory cannot be watched.
    pub fn open(directory: PathBuf, node: String, clock: Clock) -> std::io::Result<Self> {
        let wanted = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        let changes = Changes::of(&directory, wanted)?;
        Ok(Self { directory, node, clock, changes, known: BTreeMap::new() })
    }

    /// Reads the files that are there now.
    pub fn read(&mut self) -> Described {
        let mut there = BTreeMap::new();
        for path in paths(&self.directory) {
            // One that has gone meanwhile is not there.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let before = self.known.remove(&path);
            let known = match before {
                Some((same, pod)) if same == text => (same, pod),
                before => {
                    let read = manifest::read(&text, &path, &self.node, self.clock.now());
                    let pod = match read {
                        Ok(pod) => Some(Arc::new(pod)),
                        Err(why) => {
                            tracing::error!(file = %path.display(), "--pod-manifest-path: {why}");
                            before.and_then(|(_, pod)| pod)
                        }
                    };
                    (text, pod)
                }
            };
            there.insert(path, known);
        }
        self.known = there;
        let pods = self.known.values().filter_map(|(_, pod)| pod.clone());
        pods.map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), pod)).collect()
    }

    /// Tells what the files describe whenever that changes, until the token is cancelled.
    pub async fn run(mut self, described: watch::Sender<Described>, stop: CancellationToken) {
        while let Some(changed) = stop.run_until_cancelled(self.changes.next()).await {
            if let Err(error) = changed {
                tracing::error!(%error, "--pod-manifest-path: the directory cannot be followed any more");
                return;
            }
            let now = self.read();
            described.send_if_modified(|before| {
                let differs = before.keys().ne(now.keys());
                *before = now;
                differs
            });
        }
    }
}

/// The files of a directory in their order; those whose names begin with a dot are not meant.
fn paths(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let meant = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> = meant.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(image: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}"
        )
    }

    #[tokio::test]
    async fn files_come_change_break_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yaml");
        std::fs::write(directory.path().join(".hidden"), pod("i")).unwrap();
        let files = Files::open(directory.path().to_owned(), "n1".into(), Clock::system());
        let mut files = files.unwrap();
        let described = watch::Sender::new(files.read());
        assert!(described.borrow().is_empty());
        let (mut seen, stop) = (described.subscribe(), CancellationToken::new());
        let running = tokio::spawn(files.run(described, stop.clone()));
        let write = |text: &str| {
            let new = directory.path().join(".new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        write(&pod("i"));
        let one = seen.wait_for(|pods| pods.len() == 1).await.unwrap().clone();
        write("{");
        write(&pod("j"));
        let other = seen.wait_for(|pods| pods.keys().ne(one.keys())).await.unwrap().clone();
        assert_eq!(other.len(), 1, "what breaks a file in between takes nothing away");
        std::fs::remove_file(&path).unwrap();
        seen.wait_for(|pods| pods.is_empty()).await.unwrap();
        stop.cancel();
        running.await.unwrap();
    }
}
