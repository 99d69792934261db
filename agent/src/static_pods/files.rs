//! The pods of a directory: read at the start and whenever something in it changes. A file that describes no pod is told of once, and
//! what it described before stays; what cannot be read is not gone, and is tried again. Must never write to the directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barque_inotify::{Changes, WatchFlags};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::manifest;
use crate::clock::Clock;

/// The wait before what could not be read is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Pods by uid.
pub type Described = BTreeMap<String, Arc<Pod>>;

/// A directory of files.
pub struct Files {
    directory: PathBuf,
    node: String,
    clock: Clock,
    changes: Changes,
    known: BTreeMap<PathBuf, Known>,
    /// Everything could be read.
    is_whole: bool,
}

/// What a file says, and what it said last that was a pod.
type Known = (String, Option<Arc<Pod>>);

impl Files {
    /// Of the node with this name. Needs a runtime.
    ///
    /// # Errors
    /// When the directory cannot be watched.
    pub fn open(directory: PathBuf, node: String, clock: Clock) -> io::Result<Self> {
        let wanted = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        let changes = Changes::of(&directory, wanted)?;
        Ok(Self { directory, node, clock, changes, known: BTreeMap::new(), is_whole: true })
    }

    /// Reads the files that are there now.
    pub fn read(&mut self) -> Described {
        match self.read_all() {
            Ok(()) => self.is_whole = true,
            Err(why) => {
                tracing::error!("--pod-manifest-path: {why}; what it described stays");
                self.is_whole = false;
            }
        }
        let pods = self.known.values().filter_map(|(_, pod)| pod.clone());
        pods.map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), pod)).collect()
    }

    /// # Errors
    /// About the last that could not be read; it is known as it was.
    fn read_all(&mut self) -> Result<(), String> {
        let cannot = |path: &Path, error: &io::Error| format!("{} cannot be read: {error}", path.display());
        let paths = paths(&self.directory).map_err(|error| cannot(&self.directory, &error))?;
        let mut before = std::mem::take(&mut self.known);
        let mut outcome = Ok(());
        for path in paths {
            let before = before.remove(&path);
            let known = match std::fs::read_to_string(&path) {
                Ok(text) => Some(self.described(&path, text, before)),
                // It has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    outcome = Err(cannot(&path, &error));
                    before
                }
            };
            self.known.extend(known.map(|known| (path, known)));
        }
        outcome
    }

    fn described(&self, path: &Path, text: String, before: Option<Known>) -> Known {
        match before {
            Some((same, pod)) if same == text => (same, pod),
            before => match manifest::read(&text, path, &self.node, self.clock.now()) {
                Ok(pod) => (text, Some(Arc::new(pod))),
                Err(why) => {
                    tracing::error!(file = %path.display(), "--pod-manifest-path: {why}");
                    (text, before.and_then(|(_, pod)| pod))
                }
            },
        }
    }

    /// Tells what the files describe whenever that changes, until the token is cancelled.
    pub async fn run(mut self, described: watch::Sender<Described>, stop: CancellationToken) {
        loop {
            let again = async {
                match self.is_whole {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(RETRY).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = again => {}
                changed = self.changes.next() => if let Err(error) = changed {
                    tracing::error!(%error, "--pod-manifest-path: the directory cannot be followed any more");
                    return;
                },
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
fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // What a link leads to counts; where that cannot be told, reading tells.
        let is_other = std::fs::metadata(entry.path()).is_ok_and(|metadata| !metadata.is_file());
        if !is_other && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
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

    #[tokio::test]
    async fn what_cannot_be_read_is_not_gone() {
        let directory = tempfile::tempdir().unwrap();
        let manifests = directory.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        let path = manifests.join("web.yaml");
        std::fs::write(&path, pod("i")).unwrap();
        let mut files = Files::open(manifests.clone(), "n1".into(), Clock::system()).unwrap();
        let before = files.read();
        assert_eq!((before.len(), files.is_whole), (1, true));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!((files.read(), files.is_whole), (before.clone(), false), "it is no text");
        // A link to itself cannot be followed.
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!((files.read(), files.is_whole), (before.clone(), false));
        std::fs::rename(&manifests, directory.path().join("away")).unwrap();
        std::fs::write(&manifests, "").unwrap();
        assert_eq!((files.read(), files.is_whole), (before, false), "the directory is none");
        std::fs::remove_file(&manifests).unwrap();
        std::fs::create_dir(&manifests).unwrap();
        assert_eq!((files.read(), files.is_whole), (Described::new(), true));
    }
}
