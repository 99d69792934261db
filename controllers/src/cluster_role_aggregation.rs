//! Cluster roles that collect the rules of others by labels (`aggregationRule`). Must never collect a role into itself.
//!
//! Barque's API servers do the same as soon as they start; both come to the same rules, and who is second writes nothing.

use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::owners;
use crate::plan::{Action, Plan};

/// The controller of these roles.
pub(crate) struct ClusterRoleAggregation;

/// A role that collects, and all there are.
pub(crate) struct View {
    role: Arc<ClusterRole>,
    all: Vec<Arc<ClusterRole>>,
}

fn collecting(caches: &Caches) -> Vec<Key> {
    let all = caches.of::<ClusterRole>().all();
    all.iter().filter(|role| role.aggregation_rule.is_some()).map(|role| role.key()).collect()
}

impl Controller for ClusterRoleAggregation {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        // They are few, and who collects from whom is not told anywhere.
        watches.mapped::<ClusterRole>(|_, caches| collecting(caches));
        watches.all(collecting);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let roles = caches.of::<ClusterRole>();
        let role = roles.get(key).filter(|role| role.aggregation_rule.is_some())?;
        Some(View { role, all: roles.all() })
    }

    fn plan(&self, view: &View, _: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(rules) = rules(&view.role, &view.all) else { return plan };
        let before = view.role.rules.iter().flatten().cloned().map(plain);
        if !before.eq(rules.iter().cloned()) {
            let mut after = (*view.role).clone();
            after.rules = Some(rules);
            if let Some(update) = Action::update(&*view.role, &after) {
                plan.then(update.because("the roles that it collects have other rules"));
            }
        }
        plan
    }
}

/// The rules of all that a role collects, each once: selector by selector, in each by the names of the roles. Nothing when a
/// selector cannot be read.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let mut rules = Vec::new();
    let selectors = role.aggregation_rule.as_ref().and_then(|rule| rule.cluster_role_selectors.as_ref());
    for selector in selectors.into_iter().flatten() {
        let selector = serde_json::to_value(selector).ok()?;
        let selector = Selector::of_object(Some(&selector)).ok()?;
        // The cache tells them in the order of their names.
        let others = all.iter().filter(|other| other.key() != role.key());
        for other in others.filter(|other| owners::matches(&selector, &***other)) {
            for rule in other.rules.iter().flatten().cloned().map(plain) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    Some(rules)
}

/// Without empty lists: they say what missing ones say.
fn plain(mut rule: PolicyRule) -> PolicyRule {
    for list in
        [&mut rule.api_groups, &mut rule.non_resource_urls, &mut rule.resource_names, &mut rule.resources]
    {
        if list.as_ref().is_some_and(Vec::is_empty) {
            *list = None;
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::simulation::{Trouble, World};

    fn role(name: &str, labels: Value, collects: Option<Value>, rules: Value) -> Value {
        let aggregation = collects.map(|selectors| json!({"clusterRoleSelectors": selectors}));
        json!({"metadata": {"name": name, "labels": labels}, "aggregationRule": aggregation, "rules": rules})
    }

    fn rule(resource: &str) -> Value {
        json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]})
    }

    fn planned(own: Value, others: &[Value]) -> Option<Value> {
        let read = |role: &Value| Arc::new(serde_json::from_value::<ClusterRole>(role.clone()).unwrap());
        let role = read(&own);
        let view = View { all: others.iter().chain([&own]).map(read).collect(), role };
        let plan = ClusterRoleAggregation.plan(&view, Timestamp::UNIX_EPOCH);
        plan.actions().next().map(|planned| match &planned.action {
            Action::Update { patch, .. } => patch["rules"].clone(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn rules_are_collected_once_in_the_order_of_selectors_and_names() {
        let by = |label: &str| json!({"matchLabels": {label: "true"}});
        let own = |rules: Value| role("own", json!({"x": "true"}), Some(json!([by("y"), by("x")])), rules);
        let others = [
            role("a", json!({"x": "true"}), None, json!([rule("pods"), rule("secrets")])),
            role("b", json!({"y": "true"}), None, json!([rule("nodes"), rule("pods")])),
            role("c", json!({}), None, json!([rule("events")])),
        ];
        let all = json!([rule("nodes"), rule("pods"), rule("secrets")]);
        assert_eq!(planned(own(json!([rule("events")])), &others), Some(all.clone()));
        assert_eq!(planned(own(all), &others), None);
        assert_eq!(planned(own(Value::Null), &[]), None);
        let mut same = rule("pods");
        same["resourceNames"] = json!([]);
        let others = [role("a", json!({"x": "true"}), None, json!([same]))];
        assert_eq!(planned(own(json!([rule("pods")])), &others), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn roles_that_collect_from_each_other_come_to_rest(seed in any::<u64>(), steps in 0usize..100) {
            let mut world = World::new(seed);
            world.run(|| ClusterRoleAggregation);
            world.api.trouble(Trouble::Percent(20));
            let by = |label: &str| Some(json!([{"matchLabels": {label: "true"}}]));
            world.create::<ClusterRole>(role("admin", json!({}), by("edit"), Value::Null));
            world.create::<ClusterRole>(role("edit", json!({"edit": "true"}), by("view"), Value::Null));
            world.create::<ClusterRole>(role("own", json!({"view": "true"}), None, json!([rule("pods")])));
            for _ in 0..steps {
                world.step();
            }
            world.edit::<ClusterRole>("", "own", |role| {
                role.rules = Some(vec![serde_json::from_value(rule("nodes")).unwrap()]);
            });
            world.settle();
            let admin = world.api.get::<ClusterRole>("", "admin").unwrap().rules;
            prop_assert_eq!(serde_json::to_value(admin).unwrap(), json!([rule("nodes")]));
        }
    }
}
