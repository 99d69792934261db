//! Which volume fits a claim. A decision.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{capacity, claim_class, claim_reference, is_for, requested, volume_class, volume_phase};
use crate::kind::Object as _;
use crate::owners;

fn modes(modes: Option<&Vec<String>>) -> BTreeSet<&str> {
    modes.into_iter().flatten().map(String::as_str).collect()
}

fn claim_modes(claim: &PersistentVolumeClaim) -> BTreeSet<&str> {
    modes(claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()))
}

fn volume_modes(volume: &PersistentVolume) -> BTreeSet<&str> {
    modes(volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()))
}

/// Whether one is a device and the other a file system.
pub(super) fn modes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let asked = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    let has = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    asked != has
}

fn attributes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let asked = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let has = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    asked.unwrap_or_default() != has.unwrap_or_default()
}

/// What is wrong with a volume that a claim asks for by name.
pub(super) fn check(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), String> {
    let wrong = if volume.is_deleting() {
        return Err(format!("the volume is marked for deletion {:?}", volume.key().name));
    } else if capacity(volume).value() < requested(claim).value() {
        "requested PV is too small"
    } else if volume_class(volume) != claim_class(claim) {
        "storageClassName does not match"
    } else if attributes_differ(claim, volume) {
        "volumeAttributesClassName does not match"
    } else if modes_differ(claim, volume) {
        "incompatible volumeMode"
    } else if !claim_modes(claim).is_subset(&volume_modes(volume)) {
        "incompatible accessMode"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}

/// The volume for a claim: one that was made or reserved for it, else the smallest that fits, of those with the fewest access
/// modes. When the claim waits for a pod, only the former.
pub(super) fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    waits: bool,
) -> Result<Option<Arc<PersistentVolume>>, String> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector
        .map(|selector| {
            let value = serde_json::to_value(selector).map_err(|error| error.to_string())?;
            Selector::of_object(Some(&value)).map_err(|error| error.to_string())
        })
        .transpose()?;
    let asked = claim_modes(claim);
    let fits: Vec<_> = volumes
        .iter()
        .filter(|volume| {
            (claim_reference(volume).is_none() || is_for(volume, claim))
                && asked.is_subset(&volume_modes(volume))
                && capacity(volume) >= requested(claim)
                && !modes_differ(claim, volume)
                && !attributes_differ(claim, volume)
                && !volume.is_deleting()
        })
        .collect();
    let by_modes = |one: &&&Arc<PersistentVolume>, other: &&&Arc<PersistentVolume>| -> Ordering {
        let (one_modes, other_modes) = (volume_modes(one), volume_modes(other));
        one_modes.len().cmp(&other_modes.len()).then_with(|| one_modes.cmp(&other_modes))
    };
    let reserved = fits.iter().filter(|volume| is_for(volume, claim)).min_by(by_modes);
    if let Some(reserved) = reserved {
        return Ok(Some((**reserved).clone()));
    }
    if waits {
        return Ok(None);
    }
    let free = fits.iter().filter(|volume| {
        volume_phase(volume) == "Available"
            && selector.as_ref().is_none_or(|selector| owners::matches(selector, &****volume))
            && volume_class(volume) == claim_class(claim)
    });
    let smallest = free.min_by(|one, other| {
        by_modes(one, other)
            .then_with(|| capacity(one).cmp(&capacity(other)))
            .then_with(|| one.key().cmp(&other.key()))
    });
    Ok(smallest.map(|volume| (**volume).clone()))
}
