//! Questions about authorization that clients ask as objects (`authorization.k8s.io/v1`): the object comes in, and goes out
//! with its answer. Must never decide by itself.

use std::collections::BTreeMap;

use barque_api::field::{FieldError, FieldPath};
use barque_api::field_selector::{FieldSelector, Term};
use barque_api::kind::GroupVersionKind;
use barque_api::status::Status;
use serde_json::{Map, Value, json};

use super::chain::{Authorizer, KnownRules};
use super::{Action, Decision, User};

const RESOURCE: &str = "resourceAttributes";
const PATH: &str = "nonResourceAttributes";

/// Answers whether the named user may do what is asked.
///
/// # Errors
/// When the question is none.
pub fn subject_access_review(review: &Value, authorizer: &dyn Authorizer) -> Result<Value, Status> {
    let mut errors = check_question(review);
    errors.extend(check_subject(review));
    errors.extend(check_metadata(review, &[], "must be empty"));
    refuse("SubjectAccessReview", &errors)?;
    Ok(answered(review, &subject(&review["spec"]), authorizer))
}

/// The same for one namespace, that of the request.
///
/// # Errors
/// When the question is none, or is about another namespace.
pub fn local_subject_access_review(
    review: &Value,
    namespace: &str,
    authorizer: &dyn Authorizer,
) -> Result<Value, Status> {
    let mut review = review.clone();
    if text(&review["metadata"], "namespace").is_empty() {
        review["metadata"]["namespace"] = namespace.into();
    }
    let own = text(&review["metadata"], "namespace");
    let mut errors = check_question(&review);
    errors.extend(check_subject(&review));
    errors.extend(check_metadata(&review, &["namespace"], "must be empty except for namespace"));
    if let Some(asked) =
        part(&review, RESOURCE).map(|asked| text(asked, "namespace")).filter(|asked| *asked != own)
    {
        let path = FieldPath::of("spec.resourceAttributes.namespace");
        errors.push(FieldError::invalid(&path, asked, "must match metadata.namespace"));
    }
    if let Some(asked) = part(&review, PATH) {
        let path = FieldPath::of("spec.nonResourceAttributes");
        errors.push(FieldError::invalid(&path, asked.clone(), "disallowed on this kind of request"));
    }
    refuse("LocalSubjectAccessReview", &errors)?;
    if namespace.is_empty() {
        return Err(Status::bad_request("namespace is required on this type: "));
    }
    if namespace != own {
        let why = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
        return Err(Status::bad_request(why));
    }
    Ok(answered(&review, &subject(&review["spec"]), authorizer))
}

/// Answers whether the one who asks may do what is asked.
///
/// # Errors
/// When the question is none.
pub fn self_subject_access_review(
    review: &Value,
    user: &User,
    authorizer: &dyn Authorizer,
) -> Result<Value, Status> {
    let mut errors = check_question(review);
    errors.extend(check_metadata(review, &[], "must be empty"));
    refuse("SelfSubjectAccessReview", &errors)?;
    Ok(answered(review, user, authorizer))
}

/// Answers what the one who asks may do in a namespace.
///
/// # Errors
/// When no namespace is named.
pub fn self_subject_rules_review(
    review: &Value,
    user: &User,
    authorizer: &dyn Authorizer,
) -> Result<Value, Status> {
    let namespace = text(&review["spec"], "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let KnownRules { rules, incomplete, error } = authorizer.rules(user, namespace);
    let mut resource_rules = Vec::new();
    let mut path_rules = Vec::new();
    for rule in rules {
        let verbs = &rule.verbs;
        if !rule.resources.is_empty() {
            let mut one = json!({"verbs": verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                one["resourceNames"] = json!(rule.names);
            }
            resource_rules.push(one);
        }
        if !rule.paths.is_empty() {
            path_rules.push(json!({"verbs": verbs, "nonResourceURLs": rule.paths}));
        }
    }
    let mut status =
        json!({"resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": incomplete});
    if !error.is_empty() {
        status["evaluationError"] = error.into();
    }
    Ok(json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "metadata": {},
        "spec": {},
        "status": status,
    }))
}

fn answered(review: &Value, user: &User, authorizer: &dyn Authorizer) -> Value {
    let (action, fields) = question(&review["spec"]);
    let decision = authorizer.decide(user, &action, &fields);
    let mut status = json!({"allowed": matches!(decision, Decision::Allow(_))});
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    let (Decision::Allow(reason) | Decision::Deny(reason) | Decision::NoOpinion(reason)) = decision;
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    let mut answer = review.clone();
    answer["status"] = status;
    answer
}

/// What is asked, of a question that was checked.
fn question(spec: &Value) -> (Action, FieldSelector) {
    let owned = |value: &Value, field: &str| text(value, field).to_owned();
    let Some(asked) = spec.get(RESOURCE).filter(|asked| asked.is_object()) else {
        let asked = &spec[PATH];
        return (
            Action::Path { verb: owned(asked, "verb"), path: owned(asked, "path") },
            FieldSelector::default(),
        );
    };
    let resource = match text(asked, "subresource") {
        "" => owned(asked, "resource"),
        below => format!("{}/{below}", text(asked, "resource")),
    };
    let action = Action::Resource {
        verb: owned(asked, "verb"),
        group: owned(asked, "group"),
        resource,
        namespace: owned(asked, "namespace"),
        name: owned(asked, "name"),
    };
    (action, asked.get("fieldSelector").map(fields).unwrap_or_default())
}

/// As far as a selector's terms can be told; what cannot makes the question wider, never narrower.
fn fields(selector: &Value) -> FieldSelector {
    let raw = text(selector, "rawSelector");
    if !raw.is_empty() {
        return raw.parse().unwrap_or_default();
    }
    let terms = list(selector, "requirements").iter().filter_map(|requirement| {
        let equals = match text(requirement, "operator") {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        let [value] = list(requirement, "values") else { return None };
        Some(Term { field: text(requirement, "key").to_owned(), value: value.as_str()?.to_owned(), equals })
    });
    FieldSelector::of(terms.collect())
}

/// Who is asked about.
fn subject(spec: &Value) -> User {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra: BTreeMap<String, Vec<String>> = spec
        .get("extra")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.clone(), texts(values)))
        .collect();
    User {
        name: text(spec, "user").to_owned(),
        uid: text(spec, "uid").to_owned(),
        groups: spec.get("groups").map(texts).unwrap_or_default(),
        extra,
    }
}

fn check_question(review: &Value) -> Vec<FieldError> {
    let spec = FieldPath::of("spec");
    let (resource, path) = (part(review, RESOURCE), part(review, PATH));
    let mut errors = Vec::new();
    match (resource, path) {
        (Some(_), Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&spec.child(PATH), path.clone(), why));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&spec.child(RESOURCE), Value::Null, why));
        }
        _ => {}
    }
    if let Some(resource) = resource {
        for field in ["fieldSelector", "labelSelector"] {
            if let Some(selector) = resource.get(field).filter(|selector| selector.is_object()) {
                errors.extend(check_selector(selector, &spec.child(RESOURCE).child(field)));
            }
        }
    }
    errors
}

fn check_selector(selector: &Value, path: &FieldPath) -> Vec<FieldError> {
    let raw = text(selector, "rawSelector");
    let requirements = list(selector, "requirements");
    let mut errors = Vec::new();
    if !raw.is_empty() && !requirements.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&path.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&path.child("requirements"), why));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(index);
        if text(requirement, "key").is_empty() {
            errors.push(FieldError::required(&path.child("key"), "must be specified"));
        }
        let values = list(requirement, "values");
        // Operators that are not known may be those of newer clients.
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&path.child("values"), why));
            }
            _ => {}
        }
    }
    errors
}

fn check_subject(review: &Value) -> Option<FieldError> {
    let spec = &review["spec"];
    let nobody = text(spec, "user").is_empty() && list(spec, "groups").is_empty();
    let path = FieldPath::of("spec.user");
    nobody.then(|| FieldError::invalid(&path, "", "at least one of user or group must be specified"))
}

fn check_metadata(review: &Value, allowed: &[&str], why: &str) -> Option<FieldError> {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let metadata = review.get("metadata").and_then(Value::as_object)?;
    let strange = metadata.iter().any(|(field, value)| {
        field != "managedFields" && !allowed.contains(&field.as_str()) && !empty(value)
    });
    strange.then(|| FieldError::invalid(&FieldPath::of("metadata"), Map::clone(metadata), why))
}

fn refuse(kind: &str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupVersionKind::new("authorization.k8s.io", "v1", kind);
    Err(Status::invalid(&kind, "", errors))
}

/// A part of the question that is there.
fn part<'a>(review: &'a Value, field: &str) -> Option<&'a Value> {
    review.get("spec")?.get(field).filter(|value| value.is_object())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::super::rules::Rule;
    use super::*;

    /// Allows eva what she asks, denies `delete` to all, and has no opinion about the rest.
    struct Judge;

    impl Authorizer for Judge {
        fn decide(&self, user: &User, action: &Action, fields: &FieldSelector) -> Decision {
            let described = format!("{action} on {}", fields.exact("spec.nodeName").unwrap_or("any"));
            match action {
                Action::Resource { verb, .. } if verb == "delete" => Decision::Deny("never".into()),
                _ if user.name == "eva" => Decision::Allow(described),
                _ => Decision::NoOpinion(String::new()),
            }
        }

        fn rules(&self, _: &User, namespace: &str) -> KnownRules {
            let about = Rule::of(&json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
            let path = Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["/livez"]}));
            KnownRules { rules: vec![about, path], incomplete: true, error: format!("only {namespace}") }
        }
    }

    fn resource(verb: &str) -> Value {
        json!({"verb": verb, "resource": "pods", "subresource": "log", "namespace": "x", "name": "web"})
    }

    #[test]
    fn a_review_comes_back_with_its_answer() {
        let ask = |spec: Value| {
            subject_access_review(&json!({"kind": "SubjectAccessReview", "spec": spec}), &Judge)
        };
        let spec = json!({"user": "eva", "resourceAttributes": resource("get")});
        let answer = ask(spec.clone()).unwrap();
        let reason = r#"get resource "pods/log" in API group "" in the namespace "x" on any"#;
        assert_eq!(answer["status"], json!({"allowed": true, "reason": reason}));
        assert_eq!(answer["spec"], spec);
        let answer = ask(json!({"groups": ["staff"], "resourceAttributes": resource("get")})).unwrap();
        assert_eq!(answer["status"], json!({"allowed": false}));
        let answer = ask(json!({"user": "eva", "resourceAttributes": resource("delete")})).unwrap();
        assert_eq!(answer["status"], json!({"allowed": false, "denied": true, "reason": "never"}));
        let answer =
            ask(json!({"user": "eva", "nonResourceAttributes": {"verb": "get", "path": "/x"}})).unwrap();
        assert_eq!(answer["status"]["reason"], r#"get path "/x" on any"#);
    }

    #[test]
    fn selectors_of_fields_reach_the_one_who_is_asked() {
        let selectors = [
            (json!({"rawSelector": "spec.nodeName=a"}), "a"),
            (json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]}), "a"),
            (
                json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a", "b"]}]}),
                "any",
            ),
            (
                json!({"requirements": [{"key": "spec.nodeName", "operator": "NotIn", "values": ["a"]}]}),
                "any",
            ),
        ];
        for (selector, node) in selectors {
            let attributes = json!({"verb": "list", "resource": "pods", "fieldSelector": selector});
            let review = json!({"spec": {"resourceAttributes": attributes}});
            let eva = User { name: "eva".into(), ..User::default() };
            let answer = self_subject_access_review(&review, &eva, &Judge).unwrap();
            let reason = answer["status"]["reason"].as_str().unwrap();
            assert!(reason.ends_with(&format!(" on {node}")), "{selector} {reason}");
        }
    }

    #[test]
    fn questions_that_are_none_are_refused_as_kubernetes_does() {
        let path = json!({"verb": "get", "path": "/x"});
        let table = [
            (
                json!({"spec": {"user": "eva"}}),
                "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
                 resourceAttributes must be specified",
            ),
            (
                json!({"spec": {"resourceAttributes": {}}}),
                r#"spec.user: Invalid value: "": at least one of user or group must be specified"#,
            ),
            (
                json!({"spec": {"user": "eva", "resourceAttributes": {"fieldSelector": {}}}}),
                "spec.resourceAttributes.fieldSelector.requirements: Required value: when \
                 spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
            ),
            (
                json!({"spec": {"user": "eva", "resourceAttributes":
                    {"labelSelector": {"requirements": [{"key": "a", "operator": "In"}]}}}}),
                "spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified \
                 when `operator` is 'In' or 'NotIn'",
            ),
        ];
        for (review, expected) in table {
            let error = subject_access_review(&review, &Judge).unwrap_err();
            let expected = format!("SubjectAccessReview.authorization.k8s.io \"\" is invalid: {expected}");
            assert_eq!(error.message, expected);
        }
        let both = json!({"spec": {"user": "eva", "resourceAttributes": {}, "nonResourceAttributes": path}});
        let error = subject_access_review(&both, &Judge).unwrap_err();
        assert!(error.message.ends_with("cannot be specified in combination with resourceAttributes"));
        let named = json!({"metadata": {"name": "n"}, "spec": {"user": "eva", "resourceAttributes": {}}});
        let error = subject_access_review(&named, &Judge).unwrap_err();
        assert!(error.message.ends_with(": must be empty"), "{}", error.message);
    }

    #[test]
    fn a_local_review_is_about_its_namespace() {
        let ask = |review: &Value| local_subject_access_review(review, "x", &Judge);
        let mut review = json!({"metadata": {"namespace": "x"}, "spec": {"user": "eva", "resourceAttributes": resource("get")}});
        assert_eq!(ask(&review).unwrap()["status"]["allowed"], true);
        review["metadata"] = json!({});
        assert_eq!(ask(&review).unwrap()["metadata"]["namespace"], "x");
        review["metadata"] = json!({"namespace": "y"});
        let error = ask(&review).unwrap_err();
        assert!(error.message.ends_with("must match metadata.namespace"), "{}", error.message);
        review["spec"]["resourceAttributes"]["namespace"] = "y".into();
        let error = ask(&review).unwrap_err();
        assert_eq!(error.message, "spec.resourceAttributes.namespace must match namespace: x");
        let path = json!({"metadata": {"namespace": "x"}, "spec": {"user": "eva", "nonResourceAttributes": {"path": "/"}}});
        let error = ask(&path).unwrap_err();
        assert!(error.message.ends_with("disallowed on this kind of request"), "{}", error.message);
    }

    #[test]
    fn rules_are_listed_by_what_they_are_about() {
        let ask = |review: &Value| self_subject_rules_review(review, &User::default(), &Judge);
        let answer = ask(&json!({"spec": {"namespace": "x"}})).unwrap();
        let expected = json!({
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/livez"]}],
            "incomplete": true,
            "evaluationError": "only x",
        });
        assert_eq!(answer["status"], expected);
        assert_eq!(ask(&json!({})).unwrap_err().message, "no namespace on request");
    }
}
