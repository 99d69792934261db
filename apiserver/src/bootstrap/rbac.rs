//! How roles and bindings of the start are kept: what is missing comes back, what was added stays, and who says so is left
//! alone (Kubernetes' reconciliation without removing). Must never take a permission away.

use serde_json::{Value, json};

use super::roles::AUTOUPDATE;
use super::{Plan, add_missing, annotation};
use crate::authorization::escalation::uncovered;
use crate::authorization::rules::Rule as Permission;

fn is_left_alone(existing: &Value) -> bool {
    annotation(existing, AUTOUPDATE) == Some("false")
}

/// A role as it should be.
pub(super) fn role(expected: &Value, existing: &Value) -> Value {
    let mut role = existing.clone();
    if is_left_alone(existing) {
        return role;
    }
    add_missing(&mut role, expected, "labels");
    add_missing(&mut role, expected, "annotations");
    let collects = |role: &Value| role.get("aggregationRule").is_some_and(Value::is_object);
    // The rules of one that collects are not its own.
    if !(collects(expected) && collects(existing)) {
        let missing = uncovered(&Permission::all_of(existing), &Permission::all_of(expected));
        append(&mut role, &["rules"], missing.iter().map(Permission::to_value).collect());
    }
    let path = ["aggregationRule", "clusterRoleSelectors"];
    let missing = list(expected, &path).into_iter().filter(|one| !list(existing, &path).contains(one));
    append(&mut role, &path, missing.collect());
    role
}

/// What to do about a binding.
pub(super) fn plan_binding(expected: &Value, existing: &Value) -> Plan {
    if is_left_alone(existing) {
        return Plan::Nothing;
    }
    if expected["roleRef"] != existing["roleRef"] {
        return Plan::Recreate(expected.clone());
    }
    let mut binding = existing.clone();
    add_missing(&mut binding, expected, "labels");
    add_missing(&mut binding, expected, "annotations");
    let there = list(existing, &["subjects"]);
    let missing = list(expected, &["subjects"]).into_iter().filter(|one| !there.contains(one));
    append(&mut binding, &["subjects"], missing.collect());
    if binding == *existing { Plan::Nothing } else { Plan::Update(binding) }
}

fn list(object: &Value, path: &[&str]) -> Vec<Value> {
    let found = path.iter().try_fold(object, |value, field| value.get(field));
    found.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn append(object: &mut Value, path: &[&str], values: Vec<Value>) {
    if values.is_empty() {
        return;
    }
    let mut place = object;
    for field in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*field];
    }
    match place.as_array_mut() {
        Some(list) => list.extend(values),
        None => *place = values.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::one;
    use super::super::{Plan, plan};
    use super::*;

    #[test]
    fn rules_that_are_missing_come_back_and_others_stay() {
        let desired = one("clusterroles", "system:auth-delegator");
        let mut existing = desired.object.clone();
        existing["metadata"]["resourceVersion"] = "7".into();
        existing["metadata"]["labels"] = json!({"mine": "yes"});
        existing["rules"] = json!([
            {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        ]);
        let Plan::Update(role) = plan(&desired, Some(&existing)) else { panic!() };
        let review = json!({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"]});
        assert_eq!(role["rules"], json!([existing["rules"][0], existing["rules"][1], review]));
        assert_eq!(role["metadata"]["resourceVersion"], "7");
        let labels = json!({"mine": "yes", "kubernetes.io/bootstrapping": "rbac-defaults"});
        assert_eq!(role["metadata"]["labels"], labels);
        assert_eq!(plan(&desired, Some(&role)), Plan::Nothing);
    }

    #[test]
    fn a_rule_that_covers_more_is_enough() {
        let desired = one("clusterroles", "system:auth-delegator");
        let mut existing = desired.object.clone();
        existing["rules"] = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        assert_eq!(plan(&desired, Some(&existing)), Plan::Nothing);
    }

    #[test]
    fn what_is_not_to_be_updated_is_left_alone() {
        for (resource, name) in
            [("clusterroles", "system:auth-delegator"), ("clusterrolebindings", "system:discovery")]
        {
            let desired = one(resource, name);
            let mut existing = desired.object.clone();
            existing["metadata"]["annotations"][AUTOUPDATE] = "false".into();
            existing["rules"] = json!([]);
            existing["subjects"] = json!([]);
            existing["roleRef"]["name"] = "other".into();
            assert_eq!(plan(&desired, Some(&existing)), Plan::Nothing, "{resource}");
        }
    }

    #[test]
    fn the_rules_that_a_role_collected_are_not_touched_but_its_selectors_are() {
        let desired = one("clusterroles", "view");
        let mut existing = desired.object.clone();
        existing["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        assert_eq!(plan(&desired, Some(&existing)), Plan::Nothing);
        let mine = json!({"matchLabels": {"mine": "yes"}});
        existing["aggregationRule"] = json!({"clusterRoleSelectors": [mine]});
        let Plan::Update(role) = plan(&desired, Some(&existing)) else { panic!() };
        let selectors = &role["aggregationRule"]["clusterRoleSelectors"];
        assert_eq!(selectors[0], mine);
        assert_eq!(selectors[1], desired.object["aggregationRule"]["clusterRoleSelectors"][0]);
        assert_eq!(role["rules"], existing["rules"]);
    }

    #[test]
    fn subjects_come_back_and_a_binding_of_another_role_is_made_anew() {
        let desired = one("clusterrolebindings", "system:public-info-viewer");
        let mut existing = desired.object.clone();
        let eva = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eva"});
        existing["subjects"] = json!([desired.object["subjects"][1], eva]);
        let Plan::Update(binding) = plan(&desired, Some(&existing)) else { panic!() };
        let expected = json!([desired.object["subjects"][1], eva, desired.object["subjects"][0]]);
        assert_eq!(binding["subjects"], expected);
        existing["roleRef"]["name"] = "cluster-admin".into();
        assert_eq!(plan(&desired, Some(&existing)), Plan::Recreate(desired.object.clone()));
    }
}
