//! The volumes of a StatefulSet's pods: which are made, and with whom they go. A decision; must never delete one.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::View;
use crate::kind::Object;
use crate::plan::{Action, Planned};

/// The name of a pod's claim.
pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.key().name, set.key().name)
}

/// The claims of this ordinal, each with its template.
fn of(view: &View, ordinal: i32) -> impl Iterator<Item = (&PersistentVolumeClaim, String)> {
    let templates = view.set.spec.volume_claim_templates.iter().flatten();
    templates.map(move |template| (template, name(&view.set, template, ordinal)))
}

/// Whether a pod of this ordinal has to wait for a claim that is on its way out: of its own, or with a pod that was.
pub(super) fn are_going(view: &View, ordinal: i32) -> bool {
    let claims = of(view, ordinal).filter_map(|(_, name)| view.claims.get(&name));
    claims.into_iter().any(|claim| {
        let owners = claim.metadata.owner_references.iter().flatten();
        claim.is_deleting() || owners.into_iter().any(|owner| owner.kind == "Pod" && is_gone(view, owner))
    })
}

fn is_gone(view: &View, owner: &OwnerReference) -> bool {
    !view.pods.iter().any(|pod| pod.uid() == owner.uid)
}

/// The claims of this ordinal that are not there yet are made.
pub(super) fn missing(view: &View, ordinal: i32) -> Vec<Planned> {
    let about = view.set.reference();
    let pod = format!("{}-{ordinal}", view.set.key().name);
    let set = view.set.key().name;
    let absent = of(view, ordinal).filter(|(_, name)| !view.claims.contains_key(name));
    absent
        .map(|(template, name)| {
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(view.set.spec.selector.match_labels.clone().unwrap_or_default());
            let owner = belongs_to(view, None, ordinal);
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(name),
                    namespace: Some(view.set.key().namespace),
                    labels: Some(labels),
                    annotations: template.metadata.annotations.clone(),
                    owner_references: owner.map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                },
                spec: template.spec.clone(),
                status: None,
            };
            let done = format!("create Claim {{name}} Pod {pod} in StatefulSet {set} success");
            let failed =
                format!("create Claim {{name}} for Pod {pod} in StatefulSet {set} failed error: {{error}}");
            Action::create(&claim)
                .because("a pod needs its volume")
                .tell(&about, "SuccessfulCreate", done)
                .warn(&about, "FailedCreate", failed)
        })
        .collect()
}

/// The claims of a pod that should go with another one than they do are changed so.
pub(super) fn retained(view: &View, pod: &Pod, ordinal: i32) -> Vec<Planned> {
    let found = of(view, ordinal).filter_map(|(_, name)| view.claims.get(&name));
    found.filter_map(|claim| owned(view, claim, pod, ordinal)).collect()
}

fn owned(view: &View, claim: &Arc<PersistentVolumeClaim>, pod: &Pod, ordinal: i32) -> Option<Planned> {
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let wanted = belongs_to(view, Some(pod), ordinal);
    let is_ours = |owner: &OwnerReference| owner.uid == view.set.uid() || owner.uid == pod.uid();
    let ours: Vec<_> = before.iter().filter(|owner| is_ours(owner)).map(|owner| &owner.uid).collect();
    if ours == wanted.iter().map(|owner| &owner.uid).collect::<Vec<_>>() {
        return None;
    }
    let mut after = (**claim).clone();
    let mut owners = before;
    owners.retain(|owner| !is_ours(owner));
    owners.extend(wanted);
    after.metadata.owner_references = (!owners.is_empty()).then_some(owners);
    Some(Action::update(&**claim, &after)?.because("it goes with another one"))
}

/// With whom a claim goes: with its pod when the StatefulSet has become smaller, with the StatefulSet, or with nobody.
fn belongs_to(view: &View, pod: Option<&Pod>, ordinal: i32) -> Option<OwnerReference> {
    let policy = view.set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |said: Option<&String>| said.is_some_and(|said| said == "Delete");
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let is_surplus = !super::plan::range(&view.set).contains(&ordinal);
    match pod {
        Some(pod) if is_surplus && when_scaled => Some(as_owner(pod)),
        _ if when_deleted => Some(as_owner(&*view.set)),
        _ => None,
    }
}

fn as_owner<K: Object>(object: &K) -> OwnerReference {
    OwnerReference { controller: None, block_owner_deletion: None, ..object.as_controller() }
}
