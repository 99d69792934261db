//! JSONPath as kubectl and printer columns write it: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`,
//! `..image`, `['a.b']`. Read once, then found in as many objects as there are. Must never fail on an object: what is not there
//! is not found.

mod parse;

use serde_json::Value;

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

/// One step along an object.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// The field of this name.
    Field(String),
    /// Fields of several names, in this order.
    Fields(Vec<String>),
    /// All fields of an object, or all items of a list.
    All,
    /// Everything at any depth, the value itself first.
    Descend,
    /// The item at this place; from the end where it is negative.
    Index(i64),
    /// Items at several places.
    Indices(Vec<i64>),
    /// Items from, to (not included) and by steps of.
    Slice(Option<i64>, Option<i64>, i64),
    /// Items, or fields of an object, of which this holds.
    Filter(Filter),
}

/// What a filter asks of an item.
#[derive(Clone, Debug, PartialEq)]
enum Filter {
    /// The path leads somewhere.
    Exists(Vec<Step>),
    /// Both sides compare like this.
    Compare(Operand, Operator, Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Differs,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads a path, with or without `$` at its front. Braces are not part of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        parse::path(text).map(Self)
    }

    /// What it leads to, in the order of the object.
    #[must_use]
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        walk(&self.0, object)
    }
}

fn walk<'a>(steps: &[Step], from: &'a Value) -> Vec<&'a Value> {
    steps.iter().fold(vec![from], |found, step| {
        let mut next = Vec::new();
        for value in found {
            take(step, value, &mut next);
        }
        next
    })
}

fn take<'a>(step: &Step, value: &'a Value, found: &mut Vec<&'a Value>) {
    match step {
        Step::Field(name) => found.extend(value.get(name)),
        Step::Fields(names) => found.extend(names.iter().filter_map(|name| value.get(name))),
        Step::All => found.extend(children(value)),
        Step::Descend => descend(value, found),
        Step::Index(index) => found.extend(item(value, *index)),
        Step::Indices(indices) => found.extend(indices.iter().filter_map(|index| item(value, *index))),
        Step::Slice(from, to, by) => slice(value, *from, *to, *by, found),
        Step::Filter(filter) => found.extend(children(value).filter(|child| holds(filter, child))),
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(value);
    for child in children(value) {
        descend(child, found);
    }
}

fn item(value: &Value, index: i64) -> Option<&Value> {
    let list = value.as_array()?;
    list.get(place(index, list.len())?)
}

/// A place in a list of that length; places below 0 count from its end.
fn place(index: i64, len: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn slice<'a>(value: &'a Value, from: Option<i64>, to: Option<i64>, by: i64, found: &mut Vec<&'a Value>) {
    let Some(list) = value.as_array() else { return };
    let len = list.len();
    let bound = |index: i64| place(index, len).unwrap_or(0).min(len);
    let (from, to) = (from.map_or(0, bound), to.map_or(len, bound));
    if let Some(by) = usize::try_from(by).ok().filter(|by| *by > 0)
        && from < to
    {
        found.extend(list[from..to].iter().step_by(by));
    }
}

fn holds(filter: &Filter, item: &Value) -> bool {
    let (left, operator, right) = match filter {
        Filter::Exists(path) => return !walk(path, item).is_empty(),
        Filter::Compare(left, operator, right) => (left, operator, right),
    };
    let side = |operand: &Operand| match operand {
        Operand::Path(path) => walk(path, item).first().map(|value| (*value).clone()),
        Operand::Literal(value) => Some(value.clone()),
    };
    let (Some(left), Some(right)) = (side(left), side(right)) else { return false };
    match operator {
        Operator::Equal => same(&left, &right),
        Operator::Differs => !same(&left, &right),
        other => order(&left, &right).is_some_and(|order| match other {
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            _ => order.is_ge(),
        }),
    }
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": [10, 20, 30, 40], "image": "x"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "n": 1}, {"type": "Good", "status": "False", "n": 2}],
                "image": "y",
            },
        })
    }

    #[test]
    fn paths_lead_where_kubectl_leads() {
        let table = [
            (".spec.replicas", json!([3])),
            ("$.spec.replicas", json!([3])),
            ("spec.replicas", json!([3])),
            (".spec['replicas']", json!([3])),
            (r".spec.a\.b", json!(["dotted"])),
            (".spec['a.b']", json!(["dotted"])),
            (r#".spec["a.b"]"#, json!(["dotted"])),
            (".spec.list[0]", json!([10])),
            (".spec.list[-1]", json!([40])),
            (".spec.list[9]", json!([])),
            (".spec.list[-9]", json!([])),
            (".spec.list[1:3]", json!([20, 30])),
            (".spec.list[0:4:2]", json!([10, 30])),
            (".spec.list[-2:]", json!([30, 40])),
            (".spec.list[0,2]", json!([10, 30])),
            (".spec.list[*]", json!([10, 20, 30, 40])),
            (".spec['replicas','image']", json!([3, "x"])),
            ("..image", json!(["x", "y"])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (r#".status.conditions[?(@.type == 'Good')].status"#, json!(["False"])),
            (r#".status.conditions[?(@.type!="Ready")].n"#, json!([2])),
            (".status.conditions[?(@.n>1)].type", json!(["Good"])),
            (".status.conditions[?(@.n<=1)].type", json!(["Ready"])),
            (".status.conditions[?(@.n)].type", json!(["Ready", "Good"])),
            (".status.conditions[?(@.none)].type", json!([])),
            (".status.conditions[*].type", json!(["Ready", "Good"])),
            (".nothing.here", json!([])),
            (".spec.replicas.more", json!([])),
        ];
        for (path, expected) in table {
            let object = object();
            let found: Vec<Value> =
                JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_told() {
        for path in [".a[", ".a[?(@.b==\"c\")", ".a['b", ".a[x]", ".a]", ".a[?(@.b==)]", ".a[1:2:3:4]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
