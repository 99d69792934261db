//! `LimitRange`: the least, the most and the usual of what containers and claims ask for. Must never apply one.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::names;
use barque_api::quantity::Quantity;

use super::amounts::{check_container_name, check_name, may_overcommit};
use super::{Change, Findings, Part};

const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

/// What is wrong with a `LimitRange`.
pub(super) fn check_limit_range(change: &Change<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for limit in change.new.child("spec").items("limits") {
        let (kind, at) = (limit.text("type"), limit.at("type"));
        let wrong = names::label_key(kind);
        if wrong.is_empty() {
            if !kind.contains('/') && !TYPES.contains(&kind) {
                findings.invalid(&at, kind, "must be a standard limit type or fully qualified");
            }
        } else {
            findings.each(&at, kind, wrong);
        }
        if !seen.insert(kind) {
            findings.duplicate(&at, kind);
        }
        check_limit(&limit, kind, findings);
    }
}

fn amounts<'a>(
    limit: &Part<'a>,
    kind: &str,
    field: &str,
    findings: &mut Findings,
) -> BTreeMap<&'a str, Quantity> {
    let mut amounts = BTreeMap::new();
    for (name, value) in limit.entries(field) {
        let at = limit.at(field).key(name);
        if ["Pod", "Container"].contains(&kind) {
            check_container_name(name, &at, findings);
        } else {
            check_name(name, &at, findings);
        }
        if let Some(quantity) = findings.quantity(value, &at) {
            amounts.insert(name, quantity);
        }
    }
    amounts
}

fn check_limit(limit: &Part<'_>, kind: &str, findings: &mut Findings) {
    let most = amounts(limit, kind, "max", findings);
    let least = amounts(limit, kind, "min", findings);
    let (mut usual, mut asked) = (BTreeMap::new(), BTreeMap::new());
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if limit.map(field).is_some_and(|map| !map.is_empty()) {
                findings.forbidden(&limit.at(field), "may not be specified when `type` is 'Pod'");
            }
        }
    } else {
        usual = amounts(limit, kind, "default", findings);
        asked = amounts(limit, kind, "defaultRequest", findings);
    }
    if kind == "PersistentVolumeClaim" && !least.contains_key("storage") && !most.contains_key("storage") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        findings.required(&limit.at("limits"), detail);
    }
    let ratios = amounts(limit, kind, "maxLimitRequestRatio", findings);
    let names: BTreeSet<&str> =
        [&most, &least, &usual, &asked, &ratios].iter().flat_map(|map| map.keys().copied()).collect();
    for name in names {
        let one = One {
            name,
            least: least.get(name),
            most: most.get(name),
            usual: usual.get(name),
            asked: asked.get(name),
            ratio: ratios.get(name),
        };
        one.check(limit, findings);
    }
}

struct One<'a> {
    name: &'a str,
    least: Option<&'a Quantity>,
    most: Option<&'a Quantity>,
    usual: Option<&'a Quantity>,
    asked: Option<&'a Quantity>,
    ratio: Option<&'a Quantity>,
}

impl One<'_> {
    fn check(&self, limit: &Part<'_>, findings: &mut Findings) {
        let mut order = |small: Option<&Quantity>,
                         large: Option<&Quantity>,
                         field: &str,
                         tells_large: bool,
                         words: [&str; 2]| {
            if let (Some(small), Some(large)) = (small, large)
                && small > large
            {
                let told = if tells_large { large } else { small };
                let detail = format!("{} value {small} is greater than {} value {large}", words[0], words[1]);
                findings.invalid(&limit.at(field).key(self.name), told.to_string(), detail);
            }
        };
        order(self.least, self.most, "min", false, ["min", "max"]);
        order(self.least, self.asked, "defaultRequest", true, ["min", "default request"]);
        order(self.asked, self.most, "defaultRequest", false, ["default request", "max"]);
        order(self.asked, self.usual, "defaultRequest", false, ["default request", "default limit"]);
        order(self.least, self.usual, "default", false, ["min", "default"]);
        order(self.usual, self.most, "default", true, ["default", "max"]);
        self.check_ratio(limit, findings);
        if let (Some(usual), Some(asked)) = (self.usual, self.asked)
            && usual != asked
            && !may_overcommit(self.name)
        {
            let name = self.name;
            let detail =
                format!("default value {usual} must equal to defaultRequest value {asked} in {name}");
            findings.invalid(&limit.at("defaultRequest").key(name), asked.to_string(), detail);
        }
    }

    fn check_ratio(&self, limit: &Part<'_>, findings: &mut Findings) {
        let Some(ratio) = self.ratio else { return };
        let at = limit.at("maxLimitRequestRatio").key(self.name);
        if ratio.as_f64() < 1.0 {
            findings.invalid(&at, ratio.to_string(), format!("ratio {ratio} is less than 1"));
        }
        if let (Some(least), Some(most)) = (self.least, self.most) {
            let limit = most.as_f64() / least.as_f64();
            if ratio.as_f64() > limit {
                let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
                findings.invalid(&at, ratio.to_string(), detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn limits_are_in_order() {
        let told = |limit: Value| told("", "LimitRange", &json!({"spec": {"limits": [limit]}}), None);
        let of = |changes: Value| {
            let mut limit = json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}});
            limit.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            limit
        };
        let table = [
            (of(json!({})), None),
            (
                of(json!({"min": {"cpu": "3"}})),
                Some("min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2"),
            ),
            (
                of(json!({"default": {"cpu": "500m"}})),
                Some("default[cpu]: Invalid value: \"1\": min value 1 is greater than default value 500m"),
            ),
            (
                of(json!({"maxLimitRequestRatio": {"cpu": "3"}})),
                Some(
                    "maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
                ),
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "1"}}),
                Some("default: Forbidden: may not be specified when `type` is 'Pod'"),
            ),
            (
                json!({"type": "PersistentVolumeClaim"}),
                Some(
                    "limits: Required value: either minimum or maximum storage value is required, but neither was \
                      provided",
                ),
            ),
            (
                json!({"type": "Node"}),
                Some("type: Invalid value: \"Node\": must be a standard limit type or fully qualified"),
            ),
            (
                json!({"type": "Container", "max": {"storage": "1"}}),
                Some("max[storage]: Invalid value: \"storage\": must be a standard resource for containers"),
            ),
        ];
        for (limit, expected) in table {
            let expected: Vec<String> = expected.iter().map(|one| format!("spec.limits[0].{one}")).collect();
            assert_eq!(told(limit.clone()), expected, "{limit}");
        }
    }
}
