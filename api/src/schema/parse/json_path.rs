//! Paths in rules: `.spec.name`, `['a.b'].c`. Must never lead to where the schema knows nothing.

use super::props::Props;
use crate::field::FieldPath;
use crate::schema::{Schema, SchemaRef};

/// One step: the name, as written without quotes.
fn steps(path: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix("['") {
            let (name, behind) = quoted(behind)?;
            steps.push(name);
            rest = behind.strip_prefix(']')?;
        } else {
            let behind = rest.strip_prefix('.')?;
            let end = behind.find(['.', '[', ']']).unwrap_or(behind.len());
            if end == 0 {
                return None;
            }
            steps.push(behind[..end].to_owned());
            rest = &behind[end..];
        }
    }
    Some(steps)
}

/// The text up to a quote, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((index, next)) = chars.next() {
        match next {
            '\'' => return Some((name, &text[index + 1..])),
            '\\' => name.push(match chars.next()?.1 {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                same @ ('\'' | '\\') => same,
                _ => return None,
            }),
            _ => name.push(next),
        }
    }
    None
}

/// Whether a path leads to a field of this schema.
pub(super) fn field_exists(schema: &Props<'_>, path: &str) -> bool {
    let Some(steps) = steps(path) else { return false };
    let mut here = Some(*schema);
    for step in steps {
        // Of fields of any name, those of any kind have no schema: nothing is known below them.
        let Some(schema) = here else { return false };
        here = if schema.has_properties() {
            match schema.property(&step) {
                Some(field) => Some(field),
                None => return false,
            }
        } else if schema.has("additionalProperties") {
            schema.schema("additionalProperties")
        } else {
            return false;
        };
    }
    true
}

/// The place that a path in a rule leads to, from the value that the rule judges.
pub(crate) fn field_at(from: &FieldPath, schema: &Schema, path: &str) -> FieldPath {
    let mut here = Some(schema);
    let mut at = from.clone();
    for step in steps(path).unwrap_or_default() {
        let named = here.is_none_or(|schema| !schema.properties.is_empty());
        at = if named { at.child(&step) } else { at.key(&step) };
        let below = here.and_then(|one| one.properties.get(step.as_str()).or(one.additional.as_ref()));
        here = match below {
            Some(SchemaRef::Inline(schema)) => Some(schema),
            _ => None,
        };
    }
    at
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Texts, read};

    #[test]
    fn paths_lead_to_fields() {
        let json = json!({"properties": {
            "a": {"properties": {"b.c": {}}},
            "m": {"additionalProperties": {"properties": {"x": {}}}},
            "l": {"items": {"properties": {"x": {}}}},
        }});
        let props = Props::of(&json).unwrap();
        let schema = read(&FieldPath::root(), &json, &mut Texts::default()).unwrap();
        for (path, leads_to) in [
            (".a", Some("spec.a")),
            (".a['b.c']", Some("spec.a.b.c")),
            (".m.k", Some("spec.m[k]")),
            (".m['k\\'k'].x", Some("spec.m[k'k].x")),
            (".x", None),
            ("a", None),
            (".a.", None),
            (".l[0]", None),
            (".l.x", None),
            (".m.k.y", None),
            (".a['b", None),
        ] {
            assert_eq!(field_exists(&props, path), leads_to.is_some(), "{path}");
            if let Some(leads_to) = leads_to {
                assert_eq!(field_at(&FieldPath::of("spec"), &schema, path).to_string(), leads_to);
            }
        }
    }
}
