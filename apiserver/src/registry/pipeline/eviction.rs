//! Eviction: a deletion of a pod that waits its turn when too many pods of its kind are down (`policy/v1`). The budget is
//! charged by a guarded write before the pod goes, so that two servers never spend it twice.

use std::sync::Arc;

use barque_api::kind::{GroupResource, GroupVersionKind, GroupVersionResource};
use barque_api::labels::Selector;
use barque_api::managed_fields::Versions;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::{Map, Value, json};

use super::update::Changed;
use super::{Asked, DeleteAnswer, Pipeline, Request, attributes, group_resource};
use crate::admission::{Operation, Told};
use crate::registry::deletion::DeleteOptions;
use crate::storage::Storage;

/// How often an eviction is tried again that somebody else's change of a budget got in the way of.
const TRIES: usize = 10;
/// More pods than this on their way out are a fault of whoever counts them.
const DISRUPTED_MAX: usize = 2000;

/// What a budget says about an eviction.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// It may happen, and the budget does not count it.
    Free,
    /// It may happen when this status was stored.
    Charge(Value),
}

impl<S: Storage> Pipeline<S> {
    /// Deletes the request's pod, if its budget allows. Admission is asked about the `Eviction`, and not about the deletion;
    /// `read` reads the options of that from it.
    ///
    /// # Errors
    /// 429 while it does not; otherwise as a deletion.
    pub async fn evict(
        &self,
        request: &Request<'_>,
        mut eviction: Value,
        read: impl Fn(&Value) -> Result<DeleteOptions, Status>,
        told: &mut Told,
    ) -> Result<(), Status> {
        let kind = GroupVersionKind::new("policy", "v1", "Eviction");
        let asked = Asked { operation: Operation::Create, kind: &kind, name: request.name, old: None };
        self.admission.admit(&attributes(request, asked), &mut eviction, told).await?;
        let options = read(&eviction)?;
        for _ in 0..TRIES {
            let collection = self.collection(request)?;
            let pod = self.current(request, &collection).await?;
            let pod = pod.ok_or_else(|| Status::not_found(&group_resource(request), request.name))?.object;
            if !is_exempt(&pod) {
                let budgets = GroupResource::new("policy", "poddisruptionbudgets");
                let all = self.collections.objects(&budgets, request.namespace).await?;
                let matching: Vec<&Value> = all.iter().filter(|budget| covers(budget, &pod)).collect();
                match matching.as_slice() {
                    [] => {}
                    [budget] => {
                        if !self.charge(request, Metadata::of(budget).name(), &pod, told).await? {
                            continue;
                        }
                    }
                    _ => {
                        return Err(Status::internal(
                            "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                             does not support.",
                        ));
                    }
                }
            }
            let mut guarded = options.clone();
            guarded.uid.get_or_insert_with(|| Metadata::of(&pod).uid().to_owned());
            let plain = Request { subresource: "", ..*request };
            return match self.remove(&plain, &guarded, None).await? {
                DeleteAnswer::Gone(_) | DeleteAnswer::Going(_) => Ok(()),
            };
        }
        Err(Status::too_many_requests("too many evictions at once, try again", 10))
    }

    /// Charges the budget; false when somebody else got in the way.
    async fn charge(
        &self,
        request: &Request<'_>,
        name: &str,
        pod: &Value,
        told: &mut Told,
    ) -> Result<bool, Status> {
        let catalog = self.collections.catalog();
        let budgets = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
        let endpoint = catalog.named(&budgets).ok_or_else(Status::no_such_path)?;
        let served = Arc::clone(&endpoint.served);
        let write = Request { served: &served, name, subresource: "status", ..*request };
        let mut free = false;
        let change = |budget: Option<&Value>, _: &dyn Versions| {
            let budget = budget.ok_or_else(|| Status::not_found(&group_resource(&write), name))?;
            let mut object = budget.clone();
            match judge(budget, pod, request.now)? {
                Verdict::Free => free = true,
                Verdict::Charge(status) => object["status"] = status,
            }
            Ok(Changed { object, owned: false })
        };
        match self.change(&write, true, change, told).await {
            Ok(_) => Ok(true),
            Err(status) if status.reason == barque_api::status::Reason::Conflict => Ok(false),
            Err(status) => Err(status),
        }
    }
}

/// Whether a pod may go whatever its budget says: it does not serve any more, or not yet.
fn is_exempt(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    ["Succeeded", "Failed", "Pending"].contains(&phase) || Metadata::of(pod).is_deleting()
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let Some(selector) = budget.pointer("/spec/selector") else { return false };
    let labels = Metadata::of(pod).labels().cloned().unwrap_or_default();
    Selector::of_object(Some(selector)).is_ok_and(|selector| selector.matches(&labels))
}

/// Whether a running pod may be evicted, and what the budget's status is then.
///
/// # Errors
/// 429 with the cause `DisruptionBudget` when not now.
fn judge(budget: &Value, pod: &Value, now: Time) -> Result<Verdict, Status> {
    const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let name = Metadata::of(budget).name();
    let status = &budget["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let refused =
        |cause: String| Status::too_many_requests(REFUSAL, 0).because("DisruptionBudget", cause, "");
    let is_ready = pod.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|conditions| {
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    });
    if !is_ready {
        let always =
            budget.pointer("/spec/unhealthyPodEvictionPolicy").and_then(Value::as_str) == Some("AlwaysAllow");
        let healthy = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
        if always || healthy {
            return Ok(Verdict::Free);
        }
    }
    if count("observedGeneration") < Metadata::of(budget).generation() {
        return Err(refused(format!("The disruption budget {name} is still being processed by the server."))
            .retry_after(10));
    }
    let allowed = count("disruptionsAllowed");
    let resource = GroupResource::new("policy", "poddisruptionbudgets");
    if allowed < 0 {
        return Err(Status::forbidden(&resource, name, "pdb disruptions allowed is negative"));
    }
    let disrupted = status["disruptedPods"].as_object().cloned().unwrap_or_else(Map::new);
    if disrupted.len() > DISRUPTED_MAX {
        return Err(Status::forbidden(
            &resource,
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(refused(format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        )));
    }
    let mut status = status.clone();
    let mut disrupted = disrupted;
    disrupted.insert(Metadata::of(pod).name().to_owned(), now.to_string().into());
    status["disruptionsAllowed"] = json!(allowed - 1);
    status["disruptedPods"] = Value::Object(disrupted);
    Ok(Verdict::Charge(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64, observed: i64) -> Value {
        json!({
            "metadata": {"name": "b", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"disruptionsAllowed": allowed, "observedGeneration": observed,
                "desiredHealthy": 2, "currentHealthy": 2},
        })
    }

    fn pod(ready: &str) -> Value {
        json!({"metadata": {"name": "p", "labels": {"app": "web"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn a_budget_is_charged_until_it_is_spent() {
        let now = Time::of_unix(0);
        let Ok(Verdict::Charge(status)) = judge(&budget(1, 2), &pod("True"), now) else { panic!() };
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["disruptedPods"], json!({"p": "1970-01-01T00:00:00Z"}));
        let spent = judge(&budget(0, 2), &pod("True"), now).unwrap_err();
        assert_eq!((spent.reason.code(), spent.details.causes[0].reason.as_str()), (429, "DisruptionBudget"));
        let cause = "The disruption budget b needs 2 healthy pods and has 2 currently";
        assert_eq!(spent.details.causes[0].message, cause);
        let old = judge(&budget(1, 1), &pod("True"), now).unwrap_err();
        assert_eq!((old.reason.code(), old.details.retry_after_seconds), (429, 10));
        assert_eq!(judge(&budget(-1, 2), &pod("True"), now).unwrap_err().reason.code(), 403);
        assert_eq!(judge(&budget(0, 2), &pod("False"), now), Ok(Verdict::Free));
    }

    #[test]
    fn pods_that_do_not_serve_are_exempt_and_labels_tell_which_budget_counts() {
        assert!(is_exempt(&json!({"status": {"phase": "Pending"}})) && !is_exempt(&pod("True")));
        assert!(covers(&budget(1, 2), &pod("True")));
        assert!(!covers(&budget(1, 2), &json!({"metadata": {"labels": {"app": "db"}}})));
    }
}
