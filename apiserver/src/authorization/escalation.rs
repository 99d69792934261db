//! Nobody gives what they do not have: which of a role's rules its writer does not cover by own rules
//! (RBAC's check of escalation). Must never allow what `escalate` and `bind` are for.

use super::rules::{Rule, has};

/// The parts of `wanted` that `owned` does not cover, each as small as a rule can be; empty when all is covered.
///
/// A wanted `*` is covered by `*` alone, as new verbs, groups and resources may come.
#[must_use]
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing = Vec::new();
    for part in wanted.iter().flat_map(parts) {
        if !owned.iter().any(|rule| covers(rule, &part)) && !missing.contains(&part) {
            missing.push(part);
        }
    }
    missing
}

/// A rule as rules with one value in each field.
fn parts(rule: &Rule) -> Vec<Rule> {
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.groups {
            for resource in &rule.resources {
                let names: Vec<Vec<String>> = if rule.names.is_empty() {
                    vec![Vec::new()]
                } else {
                    rule.names.iter().map(|name| vec![name.clone()]).collect()
                };
                parts.extend(names.into_iter().map(|names| Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    names,
                    paths: Vec::new(),
                }));
            }
        }
        parts.extend(rule.paths.iter().map(|path| Rule {
            verbs: vec![verb.clone()],
            paths: vec![path.clone()],
            ..Rule::default()
        }));
    }
    parts
}

fn covers(rule: &Rule, part: &Rule) -> bool {
    let one = |list: &[String], part: &[String]| part.iter().all(|text| has(list, text));
    let names = rule.names.is_empty()
        || (!part.names.is_empty() && part.names.iter().all(|name| rule.names.contains(name)));
    one(&rule.verbs, &part.verbs)
        && one(&rule.groups, &part.groups)
        && part.resources.iter().all(|resource| rule.covers_resource(resource))
        && part.paths.iter().all(|path| rule.covers_path(path))
        && (part.resources.is_empty() || names)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(values: Value) -> Vec<Rule> {
        values.as_array().unwrap().iter().map(Rule::of).collect()
    }

    #[test]
    fn several_own_rules_together_cover_one() {
        let owned = rules(json!([
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "services"]},
            {"verbs": ["list"], "apiGroups": [""], "resources": ["*"]},
        ]));
        let wanted = rules(json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]));
        assert_eq!(uncovered(&owned, &wanted), []);
        let wanted = rules(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "secrets"]}]));
        let missing = rules(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]));
        assert_eq!(uncovered(&owned, &wanted), missing);
    }

    #[test]
    fn everything_is_covered_by_everything_alone() {
        let all = rules(json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
        let core = rules(json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["*"]}]));
        assert_eq!(uncovered(&all, &core), []);
        assert_eq!(uncovered(&core, &all), all);
    }

    #[test]
    fn names_and_paths_are_covered_too() {
        let named = rules(
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]),
        );
        let any = rules(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        assert_eq!(uncovered(&any, &named), []);
        assert_eq!(uncovered(&named, &any), any);
        let below = rules(json!([{"verbs": ["get"], "nonResourceURLs": ["/livez/*"]}]));
        let one = rules(json!([{"verbs": ["get"], "nonResourceURLs": ["/livez/etcd"]}]));
        assert_eq!(uncovered(&below, &one), []);
        assert_eq!(uncovered(&one, &below), below);
    }
}
