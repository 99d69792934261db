//! What a node does for a volume in one of its directories. A decision.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::containers::NodeFacts;
use crate::volumes::claims::{fits, is_made_here};

/// The volume's object stays until the node has removed the directory.
pub const FINALIZER: &str = "barque.dev/local-path-directory";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// See to it that the object stays until the directory is removed.
    Hold {
        /// The object's finalizers then.
        finalizers: Vec<String>,
    },
    /// Remove the directory, if there is one, and let the object go.
    Remove {
        /// The directory.
        directory: Option<PathBuf>,
        /// The object's finalizers then.
        finalizers: Vec<String>,
    },
}

/// What the node does for the volume as it is now.
#[must_use]
pub fn plan(volume: &PersistentVolume, node: &NodeFacts) -> Action {
    let spec = volume.spec.as_ref();
    let bound_to_nodes = spec.is_some_and(|spec| spec.node_affinity.is_some());
    if !is_made_here(volume) || !bound_to_nodes || !fits(volume, node) {
        return Action::Nothing;
    }
    let finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
    let is_held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let is_deleted = volume.metadata.deletion_timestamp.is_some();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    match (is_deleted, is_held) {
        (false, false) if policy == Some("Delete") => {
            Action::Hold { finalizers: finalizers.into_iter().chain([FINALIZER.to_owned()]).collect() }
        }
        // Of what is bound somebody may still read; whose policy has become another one keeps the directory.
        (true, true) if phase != Some("Bound") => Action::Remove {
            directory: directory(volume).filter(|_| policy == Some("Delete")),
            finalizers: finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect(),
        },
        _ => Action::Nothing,
    }
}

/// The volume's directory, if it is called after the volume: nothing else was made here.
fn directory(volume: &PersistentVolume) -> Option<PathBuf> {
    let spec = volume.spec.as_ref()?;
    let host_path = spec.host_path.as_ref().map(|source| &source.path);
    let path = Path::new(host_path.or_else(|| spec.local.as_ref().map(|source| &source.path))?);
    let plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    let name = volume.metadata.name.as_deref().filter(|name| !name.is_empty())?;
    let called = path.file_name()?.to_str()?;
    (plain && called.starts_with(&format!("{name}_"))).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(change: impl FnOnce(&mut Value)) -> PersistentVolume {
        let mut volume = json!({
            "metadata": {"name": "pvc-1", "annotations": {"pv.kubernetes.io/provisioned-by": "barque.dev/local-path"}},
            "spec": {"hostPath": {"path": "/v/pvc-1_ns_c"}, "persistentVolumeReclaimPolicy": "Delete",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}}}});
        change(&mut volume);
        serde_json::from_value(volume).unwrap()
    }

    fn run(change: impl FnOnce(&mut Value)) -> Action {
        let node = NodeFacts {
            labels: [("kubernetes.io/hostname".to_owned(), "n".to_owned())].into(),
            ..NodeFacts::default()
        };
        plan(&volume(change), &node)
    }

    #[test]
    fn a_volume_is_held_while_it_has_a_directory_and_let_go_without() {
        let deleted = |volume: &mut Value| {
            volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            volume["metadata"]["finalizers"] = json!(["other", FINALIZER]);
        };
        let other = || vec!["other".to_owned()];
        let remove = |directory: Option<&str>| Action::Remove {
            directory: directory.map(PathBuf::from),
            finalizers: other(),
        };
        assert_eq!(run(|_| {}), Action::Hold { finalizers: vec![FINALIZER.into()] });
        assert_eq!(run(|volume| volume["metadata"]["finalizers"] = json!([FINALIZER])), Action::Nothing);
        assert_eq!(run(deleted), remove(Some("/v/pvc-1_ns_c")));
        let with = |change: fn(&mut Value)| {
            run(|volume| {
                deleted(volume);
                change(volume);
            })
        };
        assert_eq!(with(|volume| volume["status"] = json!({"phase": "Bound"})), Action::Nothing);
        assert_eq!(
            with(|volume| volume["status"] = json!({"phase": "Released"})),
            remove(Some("/v/pvc-1_ns_c"))
        );
        assert_eq!(
            with(|volume| volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain")),
            remove(None)
        );
        for path in ["/v/other", "/v/pvc-1", "/v/pvc-1_x/../etc", "v/pvc-1_ns_c", "/"] {
            let action = run(|volume| {
                deleted(volume);
                volume["spec"]["hostPath"]["path"] = json!(path);
            });
            assert_eq!(action, remove(None), "{path}");
        }
    }

    #[test]
    fn volumes_of_others_and_of_other_nodes_are_not_touched() {
        let table: [fn(&mut Value); 4] = [
            |volume| volume["metadata"]["annotations"] = json!({}),
            |volume| volume["spec"]["nodeAffinity"] = json!(null),
            |volume| {
                let terms = &mut volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
                terms[0]["matchExpressions"][0]["values"] = json!(["other"]);
            },
            |volume| volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain"),
        ];
        for change in table {
            assert_eq!(run(change), Action::Nothing);
        }
    }
}
