//! Claims for volumes that a pod has for itself: they come from its templates and go with it. A decision; must never give a pod a
//! claim that is another's.

use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::{PODS_BY_CLAIM, claim_values};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan, Told};

/// The controller.
pub(crate) struct EphemeralVolumes;

/// One pod, and the claims of the names that its own volumes have.
pub(crate) struct View {
    pub(super) pod: Arc<Pod>,
    pub(super) claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// Another's claim has the name: it may go.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

fn has_own(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| volume.ephemeral.is_some())
}

impl Controller for EphemeralVolumes {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped::<Pod>(|change, _| {
            change.new.iter().filter(|pod| has_own(pod) && !pod.is_deleting()).map(|pod| pod.key()).collect()
        });
        watches.index::<Pod>(PODS_BY_CLAIM, claim_values);
        // One that somebody deleted is made again as long as its pod is there.
        watches.mapped::<PersistentVolumeClaim>(|change, caches| {
            let gone = change.old.as_ref().filter(|_| change.new.is_none());
            let pods = gone.map(|claim| caches.of::<Pod>().with(PODS_BY_CLAIM, &claim.key().to_string()));
            pods.into_iter().flatten().map(|pod| pod.key()).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let pod = caches.of::<Pod>().get(key).filter(|pod| has_own(pod) && !pod.is_deleting())?;
        let claims = caches.of::<PersistentVolumeClaim>();
        let named = super::claims_of(&pod).into_iter().filter(|(_, own)| *own);
        let claims = named.filter_map(|(name, _)| claims.get(&Key::new(&key.namespace, &name))).collect();
        Some(View { pod, claims })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let pod = &view.pod;
        let key = pod.key();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let Some(template) = volume.ephemeral.as_ref().and_then(|it| it.volume_claim_template.as_ref())
            else {
                continue;
            };
            let name = format!("{}-{}", key.name, volume.name);
            let about = pod.reference();
            if let Some(claim) = view.claims.iter().find(|claim| claim.key().name == name) {
                if !claim.is_controlled_by(pod.uid()) {
                    let text = format!(
                        "ephemeral volume {}: PVC {}/{name} was not created for pod {key} (pod is not owner)",
                        volume.name, key.namespace
                    );
                    let gravity = Gravity::Warning;
                    plan.notes.push(Told { regarding: about, gravity, reason: "FailedBinding", text });
                    plan.look_again_after(AGAIN);
                    return plan;
                }
                continue;
            }
            let meta = template.metadata.clone().unwrap_or_default();
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    namespace: Some(key.namespace.clone()),
                    name: Some(name.clone()),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: Some(vec![pod.as_controller()]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec.clone()),
                status: None,
            };
            let failed = format!("ephemeral volume {}: create PVC {name}: {{error}}", volume.name);
            plan.then(Action::create(&claim).because("the pod has a volume of its own").warn(
                &about,
                "FailedBinding",
                failed,
            ));
        }
        plan
    }
}
