//! One version of a collection as it is served: what its objects look like and how they are read, whatever kind they are.
//! Built-in and custom kinds are the same to everybody behind it. Must never know requests or storage.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use barque_api::custom_schema::CustomSchema;
use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::{GroupResource, GroupVersionKind, GroupVersionResource};
use barque_api::managed_fields::scale::ReplicasPaths;
use barque_api::managed_fields::{FieldSet, Path, Versions};
use barque_api::names::NameRule;
use barque_api::resources::{Builtin, Resource};
use barque_api::schema::{self, BuiltinSchemas, Extent, Place, View};
use barque_api::status::Status;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::conversion;
use super::deletion::Manner;
use crate::defaults;
use crate::table::CustomColumns;

/// Converts objects of a custom kind whose versions differ in more than their `apiVersion`.
pub trait Converter: Send + Sync {
    /// The objects in the version of `to`, in their order. None of them is in it already.
    fn convert<'a>(
        &'a self,
        objects: Vec<Value>,
        to: &'a GroupVersionKind,
    ) -> BoxFuture<'a, Result<Vec<Value>, String>>;
}

/// What objects of a version look like.
#[derive(Clone)]
pub enum Shape {
    /// As the schema with this name says, which is compiled in; nothing for kinds that have none.
    Builtin(Option<Arc<str>>),
    /// As a CustomResourceDefinition says.
    Custom(Arc<CustomShape>),
}

/// What a CustomResourceDefinition says of one version.
#[derive(Clone)]
pub struct CustomShape {
    /// Fields, defaults and rules; nothing for one that keeps whatever it is given.
    pub schema: Option<CustomSchema>,
    /// The same of every version that stored objects may be in, by `apiVersion`.
    pub schemas: Arc<BTreeMap<String, CustomSchema>>,
    /// Where a scale has its numbers: `specReplicasPath`, `statusReplicasPath`, `labelSelectorPath`.
    pub scale: Option<ScalePaths>,
    /// Whether `status` is written apart from the rest.
    pub status: bool,
    /// Fields that selectors may ask for in any version, without a dot at their front.
    pub selectable: Vec<String>,
    /// Those of them that this version offers.
    pub offered: Vec<String>,
    /// The columns of tables.
    pub columns: CustomColumns,
    /// What converts between versions; nothing where they differ in their `apiVersion` alone.
    pub converter: Option<Arc<dyn Converter>>,
    /// What users of this version are told, if it is on its way out.
    pub deprecated: Option<String>,
    /// Another definition took this one's place, or none: watches that tell objects by it end.
    pub ended: CancellationToken,
}

/// Where an object has what its scale tells, as dotted paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The wanted number of replicas.
    pub spec_replicas: String,
    /// The number that there is.
    pub status_replicas: String,
    /// The selector as text, or as an object for built-in kinds; empty for none.
    pub selector: String,
}

/// One version of a collection.
pub struct Served {
    /// As discovery tells it.
    pub resource: Arc<Resource>,
    /// The type of its objects.
    pub kind: GroupVersionKind,
    /// Where its objects are stored, and in which version.
    pub stored: GroupVersionResource,
    /// The type of stored objects.
    pub stored_kind: GroupVersionKind,
    /// What they look like.
    pub shape: Shape,
    /// All versions that are served of the same objects, this one among them.
    pub versions: Vec<GroupVersionKind>,
    /// How objects are named.
    pub names: NameRule,
    /// How objects are deleted.
    pub manner: Manner,
    /// Where a scale has its numbers.
    pub scale: Option<ScalePaths>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Served({})", self.resource.name)
    }
}

impl Served {
    /// Of a built-in collection.
    #[must_use]
    pub fn builtin(resource: Arc<Resource>) -> Self {
        let kind = resource.group_version_kind();
        let stored = Builtin::stored_as(&resource.name);
        let stored_kind = Builtin::table()
            .named(&stored)
            .map_or_else(|| kind.clone(), |resource| resource.group_version_kind());
        let versions = Builtin::table().all().iter().filter(|other| {
            Builtin::stored_as(&other.name) == stored && other.name.resource == resource.name.resource
        });
        let group_resource = resource.name.group_resource();
        Self {
            shape: Shape::Builtin(BuiltinSchemas::get().name_of(&kind).cloned()),
            versions: versions.map(|other| other.group_version_kind()).collect(),
            names: name_rule(&group_resource),
            manner: Manner::of(&group_resource),
            scale: builtin_scale(&resource),
            kind,
            stored,
            stored_kind,
            resource,
        }
    }

    /// The collection without its version.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        self.resource.name.group_resource()
    }

    /// The field `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.kind.group_version().to_string()
    }

    /// Whether it is defined by a CustomResourceDefinition.
    #[must_use]
    pub const fn is_custom(&self) -> bool {
        matches!(self.shape, Shape::Custom(_))
    }

    /// Whether stored objects are in another version.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.kind != self.stored_kind
    }

    /// Whether `status` is written by its own path.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.resource.subresource("status").is_some()
    }

    /// The start of a walk along an object; nothing where fields are not known.
    #[must_use]
    pub fn view(&self) -> Option<View<'_>> {
        match &self.shape {
            Shape::Builtin(name) => BuiltinSchemas::get().definitions().view(name.as_deref()?),
            Shape::Custom(shape) => shape.schema.as_ref().map(CustomSchema::view),
        }
    }

    /// Removes fields that are not known and tells their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        self.view().map_or_else(Vec::new, |view| schema::prune(view, object, Place::Object))
    }

    /// What cannot be read because it has the wrong type. Custom kinds tell that when they are validated.
    #[must_use]
    pub fn misfits(&self, object: &Value) -> Vec<FieldError> {
        match (&self.shape, self.view()) {
            (Shape::Builtin(_), Some(view)) => {
                schema::validate(view, object, &FieldPath::root(), Extent::Types)
            }
            _ => Vec::new(),
        }
    }

    /// Enters what was left out.
    pub fn default(&self, object: &mut Value) {
        match &self.shape {
            Shape::Builtin(_) => {
                if let Some(view) = self.view() {
                    schema::drop_nulls(view, object);
                }
                defaults::fill(&self.kind.group, &self.kind.kind, object);
            }
            Shape::Custom(shape) => {
                if let Some(schema) = &shape.schema {
                    schema.default(object);
                }
            }
        }
    }

    /// Paths of replicas by version, for owners of a scale.
    #[must_use]
    pub fn replicas_paths(&self) -> ReplicasPaths {
        let path = self.scale.as_ref().map(|scale| Path::of(&scale.spec_replicas));
        self.versions.iter().map(|kind| (kind.group_version().to_string(), path.clone())).collect()
    }

    /// An object of this version as it is stored.
    ///
    /// # Errors
    /// 400 when it cannot be converted, with a sentence that says why.
    pub async fn to_stored(&self, object: Value) -> Result<Value, Status> {
        if !self.converts() {
            return Ok(object);
        }
        let Some(converter) = self.converter() else {
            return conversion::convert(object, &self.stored_kind).map_err(Status::bad_request);
        };
        let converted = converter.convert(vec![object], &self.stored_kind).await;
        let mut converted = converted.map_err(Status::internal)?;
        let mut stored = converted.pop().ok_or_else(|| Status::internal("a conversion lost its object"))?;
        self.prune_as(&mut stored, &self.stored_kind);
        Ok(stored)
    }

    /// A stored object in this version.
    ///
    /// # Errors
    /// 500 when it cannot be converted, with a sentence that says why.
    pub async fn of_stored(&self, object: Value) -> Result<Value, Status> {
        if !self.is_custom() {
            return conversion::convert(object, &self.kind).map_err(Status::internal);
        }
        let mut all = self.all_of_stored(vec![object]).await?;
        all.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// Stored objects in this version, in their order. Those of custom kinds have what their stored version knows: unknown
    /// fields go, and what was not given when they were stored has its default.
    ///
    /// # Errors
    /// 500 when one of them cannot be converted, with a sentence that says why.
    pub async fn all_of_stored(&self, mut objects: Vec<Value>) -> Result<Vec<Value>, Status> {
        let Shape::Custom(shape) = &self.shape else {
            let convert = |object| conversion::convert(object, &self.kind).map_err(Status::internal);
            return objects.into_iter().map(convert).collect();
        };
        for object in &mut objects {
            let schema = version_of(object).and_then(|version| shape.schemas.get(version));
            if let Some(schema) = schema {
                schema.prune(object);
                schema.default(object);
            }
        }
        let wanted = self.api_version();
        let others: Vec<usize> =
            (0..objects.len()).filter(|at| version_of(&objects[*at]) != Some(&wanted)).collect();
        if others.is_empty() {
            return Ok(objects);
        }
        let taken: Vec<Value> = others.iter().map(|at| objects[*at].take()).collect();
        let converted = match &shape.converter {
            Some(converter) => converter.convert(taken, &self.kind).await,
            None => taken.into_iter().map(|object| conversion::convert(object, &self.kind)).collect(),
        };
        for (at, mut object) in others.into_iter().zip(converted.map_err(Status::internal)?) {
            self.prune_as(&mut object, &self.kind);
            objects[at] = object;
        }
        Ok(objects)
    }

    /// Says that it is not served any more as it is.
    pub fn end(&self) {
        if let Shape::Custom(shape) = &self.shape {
            shape.ended.cancel();
        }
    }

    /// Waits until it is not served any more as it is; built-in kinds always are.
    pub async fn ended(&self) {
        match &self.shape {
            Shape::Custom(shape) => shape.ended.cancelled().await,
            Shape::Builtin(_) => std::future::pending().await,
        }
    }

    /// What users of this version are told, if it is on its way out.
    #[must_use]
    pub fn deprecation(&self) -> Option<&str> {
        match &self.shape {
            Shape::Custom(shape) => shape.deprecated.as_deref(),
            Shape::Builtin(_) => None,
        }
    }

    /// What converts objects by asking somebody else.
    #[must_use]
    pub fn converter(&self) -> Option<&Arc<dyn Converter>> {
        match &self.shape {
            Shape::Custom(shape) => shape.converter.as_ref(),
            Shape::Builtin(_) => None,
        }
    }

    /// Removes what the version does not know from an object that was converted to it.
    pub(super) fn prune_as(&self, object: &mut Value, kind: &GroupVersionKind) {
        if let Shape::Custom(shape) = &self.shape
            && let Some(schema) = shape.schemas.get(&kind.group_version().to_string())
        {
            schema.prune(object);
        }
    }
}

fn version_of(object: &Value) -> Option<&str> {
    object.get("apiVersion").and_then(Value::as_str)
}

/// The versions of a collection's objects, for owners who wrote in another one.
impl Versions for Served {
    fn serves(&self, api_version: &str) -> bool {
        self.versions.iter().any(|kind| kind.group_version().to_string() == api_version)
    }

    fn schema(&self, api_version: &str) -> Option<View<'_>> {
        if self.api_version() == api_version {
            return self.view();
        }
        let kind = self.versions.iter().find(|kind| kind.group_version().to_string() == api_version)?;
        match &self.shape {
            Shape::Builtin(_) => {
                let schemas = BuiltinSchemas::get();
                schemas.definitions().view(schemas.name_of(kind)?)
            }
            Shape::Custom(shape) => shape.schemas.get(api_version).map(CustomSchema::view),
        }
    }

    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String> {
        let kind = self.versions.iter().find(|kind| kind.group_version().to_string() == api_version);
        let kind = kind.ok_or_else(|| format!("{api_version} is not served"))?;
        conversion::convert(object.clone(), kind)
    }
}

fn name_rule(resource: &GroupResource) -> NameRule {
    match (&*resource.group, &*resource.resource) {
        ("", "namespaces") => NameRule::Label,
        ("", "services") => NameRule::Label1035,
        ("rbac.authorization.k8s.io", _)
        | ("certificates.k8s.io", "certificatesigningrequests")
        | ("networking.k8s.io", "ipaddresses")
        | ("apiregistration.k8s.io" | "apiextensions.k8s.io", _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

fn builtin_scale(resource: &Resource) -> Option<ScalePaths> {
    resource.subresource("scale")?;
    Some(ScalePaths {
        spec_replicas: "spec.replicas".to_owned(),
        status_replicas: "status.replicas".to_owned(),
        selector: "spec.selector".to_owned(),
    })
}

/// The fields that a request cannot change, by `apiVersion`.
#[must_use]
pub fn reset_fields(served: &Served, subresource: &str) -> BTreeMap<String, FieldSet> {
    let mut fields: Vec<&str> = match subresource {
        "" if served.has_status() => vec!["status"],
        "status" => vec!["spec", "metadata.labels"],
        _ => Vec::new(),
    };
    if let (Shape::Custom(shape), "status") = (&served.shape, subresource) {
        let known = shape.schema.iter().flat_map(|schema| schema.schema().properties.keys());
        let kept = ["apiVersion", "kind", "metadata", "status"];
        fields.extend(known.map(|name| &**name).filter(|name| !kept.contains(name)));
    }
    let set = FieldSet::of(&fields);
    served.versions.iter().map(|kind| (kind.group_version().to_string(), set.clone())).collect()
}
