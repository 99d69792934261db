//! A volume that somebody deletes stays as long as it is bound: its finalizer goes then. A decision.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::jiff::Timestamp;

use super::claim_protection::{change, has};
use super::volume_phase;
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::Plan;

const FINALIZER: &str = "kubernetes.io/pv-protection";

/// The controller.
pub(crate) struct VolumeProtection;

impl Controller for VolumeProtection {
    type View = Arc<PersistentVolume>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<PersistentVolume>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<Self::View> {
        caches.of::<PersistentVolume>().get(key)
    }

    fn plan(&self, volume: &Self::View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if !volume.is_deleting() {
            if !has(&**volume, FINALIZER) {
                change(&**volume, FINALIZER, true, "claims may use it", &mut plan);
            }
        } else if has(&**volume, FINALIZER) && volume_phase(volume) != "Bound" {
            change(&**volume, FINALIZER, false, "no claim uses it", &mut plan);
        }
        plan
    }
}
