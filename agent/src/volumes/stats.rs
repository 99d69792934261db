//! What the volumes of a pod hold, and what is left of where they are, as the kubelet counts it: directories that are the pod's own
//! by their files, claims by their whole file system. Must never look at a path of the machine that no agent made.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use tokio::task::spawn_blocking;

use super::act;
use super::claims::claim;
use super::set::Volumes;
use crate::node_api::stats::machine::file_system;
use crate::node_api::stats::{FsStats, VolumeStats};
use crate::pods::spec;

/// How a volume is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// File by file: others are on the same file system.
    ByFiles,
    /// The file system is all of it.
    AsFileSystem,
}

/// How a volume is counted; nothing for what is the machine's, or of which nobody is asked.
fn counted(volume: &Volume) -> Option<Counted> {
    let own = volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    let of_others =
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || volume.csi.is_some();
    match (own, of_others) {
        (true, _) => Some(Counted::ByFiles),
        (false, true) => Some(Counted::AsFileSystem),
        (false, false) => None,
    }
}

fn look(path: &Path, counted: Counted, now_ns: i64) -> Option<FsStats> {
    let whole = file_system(path, now_ns)?;
    match counted {
        Counted::AsFileSystem => Some(whole),
        Counted::ByFiles => {
            let held = act::usage(path).ok()?;
            Some(FsStats { used: held.bytes, inodes_used: held.inodes, ..whole })
        }
    }
}

impl Volumes {
    /// What the volumes of a pod hold that are there. Looks at every file of some: not for those who ask often. `now_ns` is the
    /// time in nanoseconds since 1970.
    pub async fn stats(&self, pod: &Pod, now_ns: i64) -> Vec<VolumeStats> {
        let mounted = self.mounted(spec::uid(pod));
        let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let place = |volume: &Volume| {
            let there = mounted.get(&volume.name).filter(|there| !there.is_device)?;
            let claim = claim(pod, volume).map(|claim| claim.name);
            Some((volume.name.clone(), claim, there.path.clone(), counted(volume)?))
        };
        let places: Vec<_> = volumes.iter().filter_map(place).collect();
        let work = move || {
            let of = |(name, claim, path, counted): (String, Option<String>, PathBuf, Counted)| {
                // One that has just gone holds nothing.
                Some(VolumeStats { name, claim, fs: look(&path, counted, now_ns)? })
            };
            places.into_iter().filter_map(of).collect()
        };
        // It cannot fail; what ends it is the end of the process.
        spawn_blocking(work).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_the_pods_own_is_counted_by_files_and_what_is_the_machines_is_not() {
        for (source, expected) in [
            (json!({"emptyDir": {}}), Some(Counted::ByFiles)),
            (json!({"projected": {}}), Some(Counted::ByFiles)),
            (json!({"persistentVolumeClaim": {"claimName": "c"}}), Some(Counted::AsFileSystem)),
            (json!({"csi": {"driver": "d"}}), Some(Counted::AsFileSystem)),
            (json!({"hostPath": {"path": "/"}}), None),
            (json!({"image": {"reference": "i"}}), None),
        ] {
            let mut volume = json!({"name": "v"});
            volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            assert_eq!(counted(&serde_json::from_value(volume).unwrap()), expected, "{source}");
        }
    }

    #[test]
    fn files_are_added_up_within_what_their_file_system_has() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), [7; 10_000]).unwrap();
        let path = directory.path().to_owned();
        let own = look(&path, Counted::ByFiles, 7).unwrap();
        assert!(own.used >= 10_000 && own.used < 200_000, "{own:?}");
        assert_eq!((own.inodes_used, own.at_ns), (2, 7));
        let whole = look(&path, Counted::AsFileSystem, 7).unwrap();
        assert_eq!(own.capacity, whole.capacity);
        assert_eq!(look(&path.join("nothing"), Counted::ByFiles, 7), None);
    }
}
