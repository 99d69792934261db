//! Cluster roles that collect the rules of others by labels (`aggregationRule`). Must never collect a role into itself.

use barque_api::labels::Selector;
use serde_json::{Map, Value};

use crate::authorization::rules::Rule;

/// The rules that a cluster role should have, if it collects rules and has others. Rules stand once, selector by selector, and
/// within one by the names of the roles. A role that collects from one that collects too is complete after both were done.
#[must_use]
pub fn aggregate<'a>(role: &Value, all_roles: impl IntoIterator<Item = &'a Value>) -> Option<Vec<Rule>> {
    let selectors = role.get("aggregationRule")?.as_object()?.get("clusterRoleSelectors");
    let selectors = selectors.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut others: Vec<(&str, &Value)> = all_roles.into_iter().map(|one| (name(one), one)).collect();
    others.retain(|(other, _)| *other != name(role));
    others.sort_by_key(|(name, _)| *name);
    let none = Map::new();
    let mut rules: Vec<Rule> = Vec::new();
    for selector in selectors {
        let Ok(selector) = Selector::of_object(Some(selector)) else { continue };
        for (_, other) in &others {
            let labels = other["metadata"].get("labels").and_then(Value::as_object).unwrap_or(&none);
            if selector.matches(labels) {
                for rule in Rule::all_of(other) {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
        }
    }
    (rules != Rule::all_of(role)).then_some(rules)
}

fn name(role: &Value) -> &str {
    role.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{desired, tests::settings};
    use super::*;

    #[test]
    fn admin_edit_and_view_collect_until_nothing_changes() {
        let all = desired(&settings());
        let mut roles: Vec<Value> = all
            .into_iter()
            .filter(|one| &*one.resource.resource == "clusterroles")
            .map(|one| one.object)
            .collect();
        let mut rounds = 0;
        loop {
            let new: Vec<_> = roles.iter().map(|role| aggregate(role, &roles)).collect();
            if new.iter().all(Option::is_none) {
                break;
            }
            for (role, rules) in roles.iter_mut().zip(new) {
                if let Some(rules) = rules {
                    role["rules"] = rules.iter().map(Rule::to_value).collect();
                }
            }
            rounds += 1;
        }
        assert_eq!(rounds, 3);
        let rules =
            |wanted: &str| Rule::all_of(roles.iter().find(|role| name(role) == wanted).unwrap()).len();
        assert_eq!((rules("view"), rules("edit"), rules("admin")), (13, 28, 30));
    }

    #[test]
    fn a_role_that_selects_nothing_or_itself_has_no_rules() {
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let role = json!({
            "metadata": {"name": "a", "labels": {"x": "y"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]},
            "rules": [rule],
        });
        assert_eq!(aggregate(&role, [&role]), Some(vec![]));
        let plain = json!({"metadata": {"name": "a"}, "rules": [rule]});
        assert_eq!(aggregate(&plain, [&role]), None);
        let other = json!({"metadata": {"name": "b", "labels": {"x": "y"}}, "rules": [rule, rule]});
        assert_eq!(aggregate(&role, [&role, &other]), None);
    }
}
