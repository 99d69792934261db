//! Volumes and claims of them: who gets which volume, when volumes and claims may go, claims of pods' own volumes, and volumes in
//! directories of nodes. Must never bind a volume to two claims, or let one go that a pod uses.

mod binder;
mod claim;
mod claim_protection;
mod ephemeral;
mod local_path;
mod matching;
#[cfg(test)]
mod tests;
mod volume;
mod volume_protection;

use std::collections::BTreeMap;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::kind::{Key, Object};

pub(crate) use binder::Binder;
pub(crate) use claim_protection::ClaimProtection;
pub(crate) use ephemeral::EphemeralVolumes;
pub(crate) use local_path::{LocalPathClaims, LocalPathVolumes};
pub(crate) use volume_protection::VolumeProtection;

/// A claim has been bound once.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// A controller bound it, not a user.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// The node for which the scheduler wants a volume.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Who made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Who shall make one; under both names.
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// Somebody else cares for the volume.
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// The class of a volume or a claim before there was a field for it; it counts more than the field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The class for claims that ask for none.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// The class that a claim asks for; empty is none.
fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    let said = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    claim.annotation(CLASS).or(said).unwrap_or_default()
}

/// Whether it says something of a class, if only that it wants none.
fn says_class(claim: &PersistentVolumeClaim) -> bool {
    claim.annotation(CLASS).is_some()
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

/// The class of a volume; empty is none.
fn volume_class(volume: &PersistentVolume) -> &str {
    let said = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    volume.annotation(CLASS).or(said).unwrap_or_default()
}

/// The volume that a claim has or asks for; empty is any.
fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn claim_reference(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The claim that a volume is for.
fn claim_key(volume: &PersistentVolume) -> Option<Key> {
    let reference = claim_reference(volume)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(Key { namespace: text(&reference.namespace), name: text(&reference.name) })
}

/// Whether the volume is for this claim, and not for an earlier one of the same name.
fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = claim_reference(volume) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    claim_key(volume).is_some_and(|key| key == claim.key()) && (uid.is_empty() || uid == claim.uid())
}

fn quantity(written: Option<&Written>) -> Quantity {
    written
        .and_then(|written| Quantity::parse(&written.0).ok())
        .unwrap_or_else(|| Quantity::new(0, 0, barque_api::quantity::Format::DecimalSi))
}

fn storage(amounts: Option<&BTreeMap<String, Written>>) -> Quantity {
    quantity(amounts.and_then(|amounts| amounts.get("storage")))
}

/// How much a claim asks for.
fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

/// How much a volume has.
fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// Whether claims of the class wait until a pod needs them.
fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

fn is_default(class: &StorageClass) -> bool {
    DEFAULT_CLASS.iter().any(|name| class.annotation(name) == Some("true"))
}

/// The claims that a pod uses: those that it names, and those of its own volumes, each with whether it is of that sort.
fn claims_of(pod: &Pod) -> Vec<(String, bool)> {
    let name = pod.key().name;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claims = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (None, Some(_)) => Some((format!("{name}-{}", volume.name), true)),
        (None, None) => None,
    });
    claims.collect()
}

/// Pods by the claims that they use.
const PODS_BY_CLAIM: &str = "claims";

fn claim_values(pod: &Pod) -> Vec<String> {
    let namespace = pod.key().namespace;
    claims_of(pod).into_iter().map(|(name, _)| format!("{namespace}/{name}")).collect()
}
