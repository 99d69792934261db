//! Expressions of webhooks and policies: which variables they may name, what these hold, and how it is told that one has no
//! value. Pure. Must never spend more than it is given.

use std::sync::{Arc, LazyLock};

use barque_api::cel::{Activation, Budget, Environment, EvalError, Program, Val};
use barque_api::schema::{Definitions, Schema, SchemaRef, Type, View};
use serde_json::Value;

use super::rights::Rights;

static NULL: Value = Value::Null;
static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(Definitions::default);

/// What all expressions that are judged together may cost when nothing of it is left.
pub(crate) const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The variable of rights.
const AUTHORIZER_NAME: &str = "authorizer";

/// The variable of variables.
pub(crate) const VARIABLES: &str = "variables";

fn object<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    let properties =
        fields.into_iter().map(|(name, schema)| (name.into(), SchemaRef::Inline(Arc::new(schema))));
    Schema { kind: Some(Type::Object), properties: properties.collect(), ..Schema::default() }
}

/// What `request` has, so that an expression that names something else is refused.
static REQUEST: LazyLock<Schema> = LazyLock::new(|| {
    let any = Schema::default;
    let text = || Schema { kind: Some(Type::String), ..Schema::default() };
    let kind = || object([("group", text()), ("version", text()), ("kind", text())]);
    let resource = || object([("group", text()), ("version", text()), ("resource", text())]);
    let user = object([("username", text()), ("uid", text()), ("groups", any()), ("extra", any())]);
    object([
        ("kind", kind()),
        ("resource", resource()),
        ("subResource", text()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("requestSubResource", text()),
        ("name", text()),
        ("namespace", text()),
        ("operation", text()),
        ("userInfo", user),
        ("dryRun", Schema { kind: Some(Type::Boolean), ..Schema::default() }),
        ("options", any()),
    ])
});

/// What `authorizer` has beside its functions.
static AUTHORIZER: LazyLock<Schema> = LazyLock::new(|| object([("requestResource", Schema::default())]));

/// The variables that expressions of a configuration may name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    params: bool,
    without_rights: bool,
    objects: bool,
    variables: Option<Schema>,
}

impl Names {
    /// With `params`, if there are any.
    pub(crate) fn with_params(params: bool) -> Self {
        Self { params, ..Self::default() }
    }

    /// With one more field of `variables`.
    pub(crate) fn declare(&mut self, variable: &str) {
        let variables = self.variables.get_or_insert_with(|| object([]));
        variables.properties.insert(variable.into(), SchemaRef::Inline(Arc::default()));
    }

    /// With objects that expressions make.
    pub(crate) fn with_objects(&self) -> Self {
        Self { objects: true, ..self.clone() }
    }

    /// Without `authorizer`: what expressions of messages may name.
    pub(crate) fn of_messages(&self) -> Self {
        Self { without_rights: true, ..self.clone() }
    }

    fn environment(&self) -> Environment<'_> {
        let request: View<'_> = DEFINITIONS.view_of(&REQUEST);
        let mut environment = Environment::default()
            .with("object", None)
            .with("oldObject", None)
            .with("namespaceObject", None)
            .with("request", Some(request));
        if !self.without_rights {
            environment = environment.with(AUTHORIZER_NAME, Some(DEFINITIONS.view_of(&AUTHORIZER)));
        }
        if self.params {
            environment = environment.with("params", None);
        }
        if let Some(variables) = &self.variables {
            environment = environment.with(VARIABLES, Some(DEFINITIONS.view_of(variables)));
        }
        if self.objects { environment.with_objects() } else { environment }
    }

    /// Compiles an expression whose value has one of these types, or any if there are none.
    ///
    /// # Errors
    /// Why it cannot be compiled, in words.
    pub(crate) fn compile(&self, source: &str, types: &[&str]) -> Result<Program, String> {
        let program =
            Program::compile(&self.environment(), source, None).map_err(|error| error.to_string())?;
        match program.result_type() {
            Some(found) if !types.is_empty() && !types.contains(&found) => Err(match types {
                [one] => format!("must evaluate to {} but got {found}", shown(one)),
                several => format!("must evaluate to one of [{}] but got {found}", several.join(" ")),
            }),
            _ => Ok(program),
        }
    }
}

/// A type as errors call it.
fn shown(name: &str) -> &str {
    if name == "list" { "list(JSONPatch)" } else { name }
}

/// An expression, compiled as far as that is possible.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) source: String,
    program: Result<Program, String>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing is left to be spent.
    Spent,
    /// In words.
    Wrong(String),
}

impl Failure {
    /// For people.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Spent => SPENT,
            Self::Wrong(why) => why,
        }
    }
}

impl Expression {
    /// As [`Names::compile`]; that it cannot be compiled is told when it is evaluated.
    pub(crate) fn new(names: &Names, source: &str, types: &[&str]) -> Self {
        Self { source: source.to_owned(), program: names.compile(source, types) }
    }

    /// Its value.
    pub(crate) fn value<'a>(
        &self,
        activation: &Activation<'a>,
        budget: &mut Budget,
    ) -> Result<Val<'a>, Failure> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return Err(Failure::Wrong(format!("compilation error: {why}"))),
        };
        program.evaluate(activation, budget).map_err(|error| match error {
            EvalError::LimitExceeded if budget.left() == 0 => Failure::Spent,
            error => Failure::Wrong(format!("expression '{}' resulted in error: {error}", self.source)),
        })
    }
}

/// What the variables hold, but for `variables`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) object: &'a Value,
    pub(crate) old: Option<&'a Value>,
    pub(crate) request: &'a Value,
    pub(crate) namespace: &'a Value,
    pub(crate) params: Option<&'a Value>,
    pub(crate) rights: Option<&'a Rights<'a>>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn activation(&self) -> Activation<'a> {
        let any = |value: &'a Value| Val::of_json(value, None);
        let mut activation = Activation::default();
        if let Some(rights) = self.rights {
            let resource = Val::resource_check(rights, rights.resource());
            activation = activation.with(AUTHORIZER_NAME, Val::authorizer(rights)).with_field(
                AUTHORIZER_NAME,
                "requestResource",
                Ok(resource),
            );
        }
        activation
            .with("object", any(self.object))
            .with("oldObject", any(self.old.unwrap_or(&NULL)))
            .with("request", any(self.request))
            .with("namespaceObject", any(self.namespace))
            .with("params", any(self.params.unwrap_or(&NULL)))
    }
}

#[cfg(test)]
mod tests {
    use barque_api::cel::PER_OBJECT;
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_that_name_what_there_is_not_are_refused() {
        let mut names = Names::with_params(false);
        names.declare("known");
        let table = [
            ("object.a == oldObject.b", ""),
            ("request.namespace == namespaceObject.metadata.name", ""),
            ("request.userInfo.groups.exists(g, g == 'a')", ""),
            ("variables.known", ""),
            ("variables.other", "undefined field 'other'"),
            ("request.colour == 'red'", "undefined field 'colour'"),
            ("authorizer.requestResource.check('get').allowed()", ""),
            ("authorizer.path('/x').check('get').reason()", "must evaluate to bool but got string"),
            ("authorizer.user", "undefined field 'user'"),
            ("params.x", "undeclared reference to 'params' (in container '')"),
            ("Object{}", "undeclared reference to 'Object' (in container '')"),
            ("'text'", "must evaluate to bool but got string"),
            ("object.", "Syntax error"),
        ];
        for (source, expected) in table {
            match names.compile(source, &["bool"]) {
                Ok(_) => assert_eq!(expected, "", "{source}"),
                Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{source}: {error}"),
            }
        }
        assert!(Names::with_params(true).compile("params.x == 1", &["bool"]).is_ok());
        assert!(names.with_objects().compile("Object{}", &["Object"]).is_ok());
        let error = names.of_messages().compile("authorizer.path('/x').check('get').reason()", &["string"]);
        assert!(error.unwrap_err().contains("undeclared reference to 'authorizer'"));
        let error = names.compile("1", &["string", "null_type"]).unwrap_err();
        assert_eq!(error, "must evaluate to one of [string null_type] but got int");
    }

    #[test]
    fn what_has_no_value_says_why() {
        let (object, nothing) = (json!({"a": 1, "list": vec![1; 300]}), Value::Null);
        let inputs = Inputs {
            object: &object,
            old: None,
            request: &nothing,
            namespace: &nothing,
            params: None,
            rights: None,
        };
        let value = |source: &str, units: u64| {
            let expression = Expression::new(&Names::default(), source, &[]);
            expression.value(&inputs.activation(), &mut Budget::new(units)).map(|_| ())
        };
        assert_eq!(value("object.a == 1 && oldObject == null", PER_OBJECT), Ok(()));
        assert_eq!(
            value("object.b == 1", PER_OBJECT).unwrap_err().message(),
            "expression 'object.b == 1' resulted in error: no such key: b"
        );
        assert_eq!(value("object.list.all(a, a > 0)", 100), Err(Failure::Spent));
        let endless = "object.list.all(a, object.list.all(b, object.list.all(c, c > 0)))";
        assert_eq!(
            value(endless, PER_OBJECT).unwrap_err().message(),
            format!(
                "expression '{endless}' resulted in error: operation cancelled: actual cost limit exceeded"
            )
        );
    }
}
