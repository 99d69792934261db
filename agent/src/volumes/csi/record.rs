//! What is noted beside volumes of drivers, so that they are given back after any restart: `vol_data.json`, with the kubelet's
//! fields, where the kubelet has it. Must never be written after the driver was asked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::volume::CsiVolume;
use crate::volumes::layout::PodLayout;

const FILE: &str = "vol_data.json";

/// A volume of a pod that a driver was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The driver.
    pub(super) driver_name: String,
    /// What the driver calls the volume.
    pub(super) volume_handle: String,
    /// The persistent volume, or the volume of the pod.
    #[serde(rename = "specVolID")]
    pub(super) name: String,
    /// Where the pod has it.
    pub(super) target: PathBuf,
    /// Where the node has it; nothing for a driver that makes nothing ready before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) staging: Option<PathBuf>,
}

/// Where volumes of drivers are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The agent's directory.
    pub(super) root: PathBuf,
}

impl Places {
    /// Below which everything is that is no pod's.
    pub(super) fn of_node(&self) -> PathBuf {
        self.root.join("plugins/kubernetes.io/csi")
    }

    /// Where a driver makes a volume ready for the whole node.
    pub(super) fn staging(&self, volume: &CsiVolume) -> PathBuf {
        if volume.is_block {
            return self.of_node().join("volumeDevices/staging").join(&volume.name);
        }
        let digest = Sha256::digest(volume.handle.as_bytes());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.of_node().join(&volume.driver).join(digest).join("globalmount")
    }

    /// Where a pod has a volume: a directory that is mounted there, or a device.
    pub(super) fn target(pod: &PodLayout, volume: &CsiVolume) -> PathBuf {
        directory(pod, &volume.name, volume.is_block).join(if volume.is_block { "device" } else { "mount" })
    }
}

fn directory(pod: &PodLayout, name: &str, is_block: bool) -> PathBuf {
    let kind = if is_block { "volumeDevices" } else { "volumes" };
    pod.root().join(kind).join("kubernetes.io~csi").join(name)
}

impl Record {
    /// Notes it.
    pub(super) fn write(&self) -> io::Result<()> {
        let Some(directory) = self.target.parent() else { return Ok(()) };
        fs::create_dir_all(directory)?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let new = directory.join("vol_data.json.new");
        fs::write(&new, text)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(new, directory.join(FILE))
    }

    /// Forgets it.
    pub(super) fn remove(&self) -> io::Result<()> {
        let Some(directory) = self.target.parent() else { return Ok(()) };
        match fs::remove_file(directory.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All of a pod.
    pub(super) fn of_pod(pod: &Path) -> io::Result<Vec<Self>> {
        let mut records = Vec::new();
        for kind in ["volumes", "volumeDevices"] {
            let there = match fs::read_dir(pod.join(kind).join("kubernetes.io~csi")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in there {
                let path = entry?.path().join(FILE);
                match fs::read(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                    Ok(text) => records.push(serde_json::from_slice(&text).map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
                    })?),
                }
            }
        }
        Ok(records)
    }

    /// Whether another pod has the same volume.
    pub(super) fn is_shared(&self, pods: &Path) -> io::Result<bool> {
        for entry in fs::read_dir(pods)? {
            let all = Self::of_pod(&entry?.path())?;
            let same = |it: &Self| {
                it.driver_name == self.driver_name
                    && it.volume_handle == self.volume_handle
                    && it.target != self.target
            };
            if all.iter().any(same) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::layout::Layout;

    #[test]
    fn what_was_asked_for_is_known_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().to_owned());
        let places = Places { root: root.path().to_owned() };
        let volume =
            CsiVolume { driver: "d".into(), handle: "h".into(), name: "pv".into(), ..CsiVolume::default() };
        let record = |pod: &str| Record {
            driver_name: "d".into(),
            volume_handle: "h".into(),
            name: "pv".into(),
            target: Places::target(&layout.pod(pod).unwrap(), &volume),
            staging: Some(places.staging(&volume)),
        };
        let (one, two) = (record("one"), record("two"));
        assert!(one.target.ends_with("pods/one/volumes/kubernetes.io~csi/pv/mount"));
        one.write().unwrap();
        assert_eq!(Record::of_pod(&layout.pods().join("one")).unwrap(), std::slice::from_ref(&one));
        assert_eq!(Record::of_pod(&layout.pods().join("none")).unwrap(), []);
        assert!(!one.is_shared(&layout.pods()).unwrap());
        two.write().unwrap();
        assert!(one.is_shared(&layout.pods()).unwrap());
        two.remove().unwrap();
        two.remove().unwrap();
        assert!(!one.is_shared(&layout.pods()).unwrap());
        fs::write(one.target.with_file_name(FILE), "{").unwrap();
        assert!(Record::of_pod(&layout.pods().join("one")).unwrap_err().to_string().contains(FILE));
    }
}
