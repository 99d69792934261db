//! The schemas of all built-in kinds: from the types of `k8s-openapi`, completed with what these do not say. Built once,
//! when first asked for. Must never know a kind that the table of collections does not serve.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use schemars::generate::SchemaSettings;

use super::facts;
use super::kinds;
use super::model::{Definitions, Schema, SchemaRef, Type, View};
use super::read::{Texts, read};
use super::resource_metrics;
use crate::field::FieldPath;
use crate::kind::GroupVersionKind;
use crate::resources::{Builtin, Resource, Verb};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// The schemas of the built-in kinds.
#[derive(Debug)]
pub struct BuiltinSchemas {
    definitions: Definitions,
    names: HashMap<GroupVersionKind, Arc<str>>,
}

static SCHEMAS: LazyLock<BuiltinSchemas> = LazyLock::new(BuiltinSchemas::build);

impl BuiltinSchemas {
    /// All of them. The first call builds them, in some milliseconds.
    #[must_use]
    pub fn get() -> &'static Self {
        &SCHEMAS
    }

    /// The schemas by name.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The name of a kind's schema: `io.k8s.api.core.v1.Pod` for `v1, Kind=Pod`. Lists have one too.
    #[must_use]
    pub fn name_of(&self, kind: &GroupVersionKind) -> Option<&Arc<str>> {
        self.names.get(kind)
    }

    /// All kinds with the names of their schemas, in no order.
    pub fn kinds(&self) -> impl Iterator<Item = (&GroupVersionKind, &Arc<str>)> {
        self.names.iter()
    }

    fn build() -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut kinds = kinds::enter_all(&mut generator);
        kinds.extend(resource_metrics::kinds());
        let mut texts = Texts::default();
        let mut schemas: BTreeMap<Arc<str>, Schema> = BTreeMap::new();
        let of_types = generator.take_definitions(false).into_iter();
        for (name, json) in of_types.chain(resource_metrics::definitions()) {
            let schema = read(&FieldPath::root(), &json, &mut texts);
            let schema = schema.expect("what is compiled in is read by a test");
            schemas.insert(texts.share(&name), schema);
        }
        let mut names: HashMap<_, _> =
            kinds.into_iter().map(|(kind, name)| (kind, texts.share(&name))).collect();
        free_forms(&mut schemas, &mut texts);
        enter_facts(&mut schemas, &mut texts);
        for resource in Builtin::table().all().iter().filter(|one| one.can(Verb::List)) {
            let kind = resource.group_version_kind();
            let Some(item) = names.get(&kind).cloned() else { continue };
            let (name, list) = list_schema(resource, &item, &schemas, &mut texts);
            schemas.insert(name.clone(), list);
            names.insert(resource.name.group_version().kind(&resource.list_kind()), name);
        }
        let mut definitions = Definitions::default();
        for (name, schema) in schemas {
            definitions.insert(name, Arc::new(schema));
        }
        Self { definitions, names }
    }
}

/// Types whose shape the generator cannot tell, or tells too narrowly.
fn free_forms(schemas: &mut BTreeMap<Arc<str>, Schema>, texts: &mut Texts) {
    let mut change = |name: &str, change: &mut dyn FnMut(&mut Schema)| {
        if let Some(schema) = schemas.get_mut(name) {
            change(schema);
        }
    };
    let of_type = |kind| Schema { kind: Some(kind), ..Schema::default() };
    for name in ["io.k8s.apimachinery.pkg.runtime.RawExtension", &format!("{META}.FieldsV1")] {
        change(name, &mut |schema| schema.preserve_unknown = true);
    }
    change(&format!("{META}.Patch"), &mut |schema| {
        *schema =
            Schema { description: schema.description.take(), preserve_unknown: true, ..of_type(Type::Object) }
    });
    change(&format!("{APIEXTENSIONS}.JSON"), &mut |schema| {
        *schema =
            Schema { description: schema.description.take(), preserve_unknown: true, ..Schema::default() };
    });
    // A number or a text, too, but one that may have a fraction.
    change("io.k8s.apimachinery.pkg.api.resource.Quantity", &mut |schema| {
        schema.int_or_string = false;
        schema.one_of = vec![of_type(Type::String), of_type(Type::Number)];
    });
    let format = texts.share("int-or-string");
    change("io.k8s.apimachinery.pkg.util.intstr.IntOrString", &mut |schema| {
        schema.format = Some(format.clone());
        schema.one_of = vec![of_type(Type::Integer), of_type(Type::String)];
    });
    // A schema, or something simpler: fields and items are those of the schema, where there are some.
    let props = texts.share(&format!("{APIEXTENSIONS}.JSONSchemaProps"));
    let fields = schemas.get(&props).map(|schema| schema.properties.clone()).unwrap_or_default();
    for (name, items) in [("Bool", false), ("Array", true), ("StringArray", true)] {
        if let Some(schema) = schemas.get_mut(format!("{APIEXTENSIONS}.JSONSchemaPropsOr{name}").as_str()) {
            schema.one_of.clear();
            schema.properties.clone_from(&fields);
            schema.items = items.then(|| SchemaRef::Named(props.clone(), Arc::default()));
        }
    }
}

fn enter_facts(schemas: &mut BTreeMap<Arc<str>, Schema>, texts: &mut Texts) {
    let facts = facts::all().expect("what is compiled in is read by a test");
    for fact in &facts {
        let Some(schema) = schemas.get_mut(fact.definition) else { continue };
        let Some(field) = schema.properties.get_mut(fact.field) else { continue };
        let (SchemaRef::Named(_, field) | SchemaRef::Inline(field)) = field;
        fact.enter(Arc::make_mut(field), texts);
    }
}

/// What a list of objects looks like, with the name of its schema.
fn list_schema(
    resource: &Resource,
    item: &Arc<str>,
    schemas: &BTreeMap<Arc<str>, Schema>,
    texts: &mut Texts,
) -> (Arc<str>, Schema) {
    let mut properties = type_fields(schemas.get(item));
    let items = Schema {
        kind: Some(Type::Array),
        description: Some(texts.share("Items is the list of objects.")),
        items: Some(SchemaRef::Named(item.clone(), Arc::default())),
        ..Schema::default()
    };
    properties.insert(texts.share("items"), SchemaRef::Inline(Arc::new(items)));
    let meta = Schema {
        description: Some(texts.share(
            "Standard list metadata. More info: \
             https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        )),
        ..Schema::default()
    };
    let list_meta = texts.share(&format!("{META}.ListMeta"));
    properties.insert(texts.share("metadata"), SchemaRef::Named(list_meta, Arc::new(meta)));
    let schema = Schema {
        kind: Some(Type::Object),
        description: Some(texts.share(&format!("{} is a list of {}.", resource.list_kind(), resource.kind))),
        properties,
        required: vec![texts.share("items")],
        ..Schema::default()
    };
    (texts.share(&format!("{item}List")), schema)
}

/// `apiVersion` and `kind`, as this object describes them.
fn type_fields(object: Option<&Schema>) -> BTreeMap<Arc<str>, SchemaRef> {
    let fields = object.into_iter().flat_map(|schema| &schema.properties);
    fields
        .filter(|(name, _)| matches!(&***name, "apiVersion" | "kind"))
        .map(|(name, field)| (name.clone(), field.clone()))
        .collect()
}

impl BuiltinSchemas {
    /// The schema of every object's metadata.
    #[must_use]
    pub fn object_meta(&self) -> View<'_> {
        let view = self.definitions.view("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        view.expect("every object refers to it")
    }

    /// `apiVersion` and `kind` as every object has them.
    #[must_use]
    pub fn type_fields(&self) -> BTreeMap<Arc<str>, SchemaRef> {
        type_fields(self.definitions.get("io.k8s.api.core.v1.Pod").map(AsRef::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::schema::{ListType, MapType};

    #[test]
    fn every_collection_has_the_schema_of_its_objects_and_lists() {
        let schemas = BuiltinSchemas::get();
        for resource in Builtin::table().all() {
            let group_version = resource.name.group_version();
            let mut kinds = vec![resource.group_version_kind()];
            kinds.extend(resource.can(Verb::List).then(|| group_version.kind(&resource.list_kind())));
            // What is only connected to takes its options from the query.
            let with_body = resource.subresources.iter().filter(|one| one.verbs != [Verb::Connect]);
            kinds.extend(with_body.map(|one| one.kind.clone()));
            for kind in kinds {
                let name = schemas.name_of(&kind).unwrap_or_else(|| panic!("{kind} has no schema"));
                let schema = schemas.definitions().get(name).unwrap();
                assert!(schema.properties.contains_key("apiVersion"), "{name}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let definitions = BuiltinSchemas::get().definitions();
        fn check(definitions: &Definitions, schema: &Schema, seen: &mut BTreeSet<Arc<str>>) {
            let below = schema.properties.values().chain(&schema.additional).chain(&schema.items);
            for one in below {
                match one {
                    SchemaRef::Inline(schema) => check(definitions, schema, seen),
                    SchemaRef::Named(name, _) => {
                        assert!(definitions.get(name).is_some(), "{name}");
                        seen.insert(name.clone());
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        definitions.iter().for_each(|(_, schema)| check(definitions, schema, &mut seen));
        assert!(seen.len() > 400, "{}", seen.len());
    }

    #[test]
    fn every_fact_hits_a_field() {
        let definitions = BuiltinSchemas::get().definitions();
        let mut hits = 0;
        for fact in facts::all().unwrap() {
            // Facts of versions and kinds that the table does not serve have nothing to hit.
            let Some(schema) = definitions.get(fact.definition) else { continue };
            assert!(schema.properties.contains_key(fact.field), "{} {}", fact.definition, fact.field);
            hits += 1;
        }
        assert!(hits > 300, "{hits}");
    }

    #[test]
    fn free_objects_are_known() {
        // An object that names no field and no kind of field loses all that it holds when it is pruned.
        fn find(path: &str, schema: &Schema, free: &mut BTreeSet<String>) {
            let scalar = !matches!(schema.kind, None | Some(Type::Object)) || !schema.one_of.is_empty();
            let known =
                !schema.properties.is_empty() || schema.additional.is_some() || schema.items.is_some();
            if !scalar && !known && !schema.preserve_unknown {
                free.insert(path.to_owned());
            }
            for (name, field) in &schema.properties {
                if let SchemaRef::Inline(below) = field {
                    find(&format!("{path}.{name}"), below, free);
                }
            }
        }
        let mut free = BTreeSet::new();
        for (name, schema) in BuiltinSchemas::get().definitions().iter() {
            find(name.rsplit('.').next().unwrap(), schema, &mut free);
        }
        // These are empty on purpose.
        let empty = [
            "CustomResourceSubresourceStatus",
            "WorkloadPodGroupAllDisruptionMode",
            "WorkloadPodGroupBasicSchedulingPolicy",
            "WorkloadPodGroupSingleDisruptionMode",
        ];
        assert_eq!(free.into_iter().collect::<Vec<_>>(), empty);
    }

    #[test]
    fn lists_merge_as_the_facts_say() {
        let definitions = BuiltinSchemas::get().definitions();
        let pod = definitions.view("io.k8s.api.core.v1.Pod").unwrap();
        let containers = pod.property("spec").unwrap().property("containers").unwrap();
        assert_eq!(*containers.list_type(), ListType::Map(vec!["name".into()]));
        assert_eq!(containers.field().patch.merge_key.as_deref(), Some("name"));
        let ports = containers.items().unwrap().property("ports").unwrap();
        assert_eq!(*ports.list_type(), ListType::Map(vec!["containerPort".into(), "protocol".into()]));
        let protocol = ports.items().unwrap().property("protocol").unwrap();
        assert_eq!(protocol.field().default, Some(Value::from("TCP")));
        let finalizers = pod.property("metadata").unwrap().property("finalizers").unwrap();
        assert_eq!(finalizers.field().patch.merge_key.as_deref(), Some(""));
        let deployment = definitions.view("io.k8s.api.apps.v1.Deployment").unwrap();
        let spec = deployment.property("spec").unwrap();
        assert_eq!(spec.property("selector").unwrap().map_type(), MapType::Atomic);
        assert!(spec.property("strategy").unwrap().field().patch.retain_keys);
    }
}
