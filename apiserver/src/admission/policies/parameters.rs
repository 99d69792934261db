//! Which objects a binding hands to its policy as parameters. Pure. Must never look them up.

use barque_api::labels::Selector;
use serde_json::Value;

/// The field `paramRef` of a binding.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    name: String,
    /// Empty for that of the request.
    namespace: String,
    selector: Option<Result<Selector, String>>,
    denies_nothing: bool,
}

/// What is to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The object of this name.
    One { namespace: String, name: String },
    /// All objects that the selector chooses.
    Chosen { namespace: String, selector: Selector },
}

impl Reference {
    pub(super) fn of(value: &Value) -> Self {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let selector = value.get("selector").filter(|selector| !selector.is_null());
        Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: selector
                .map(|selector| Selector::of_object(Some(selector)).map_err(|error| error.to_string())),
            denies_nothing: text("parameterNotFoundAction") == "Deny",
        }
    }

    /// What is to be looked up for a request in a namespace, which is empty for none.
    ///
    /// # Errors
    /// When that cannot be said, in words.
    pub(super) fn wanted(&self, namespaced: bool, namespace: &str) -> Result<Wanted, String> {
        let namespace = match (namespaced, self.namespace.as_str()) {
            (false, "") => String::new(),
            (false, _) => {
                return Err(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()
                );
            }
            (true, "") if namespace.is_empty() => {
                let why =
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(why.to_owned());
            }
            (true, "") => namespace.to_owned(),
            (true, own) => own.to_owned(),
        };
        match (&self.selector, self.name.as_str()) {
            (None, "") => Err("one of name or selector must be provided".to_owned()),
            (None, name) => Ok(Wanted::One { namespace, name: name.to_owned() }),
            (Some(selector), "") => Ok(Wanted::Chosen { namespace, selector: selector.clone()? }),
            (Some(_), _) => Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
        }
    }

    /// What was found, unless nothing was and that is not enough.
    ///
    /// # Errors
    /// When it is not enough.
    pub(super) fn enough(&self, found: Vec<Value>) -> Result<Vec<Value>, String> {
        if found.is_empty() && self.denies_nothing {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_in_the_namespace_that_fits() {
        let wanted = |reference: Value, namespaced: bool, namespace: &str| {
            Reference::of(&reference).wanted(namespaced, namespace)
        };
        let one = |namespace: &str| Ok(Wanted::One { namespace: namespace.to_owned(), name: "p".to_owned() });
        assert_eq!(wanted(json!({"name": "p"}), true, "a"), one("a"));
        assert_eq!(wanted(json!({"name": "p", "namespace": "b"}), true, "a"), one("b"));
        assert_eq!(wanted(json!({"name": "p", "namespace": "b"}), true, ""), one("b"));
        assert_eq!(wanted(json!({"name": "p"}), false, "a"), one(""));
        assert_eq!(
            wanted(json!({"name": "p"}), true, "").unwrap_err(),
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        );
        assert_eq!(
            wanted(json!({"name": "p", "namespace": "b"}), false, "a").unwrap_err(),
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
        );
        assert!(matches!(wanted(json!({"selector": {}}), true, "a"), Ok(Wanted::Chosen { .. })));
    }

    #[test]
    fn nothing_may_be_enough_or_not() {
        let enough = |action: &str| {
            Reference::of(&json!({"name": "p", "parameterNotFoundAction": action})).enough(Vec::new())
        };
        assert_eq!(enough("Allow"), Ok(Vec::new()));
        assert!(enough("Deny").is_err());
    }
}
