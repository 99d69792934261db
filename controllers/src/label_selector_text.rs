//! Label selectors of objects as Kubernetes writes them into sentences for people: as Go prints the struct. Must never be parsed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The text; of none at all, `nil`.
#[must_use]
pub(crate) fn text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels: String =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|it| {
        let values = it.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", it.key, it.operator)
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_look_as_upstream_prints_them() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]});
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let expected = "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
                        LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},}";
        assert_eq!(text(Some(&selector)), expected);
        assert_eq!(text(None), "nil");
    }
}
