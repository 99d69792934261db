//! What is done about a claim: bound, provisioned for, or left waiting, and what people are told of it. A decision. A bind is several
//! writes; each follows from what is there, so that it goes on after every failure.

use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONER, SELECTED_NODE, capacity, claim_class, claim_phase,
    claim_reference, is_for, matching, quantity, says_class, volume_name, waits_for_consumer,
};
use crate::kind::Object as _;
use crate::plan::{Action, Plan, Planned, Told};

/// One claim, and what could become of it.
pub(crate) struct View {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    /// Volumes that could fit: those of its class, and those that are for it.
    pub(super) volumes: Vec<Arc<PersistentVolume>>,
    /// The volume that it names.
    pub(super) volume: Option<Arc<PersistentVolume>>,
    /// The class that it asks for.
    pub(super) class: Option<Arc<StorageClass>>,
    /// The class for claims that ask for none.
    pub(super) default_class: Option<Arc<StorageClass>>,
    /// Names of pods that use it and have no node yet.
    pub(super) waiting_pods: Vec<String>,
}

fn tell(
    plan: &mut Plan,
    claim: &PersistentVolumeClaim,
    gravity: Gravity,
    reason: &'static str,
    text: String,
) {
    plan.notes.push(Told { regarding: claim.reference(), gravity, reason, text });
}

fn write(plan: &mut Plan, action: Option<Action>, why: &'static str) {
    plan.steps.extend(action.map(|action| crate::plan::Step {
        order: crate::plan::Order::Serial,
        actions: vec![action.because(why)],
    }));
}

pub(super) fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    if view.claim.annotation(BIND_COMPLETED).is_some() {
        bound_before(view, &mut plan);
    } else if volume_name(&view.claim).is_empty() {
        unbound(view, &mut plan);
    } else {
        named(view, &mut plan);
    }
    plan
}

/// It takes any volume.
fn unbound(view: &View, plan: &mut Plan) {
    let claim = &view.claim;
    let waits = view.class.as_ref().is_some_and(|class| waits_for_consumer(class));
    let found = match matching::best(claim, &view.volumes, waits) {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!(claim = %claim.key(), why, "no volume can be looked for");
            return;
        }
    };
    if let Some(volume) = found {
        bind(claim, &volume, plan);
        return;
    }
    if !says_class(claim)
        && let Some(class) = &view.default_class
    {
        let mut after = (**claim).clone();
        after.spec.get_or_insert_default().storage_class_name = Some(class.key().name);
        write(plan, Action::update(&**claim, &after), "there is a default class now");
        return;
    }
    if waits && claim.annotation(SELECTED_NODE).is_none() {
        let (reason, text) = match view.waiting_pods.as_slice() {
            [] => {
                ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned())
            }
            [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
        };
        tell(plan, claim, Gravity::Normal, reason, text);
    } else if !claim_class(claim).is_empty() {
        provision(view, plan);
        return;
    } else {
        let text = "no persistent volumes available for this claim and no storage class is set";
        tell(plan, claim, Gravity::Normal, "FailedBinding", text.to_owned());
    }
    pending(claim, plan);
}

/// Somebody shall make a volume for it.
fn provision(view: &View, plan: &mut Plan) {
    let claim = &view.claim;
    let Some(class) = &view.class else {
        let text = format!("storageclass.storage.k8s.io {:?} not found", claim_class(claim));
        tell(plan, claim, Gravity::Warning, "ProvisioningFailed", text);
        return;
    };
    let name = &class.provisioner;
    if name.starts_with("kubernetes.io/") {
        // Those that were built into Kubernetes once.
        let text = format!("no volume plugin matched name: {name}");
        tell(plan, claim, Gravity::Warning, "ProvisioningFailed", text);
        return;
    }
    let mut after = (**claim).clone();
    let annotations = after.metadata.annotations.get_or_insert_default();
    for annotation in PROVISIONER {
        annotations.insert(annotation.to_owned(), name.clone());
    }
    write(plan, Action::update(&**claim, &after), "its class has a provisioner");
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{name}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    tell(plan, claim, Gravity::Normal, "ExternalProvisioning", text);
}

/// It takes one volume only.
fn named(view: &View, plan: &mut Plan) {
    let claim = &view.claim;
    let Some(volume) = &view.volume else { return pending(claim, plan) };
    let name = volume.key().name;
    if claim_reference(volume).is_none() {
        match matching::check(claim, volume) {
            Ok(()) => bind(claim, volume, plan),
            Err(why) => {
                let text = format!("Cannot bind to requested volume {name:?}: {why}");
                tell(plan, claim, Gravity::Warning, "VolumeMismatch", text);
                pending(claim, plan);
            }
        }
    } else if is_for(volume, claim) {
        bind(claim, volume, plan);
    } else {
        let text = format!("volume {name:?} already bound to a different claim.");
        tell(plan, claim, Gravity::Warning, "FailedBinding", text);
        if claim.annotation(BOUND_BY_CONTROLLER).is_none() {
            pending(claim, plan);
        }
    }
}

/// It was bound once: it has its volume, or has lost it for ever.
fn bound_before(view: &View, plan: &mut Plan) {
    let claim = &view.claim;
    if volume_name(claim).is_empty() {
        let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", text, plan);
    }
    let Some(volume) = &view.volume else {
        let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", text, plan);
    };
    match claim_reference(volume) {
        Some(reference) if reference.uid.as_deref() != Some(claim.uid()) => {
            let text = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost(claim, "ClaimMisbound", text, plan);
        }
        _ => bind(claim, volume, plan),
    }
}

/// The next writes of a bind: the volume first, for it can be bound by one only; then its phase and the claim; then the claim's
/// phase.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    if let Some(update) = bind_volume(claim, volume) {
        return plan.then(update);
    }
    super::volume::set_phase(volume, "Bound", "", plan);
    let mut after = claim.clone();
    let name = volume.key().name;
    if volume_name(claim) != name {
        after.spec.get_or_insert_default().volume_name = Some(name);
        annotate(&mut after, BOUND_BY_CONTROLLER);
    }
    annotate(&mut after, BIND_COMPLETED);
    match Action::update(claim, &after) {
        Some(update) => plan.then(update.because("its volume is bound to it")),
        None => set_status(claim, "Bound", Some(volume), plan),
    }
}

fn annotate(claim: &mut PersistentVolumeClaim, annotation: &str) {
    let annotations = claim.metadata.annotations.get_or_insert_default();
    annotations.entry(annotation.to_owned()).or_insert_with(|| "yes".to_owned());
}

/// The volume is made the claim's; nothing when it is already.
fn bind_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Planned> {
    let mut after = volume.clone();
    if !is_for(volume, claim) {
        let annotations = after.metadata.annotations.get_or_insert_default();
        annotations.entry(BOUND_BY_CONTROLLER.to_owned()).or_insert_with(|| "yes".to_owned());
    }
    let reference = claim_reference(volume);
    if !is_for(volume, claim) || reference.and_then(|it| it.uid.as_deref()) != Some(claim.uid()) {
        after.spec.get_or_insert_default().claim_ref = Some(claim.reference());
    }
    Some(Action::update(volume, &after)?.because("it is bound to a claim"))
}

fn pending(claim: &PersistentVolumeClaim, plan: &mut Plan) {
    set_status(claim, "Pending", None, plan);
}

fn lost(claim: &PersistentVolumeClaim, reason: &'static str, text: &str, plan: &mut Plan) {
    if claim_phase(claim) != "Lost" {
        tell(plan, claim, Gravity::Warning, reason, text.to_owned());
        set_status(claim, "Lost", None, plan);
    }
}

fn set_status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
    plan: &mut Plan,
) {
    let before = claim.status.clone().unwrap_or_default();
    let became = before.phase.as_deref() != Some(phase);
    let mut after = PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..before.clone() };
    match volume.and_then(|volume| Some((volume, volume.spec.as_ref()?))) {
        None => {
            after.access_modes = None;
            after.capacity = None;
            after.current_volume_attributes_class_name = None;
        }
        Some((volume, spec)) => {
            after.access_modes.clone_from(&spec.access_modes);
            // Once bound, a difference may be meant: the file system may be smaller than its device.
            let told = before.capacity.as_ref().and_then(|amounts| amounts.get("storage"));
            if became && told.is_none_or(|told| quantity(Some(told)) != capacity(volume)) {
                after.capacity.clone_from(&spec.capacity);
            }
            if phase == "Bound" && before.phase.as_deref() == Some("Pending") {
                after.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
            }
        }
    }
    let after = PersistentVolumeClaim { status: Some(after), ..claim.clone() };
    write(plan, Action::update_status(claim, &after), "its phase has changed");
}
