//! Where things of pods are below the agent's directory, as the kubelet has them. A decision; must never touch a file.

use std::path::{Component, Path, PathBuf};

/// The directories of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// Whether a text can be the name of one directory, and of no other place.
fn is_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == text)
}

impl Layout {
    /// Below this directory of the agent.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// All pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// A pod; nothing when its uid cannot be the name of a directory.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<PodLayout> {
        is_name(uid).then(|| PodLayout { root: self.pods().join(uid) })
    }
}

/// A pod's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLayout {
    root: PathBuf,
}

impl PodLayout {
    /// All that is the pod's.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A volume of a kind such as `empty-dir`.
    #[must_use]
    pub fn volume(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
    }

    /// A file that is there once a volume was made whole and given to whom it belongs.
    #[must_use]
    pub fn ready(&self, name: &str) -> PathBuf {
        self.root.join("plugins").join(name).join("ready")
    }

    /// A part of a volume for a mount of a container.
    #[must_use]
    pub fn sub_path(&self, volume: &str, container: &str, index: usize) -> PathBuf {
        self.root.join("volume-subpaths").join(volume).join(container).join(index.to_string())
    }

    /// What a container keeps: its last words.
    #[must_use]
    pub fn container(&self, name: &str) -> PathBuf {
        self.root.join("containers").join(name)
    }

    /// The shared memory of the pod.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.root.join("shm")
    }

    /// `/etc/hosts`.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.root.join("etc-hosts")
    }

    /// `/etc/resolv.conf`.
    #[must_use]
    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("resolv.conf")
    }

    /// `/etc/hostname`.
    #[must_use]
    pub fn hostname(&self) -> PathBuf {
        self.root.join("hostname")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_below_the_agent_s_directory() {
        let layout = Layout::new("/r".into());
        let pod = layout.pod("u-1").unwrap();
        assert_eq!(pod.volume("empty-dir", "v"), Path::new("/r/pods/u-1/volumes/kubernetes.io~empty-dir/v"));
        assert_eq!(pod.sub_path("v", "c", 3), Path::new("/r/pods/u-1/volume-subpaths/v/c/3"));
        for wrong in ["", ".", "..", "/", "a/b", "../a", "a/"] {
            assert_eq!(layout.pod(wrong), None, "{wrong}");
        }
    }
}
