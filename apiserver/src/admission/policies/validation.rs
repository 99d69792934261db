//! What a policy says of an object: who refuses it and in which words, and what the audit log is told. Pure. Must never let an
//! expression that has no value pass, unless the policy says so.

use barque_api::cel::{Activation, Budget, MAX_MESSAGE_BYTES, PER_OBJECT, Val};
use barque_api::status::{Reason, Status};
use serde_json::{Value, json};

use super::super::Attributes;
use super::super::asked::forbidden;
use super::super::expressions::{Expression, Failure, Inputs};
use super::policy::{Binding, Validating, Validation};

/// Values for the audit log are cut behind so many bytes.
const MOST_ANNOTATION_BYTES: usize = 10 * 1024;
/// The audit log is told of so many failures.
const MOST_FAILURES: usize = 50;

/// Why an expression has no value, as metrics say it, unless it is something else.
pub(super) const INVALID: &str = "invalid_error";

/// A validation that does not hold, or could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) index: usize,
    pub(super) message: String,
    /// Of the error, where the policy says it.
    pub(super) reason: Option<Reason>,
    /// Why it could not be judged, as metrics say it.
    pub(super) error_type: &'static str,
}

/// What a policy says of an object with one parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) denials: Vec<Denial>,
    /// Why something could not be judged where that is no matter, as metrics say it.
    pub(super) ignored: Vec<&'static str>,
    /// For the audit log: keys without the policy's name.
    pub(super) annotations: Vec<(String, String)>,
    /// Why something could not be told to the audit log, where that refuses the request.
    pub(super) failures: Vec<String>,
}

/// Judges an object.
pub(super) fn judge(policy: &Validating, inputs: &Inputs<'_>) -> Judgement {
    let ignores = policy.policy.ignores_failures;
    let failed = |message: &str, error_type| {
        if ignores {
            return Judgement { ignored: vec![error_type], ..Judgement::default() };
        }
        let denial = Denial { index: 0, message: message.to_owned(), reason: None, error_type };
        Judgement { denials: vec![denial], ..Judgement::default() }
    };
    let mut budget = Budget::new(PER_OBJECT);
    let activation = policy.policy.activation(inputs, &mut budget);
    match policy.policy.conditions.hold(&activation, ignores) {
        Ok(true) => {}
        Ok(false) => return Judgement::default(),
        Err(why) => return failed(&why, INVALID),
    }
    let mut judgement = Judgement::default();
    for (index, validation) in policy.validations.iter().enumerate() {
        match validation.expression.value(&activation, &mut budget) {
            Ok(Val::Bool(true)) => {}
            Ok(_) => judgement.denials.push(Denial {
                index,
                message: message(validation, &activation, &mut budget),
                reason: Some(validation.reason),
                error_type: "no_error",
            }),
            Err(Failure::Spent) => return failed(Failure::Spent.message(), "out_of_budget"),
            Err(Failure::Wrong(message)) => {
                let error_type = if message.starts_with("compilation") { "compile_error" } else { INVALID };
                if ignores {
                    judgement.ignored.push(error_type);
                } else {
                    judgement.denials.push(Denial { index, message, reason: None, error_type });
                }
            }
        }
    }
    let mut budget = Budget::new(PER_OBJECT);
    for (key, expression) in &policy.annotations {
        match annotation(expression, &activation, &mut budget, ignores) {
            Ok(Some(value)) => judgement.annotations.push((key.clone(), value)),
            Ok(None) => {}
            Err(why) => judgement.failures.push(why),
        }
    }
    judgement
}

/// What is said of a validation that does not hold.
fn message(validation: &Validation, activation: &Activation<'_>, budget: &mut Budget) -> String {
    let said = validation.message_expression.as_ref().map(|one| one.value(activation, budget));
    let said = match said {
        Some(Ok(Val::Text(text))) => text.trim().to_owned(),
        Some(Err(Failure::Spent)) => {
            return format!("failed messageExpression: {}", Failure::Spent.message());
        }
        _ => String::new(),
    };
    if !said.is_empty() && said.len() <= MAX_MESSAGE_BYTES && !said.contains('\n') {
        return said;
    }
    if !validation.message.is_empty() {
        return validation.message.clone();
    }
    format!("failed expression: {}", validation.expression.source.trim())
}

fn annotation(
    expression: &Expression,
    activation: &Activation<'_>,
    budget: &mut Budget,
    ignores: bool,
) -> Result<Option<String>, String> {
    match expression.value(activation, budget) {
        Ok(Val::Null) => Ok(None),
        Ok(Val::Text(text)) => {
            let text = text.trim();
            let end = text.floor_char_boundary(MOST_ANNOTATION_BYTES);
            Ok(Some(text[..end].to_owned()).filter(|text| !text.is_empty()))
        }
        Ok(other) => Err(format!(
            "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
            expression.source,
            other.type_name()
        )),
        Err(_) if ignores => Ok(None),
        Err(failure) => Err(failure.message().to_owned()),
    }
}

/// A policy, or a binding of it, refuses the request.
pub(super) fn refusal(
    attributes: &Attributes<'_>,
    object: &Value,
    policy: &str,
    binding: Option<&str>,
    message: &str,
    reason: Option<Reason>,
) -> Status {
    let message = match binding {
        Some(binding) => {
            format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}")
        }
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
    };
    let mut status = forbidden(attributes, object, &message);
    status.reason = reason.unwrap_or(Reason::Invalid);
    status.because("", message, "")
}

/// What the client is warned of.
pub(super) fn warning(policy: &str, binding: &str, message: &str) -> String {
    format!("Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {message}")
}

/// A failure as the audit log is told it.
pub(super) fn audited(binding: &Binding, denial: &Denial) -> Value {
    json!({
        "message": denial.message,
        "policy": binding.policy,
        "binding": binding.name,
        "expressionIndex": denial.index,
        "validationActions": binding.actions,
    })
}

/// The annotation about all failures that the audit log is told, if there are any.
pub(super) fn audit_annotation(mut failures: Vec<Value>) -> Option<(String, String)> {
    if failures.is_empty() {
        return None;
    }
    failures.truncate(MOST_FAILURES);
    let key = "validation.policy.admission.k8s.io/validation_failure".to_owned();
    Some((key, Value::Array(failures).to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::policy::validating;
    use super::*;

    fn judged(spec: Value) -> Judgement {
        let policy = validating(&json!({"metadata": {"name": "p"}, "spec": spec}));
        let (object, nothing) = (json!({"spec": {"replicas": 7, "name": "x"}}), Value::Null);
        let params = json!({"max": 5});
        let inputs = Inputs {
            object: &object,
            old: None,
            request: &nothing,
            namespace: &nothing,
            params: Some(&params),
            rights: None,
        };
        judge(&policy, &inputs)
    }

    fn messages(spec: Value) -> Vec<String> {
        judged(spec).denials.into_iter().map(|denial| denial.message).collect()
    }

    #[test]
    fn messages_come_from_the_policy_or_from_the_expression() {
        let table = [
            (json!({"expression": "object.spec.replicas < 9"}), None),
            (
                json!({"expression": " object.spec.replicas < 5 "}),
                Some("failed expression: object.spec.replicas < 5"),
            ),
            (json!({"expression": "false", "message": " too many "}), Some("too many")),
            (
                json!({"expression": "false", "message": "m",
                    "messageExpression": "'not more than ' + string(object.spec.replicas)"}),
                Some("not more than 7"),
            ),
            (json!({"expression": "false", "message": "m", "messageExpression": "object.none"}), Some("m")),
            (json!({"expression": "false", "message": "m", "messageExpression": "'a\\nb'"}), Some("m")),
            (
                json!({"expression": "object.none == 1"}),
                Some("expression 'object.none == 1' resulted in error: no such key: none"),
            ),
        ];
        for (validation, expected) in table {
            let found = messages(json!({"validations": [validation]}));
            assert_eq!(found, Vec::from_iter(expected), "{validation}");
        }
    }

    #[test]
    fn failures_may_be_ignored_but_not_what_does_not_hold() {
        let validations =
            json!([{"expression": "object.none == 1"}, {"expression": "false", "message": "m"}]);
        let spec = json!({"validations": validations, "failurePolicy": "Ignore"});
        assert_eq!((judged(spec.clone()).ignored, messages(spec)), (vec![INVALID], vec!["m".to_owned()]));
        let conditions = json!([{"name": "c", "expression": "object.spec.none"}]);
        let spec =
            json!({"validations": validations, "matchConditions": conditions, "failurePolicy": "Ignore"});
        assert_eq!(judged(spec), Judgement::default());
        let conditions = json!([{"name": "c", "expression": "object.spec.name == 'y'"}]);
        let spec = json!({"validations": validations, "matchConditions": conditions});
        assert_eq!(judged(spec), Judgement::default());
    }

    #[test]
    fn variables_name_those_before_them_and_fail_where_they_are_named() {
        let variables = json!([
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "double", "expression": "variables.replicas * 2"},
            {"name": "wrong", "expression": "object.spec.wrong"},
        ]);
        let judged = |expression: &str| {
            messages(json!({"variables": variables, "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "validations": [{"expression": expression, "message": "no"}]}))
        };
        assert!(judged("variables.double == 14 && params.max == 5").is_empty());
        assert!(judged("true || variables.wrong == 1").is_empty());
        assert_eq!(
            judged("variables.wrong == 1"),
            [
                "expression 'variables.wrong == 1' resulted in error: composited variable \"wrong\" fails to evaluate: \
              expression 'object.spec.wrong' resulted in error: no such key: wrong"
            ]
        );
    }

    #[test]
    fn the_audit_log_is_told_texts() {
        let annotations = json!([
            {"key": "a", "valueExpression": "'replicas: ' + string(object.spec.replicas)"},
            {"key": "b", "valueExpression": "null"},
            {"key": "c", "valueExpression": "object.spec.replicas"},
        ]);
        let judged = judged(json!({"auditAnnotations": annotations}));
        assert_eq!(judged.annotations, [("a".to_owned(), "replicas: 7".to_owned())]);
        assert_eq!(
            judged.failures,
            [
                "valueExpression 'object.spec.replicas' resulted in unsupported return type: int. Return type must be \
              either string or null."
            ]
        );
    }

    #[test]
    fn a_policy_may_not_cost_too_much() {
        let all = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";
        let six = (0..6).fold("true".to_owned(), |inner, at| format!("{all}.all(x{at}, {inner})"));
        let validations: Vec<_> = (0..20).map(|_| json!({"expression": six})).collect();
        let found = messages(json!({"validations": validations}));
        assert_eq!(found, [super::super::super::expressions::SPENT]);
    }
}
