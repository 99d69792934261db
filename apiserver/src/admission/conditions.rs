//! Conditions under which somebody is asked at all (`matchConditions`). Pure. Must never let an error pass for a yes.

use barque_api::cel::{Activation, Budget, Val};
use serde_json::Value;

use super::expressions::{Expression, Failure, Names};

/// What all conditions together may cost.
const MOST_COST: u64 = 2_500_000;

/// All of them must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions(Vec<Expression>);

impl Conditions {
    /// Of the field `matchConditions`.
    pub(super) fn of(value: &Value, names: &Names) -> Self {
        let list = value.get("matchConditions").and_then(Value::as_array);
        let source = |condition: &Value| condition["expression"].as_str().unwrap_or_default().to_owned();
        let compile = |condition| Expression::new(names, source(condition).trim(), &["bool"]);
        Self(list.into_iter().flatten().map(compile).collect())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not decides, whatever the others are.
    ///
    /// # Errors
    /// When some have no value, and nobody `ignores` that; then they do not hold.
    pub(super) fn hold(&self, activation: &Activation<'_>, ignores: bool) -> Result<bool, String> {
        let mut budget = Budget::new(MOST_COST);
        let mut failures = Vec::new();
        for condition in &self.0 {
            match condition.value(activation, &mut budget) {
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(Failure::Spent) => {
                    failures = vec![Failure::Spent];
                    break;
                }
                Err(failure) => failures.push(failure),
            }
        }
        let told: Vec<&str> = failures.iter().map(Failure::message).collect();
        match told.as_slice() {
            [] => Ok(true),
            _ if ignores => Ok(false),
            [one] => Err((*one).to_owned()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::expressions::Inputs;
    use super::*;

    #[test]
    fn one_that_does_not_hold_decides() {
        let (object, nothing) = (json!({"a": 1}), Value::Null);
        let inputs = Inputs {
            object: &object,
            old: None,
            request: &nothing,
            namespace: &nothing,
            params: None,
            rights: None,
        };
        let hold = |expressions: &[&str], ignores: bool| {
            let list: Vec<_> =
                expressions.iter().map(|one| json!({"name": "n", "expression": one})).collect();
            let conditions = Conditions::of(&json!({"matchConditions": list}), &Names::default());
            conditions.hold(&inputs.activation(), ignores)
        };
        assert_eq!(hold(&[], false), Ok(true));
        assert_eq!(hold(&["object.a == 1", "true"], false), Ok(true));
        assert_eq!(hold(&["object.b == 1", "false"], false), Ok(false));
        assert_eq!(hold(&["object.b == 1"], true), Ok(false));
        let wrong = "expression 'object.b == 1' resulted in error: no such key: b";
        assert_eq!(hold(&["object.b == 1"], false), Err(wrong.to_owned()));
        assert_eq!(hold(&["object.b == 1", "object.b == 1"], false), Err(format!("[{wrong}, {wrong}]")));
    }
}
