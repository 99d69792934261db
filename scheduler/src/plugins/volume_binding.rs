//! Claims must be bound to volumes that the node reaches, or such volumes must be there, or be made.

use std::collections::BTreeSet;

use super::{Plugin, Refusal, Verdict, View};
use crate::snapshot::{ClaimPlan, NodeId, Pod, Snapshot, Storage};
use crate::volume::{ClaimKey, ClaimSpec, VolumeSpec};

/// The claims of a pod, sorted by what is to be done.
#[derive(Debug, Default)]
pub(crate) struct Claims<'a> {
    /// Volumes of bound claims; none where the volume is not there.
    pub(crate) bound: Vec<Option<&'a VolumeSpec>>,
    /// Claims that wait for the pod's placement, smallest first.
    pub(crate) waiting: Vec<&'a ClaimSpec>,
}

impl Claims<'_> {
    /// Whether every node will do.
    pub(crate) fn bind_anywhere(&self) -> bool {
        let anywhere = |volume: &Option<&VolumeSpec>| volume.is_some_and(|volume| volume.nodes.is_none());
        self.waiting.is_empty() && self.bound.iter().all(anywhere)
    }
}

/// What is known before any node is looked at.
pub(crate) fn prepare<'a>(pod: &Pod, snapshot: &'a Snapshot) -> Result<Claims<'a>, Refusal> {
    let storage = &snapshot.storage;
    let refuse = |reason: String| Refusal::unresolvable(Plugin::VolumeBinding, reason);
    let mut claims = Claims::default();
    let mut unbound = false;
    for named in &pod.volumes.claims {
        let name = &named.name;
        let Some(claim) = storage.claims.get(&Storage::key(&pod.name, name)) else {
            return Err(refuse(if named.ephemeral {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                )
            } else {
                format!("persistentvolumeclaim {name:?} not found")
            }));
        };
        if claim.lost {
            let volume = claim.volume.as_deref().unwrap_or_default();
            return Err(refuse(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            )));
        }
        if claim.deleting {
            return Err(refuse(format!("persistentvolumeclaim {name:?} is being deleted")));
        }
        if named.ephemeral && claim.owner.as_deref() != Some(&*pod.uid) {
            let ClaimSpec { key, .. } = claim;
            return Err(refuse(format!(
                "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
                key.namespace, key.name, pod.name.namespace, pod.name.name
            )));
        }
        if claim.bound {
            claims.bound.push(claim.volume.as_ref().and_then(|volume| storage.volumes.get(volume)));
        } else if claim.volume.is_none() && storage.classes.get(&claim.class).is_some_and(|class| class.waits)
        {
            claims.waiting.push(claim);
        } else {
            unbound = true;
        }
    }
    if unbound {
        return Err(refuse("pod has unbound immediate PersistentVolumeClaims".to_owned()));
    }
    claims.waiting.sort_by_key(|claim| (claim.request, claim.key.clone()));
    Ok(claims)
}

/// Whether a node will do.
pub(crate) fn filter(claims: &Claims<'_>, view: &View<'_>) -> Verdict {
    let (name, labels) = (&view.spec.name, &view.spec.labels);
    let mut reasons: Vec<Box<str>> = Vec::new();
    for volume in &claims.bound {
        let Some(volume) = volume else {
            reasons.push("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".into());
            break;
        };
        if volume.nodes.as_ref().is_some_and(|nodes| !nodes.matches(name, labels)) {
            reasons.push("node(s) didn't match PersistentVolume's node affinity".into());
            break;
        }
    }
    if plan(claims, view).is_none() {
        reasons.push("node(s) didn't find available persistent volumes to bind".into());
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Refusal { plugin: Plugin::VolumeBinding, resolvable: false, reasons })
}

/// What is to be done with the claims that wait, if the pod goes to the node; `None` if it cannot.
pub(crate) fn plan(claims: &Claims<'_>, view: &View<'_>) -> Option<ClaimPlan> {
    let mut plan = ClaimPlan::default();
    let mut chosen: BTreeSet<&str> = BTreeSet::new();
    let storage = &view.snapshot.storage;
    for claim in &claims.waiting {
        if let Some(node) = &claim.selected_node {
            // Its volume is being made already, for one node.
            if *node != view.spec.name {
                return None;
            }
            plan.provision.push(claim.key.clone());
        } else if let Some(volume) = smallest(claim, &chosen, view) {
            chosen.insert(&volume.name);
            plan.bind.push((claim.key.clone(), volume.name.clone()));
        } else {
            let class = storage.classes.get(&claim.class)?;
            if !class.provisions() || !class.allows(&view.spec.labels) {
                return None;
            }
            plan.provision.push(claim.key.clone());
        }
    }
    Some(plan)
}

/// How far the claims of a pod are that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Others are at work.
    Waiting,
    /// All claims have their volumes, and the node reaches them.
    Bound,
    /// It comes to nothing: the pod must be decided on anew. Why, in Kubernetes' words.
    Broken(String),
}

/// Looks at the claims of a plan that was written. `selected` are claims that were seen with the node written into them;
/// one that has it no more was given up by who makes volumes.
pub fn progress(
    snapshot: &Snapshot,
    plan: &ClaimPlan,
    node: NodeId,
    selected: &mut BTreeSet<ClaimKey>,
) -> Progress {
    let storage = &snapshot.storage;
    let Some(spec) = snapshot.columns.spec(node) else {
        return Progress::Broken(format!("failed to get node {:?}", snapshot.node_name(node)));
    };
    let mut all = true;
    for key in plan.bind.iter().map(|(key, _)| key).chain(&plan.provision) {
        let Some(claim) = storage.claims.get(key) else {
            return Progress::Broken(format!("persistentvolumeclaim {:?} not found", key.name));
        };
        if plan.provision.contains(key) {
            if claim.selected_node.as_ref() == Some(&spec.name) {
                selected.insert(key.clone());
            } else if selected.contains(key) {
                return Progress::Broken(format!("provisioning failed for PVC {:?}", key.name));
            }
        }
        let volume = claim.volume.as_ref().and_then(|name| storage.volumes.get(name));
        if let Some(volume) = volume
            && volume.nodes.as_ref().is_some_and(|nodes| !nodes.matches(&spec.name, &spec.labels))
        {
            let (volume, node) = (&volume.name, &spec.name);
            return Progress::Broken(format!("pv {volume:?} node affinity doesn't match node {node:?}"));
        }
        all &= claim.bound && volume.is_some();
    }
    if all { Progress::Bound } else { Progress::Waiting }
}

/// The smallest volume that a claim can have on the node; one that was made for it comes first.
fn smallest<'a>(claim: &ClaimSpec, chosen: &BTreeSet<&str>, view: &View<'a>) -> Option<&'a VolumeSpec> {
    let storage = &view.snapshot.storage;
    let free = storage.free.get(&claim.class)?.iter().filter_map(|name| storage.volumes.get(name));
    let mut best: Option<&VolumeSpec> = None;
    for volume in free {
        let reserved = volume
            .claim
            .as_ref()
            .is_some_and(|(key, uid)| *key == claim.key && (uid.is_empty() || *uid == claim.uid));
        let promised = storage.promised.get(&volume.name);
        let fits = !chosen.contains(&*volume.name)
            && promised.is_none_or(|promised| *promised == claim.key)
            && (reserved || (volume.claim.is_none() && volume.available))
            && !volume.deleting
            && volume.block == claim.block
            && volume.capacity >= claim.request
            && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode))
            && volume.nodes.as_ref().is_none_or(|nodes| nodes.matches(&view.spec.name, &view.spec.labels));
        if !fits {
            continue;
        }
        if reserved {
            return Some(volume);
        }
        let selected = claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels));
        if selected && best.is_none_or(|best| volume.capacity < best.capacity) {
            best = Some(volume);
        }
    }
    best
}
