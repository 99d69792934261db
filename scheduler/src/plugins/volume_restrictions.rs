//! Volumes that one pod alone may use, and disks that cannot be attached twice.

use super::{Plugin, Refusal, Verdict, View};
use crate::snapshot::{Pod, Snapshot, Storage};

/// Claims for one pod alone that a pod names.
pub(crate) fn exclusive_claims(pod: &Pod, snapshot: &Snapshot) -> Vec<crate::volume::ClaimKey> {
    let keys = pod.volumes.claims.iter().map(|claim| Storage::key(&pod.name, &claim.name));
    let for_one =
        |key: &crate::volume::ClaimKey| snapshot.storage.claims.get(key).is_some_and(|it| it.for_one_pod());
    keys.filter(for_one).collect()
}

/// `exclusive` as [`exclusive_claims`] tells it.
pub(crate) fn filter(pod: &Pod, exclusive: &[crate::volume::ClaimKey], view: &View<'_>) -> Verdict {
    let disks = &pod.volumes.disks;
    if !disks.is_empty() {
        let mut others = view.each_pod().flat_map(|other| other.volumes.disks.iter());
        if others.any(|other| disks.iter().any(|disk| disk.conflicts(other))) {
            return Err(Refusal::resolvable(Plugin::VolumeRestrictions, "node(s) had no available disk"));
        }
    }
    for key in exclusive {
        let users = view.snapshot.storage.users.get(key).map_or(0, |users| users.len() as i64);
        let names = |other: &Pod| {
            let names = |claim: &crate::pod::ClaimName| Storage::key(&other.name, &claim.name) == *key;
            i64::from(other.volumes.claims.iter().any(names))
        };
        if users + view.overlay.delta(names) > 0 {
            let reason = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode \
                          already in-use by another pod";
            return Err(Refusal::resolvable(Plugin::VolumeRestrictions, reason));
        }
    }
    Ok(())
}
