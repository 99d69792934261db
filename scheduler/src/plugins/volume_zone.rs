//! Volumes that say by their labels where they are want nodes that are there.

use super::{Plugin, Refusal, Verdict, View};
use crate::volume::{PLACES, VolumeSpec};

/// `volumes` are those that the pod's claims are bound to.
pub(crate) fn filter(volumes: &[&VolumeSpec], view: &View<'_>) -> Verdict {
    let labels = &view.spec.labels;
    if volumes.iter().all(|volume| volume.places.is_empty())
        || PLACES.iter().all(|(key, _)| labels.get(key).is_none())
    {
        return Ok(());
    }
    for (key, values) in volumes.iter().flat_map(|volume| volume.places.iter()) {
        let other = PLACES.iter().find(|(old, _)| *old == &**key).map(|(_, new)| *new);
        let have = labels.get(key).or_else(|| labels.get(other?));
        if !have.is_some_and(|have| values.iter().any(|value| &**value == have)) {
            return Err(Refusal::unresolvable(Plugin::VolumeZone, "node(s) had no available volume zone"));
        }
    }
    Ok(())
}
