//! What every cluster has from its start, and how it is kept: roles, namespaces, priorities, limits, the cluster's own
//! service. Pure: tells what should be there and what to do about what is; must never read or write it.

mod aggregation;
mod api_services;
mod authentication;
mod basics;
mod flow_control;
mod own_service;
mod rbac;
mod roles;

use barque_api::ip::Cidr;
use barque_api::kind::{GroupVersion, GroupVersionResource};
use serde_json::{Value, json};

pub use aggregation::aggregate;
pub use api_services::locally_available;
pub use authentication::{AuthenticationConfig, RequestHeader};
pub use flow_control::is_obsolete;
pub use own_service::{LEASE_SECONDS, endpoints, lease, live};
pub use roles::rules_of;

/// What the server was told at its start, as far as objects of the start depend on it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--service-cluster-ip-range`: one network, or one of each family; the first is that of the cluster's own service.
    pub service_ranges: Vec<Cidr>,
    /// Where servers listen (`--secure-port`).
    pub secure_port: u16,
    /// How those that extend the API find out who a request comes from.
    pub authentication: AuthenticationConfig,
}

/// How an object is kept once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As anybody leaves it.
    CreateOnly,
    /// Rules that are missing come back, unless the object says that it is not updated.
    RbacRole,
    /// Subjects that are missing come back, unless the object says that it is not updated; a binding of another role is made
    /// anew, as bindings cannot change theirs.
    RbacBinding,
    /// The spec is kept; that of one that is not mandatory as long as nobody has taken it over.
    FlowControl {
        /// Whether it is kept in any case.
        mandatory: bool,
    },
    /// The spec is kept as long as the object is marked as one that is managed.
    ApiService,
    /// Type and ports are kept.
    OwnService,
    /// The addresses are kept exactly.
    Endpoints,
    /// What is there is joined with what should be.
    Authentication,
}

/// An object that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The collection.
    pub resource: GroupVersionResource,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The object as it is created.
    pub object: Value,
    /// How it is kept.
    pub rule: Rule,
}

/// What to do about an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// It is as it should be, or is left alone.
    Nothing,
    /// It is not there and is created.
    Create(Value),
    /// It is replaced by this, which has the resource version of what was looked at.
    Update(Value),
    /// It is deleted and created again, as what differs cannot be changed.
    Recreate(Value),
}

/// Everything that should be there, in the order in which it is created: namespaces before what is in them.
#[must_use]
pub fn desired(settings: &Settings) -> Vec<Desired> {
    let mut all = basics::namespaces();
    all.extend(basics::priority_classes());
    all.extend(roles::roles());
    all.extend(roles::bindings());
    all.extend(flow_control::objects());
    all.extend(basics::service_cidr(&settings.service_ranges));
    all.extend(own_service::service(settings));
    all.push(authentication::config_map(&settings.authentication));
    all.extend(api_services::objects());
    all
}

/// What to do about one object, given what stands there.
#[must_use]
pub fn plan(desired: &Desired, existing: Option<&Value>) -> Plan {
    let Some(existing) = existing else { return Plan::Create(desired.object.clone()) };
    let expected = &desired.object;
    let changed = match desired.rule {
        Rule::CreateOnly => return Plan::Nothing,
        Rule::RbacRole => rbac::role(expected, existing),
        Rule::RbacBinding => return rbac::plan_binding(expected, existing),
        Rule::FlowControl { mandatory } => flow_control::revised(expected, existing, mandatory),
        Rule::ApiService => api_services::revised(expected, existing),
        Rule::OwnService => own_service::revised(expected, existing),
        Rule::Endpoints => return own_service::plan_endpoints(expected, existing),
        Rule::Authentication => authentication::joined(expected, existing),
    };
    if changed == *existing { Plan::Nothing } else { Plan::Update(changed) }
}

impl Desired {
    /// An object of a collection; what stands in `object` beside its type, name and namespace comes from there.
    fn new(
        group_version: &GroupVersion,
        resource: &str,
        kind: &str,
        place: (&str, &str),
        rule: Rule,
    ) -> Self {
        let (namespace, name) = place;
        let mut object =
            json!({"apiVersion": group_version.to_string(), "kind": kind, "metadata": {"name": name}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let resource = group_version.resource(resource);
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned(), object, rule }
    }

    /// With this field.
    fn with(mut self, field: &str, value: Value) -> Self {
        self.object[field] = value;
        self
    }

    /// With this field of the metadata.
    fn with_metadata(mut self, field: &str, value: Value) -> Self {
        self.object["metadata"][field] = value;
        self
    }
}

/// An annotation of an object.
fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// Adds those labels or annotations to an object that it does not have; those that it has stay.
fn add_missing(object: &mut Value, expected: &Value, field: &str) {
    let Some(expected) = expected["metadata"].get(field).and_then(Value::as_object) else { return };
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let texts = metadata.entry(field).or_insert(Value::Null);
    if !texts.is_object() {
        *texts = json!({});
    }
    for (name, value) in expected {
        if texts.get(name).is_none() {
            texts[name] = value.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use barque_api::field::FieldPath;
    use barque_api::resources::Builtin;
    use barque_api::schema::{BuiltinSchemas, Extent, Place, prune, validate};

    use super::*;

    pub(super) fn settings() -> Settings {
        Settings {
            service_ranges: vec![barque_api::ip::parse_cidr("10.96.0.0/12").unwrap()],
            secure_port: 6443,
            authentication: AuthenticationConfig::default(),
        }
    }

    pub(super) fn one(resource: &str, name: &str) -> Desired {
        let all = desired(&settings());
        all.into_iter().find(|one| &*one.resource.resource == resource && one.name == name).unwrap()
    }

    #[test]
    fn each_object_is_served_and_stands_once() {
        let table = Builtin::table();
        let mut seen = HashSet::new();
        for one in desired(&settings()) {
            let resource = table.named(&one.resource).unwrap();
            assert_eq!(one.object["kind"], *resource.kind, "{}", one.name);
            assert_eq!(one.object["apiVersion"], one.resource.group_version().to_string());
            assert_eq!(one.object["metadata"]["name"], *one.name);
            assert_eq!(resource.namespaced, !one.namespace.is_empty(), "{}", one.name);
            assert!(
                seen.insert((one.resource.clone(), one.namespace.clone(), one.name.clone())),
                "{}",
                one.name
            );
        }
        assert!(seen.len() > 170, "{}", seen.len());
    }

    #[test]
    fn each_object_is_as_its_schema_has_it() {
        let schemas = BuiltinSchemas::get();
        let addresses = ["10.0.0.1".parse().unwrap()];
        let now = barque_api::time::MicroTime::of_unix_micros(1);
        let mut objects: Vec<Value> = desired(&settings()).into_iter().map(|one| one.object).collect();
        objects.extend(endpoints(&addresses, 6443).into_iter().map(|one| one.object));
        objects.push(lease("apiserver-a", "a_1", addresses[0], now, None));
        for mut object in objects {
            let group_version = GroupVersion::of_api_version(object["apiVersion"].as_str().unwrap()).unwrap();
            let kind = group_version.kind(object["kind"].as_str().unwrap());
            let view = schemas.definitions().view(schemas.name_of(&kind).unwrap()).unwrap();
            assert_eq!(validate(view, &object, &FieldPath::root(), Extent::Everything), [], "{object}");
            assert_eq!(prune(view, &mut object, Place::Object), Vec::<String>::new(), "{object}");
        }
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_there_is_left() {
        for one in desired(&settings()) {
            assert_eq!(plan(&one, None), Plan::Create(one.object.clone()));
            assert_eq!(plan(&one, Some(&one.object)), Plan::Nothing, "{} {}", one.resource, one.name);
        }
    }

    #[test]
    fn a_namespace_stays_as_it_was_made() {
        let namespace = one("namespaces", "kube-system");
        let mut existing = namespace.object.clone();
        existing["metadata"]["labels"] = json!({"mine": "yes"});
        assert_eq!(plan(&namespace, Some(&existing)), Plan::Nothing);
    }
}
