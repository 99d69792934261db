//! What is done about a volume: it is free, bound, released, or given back. A decision. What it holds is never touched here; who made
//! it deletes it.

use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::Value;

use super::{
    BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONED_BY, claim_key, claim_reference, matching, volume_name,
    volume_phase,
};
use crate::kind::Object as _;
use crate::plan::{Action, Plan, Told, Verdict};
use crate::question::{Answers, Question};

/// One volume and the claim that it is for.
pub(crate) struct View {
    pub(super) volume: Arc<PersistentVolume>,
    /// The claim of that name, as the cache has it.
    pub(super) claim: Option<Arc<PersistentVolumeClaim>>,
    pub(super) answers: Answers,
}

fn is_given_back(volume: &PersistentVolume) -> bool {
    matches!(volume_phase(volume), "Released" | "Failed")
}

fn uid(volume: &PersistentVolume) -> Option<&str> {
    claim_reference(volume)?.uid.as_deref().filter(|uid| !uid.is_empty())
}

/// A volume is given back only when the API says itself that its claim is gone: the cache may not have heard of a new one.
pub(super) fn questions(view: &View) -> Vec<Question> {
    let question = ask_for_claim(view);
    question.filter(|question| view.answers.to(question).is_none()).into_iter().collect()
}

fn ask_for_claim(view: &View) -> Option<Question> {
    let uid = uid(&view.volume)?;
    let known = match &view.claim {
        Some(claim) => claim.uid() == uid,
        None => is_given_back(&view.volume),
    };
    let key = claim_key(&view.volume)?;
    let path = ["api", "v1", "namespaces", &key.namespace, "persistentvolumeclaims", &key.name];
    (!known).then(|| Question::get(path))
}

/// The claim that the volume is for, if it is still that one. It may be that nobody can tell.
fn claim(view: &View, uid: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, ()> {
    let Some(question) = ask_for_claim(view) else { return Ok(view.claim.clone()) };
    match view.answers.to(&question) {
        Some(Ok(found)) => {
            let claim: PersistentVolumeClaim = serde_json::from_value(found.clone()).map_err(|_| ())?;
            Ok((claim.uid() == uid).then(|| Arc::new(claim)))
        }
        Some(Err(failure)) if failure.verdict == Verdict::Gone => Ok(None),
        _ => Err(()),
    }
}

pub(super) fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    let volume = &view.volume;
    let Some(uid) = uid(volume) else {
        // Free, or reserved for a claim that has not come.
        set_phase(volume, "Available", "", &mut plan);
        return plan;
    };
    let Ok(claim) = claim(view, uid) else {
        plan.look_again_after(std::time::Duration::from_secs(5));
        return plan;
    };
    match claim {
        None => give_back(volume, &mut plan),
        Some(claim) if volume_name(&claim).is_empty() => {
            if matching::modes_differ(&claim, volume) {
                tell_mismatch(volume, &claim, &mut plan);
            }
            // Else the claim's own pass goes on with it.
        }
        Some(claim) if volume_name(&claim) == volume.key().name => set_phase(volume, "Bound", "", &mut plan),
        Some(_) => {
            let policy =
                volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
            if volume.annotation(PROVISIONED_BY).is_some() && policy == Some("Delete") {
                // It was made for the claim, which has got another one.
                give_back(volume, &mut plan);
            } else {
                unbind(volume, &mut plan);
            }
        }
    }
    plan
}

fn tell_mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let (volume_name, claim_name) = (volume.key().name, claim.key().name);
    let warning =
        |regarding, text| Told { regarding, gravity: Gravity::Warning, reason: "VolumeMismatch", text };
    plan.notes.push(warning(
        volume.reference(),
        format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim_name:?} due to incompatible volumeMode."),
    ));
    plan.notes.push(warning(
        claim.reference(),
        format!("Cannot bind PersistentVolume {volume_name:?} to requested PersistentVolumeClaim due to incompatible volumeMode."),
    ));
}

/// Its claim is gone.
fn give_back(volume: &PersistentVolume, plan: &mut Plan) {
    if !is_given_back(volume) {
        // What becomes of it then follows from that.
        return set_phase(volume, "Released", "", plan);
    }
    if volume.annotation(MIGRATED_TO).is_some_and(|to| !to.is_empty()) {
        return;
    }
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    match policy.unwrap_or("Retain") {
        "Retain" => {}
        "Delete" => delete(volume, plan),
        "Recycle" => fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!", plan),
        _ => {
            let text = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            fail(volume, "VolumeUnknownReclaimPolicy", text, plan);
        }
    }
}

/// Who made it deletes it; what nobody made, nobody can.
fn delete(volume: &PersistentVolume, plan: &mut Plan) {
    let by = volume.annotation(PROVISIONED_BY).unwrap_or_default();
    let is_csi = volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some());
    if is_csi || (!by.is_empty() && !by.starts_with("kubernetes.io/")) {
        return;
    }
    let text = if by.is_empty() {
        let name = volume.key().name;
        format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched")
    } else {
        format!("no deletable volume plugin matched name: {by}")
    };
    fail(volume, "VolumeFailedDelete", &text, plan);
}

fn fail(volume: &PersistentVolume, reason: &'static str, text: &str, plan: &mut Plan) {
    if volume_phase(volume) != "Failed" {
        let regarding = volume.reference();
        plan.notes.push(Told { regarding, gravity: Gravity::Warning, reason, text: text.to_owned() });
        set_phase(volume, "Failed", text, plan);
    }
}

/// The claim that it was for has another one: it is free again, or reserved as a user wanted it.
fn unbind(volume: &PersistentVolume, plan: &mut Plan) {
    let mut after = volume.clone();
    let spec = after.spec.get_or_insert_default();
    if volume.annotation(BOUND_BY_CONTROLLER).is_some() {
        spec.claim_ref = None;
        if let Some(annotations) = &mut after.metadata.annotations {
            annotations.remove(BOUND_BY_CONTROLLER);
        }
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
    }
    if let Some(update) = Action::update(volume, &after) {
        plan.then(update.because("its claim is bound to another volume"));
    }
}

/// Its phase is this.
pub(super) fn set_phase(volume: &PersistentVolume, phase: &str, message: &str, plan: &mut Plan) {
    if volume_phase(volume) == phase {
        return;
    }
    let mut after = volume.clone();
    let status = after.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = (!message.is_empty()).then(|| message.to_owned());
    if let Some(update) = Action::update_status(volume, &after) {
        plan.then(update.because("its phase has changed"));
    }
}

/// An answer about a claim.
pub(super) fn learn(view: &mut View, question: Question, answer: Result<Value, crate::plan::Failure>) {
    view.answers.learn(question, answer);
}
