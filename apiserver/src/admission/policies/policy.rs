//! Policies and bindings as their objects describe them, with their expressions compiled. Pure. Must never evaluate one.

use barque_api::cel::{Activation, Budget};
use barque_api::kind::{GroupVersion, GroupVersionKind};
use barque_api::metadata::Metadata;
use barque_api::status::Reason;
use serde_json::Value;

use super::super::conditions::Conditions;
use super::super::expressions::{Expression, Failure, Inputs, Names, VARIABLES};
use super::super::matching::Criteria;
use super::mutation::Mutation;
use super::parameters::Reference;

/// What both kinds of policy are.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    variables: Vec<(String, Expression)>,
    /// The type of parameters, if there are any; or what was given in its place.
    pub(super) param_kind: Option<Result<GroupVersionKind, String>>,
    /// The request goes on when the policy cannot be judged (`failurePolicy: Ignore`).
    pub(super) ignores_failures: bool,
}

/// A `ValidatingAdmissionPolicy`.
#[derive(Clone, Debug)]
pub(super) struct Validating {
    pub(super) policy: Policy,
    pub(super) validations: Vec<Validation>,
    /// Keys, and expressions of their values.
    pub(super) annotations: Vec<(String, Expression)>,
}

/// What must hold.
#[derive(Clone, Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    /// Empty for none.
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: Reason,
}

/// A `MutatingAdmissionPolicy`.
#[derive(Clone, Debug)]
pub(super) struct Mutating {
    pub(super) policy: Policy,
    pub(super) mutations: Vec<Mutation>,
    /// It wants to be asked again when the object changes after it.
    pub(super) again: bool,
}

/// A binding: where a policy is in force, and with which parameters.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    /// Nothing for everywhere.
    pub(super) criteria: Option<Criteria>,
    pub(super) params: Option<Reference>,
    /// `Deny`, `Warn` and `Audit`.
    pub(super) actions: Vec<String>,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

impl Policy {
    fn of(object: &Value) -> (Self, Names) {
        let spec = &object["spec"];
        let param_kind = spec.get("paramKind").filter(|kind| !kind.is_null()).map(|kind| {
            GroupVersion::of_api_version(text(kind, "apiVersion"))
                .map(|version| version.kind(text(kind, "kind")))
                .map_err(|error| error.to_string())
        });
        let mut names = Names::with_params(param_kind.is_some());
        let mut variables = Vec::new();
        for variable in items(spec, "variables") {
            let name = text(variable, "name").to_owned();
            variables.push((name.clone(), Expression::new(&names, text(variable, "expression"), &[])));
            names.declare(&name);
        }
        let policy = Self {
            name: Metadata::of(object).name().to_owned(),
            criteria: Criteria::of(&spec["matchConstraints"]),
            conditions: Conditions::of(spec, &names),
            variables,
            param_kind,
            ignores_failures: text(spec, "failurePolicy") == "Ignore",
        };
        (policy, names)
    }

    /// What its expressions are evaluated with. Variables come in their order, so that each may name those before it; one
    /// that has no value fails whatever names it.
    pub(super) fn activation<'a>(&'a self, inputs: &Inputs<'a>, budget: &mut Budget) -> Activation<'a> {
        let mut activation = inputs.activation();
        for (name, expression) in &self.variables {
            let value = expression.value(&activation, budget).map_err(|failure| {
                let why = match failure {
                    Failure::Spent => "operation cancelled: actual cost limit exceeded".to_owned(),
                    Failure::Wrong(why) => why,
                };
                barque_api::cel::EvalError::Other(format!(
                    "composited variable {name:?} fails to evaluate: {why}"
                ))
            });
            activation = activation.with_field(VARIABLES, name, value);
        }
        activation
    }
}

/// Reads a `ValidatingAdmissionPolicy`.
pub(super) fn validating(object: &Value) -> Validating {
    let (policy, names) = Policy::of(object);
    let spec = &object["spec"];
    let validation = |one: &Value| Validation {
        expression: Expression::new(&names, text(one, "expression"), &["bool"]),
        message: text(one, "message").trim().to_owned(),
        message_expression: Some(text(one, "messageExpression"))
            .filter(|source| !source.is_empty())
            .map(|source| Expression::new(&names.of_messages(), source, &["string"])),
        reason: match text(one, "reason") {
            "Unauthorized" => Reason::Unauthorized,
            "Forbidden" => Reason::Forbidden,
            "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
            _ => Reason::Invalid,
        },
    };
    let annotation = |one: &Value| {
        let source = text(one, "valueExpression");
        (text(one, "key").to_owned(), Expression::new(&names, source, &["string", "null_type"]))
    };
    Validating {
        validations: items(spec, "validations").map(validation).collect(),
        annotations: items(spec, "auditAnnotations").map(annotation).collect(),
        policy,
    }
}

/// Reads a `MutatingAdmissionPolicy`.
pub(super) fn mutating(object: &Value) -> Mutating {
    let (policy, names) = Policy::of(object);
    let names = names.with_objects();
    let spec = &object["spec"];
    Mutating {
        mutations: items(spec, "mutations").map(|mutation| Mutation::of(mutation, &names)).collect(),
        again: text(spec, "reinvocationPolicy") == "IfNeeded",
        policy,
    }
}

/// Reads a binding of either kind.
pub(super) fn binding(object: &Value) -> Binding {
    let spec = &object["spec"];
    let given = |field: &str| spec.get(field).filter(|value| !value.is_null());
    Binding {
        name: Metadata::of(object).name().to_owned(),
        policy: text(spec, "policyName").to_owned(),
        criteria: given("matchResources").map(Criteria::of),
        params: given("paramRef").map(Reference::of),
        actions: items(spec, "validationActions").filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}
