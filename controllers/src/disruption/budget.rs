//! What a budget says of itself. A decision; time is handed in. When it cannot be made, no eviction is allowed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::expected::{Expected, expected};
use crate::kind::Object as _;
use crate::label_selector_text;
use crate::plan::{Action, Plan, Told};
use crate::pods;

/// So long a pod whose eviction was allowed may still be there without having been deleted.
const DELETION_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// The condition of a budget.
const ALLOWED: &str = "DisruptionAllowed";

type Disrupted = BTreeMap<String, Time>;

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let about = view.budget.reference();
    tell_contested(view, &mut plan);
    let (pods, expected) = match counted(view, &about, &mut plan) {
        Ok(counted) => counted,
        Err(why) => {
            fail_safe(&view.budget, &why, now, &mut plan);
            return plan;
        }
    };
    if expected.unmanaged {
        let selector = view.budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let selector = label_selector_text::text(selector);
        let text = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the \
             status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
             pods please set \".spec.minAvailable\" field of the PDB to an integer value."
        );
        note(&mut plan, about, Gravity::Warning, "UnmanagedPods", text);
    }
    let before = view.budget.status.clone().unwrap_or_default();
    let disrupted = disrupted(&view.budget, &before, pods, now, &mut plan);
    let healthy = healthy(pods, &disrupted, now);
    let after = status(&view.budget, &before, &expected, healthy, disrupted, now);
    write(&view.budget, after, &mut plan);
    plan
}

fn note(plan: &mut Plan, regarding: ObjectReference, gravity: Gravity, reason: &'static str, text: String) {
    plan.notes.push(Told { regarding, gravity, reason, text });
}

/// Pods of several budgets cannot be evicted at all; one of the budgets tells it.
fn tell_contested(view: &View, plan: &mut Plan) {
    for pod in &view.contested {
        let key = pod.key();
        let name = view.budget.key().name;
        let text = format!(
            "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {name:?} arbitrarily.",
            key.namespace, key.name
        );
        note(plan, pod.reference(), Gravity::Warning, "MultiplePodDisruptionBudgets", text);
    }
}

fn counted<'a>(
    view: &'a View,
    about: &ObjectReference,
    plan: &mut Plan,
) -> Result<(&'a [Arc<Pod>], Expected), String> {
    let pods = match &view.pods {
        Ok(pods) => pods,
        Err(why) => {
            note(plan, about.clone(), Gravity::Warning, "NoPods", format!("Failed to get pods: {why}"));
            return Err(why.clone());
        }
    };
    if pods.is_empty() {
        note(plan, about.clone(), Gravity::Normal, "NoPods", "No matching pods found".to_owned());
    }
    let expected = expected(view, pods).inspect_err(|why| {
        let text = format!("Failed to calculate the number of expected pods: {why}");
        note(plan, about.clone(), Gravity::Warning, "CalculateExpectedPodCountFailed", text);
    })?;
    Ok((pods, expected))
}

/// When the eviction that was allowed then does not count any more.
fn deadline(since: &Time) -> Timestamp {
    since.0.checked_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX)
}

/// Pods whose eviction was allowed, until somebody has deleted them; not for ever. One that is not known may be gone, or so new that
/// this cache has not heard of it: forgotten now, it would count as healthy when it is heard of, and another one could go in its
/// place. (Kubernetes forgets it.)
fn disrupted(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) -> Disrupted {
    let mut kept = Disrupted::new();
    let pods: HashMap<String, &Arc<Pod>> = pods.iter().map(|pod| (pod.key().name, pod)).collect();
    for (name, since) in before.disrupted_pods.iter().flatten() {
        let pod = pods.get(name);
        if pod.is_some_and(|pod| pod.is_deleting() || is_newer(pod, since)) {
            continue;
        }
        let left = deadline(since).duration_since(now);
        if !left.is_negative() {
            // The moment itself still counts.
            plan.look_again_after(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1));
            kept.insert(name.clone(), since.clone());
        } else if let Some(pod) = pod {
            let key = budget.key();
            let text =
                format!("Pod was expected by PDB {}/{} to be deleted but it wasn't", key.namespace, key.name);
            note(plan, pod.reference(), Gravity::Warning, "NotDeleted", text);
        }
    }
    kept
}

/// Whether it is another pod of the same name, which came after the eviction.
fn is_newer(pod: &Pod, evicted: &Time) -> bool {
    pod.metadata.creation_timestamp.as_ref().is_some_and(|created| created.0 > evicted.0)
}

fn healthy(pods: &[Arc<Pod>], disrupted: &Disrupted, now: Timestamp) -> i32 {
    let counts = |pod: &&Arc<Pod>| {
        let leaves = disrupted.get(&pod.key().name).is_some_and(|since| deadline(since) > now);
        !pod.is_deleting() && !leaves && pods::is_ready(pod)
    };
    i32::try_from(pods.iter().filter(counts).count()).unwrap_or(i32::MAX)
}

fn status(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    expected: &Expected,
    healthy: i32,
    disrupted: Disrupted,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let surplus = healthy.saturating_sub(expected.healthy);
    // A budget that matches no pods yet allows nothing, so that its first ones are safe.
    let allowed = if expected.pods <= 0 { 0 } else { surplus.max(0) };
    let generation = budget.metadata.generation;
    let (word, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    PodDisruptionBudgetStatus {
        conditions: Some(with_condition(before, word, reason, "", generation, now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected.pods),
        observed_generation: generation,
    }
}

fn with_condition(
    before: &PodDisruptionBudgetStatus,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let made = Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == ALLOWED) {
        Some(there) => {
            let since = if there.status == status { there.last_transition_time.clone() } else { Time(now) };
            *there = Condition { last_transition_time: since, ..made };
        }
        None => conditions.push(made),
    }
    conditions
}

/// Nothing may be evicted, because it is not known what may.
fn fail_safe(budget: &PodDisruptionBudget, why: &str, now: Timestamp, plan: &mut Plan) {
    let before = budget.status.clone().unwrap_or_default();
    let generation = before.observed_generation;
    let after = PodDisruptionBudgetStatus {
        conditions: Some(with_condition(&before, "False", "SyncFailed", why, generation, now)),
        disruptions_allowed: Some(0),
        // The API wants all of them to be there.
        current_healthy: Some(before.current_healthy.unwrap_or_default()),
        desired_healthy: Some(before.desired_healthy.unwrap_or_default()),
        expected_pods: Some(before.expected_pods.unwrap_or_default()),
        ..before
    };
    write(budget, after, plan);
}

fn write(budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus, plan: &mut Plan) {
    let after = PodDisruptionBudget { status: Some(status), ..budget.clone() };
    if let Some(update) = Action::update_status(budget, &after) {
        plan.then(update.because("what may be evicted has changed"));
    }
}
