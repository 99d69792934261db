//! What a pass over a namespace's content left, and what follows. A decision.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::discovery::Collection;
use crate::pods;

/// How long finalizers are expected to take, in seconds.
const FINALIZERS_SECONDS: i64 = 15;

/// What a pass left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leftovers {
    /// What the API serves was not to be learned, or not whole.
    pub(super) discovery: Option<String>,
    /// Names of groups and versions that cannot be read.
    pub(super) unreadable: Option<String>,
    /// What went wrong with content.
    pub(super) failures: Vec<String>,
    /// How many objects are still there, by `resource.group`.
    pub(super) remaining: BTreeMap<String, usize>,
    /// How many of them have a finalizer, by its name.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// In so many seconds they may be gone; zero is nothing to wait for.
    pub(super) estimate: i64,
}

/// What is still there of one collection after it was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// The finalizers of each object that is there.
    pub(super) objects: Vec<Vec<String>>,
    /// In so many seconds they may end by themselves.
    pub(super) estimate: i64,
}

impl Leftovers {
    /// A collection was deleted.
    pub(super) fn add(&mut self, collection: &Collection, namespace: &str, rest: Result<Rest, String>) {
        let rest = match rest {
            Ok(rest) => rest,
            Err(problem) => return self.failures.push(problem),
        };
        if rest.objects.is_empty() {
            return;
        }
        let name = format!("{}.{}", collection.resource, collection.group);
        *self.remaining.entry(name).or_default() += rest.objects.len();
        let held = rest.objects.iter().any(|finalizers| !finalizers.is_empty());
        for finalizer in rest.objects.into_iter().flatten() {
            *self.finalizers.entry(finalizer).or_default() += 1;
        }
        let estimate = match rest.estimate {
            0 if held => FINALIZERS_SECONDS,
            // Nothing holds it, and still it is there.
            0 => {
                return self.failures.push(format!(
                    "unexpected items still remain in namespace: {namespace} for gvr: {collection}"
                ));
            }
            estimate => estimate,
        };
        self.estimate = self.estimate.max(estimate);
    }

    /// What is wrong, if anything: then it is tried again.
    pub(super) fn problem(&self) -> Option<String> {
        let all: Vec<_> =
            self.discovery.iter().chain(&self.unreadable).chain(&self.failures).map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// In how many seconds these pods have ended by themselves, if that is later than the time that has passed since their
/// namespace was deleted.
pub(super) fn estimate<'a>(pods: impl IntoIterator<Item = &'a Pod>, passed: i64) -> i64 {
    let running = pods.into_iter().filter(|pod| !pods::is_terminal(pod));
    let grace = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let longest = running.filter_map(grace).max().unwrap_or_default().max(0);
    if passed >= longest { 0 } else { longest }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::discovery::served;

    fn pod(phase: &str, grace: Option<i64>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"}, "status": {"phase": phase},
            "spec": {"containers": [], "terminationGracePeriodSeconds": grace},
        }))
        .unwrap()
    }

    #[test]
    fn the_pod_with_the_longest_grace_is_waited_for() {
        let pods = [pod("Running", Some(30)), pod("Pending", Some(45)), pod("Failed", Some(600))];
        assert_eq!(estimate(&pods, 5), 45);
        assert_eq!(estimate(&pods, 45), 0);
        assert_eq!(estimate(&[pod("Running", None)], 0), 0);
        assert_eq!(estimate(&[], 0), 0);
    }

    #[test]
    fn what_remains_is_waited_for_or_told() {
        let served =
            served(&[("v1", "pods", "Pod", true), ("apps/v1", "deployments", "Deployment", true)], &[]);
        let [pods, deployments] = &served.preferred()[..] else { panic!("two") };
        let check = |rests: Vec<(&Collection, Result<Rest, String>)>, estimate, problem: Option<&str>| {
            let mut leftovers = Leftovers::default();
            for (collection, rest) in rests {
                leftovers.add(collection, "ns", rest);
            }
            assert_eq!((leftovers.estimate, leftovers.problem().as_deref()), (estimate, problem));
            leftovers
        };
        let rest = |objects: &[&[&str]], estimate| {
            let objects =
                objects.iter().map(|all| all.iter().map(|one| (*one).to_owned()).collect()).collect();
            Ok(Rest { objects, estimate })
        };
        check(vec![(pods, rest(&[], 30))], 0, None);
        check(vec![(pods, rest(&[&[]], 30))], 30, None);
        let odd = "unexpected items still remain in namespace: ns for gvr: /v1, Resource=pods";
        check(vec![(pods, rest(&[&[]], 0))], 0, Some(odd));
        let told = check(
            vec![(pods, rest(&[&["a", "b"], &["a"]], 0)), (deployments, rest(&[&["a"], &[]], 0))],
            15,
            None,
        );
        assert_eq!(told.remaining, BTreeMap::from([("pods.".into(), 2), ("deployments.apps".into(), 2)]));
        assert_eq!(told.finalizers, BTreeMap::from([("a".into(), 3), ("b".into(), 1)]));
        check(vec![(pods, Err("busy".into())), (deployments, rest(&[&["a"]], 0))], 15, Some("busy"));
    }
}
