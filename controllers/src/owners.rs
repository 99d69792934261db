//! Who controls what: objects that match a selector and have no controller are adopted, those that do not match any more are let
//! go. A decision; must never take an object from another controller.

use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::kind::Object;
use crate::plan::{Action, Order, Plan};

/// Objects seen from one owner.
#[derive(Debug)]
pub(crate) struct Claim<K> {
    /// Controlled by the owner, and matching; those that will be adopted too.
    pub(crate) owned: Vec<Arc<K>>,
    /// To be adopted.
    adopt: Vec<Arc<K>>,
    /// To be let go.
    release: Vec<Arc<K>>,
}

/// The selector of an object of the API; nothing when it is not valid, or would match everything.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    let value = serde_json::to_value(selector).ok()?;
    let selector = Selector::of_object(Some(&value)).ok()?;
    (!selector.requirements().is_empty()).then_some(selector)
}

/// Whether an object's labels match.
pub(crate) fn matches<K: Object>(selector: &Selector, object: &K) -> bool {
    selector.matches(&object.meta().labels.as_ref())
}

/// Which of these objects an owner has, takes and lets go. `may_adopt` says more about who is taken.
pub(crate) fn claim<K: Object, Owner: Object>(
    owner: &Owner,
    selector: &Selector,
    objects: &[Arc<K>],
    may_adopt: impl Fn(&K) -> bool,
) -> Claim<K> {
    let mut claim = Claim { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in objects {
        let fits = matches(selector, &**object);
        if object.is_controlled_by(owner.uid()) {
            if fits {
                claim.owned.push(object.clone());
            } else if !owner.is_deleting() {
                claim.release.push(object.clone());
            }
        } else if object.controller().is_none()
            && fits
            && !owner.is_deleting()
            && !object.is_deleting()
            && object.key().namespace == owner.key().namespace
            && may_adopt(object)
        {
            claim.owned.push(object.clone());
            claim.adopt.push(object.clone());
        }
    }
    claim
}

impl<K: Object> Claim<K> {
    /// Adopts and lets go. The owner is asked for past the caches before it adopts: one that has been deleted, or another of
    /// the same name, must not.
    pub(crate) fn plan<Owner: Object>(&self, owner: &Owner, plan: &mut Plan) {
        self.plan_marking(owner, plan, |_, _| {});
    }

    /// Whether nobody is adopted or let go.
    pub(crate) fn is_settled(&self) -> bool {
        self.adopt.is_empty() && self.release.is_empty()
    }

    /// As [`plan`](Self::plan); `mark` changes each object besides, and is told whether it is adopted.
    pub(crate) fn plan_marking<Owner: Object>(
        &self,
        owner: &Owner,
        plan: &mut Plan,
        mark: impl Fn(&mut K, bool),
    ) {
        let release = self.release.iter().filter_map(|object| {
            let mut free = (**object).clone();
            if let Some(owners) = &mut free.meta_mut().owner_references {
                owners.retain(|reference| reference.uid != owner.uid());
            }
            mark(&mut free, false);
            Some(Action::update(&**object, &free)?.because("its labels do not match any more"))
        });
        plan.step(Order::Parallel, release);
        let adopt: Vec<_> = self
            .adopt
            .iter()
            .filter_map(|object| {
                let mut taken = (**object).clone();
                taken.meta_mut().owner_references.get_or_insert_default().push(owner.as_controller());
                mark(&mut taken, true);
                Some(Action::update(&**object, &taken)?.because("its labels match and nobody controls it"))
            })
            .collect();
        if !adopt.is_empty() {
            plan.then(Action::confirm(owner).because("who is deleted adopts nobody"));
            plan.step(Order::Parallel, adopt);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn owner(deleting: bool) -> ReplicaSet {
        let gone = deleting.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {
            "namespace": "ns", "name": "r", "uid": "u", "deletionTimestamp": gone,
        }}))
        .unwrap()
    }

    fn pod(app: &str, owner: Option<&str>, deleting: bool) -> Arc<Pod> {
        let gone = deleting.then_some("2026-01-01T00:00:00Z");
        let owners: Value = owner.map_or(json!([]), |uid| {
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}])
        });
        serde_json::from_value(json!({"metadata": {
            "namespace": "ns", "name": "p", "uid": "pu", "resourceVersion": "1", "labels": {"app": app},
            "ownerReferences": owners, "deletionTimestamp": gone,
        }}))
        .map(Arc::new)
        .unwrap()
    }

    #[test]
    fn who_is_owned_taken_and_let_go() {
        let check = |owner_deleting, pod: Arc<Pod>, expected: (usize, usize, usize)| {
            let selector: Selector = "app=a".parse().unwrap();
            let claim = claim(&owner(owner_deleting), &selector, &[pod], |_| true);
            assert_eq!((claim.owned.len(), claim.adopt.len(), claim.release.len()), expected);
        };
        check(false, pod("a", Some("u"), false), (1, 0, 0));
        check(false, pod("a", Some("u"), true), (1, 0, 0));
        check(false, pod("b", Some("u"), false), (0, 0, 1));
        check(true, pod("b", Some("u"), false), (0, 0, 0));
        check(false, pod("a", Some("other"), false), (0, 0, 0));
        check(false, pod("a", None, false), (1, 1, 0));
        check(false, pod("a", None, true), (0, 0, 0));
        check(true, pod("a", None, false), (0, 0, 0));
        check(false, pod("b", None, false), (0, 0, 0));
    }

    #[test]
    fn an_empty_selector_selects_nobody() {
        assert_eq!(selector(&LabelSelector::default()), None);
    }

    #[test]
    fn adoption_is_confirmed_first_and_changes_nothing_else() {
        let selector: Selector = "app=a".parse().unwrap();
        let pods = [pod("a", None, false)];
        let mut plan = Plan::nothing();
        claim(&owner(false), &selector, &pods, |_| true).plan(&owner(false), &mut plan);
        let actions: Vec<_> = plan.actions().map(|planned| planned.action.clone()).collect();
        assert!(matches!(&actions[0], Action::Confirm { object } if object.uid == "u"));
        let Action::Update { patch, .. } = &actions[1] else { panic!("{actions:?}") };
        assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(patch.as_object().unwrap().len(), 1);
        assert_eq!(patch["metadata"].as_object().unwrap().len(), 1);
    }
}
