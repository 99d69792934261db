//! Which requests webhooks and policies are asked about: rules, and selectors of namespaces and objects, in the version of the
//! request or in another one of the same objects. Pure. Must never evaluate an expression.

use barque_api::kind::GroupVersionResource;
use barque_api::labels::Selector;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::Value;

use super::asked::{Asked, Place, is_about_namespaces, namespace_of};

/// A selector as it stands in a configuration, or why it is none.
type Chosen = Result<Selector, String>;

/// What somebody is asked about.
#[derive(Clone, Debug)]
pub(super) struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Without rules, everything fits.
    all_without_rules: bool,
    /// Rules may name any version.
    equivalent: bool,
    namespaces: Chosen,
    objects: Chosen,
}

/// One rule; names are compared, and `*` stands for all.
#[derive(Clone, Debug, Default)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Collections with their subresources, which are empty for objects themselves.
    resources: Vec<(String, String)>,
    scope: String,
    /// Of objects; none for all.
    names: Vec<String>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

impl Rule {
    fn of(value: &Value) -> Self {
        let split = |resource: String| match resource.split_once('/') {
            Some((resource, below)) => (resource.to_owned(), below.to_owned()),
            None => (resource, String::new()),
        };
        Self {
            operations: texts(value, "operations"),
            groups: texts(value, "apiGroups"),
            versions: texts(value, "apiVersions"),
            resources: texts(value, "resources").into_iter().map(split).collect(),
            scope: value.get("scope").and_then(Value::as_str).unwrap_or("*").to_owned(),
            names: texts(value, "resourceNames"),
        }
    }

    fn all_of(value: &Value, field: &str) -> Vec<Self> {
        let list = value.get(field).and_then(Value::as_array);
        list.into_iter().flatten().map(Self::of).collect()
    }

    fn fits(&self, asked: &Asked<'_>, object: &Value, resource: &GroupVersionResource) -> bool {
        let attributes = asked.attributes;
        let cluster = is_about_namespaces(resource) || namespace_of(attributes, object).is_empty();
        let scope = match self.scope.as_str() {
            "*" => true,
            "Namespaced" => !cluster,
            "Cluster" => cluster,
            _ => false,
        };
        let below = attributes.subresource;
        let is = |part: &str, wanted: &str| part == "*" || part == wanted;
        scope
            && has(&self.operations, attributes.operation.name())
            && has(&self.groups, &resource.group)
            && has(&self.versions, &resource.version)
            && self.resources.iter().any(|(one, sub)| is(one, &resource.resource) && is(sub, below))
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }
}

impl Criteria {
    /// Of a webhook, whose rules stand in `rules`. Without rules it is asked about nothing.
    pub(super) fn of_webhook(webhook: &Value) -> Self {
        Self { rules: Rule::all_of(webhook, "rules"), all_without_rules: false, ..Self::of(webhook) }
    }

    /// Of `matchConstraints` or `matchResources`. Without rules everything fits.
    pub(super) fn of(value: &Value) -> Self {
        let selector = |field: &str| {
            Selector::of_object(value.get(field).filter(|selector| !selector.is_null()))
                .map_err(|error| error.to_string())
        };
        Self {
            rules: Rule::all_of(value, "resourceRules"),
            excluded: Rule::all_of(value, "excludeResourceRules"),
            all_without_rules: true,
            equivalent: value.get("matchPolicy").and_then(Value::as_str) == Some("Equivalent"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Whether the request with this object fits, and in which version.
    ///
    /// # Errors
    /// When all fits as far as is known, but a selector cannot be read, or the namespace is not known.
    pub(super) fn place(&self, asked: &Asked<'_>, object: &Value) -> Result<Option<Place>, Status> {
        let namespace = self.chooses_namespace(asked, object);
        let objects = self.chooses_object(asked, object);
        if matches!(namespace, Ok(false)) || matches!(objects, Ok(false)) {
            return Ok(None);
        }
        if self.find(&self.excluded, asked, object).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() && self.all_without_rules {
            Some(asked.place())
        } else {
            self.find(&self.rules, asked, object)
        };
        if found.is_some() {
            namespace?;
            objects?;
        }
        Ok(found)
    }

    fn find(&self, rules: &[Rule], asked: &Asked<'_>, object: &Value) -> Option<Place> {
        if rules.iter().any(|rule| rule.fits(asked, object, asked.attributes.resource)) {
            return Some(asked.place());
        }
        let equivalents = if self.equivalent { asked.equivalents.as_slice() } else { &[] };
        let mut each = rules.iter().flat_map(|rule| equivalents.iter().map(move |place| (rule, place)));
        each.find(|(rule, place)| rule.fits(asked, object, &place.resource)).map(|(_, place)| place.clone())
    }

    fn chooses_namespace(&self, asked: &Asked<'_>, object: &Value) -> Result<bool, Status> {
        let resource = asked.attributes.resource;
        if namespace_of(asked.attributes, object).is_empty() && !is_about_namespaces(resource) {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        Ok(selector.matches(&asked.namespace_labels(object)?))
    }

    fn chooses_object(&self, asked: &Asked<'_>, object: &Value) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let fits = |object: &Value| object.is_object() && selector.matches(&Metadata::of(object).labels());
        Ok(fits(object) || asked.attributes.old.is_some_and(fits))
    }
}

#[cfg(test)]
mod tests {
    use barque_api::kind::GroupVersionKind;
    use barque_api::time::Time;
    use serde_json::json;

    use super::super::asked::Namespace;
    use super::super::{Attributes, Operation};
    use super::*;
    use crate::authorization::User;

    struct Question {
        operation: Operation,
        resource: (&'static str, &'static str, &'static str),
        subresource: &'static str,
        namespace: &'static str,
        old: Option<Value>,
    }

    const PODS: Question = Question {
        operation: Operation::Create,
        resource: ("", "v1", "pods"),
        subresource: "",
        namespace: "a",
        old: None,
    };

    fn place(criteria: &Criteria, question: &Question, object: &Value) -> Result<Option<Place>, Status> {
        let (group, version, resource) = question.resource;
        let attributes = Attributes {
            operation: question.operation,
            user: &User::default(),
            kind: &GroupVersionKind::new(group, version, "Any"),
            resource: &GroupVersionResource::new(group, version, resource),
            subresource: question.subresource,
            namespace: question.namespace,
            name: "n",
            old: question.old.as_ref(),
            options: &Value::Null,
            dry_run: false,
            now: Time::of_unix(0),
        };
        let namespace = match question.namespace {
            "" => Namespace::None,
            "gone" => Namespace::Missing(Status::bad_request("gone")),
            name => Namespace::Found(json!({"metadata": {"name": name, "labels": {"name": name}}})),
        };
        let equivalent = GroupVersionResource::new(group, "v2", resource);
        let equivalents =
            vec![Place { resource: equivalent, kind: GroupVersionKind::new(group, "v2", "Any") }];
        criteria.place(&Asked { attributes: &attributes, equivalents, namespace, served: None }, object)
    }

    fn webhook(rule: Value, more: Value) -> Criteria {
        let mut all =
            json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        all.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        let mut webhook = json!({"rules": [all], "namespaceSelector": {}, "objectSelector": {}});
        webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Criteria::of_webhook(&webhook)
    }

    fn fits(rule: Value, more: Value, question: &Question, object: &Value) -> bool {
        place(&webhook(rule, more), question, object).unwrap().is_some()
    }

    #[test]
    fn rules_name_what_is_done_to_what() {
        let status = Question { subresource: "status", ..PODS };
        let nodes = Question { resource: ("", "v1", "nodes"), namespace: "", ..PODS };
        let namespaces = Question { resource: ("", "v1", "namespaces"), namespace: "", ..PODS };
        let table = [
            (json!({}), &PODS, true),
            (json!({"operations": ["UPDATE", "CREATE"]}), &PODS, true),
            (json!({"operations": ["UPDATE"]}), &PODS, false),
            (json!({"apiGroups": [""]}), &PODS, true),
            (json!({"apiGroups": ["apps"]}), &PODS, false),
            (json!({"apiVersions": ["v2"]}), &PODS, false),
            (json!({"resources": ["pods"]}), &PODS, true),
            (json!({"resources": ["pods"]}), &status, false),
            (json!({"resources": ["*"]}), &status, false),
            (json!({"resources": ["pods/*"]}), &status, true),
            (json!({"resources": ["pods/*"]}), &PODS, true),
            (json!({"resources": ["*/status"]}), &status, true),
            (json!({"resources": ["*/*"]}), &status, true),
            (json!({"resources": ["pods/log"]}), &status, false),
            (json!({"scope": "Namespaced"}), &PODS, true),
            (json!({"scope": "Namespaced"}), &nodes, false),
            (json!({"scope": "Namespaced"}), &namespaces, false),
            (json!({"scope": "Cluster"}), &PODS, false),
            (json!({"scope": "Cluster"}), &nodes, true),
            (json!({"scope": "Cluster"}), &namespaces, true),
        ];
        for (rule, question, expected) in table {
            assert_eq!(fits(rule.clone(), json!({}), question, &json!({})), expected, "{rule}");
        }
    }

    #[test]
    fn namespaces_are_chosen_by_their_labels() {
        let chosen = |name: &str| json!({"namespaceSelector": {"matchLabels": {"name": name}}});
        let any = json!({});
        assert!(fits(json!({}), chosen("a"), &PODS, &any));
        assert!(!fits(json!({}), chosen("b"), &PODS, &any));
        let nodes = Question { resource: ("", "v1", "nodes"), namespace: "", ..PODS };
        assert!(fits(json!({}), chosen("b"), &nodes, &any));
        // A new namespace has the labels that it is given.
        let namespaces = Question { resource: ("", "v1", "namespaces"), namespace: "", ..PODS };
        let object = json!({"metadata": {"labels": {"name": "b"}}});
        assert!(fits(json!({}), chosen("b"), &namespaces, &object));
        assert!(!fits(json!({}), chosen("a"), &namespaces, &object));
        let gone = Question { namespace: "gone", ..PODS };
        assert_eq!(place(&webhook(json!({}), chosen("a")), &gone, &any).unwrap_err().message, "gone");
        let other = json!({"resources": ["nodes"]});
        assert_eq!(place(&webhook(other, chosen("a")), &gone, &any).unwrap(), None);
    }

    #[test]
    fn objects_are_chosen_by_labels_that_they_have_or_had() {
        let chosen = json!({"objectSelector": {"matchLabels": {"a": "b"}}});
        let labelled = json!({"metadata": {"labels": {"a": "b"}}});
        assert!(fits(json!({}), chosen.clone(), &PODS, &labelled));
        assert!(!fits(json!({}), chosen.clone(), &PODS, &json!({})));
        let changed = Question { old: Some(labelled), operation: Operation::Update, ..PODS };
        assert!(fits(json!({}), chosen, &changed, &json!({})));
        let absent =
            json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}});
        assert!(fits(json!({}), absent.clone(), &PODS, &json!({"metadata": {}})));
        assert!(!fits(json!({}), absent, &PODS, &Value::Null));
    }

    #[test]
    fn another_version_of_the_same_objects_fits_where_that_is_said() {
        let rule = json!({"apiVersions": ["v2"]});
        let criteria = webhook(rule.clone(), json!({"matchPolicy": "Equivalent"}));
        let found = place(&criteria, &PODS, &json!({})).unwrap().unwrap();
        assert_eq!((&*found.resource.version, &*found.kind.version), ("v2", "v2"));
        assert!(!fits(rule, json!({"matchPolicy": "Exact"}), &PODS, &json!({})));
        let criteria = webhook(json!({}), json!({"matchPolicy": "Equivalent"}));
        let found = place(&criteria, &PODS, &json!({})).unwrap().unwrap();
        assert_eq!(&*found.resource.version, "v1");
    }

    #[test]
    fn policies_exclude_and_name_objects() {
        let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        let mut named = rule.clone();
        let criteria = |resource_rules: Value, excluded: Value| {
            Criteria::of(&json!({"resourceRules": resource_rules, "excludeResourceRules": excluded,
                "namespaceSelector": {}, "objectSelector": {}}))
        };
        let fits = |criteria: &Criteria| place(criteria, &PODS, &json!({})).unwrap().is_some();
        assert!(fits(&criteria(json!([]), json!([]))));
        assert!(!fits(&criteria(json!([]), json!([rule]))));
        named["resourceNames"] = json!(["n"]);
        assert!(fits(&criteria(json!([named]), json!([]))));
        named["resourceNames"] = json!(["m"]);
        assert!(!fits(&criteria(json!([named]), json!([]))));
    }
}
