//! Claims of pods and what they are bound to: which claim a volume is, whether it can be used, and what is mounted then. A decision;
//! objects are handed in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, PersistentVolume, PersistentVolumeClaim, Pod, Volume,
};

use super::csi::volume::{CsiVolume, of_persistent};
use crate::containers::{NodeFacts, name};
use crate::pods::spec;

/// What a volume of a claim is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A path of the machine that is used as it is.
    HostPath {
        /// The path.
        path: PathBuf,
        /// What it shall be, as `Directory`.
        kind: String,
    },
    /// A directory of the machine.
    Directory(PathBuf),
    /// A block device of the machine, used as one.
    Device(PathBuf),
}

/// Who brings what is mounted for a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// It is on the machine.
    Here(Backing),
    /// A driver.
    Driver(Box<CsiVolume>),
}

/// The claim of a volume, and whether nobody may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name, in the pod's namespace.
    pub name: String,
    /// Made for this pod only.
    pub is_own: bool,
    /// Nobody may write.
    pub read_only: bool,
}

/// The claim that a volume of a pod names; one of the pod's own is called after both.
#[must_use]
pub fn claim(pod: &Pod, volume: &Volume) -> Option<Claim> {
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only == Some(true);
        return Some(Claim { name: source.claim_name.clone(), is_own: false, read_only });
    }
    volume.ephemeral.as_ref()?;
    Some(Claim { name: format!("{}-{}", name(pod), volume.name), is_own: true, read_only: false })
}

/// The name of the volume that a claim is bound to.
///
/// # Errors
/// When the pod cannot use the claim, in the kubelet's words.
pub fn bound_volume(pod: &Pod, claim: &Claim, object: &PersistentVolumeClaim) -> Result<String, String> {
    if claim.is_own {
        let owners = object.metadata.owner_references.iter().flatten();
        let mut owners = owners.filter(|owner| owner.controller == Some(true));
        if !owners.any(|owner| owner.uid == spec::uid(pod)) {
            return Err(format!(
                "PVC {} was not created for pod {} (pod is not owner)",
                claim.name,
                name(pod)
            ));
        }
    }
    if object.metadata.deletion_timestamp.is_some() && !spec::is_deleted(pod) {
        return Err("PVC is being deleted".to_owned());
    }
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    let volume = object.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if phase != Some("Bound") || volume.is_empty() {
        return Err("PVC is not bound".to_owned());
    }
    Ok(volume.to_owned())
}

/// What is mounted for a claim.
///
/// # Errors
/// When the volume is another's, cannot be on this node, or is of a kind that the node cannot mount.
pub fn backing(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    reads_only: bool,
    node: &NodeFacts,
) -> Result<Bound, String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &volume.spec else { return Err(format!("PV {name} says nothing of itself")) };
    if spec.claim_ref.as_ref().and_then(|claim| claim.uid.as_ref()) != claim.metadata.uid.as_ref() {
        return Err(format!("PV {name} is bound to another claim"));
    }
    if !fits(volume, node) {
        return Err(format!("NodeAffinity check failed for volume {name:?} : no matching NodeSelectorTerms"));
    }
    let block = spec.volume_mode.as_deref() == Some("Block");
    if let Some(source) = &spec.host_path {
        let path = PathBuf::from(&source.path);
        let kind = source.type_.clone().unwrap_or_default();
        let host_path = || Backing::HostPath { path: path.clone(), kind };
        return Ok(Bound::Here(if block { Backing::Device(path.clone()) } else { host_path() }));
    }
    if let Some(source) = &spec.local {
        let path = PathBuf::from(&source.path);
        return Ok(Bound::Here(if block { Backing::Device(path) } else { Backing::Directory(path) }));
    }
    let of_driver = of_persistent(volume, reads_only).map(|volume| Bound::Driver(Box::new(volume)));
    of_driver.ok_or_else(|| {
        format!("PV {name} is of a kind that this node cannot mount: it can hostPath, local and csi")
    })
}

/// Who makes volumes in directories of nodes, as classes name it.
pub const LOCAL_PATH: &str = "barque.dev/local-path";

/// Whether the volume is a directory that the node makes, and removes in the end.
#[must_use]
pub fn is_made_here(volume: &PersistentVolume) -> bool {
    let annotations = volume.metadata.annotations.as_ref();
    let by = annotations.and_then(|annotations| annotations.get("pv.kubernetes.io/provisioned-by"));
    let block = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
    by.is_some_and(|by| by == LOCAL_PATH) && !block
}

/// Whether the volume may be on this node.
#[must_use]
pub fn fits(volume: &PersistentVolume, node: &NodeFacts) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    affinity.and_then(|affinity| affinity.required.as_ref()).is_none_or(|selector| {
        selector.node_selector_terms.iter().any(|term| {
            let expressions = term.match_expressions.as_deref().unwrap_or_default();
            let fields = term.match_fields.as_deref().unwrap_or_default();
            let own = [("metadata.name".to_owned(), node.name.clone())].into();
            !(expressions.is_empty() && fields.is_empty())
                && expressions.iter().all(|it| matches(it, &node.labels))
                && fields.iter().all(|it| matches(it, &own))
        })
    })
}

/// Whether a requirement holds for labels, as node selectors mean it.
fn matches(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let there = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &String| text.parse::<i64>().ok();
    let bound = values.first().and_then(number);
    match requirement.operator.as_str() {
        "In" => there.is_some_and(|there| values.contains(there)),
        "NotIn" => there.is_none_or(|there| !values.contains(there)),
        "Exists" => there.is_some(),
        "DoesNotExist" => there.is_none(),
        "Gt" => there.and_then(number).zip(bound).is_some_and(|(there, bound)| there > bound),
        "Lt" => there.and_then(number).zip(bound).is_some_and(|(there, bound)| there < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pod() -> Pod {
        object(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": []}}))
    }

    #[test]
    fn volumes_name_claims_or_have_their_own() {
        let named =
            object(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}));
        let expected = Claim { name: "c".into(), is_own: false, read_only: true };
        assert_eq!(claim(&pod(), &named), Some(expected));
        let own = object(json!({"name": "v", "ephemeral": {}}));
        let expected = Claim { name: "p-v".into(), is_own: true, read_only: false };
        assert_eq!(claim(&pod(), &own), Some(expected));
        assert_eq!(claim(&pod(), &object(json!({"name": "v", "emptyDir": {}}))), None);
    }

    #[test]
    fn only_claims_that_are_bound_are_used() {
        let bound = || json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
        let with = |metadata: Value| {
            let mut claim = bound();
            claim["metadata"] = metadata;
            claim
        };
        let other = Claim { name: "c".into(), is_own: false, read_only: false };
        let own = Claim { name: "p-v".into(), is_own: true, read_only: false };
        let owner = |uid: &str| {
            json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]})
        };
        let table = [
            (&other, bound(), Ok("pv")),
            (&other, json!({"spec": {"volumeName": "pv"}}), Err("PVC is not bound")),
            (&other, json!({"status": {"phase": "Bound"}}), Err("PVC is not bound")),
            (&other, with(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})), Err("PVC is being deleted")),
            (&own, with(owner("u")), Ok("pv")),
            (&own, with(owner("x")), Err("PVC p-v was not created for pod p (pod is not owner)")),
        ];
        for (claim, value, expected) in table {
            let told = value.to_string();
            let found = bound_volume(&pod(), claim, &object(value));
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{told}");
        }
    }

    #[test]
    fn volumes_are_mounted_where_they_may_be() {
        let node = NodeFacts {
            name: "n".into(),
            labels: [("zone".to_owned(), "a".to_owned()), ("n".to_owned(), "5".to_owned())].into(),
            ..NodeFacts::default()
        };
        let claim = object(json!({"metadata": {"uid": "c"}}));
        let run = |spec: Value| {
            let mut spec = spec;
            if spec.get("claimRef").is_none() {
                spec["claimRef"] = json!({"uid": "c"});
            }
            backing(&claim, &object(json!({"metadata": {"name": "pv"}, "spec": spec})), true, &node)
        };
        let local = || json!({"local": {"path": "/d"}});
        let on = |key: &str, operator: &str, values: &[&str]| {
            let mut spec = local();
            spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]}});
            spec
        };
        assert_eq!(run(local()), Ok(Bound::Here(Backing::Directory("/d".into()))));
        let host = json!({"hostPath": {"path": "/h", "type": "DirectoryOrCreate"}});
        let expected = Backing::HostPath { path: "/h".into(), kind: "DirectoryOrCreate".into() };
        assert_eq!(run(host), Ok(Bound::Here(expected)));
        let block = json!({"local": {"path": "/dev/x"}, "volumeMode": "Block"});
        assert_eq!(run(block), Ok(Bound::Here(Backing::Device("/dev/x".into()))));
        let csi = run(json!({"csi": {"driver": "d", "volumeHandle": "h"}}));
        assert!(matches!(csi, Ok(Bound::Driver(volume)) if volume.handle == "h" && volume.read_only));
        for (fine, spec) in [
            (true, on("zone", "In", &["a", "b"])),
            (false, on("zone", "In", &["b"])),
            (true, on("zone", "NotIn", &["b"])),
            (false, on("zone", "DoesNotExist", &[])),
            (true, on("zone", "Exists", &[])),
            (true, on("n", "Gt", &["4"])),
            (false, on("n", "Lt", &["4"])),
            (false, on("zone", "Gt", &["4"])),
        ] {
            let told = spec.to_string();
            let found = run(spec);
            assert_eq!(found.is_ok(), fine, "{told}");
            if let Err(why) = found {
                assert_eq!(
                    why,
                    "NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms"
                );
            }
        }
        let other = json!({"local": {"path": "/d"}, "claimRef": {"uid": "x"}});
        assert_eq!(run(other), Err("PV pv is bound to another claim".into()));
        let nfs = json!({"nfs": {"server": "s", "path": "/"}});
        assert!(run(nfs).unwrap_err().contains("cannot mount"));
    }
}
