//! What documents are made from: collections, the schemas of their kinds, and which kind has which schema. Must never hold
//! one that is not served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::custom;
use crate::kind::{GroupVersion, GroupVersionKind};
use crate::resources::{Builtin, Resource};
use crate::schema::{BuiltinSchemas, Definitions, Dialect, Schema, SchemaRef, write};

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Collections and the schemas of what they hold.
#[derive(Clone, Debug)]
pub struct Source {
    resources: Vec<Arc<Resource>>,
    definitions: Definitions,
    names: HashMap<GroupVersionKind, Arc<str>>,
    custom: BTreeSet<Arc<str>>,
    kinds: BTreeMap<Arc<str>, BTreeSet<GroupVersionKind>>,
}

impl Source {
    /// All built-in collections.
    #[must_use]
    pub fn builtin() -> Self {
        let schemas = BuiltinSchemas::get();
        let mut source = Self {
            resources: Vec::new(),
            definitions: schemas.definitions().clone(),
            names: HashMap::new(),
            custom: BTreeSet::new(),
            kinds: BTreeMap::new(),
        };
        for (kind, name) in schemas.kinds() {
            source.name(kind.clone(), name.clone());
        }
        for resource in Builtin::table().all() {
            source.add(resource.clone());
        }
        source
    }

    /// One more collection, of a custom kind with this schema; nothing known of it is a schema that keeps all fields.
    pub fn add_custom(&mut self, resource: Arc<Resource>, schema: &Schema) {
        let kind = resource.group_version_kind();
        let name: Arc<str> = custom::model_name(&kind).into();
        let list_name: Arc<str> = format!("{name}List").into();
        let list_kind = resource.name.group_version().kind(&resource.list_kind());
        let list = custom::list_schema(&resource, &name);
        self.definitions.insert(name.clone(), Arc::new(custom::object_schema(schema)));
        self.definitions.insert(list_name.clone(), Arc::new(list));
        self.custom.extend([name.clone(), list_name.clone()]);
        self.name(kind, name);
        self.name(list_kind, list_name);
        self.add(resource);
    }

    fn add(&mut self, resource: Arc<Resource>) {
        // Every group has this kind as its own, so that clients may send it with the group's apiVersion.
        let options = resource.name.group_version().kind("DeleteOptions");
        self.name(options, format!("{META}.DeleteOptions").into());
        self.resources.push(resource);
    }

    fn name(&mut self, kind: GroupVersionKind, name: Arc<str>) {
        self.kinds.entry(name.clone()).or_default().insert(kind.clone());
        self.names.entry(kind).or_insert(name);
    }

    /// The collections, in the order in which they were added.
    #[must_use]
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Groups and versions that have collections, each once, in order.
    #[must_use]
    pub fn group_versions(&self) -> BTreeSet<GroupVersion> {
        self.resources.iter().map(|one| one.name.group_version()).collect()
    }

    /// The name of a kind's schema.
    pub(super) fn name_of(&self, kind: &GroupVersionKind) -> Option<&Arc<str>> {
        self.names.get(kind)
    }

    /// Whether patches may be strategic: custom kinds do not say how.
    pub(super) fn is_custom(&self, kind: &GroupVersionKind) -> bool {
        self.name_of(kind).is_some_and(|name| self.custom.contains(name))
    }

    /// The schemas of these names, and all that they refer to.
    pub(super) fn schemas(&self, names: impl IntoIterator<Item = Arc<str>>, dialect: Dialect) -> Value {
        let mut open: Vec<Arc<str>> = names.into_iter().collect();
        let mut written = serde_json::Map::new();
        while let Some(name) = open.pop() {
            if written.contains_key(&*name) {
                continue;
            }
            let Some(schema) = self.definitions.get(&name) else { continue };
            refers_to(schema, &mut open);
            written.insert(name.to_string(), self.schema(&name, schema, dialect));
        }
        Value::Object(written)
    }

    fn schema(&self, name: &Arc<str>, schema: &Schema, dialect: Dialect) -> Value {
        let mut json = write(schema, dialect);
        if let Some(kinds) = self.kinds.get(name) {
            json["x-kubernetes-group-version-kind"] = kinds.iter().map(kind_json).collect();
            if self.custom.contains(name) {
                // Kinds are objects, also where version 2 can say nothing of their fields.
                json["type"] = json!("object");
            }
        }
        json
    }
}

pub(super) fn kind_json(kind: &GroupVersionKind) -> Value {
    json!({"group": &*kind.group, "version": &*kind.version, "kind": &*kind.kind})
}

fn refers_to(schema: &Schema, names: &mut Vec<Arc<str>>) {
    for below in schema.properties.values().chain(&schema.additional).chain(&schema.items) {
        match below {
            SchemaRef::Named(name, _) => names.push(name.clone()),
            SchemaRef::Inline(schema) => refers_to(schema, names),
        }
    }
}
