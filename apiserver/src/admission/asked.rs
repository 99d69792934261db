//! A request as rules and expressions see it: what it is about in every version in which that is served, its namespace, and the
//! object `request`. Pure. Must never look anything up.

use std::sync::Arc;

use barque_api::kind::{GroupResource, GroupVersionKind, GroupVersionResource};
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};
use crate::registry::served::Served;

const REGISTRATION: &str = "admissionregistration.k8s.io";
/// Kinds that say who is asked: nobody is asked about those, or nobody could get rid of them.
const CONFIGURATION: [&str; 6] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];
/// Reviews by which components find out who may do what: nobody is asked about those, or a cluster could lock itself up.
const REVIEWS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// A version of a collection, and the type of what is sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) resource: GroupVersionResource,
    pub(super) kind: GroupVersionKind,
}

/// The namespace of a request.
#[derive(Clone, Debug)]
pub(super) enum Namespace {
    /// It is about no namespace, or about one that is not there yet.
    None,
    Found(Value),
    /// It could not be read, or is not there.
    Missing(Status),
}

/// A request with what is known about it.
pub(super) struct Asked<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    /// Where the same could have been asked for in another version.
    pub(super) equivalents: Vec<Place>,
    /// The version that the request names.
    pub(super) served: Option<Arc<Served>>,
    pub(super) namespace: Namespace,
}

/// Whether neither webhooks nor policies are asked about it.
pub(super) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    let GroupVersionResource { group, resource, .. } = attributes.resource;
    (*attributes.kind.group == *REGISTRATION && CONFIGURATION.contains(&&*attributes.kind.kind))
        || REVIEWS.contains(&(group, resource))
}

/// Whether it is about namespaces themselves.
pub(super) fn is_about_namespaces(resource: &GroupVersionResource) -> bool {
    resource.group.is_empty() && *resource.resource == *"namespaces"
}

/// The namespace of a request; a namespace is in itself.
pub(super) fn namespace_of<'a>(attributes: &Attributes<'a>, object: &'a Value) -> &'a str {
    if !is_about_namespaces(attributes.resource) {
        return attributes.namespace;
    }
    if attributes.name.is_empty() { Metadata::of(object).name() } else { attributes.name }
}

impl Asked<'_> {
    /// As the request itself says.
    pub(super) fn place(&self) -> Place {
        Place { resource: self.attributes.resource.clone(), kind: self.attributes.kind.clone() }
    }

    /// The labels by which namespaces are chosen.
    ///
    /// # Errors
    /// When the namespace is not known.
    pub(super) fn namespace_labels<'a>(
        &'a self,
        object: &'a Value,
    ) -> Result<Option<&'a Map<String, Value>>, Status> {
        let attributes = self.attributes;
        let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
        if is_about_namespaces(attributes.resource) && attributes.subresource.is_empty() && writes {
            return Ok(Metadata::of(object).labels());
        }
        match &self.namespace {
            Namespace::Found(namespace) => Ok(Metadata::of(namespace).labels()),
            Namespace::Missing(status) => Err(status.clone()),
            Namespace::None => {
                let name = namespace_of(attributes, object);
                Err(Status::not_found(&GroupResource::new("", "namespaces"), name))
            }
        }
    }

    /// The variable `request` of expressions, and what webhooks are sent beside uid and objects.
    pub(super) fn request(&self, place: &Place, object: &Value) -> Value {
        let attributes = self.attributes;
        let user = attributes.user;
        let mut told = json!({
            "kind": kind_of(&place.kind),
            "resource": resource_of(&place.resource),
            "requestKind": kind_of(attributes.kind),
            "requestResource": resource_of(attributes.resource),
            "operation": attributes.operation.name(),
            "userInfo": {"username": user.name},
            "dryRun": attributes.dry_run,
            "options": attributes.options,
        });
        if !user.uid.is_empty() {
            told["userInfo"]["uid"] = user.uid.as_str().into();
        }
        if !user.groups.is_empty() {
            told["userInfo"]["groups"] = json!(user.groups);
        }
        if !user.extra.is_empty() {
            told["userInfo"]["extra"] = json!(user.extra);
        }
        let texts = [
            ("subResource", attributes.subresource),
            ("requestSubResource", attributes.subresource),
            ("name", attributes.name),
            ("namespace", namespace_of(attributes, object)),
        ];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            told[field] = text.into();
        }
        told
    }

    /// The variable `namespaceObject` of expressions: null for what is in no namespace.
    ///
    /// # Errors
    /// When the namespace is not known.
    pub(super) fn namespace_object(&self) -> Result<Value, Status> {
        if is_about_namespaces(self.attributes.resource) {
            return Ok(Value::Null);
        }
        match &self.namespace {
            Namespace::None => Ok(Value::Null),
            Namespace::Missing(status) => Err(status.clone()),
            Namespace::Found(namespace) => {
                let mut metadata = namespace["metadata"].clone();
                if let Some(fields) = metadata.as_object_mut() {
                    for hidden in ["managedFields", "ownerReferences", "selfLink"] {
                        fields.remove(hidden);
                    }
                }
                Ok(json!({"metadata": metadata, "spec": namespace["spec"], "status": namespace["status"]}))
            }
        }
    }
}

fn kind_of(kind: &GroupVersionKind) -> Value {
    json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind})
}

fn resource_of(resource: &GroupVersionResource) -> Value {
    json!({"group": &*resource.group, "version": &*resource.version, "resource": &*resource.resource})
}

/// The request is refused, as plugins refuse it: 403 with the name that it has or will have.
pub(super) fn forbidden(attributes: &Attributes<'_>, object: &Value, why: &str) -> Status {
    let metadata = Metadata::of(object);
    let known = [attributes.name, metadata.name(), metadata.generate_name()];
    let name = known.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
    Status::forbidden(&attributes.resource.group_resource(), name, why)
}

#[cfg(test)]
mod tests {
    use barque_api::time::Time;

    use super::*;
    use crate::authorization::User;

    #[test]
    fn nobody_is_asked_about_who_is_asked_or_who_may() {
        let exempt = |group: &str, resource: &str, kind: &str| {
            is_exempt(&Attributes {
                operation: Operation::Create,
                user: &User::default(),
                kind: &GroupVersionKind::new(group, "v1", kind),
                resource: &GroupVersionResource::new(group, "v1", resource),
                subresource: "",
                namespace: "",
                name: "a",
                old: None,
                options: &Value::Null,
                dry_run: false,
                now: Time::of_unix(0),
            })
        };
        for kind in CONFIGURATION {
            assert!(exempt(REGISTRATION, "any", kind), "{kind}");
        }
        for (group, resource) in REVIEWS {
            assert!(exempt(group, resource, "Any"), "{resource}");
        }
        assert!(!exempt("", "pods", "Pod"));
        assert!(!exempt("example.com", "tokenreviews", "ValidatingAdmissionPolicy"));
    }
}
