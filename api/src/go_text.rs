//! Values as Go writes them: sentences of Kubernetes' errors hold such text, and so do keys of `fieldsV1` and the annotation
//! of the configuration applied last. Must never be read back, except for the JSON.

use serde_json::{Number, Value};

/// As `%v` prints it: `map[a:1 b:[x y]]`.
#[must_use]
pub fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => printed_number(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => printed_items(items),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}:{}", printed(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// A list as `%v` prints it: `[x y]`.
pub(crate) fn printed_items(items: &[Value]) -> String {
    let items: Vec<_> = items.iter().map(printed).collect();
    format!("[{}]", items.join(" "))
}

/// As `%#v` prints it: `map[string]interface {}{"a":1}`.
pub(crate) fn printed_as_source(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => printed(value),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(printed_as_source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name:?}:{}", printed_as_source(value))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
    }
}

/// The type that Go decodes it into.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// As Go's encoder writes JSON: what HTML would take for markup is escaped.
pub(crate) fn json(value: &Value) -> String {
    let plain = value.to_string();
    // These stand in strings alone, so that no more than the text has to be looked at.
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    let mut escaped = String::with_capacity(plain.len() + 16);
    for letter in plain.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

fn printed_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => printed_float(float),
        _ => number.to_string(),
    }
}

/// The shortest digits, with an exponent where it is below -4 or from 21 on.
fn printed_float(float: f64) -> String {
    let scientific = format!("{float:e}");
    let exponent = scientific.split_once('e').and_then(|(digits, exponent)| {
        let exponent: i32 = exponent.parse().ok()?;
        Some((digits, exponent))
    });
    match exponent {
        Some((digits, exponent)) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => float.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_read_as_go_prints_them() {
        let table = [
            (json!(null), "<nil>", "interface {}(nil)"),
            (json!(true), "true", "true"),
            (json!(-3), "-3", "-3"),
            (json!(1.0), "1", "1"),
            (json!(0.25), "0.25", "0.25"),
            (json!(1e21), "1e+21", "1e+21"),
            (json!(0.00001), "1e-05", "1e-05"),
            (json!("a b"), "a b", "\"a b\""),
            (json!([1, "x", null]), "[1 x <nil>]", "[]interface {}{1, \"x\", interface {}(nil)}"),
            (
                json!({"b": {"c": 1}, "a": []}),
                "map[a:[] b:map[c:1]]",
                "map[string]interface {}{\"a\":[]interface {}{}, \"b\":map[string]interface {}{\"c\":1}}",
            ),
        ];
        for (value, plain, source) in table {
            assert_eq!((printed(&value).as_str(), printed_as_source(&value).as_str()), (plain, source));
        }
    }

    #[test]
    fn markup_is_escaped_in_json() {
        assert_eq!(json(&json!({"a": "<b> & c"})), r#"{"a":"\u003cb\u003e \u0026 c"}"#);
        assert_eq!(json(&json!({"a": "ü"})), r#"{"a":"ü"}"#);
    }
}
