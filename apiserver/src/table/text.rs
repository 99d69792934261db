//! How values of an object become text: fields by their path, ages, selectors, lists that are cut. Must never know a kind.

use barque_api::labels::Selector;
use barque_api::time::Time;
use serde_json::{Map, Value};

use super::age::human_duration;

/// The time of day, for ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970.
    pub seconds: i64,
}

impl Now {
    /// From a text such as `2026-01-02T12:00:00Z`; nothing when it is no time.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Some(Self { seconds: Time::parse(text).ok()?.unix() })
    }

    /// How long ago the time at this place was; `<unknown>` when there is none.
    #[must_use]
    pub fn since(self, object: &Value, pointer: &str) -> Value {
        match at(object, pointer).as_str().and_then(Self::of) {
            Some(then) => human_duration(self.seconds - then.seconds).into(),
            None => "<unknown>".into(),
        }
    }
}

/// What stands at this place (RFC 6901: `/spec/replicas`); null when nothing does.
#[must_use]
pub fn at<'a>(object: &'a Value, pointer: &str) -> &'a Value {
    object.pointer(pointer).unwrap_or(&Value::Null)
}

/// The text at this place; empty when there is none.
#[must_use]
pub fn text(object: &Value, pointer: &str) -> Value {
    words(object, pointer).into()
}

pub(super) fn words<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).as_str().unwrap_or_default()
}

/// The text at this place, or what stands for none.
pub(super) fn text_or(object: &Value, pointer: &str, none: &str) -> Value {
    let found = words(object, pointer);
    if found.is_empty() { none } else { found }.into()
}

/// A number or text at this place (a quantity, an int-or-string); empty when there is none.
pub(super) fn number_or_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The whole number at this place; 0 when there is none.
pub(super) fn count(object: &Value, pointer: &str) -> i64 {
    at(object, pointer).as_i64().unwrap_or_default()
}

/// Whether the value at this place is true.
pub(super) fn is_true(object: &Value, pointer: &str) -> bool {
    at(object, pointer).as_bool().unwrap_or_default()
}

/// The items of the list at this place.
pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).as_array().map_or(&[], Vec::as_slice)
}

/// The map at this place.
pub(super) fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    at(object, pointer).as_object()
}

/// Texts in a row, separated by commas; nothing when there is none.
pub(super) fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let texts: Vec<&str> = texts.into_iter().collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// At most `most` texts, and how many more there are.
pub(super) fn cut(texts: &[String], most: usize, separator: &str) -> String {
    let shown = texts[..texts.len().min(most)].join(separator);
    match texts.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// Labels as `a=b,c=d`; `<none>` when there are none.
pub(super) fn labels(object: &Value, pointer: &str) -> Value {
    let pairs = map(object, pointer).into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    joined(pairs.iter().map(String::as_str)).unwrap_or_else(|| "<none>".to_owned()).into()
}

/// The label selector at this place as users write it; `<none>` when it is empty.
pub(super) fn selector(object: &Value, pointer: &str) -> Value {
    let told = Selector::of_object(object.pointer(pointer)).map(|selector| selector.to_string());
    match told {
        Ok(told) if told.is_empty() => "<none>".into(),
        Ok(told) => told.into(),
        // Only an object that was never validated has one.
        Err(_) => "<error>".into(),
    }
}

/// Names and images of the containers in the list at this place.
pub(super) fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let field = |field: &str| {
        let texts = items(object, pointer).iter().map(|one| words(one, field));
        Value::from(joined(texts).unwrap_or_default())
    };
    [field("/name"), field("/image")]
}

/// The condition of this type in the list at `/status/conditions`.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|one| words(one, "/type") == kind)
}

/// Whether the condition of this type is True.
pub(super) fn has_condition(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|one| words(one, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_told_by_key() {
        let object = json!({"s": {
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["y", "x"]},
                {"key": "aa", "operator": "DoesNotExist"},
                {"key": "d", "operator": "Exists"},
                {"key": "e", "operator": "NotIn", "values": ["z"]},
            ],
        }});
        assert_eq!(selector(&object, "/s"), "a=2,!aa,b=1,c in (x,y),d,e notin (z)");
        assert_eq!(selector(&object, "/none"), "<none>");
        assert_eq!(labels(&object, "/s/matchLabels"), "a=2,b=1");
        assert_eq!(labels(&object, "/none"), "<none>");
    }

    #[test]
    fn long_lists_are_cut() {
        let texts: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(cut(&texts, 3, ","), "a,b,c + 1 more...");
        assert_eq!(cut(&texts[..3], 3, ", "), "a, b, c");
    }
}
