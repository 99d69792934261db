//! The scale of an object: its number of replicas as an object of its own (`autoscaling/v1`), read from and written to the
//! object it belongs to.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::GroupVersionKind;
use barque_api::labels::Selector;
use barque_api::managed_fields::{AlikeVersions, FieldManager, Versions, scale as owners};
use barque_api::metadata::Metadata;
use barque_api::patch::{json, merge, strategic};
use barque_api::schema::BuiltinSchemas;
use barque_api::status::Status;
use serde_json::{Map, Value, json};

use super::update::Changed;
use super::{Patch, PatchKind, Pipeline, Request, group_resource};
use crate::admission::Told;
use crate::registry::decode;
use crate::registry::served::{ScalePaths, Served};
use crate::storage::Storage;

/// How much a JSON patch may add by copying.
const COPIES_BYTES_MAX: usize = 3 << 20;

/// A change of a scale.
#[derive(Clone, Copy, Debug)]
pub enum ScaleChange<'a> {
    /// This takes its place.
    Replace(&'a Value),
    /// It is changed like this.
    Patch(&'a Patch),
}

/// The kind of scales.
#[must_use]
pub fn kind() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

/// The scale of an object.
///
/// # Errors
/// When the collection has none, or the owners of the object's fields cannot be read.
pub fn scale_of(served: &Served, object: &Value) -> Result<Value, Status> {
    let paths = served.scale.as_ref().ok_or_else(Status::no_such_path)?;
    let from = Metadata::of(object);
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = from.field(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let count = |path: &str| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": count(&paths.status_replicas)});
    let selector = selector_text(object, paths);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let mut spec = Map::new();
    let replicas = count(&paths.spec_replicas);
    spec.insert("replicas".to_owned(), replicas.into());
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status,
    });
    owners::enter_owners(object, &served.replicas_paths(), &mut scale).map_err(Status::internal)?;
    Ok(scale)
}

impl<S: Storage> Pipeline<S> {
    /// Changes the scale of an object, and answers the new one.
    ///
    /// # Errors
    /// What is wrong with it, who refused it, that there is no object, or that it was changed meanwhile.
    pub async fn scale(
        &self,
        request: &Request<'_>,
        change: ScaleChange<'_>,
        told: &mut Told,
    ) -> Result<Value, Status> {
        let guarded = match change {
            ScaleChange::Replace(scale) => !Metadata::of(scale).resource_version().is_empty(),
            ScaleChange::Patch(patch) => {
                patch.body.pointer("/metadata/resourceVersion").is_some_and(Value::is_string)
            }
        };
        let make = |current: Option<&Value>, _: &dyn Versions| {
            let current = current.ok_or_else(|| Status::not_found(&group_resource(request), request.name))?;
            scaled(request, current, change)
        };
        let answer = self.change(request, guarded, make, told).await?;
        scale_of(request.served, &answer.object)
    }
}

/// The object with another scale.
fn scaled(request: &Request<'_>, current: &Value, change: ScaleChange<'_>) -> Result<Changed, Status> {
    let before = scale_of(request.served, current)?;
    let (scale, owned) = changed_scale(request, &before, change)?;
    let mut object = current.clone();
    enter(request, &scale, &mut object)?;
    let version = Metadata::of(&scale).resource_version().to_owned();
    object["metadata"]["resourceVersion"] = version.into();
    if owned {
        let versions = request.served.replicas_paths();
        owners::return_owners(&scale, &versions, &request.served.api_version(), &mut object)
            .map_err(Status::internal)?;
    }
    Ok(Changed { object, owned })
}

/// Enters what a scale says into the object that it is of.
pub(super) fn enter(request: &Request<'_>, scale: &Value, object: &mut Value) -> Result<(), Status> {
    let paths = request.served.scale.as_ref().ok_or_else(Status::no_such_path)?;
    check(request, scale)?;
    let replicas = scale.pointer("/spec/replicas").filter(|replicas| !replicas.is_null());
    put(object, &paths.spec_replicas, replicas.cloned().unwrap_or_else(|| 0.into()));
    Ok(())
}

fn changed_scale(
    request: &Request<'_>,
    before: &Value,
    change: ScaleChange<'_>,
) -> Result<(Value, bool), Status> {
    let schemas = BuiltinSchemas::get();
    let kind = kind();
    let view = schemas.name_of(&kind).and_then(|name| schemas.definitions().view(name));
    let patch = match change {
        ScaleChange::Replace(scale) => return Ok((scale.clone(), false)),
        ScaleChange::Patch(patch) => patch,
    };
    let mut scale = match patch.kind {
        PatchKind::Json => {
            json::apply(before.clone(), &patch.body, COPIES_BYTES_MAX).map_err(|error| error.status())?
        }
        PatchKind::Merge => {
            merge::apply(before.clone(), patch.body.clone()).map_err(|error| error.status())?
        }
        PatchKind::Strategic => {
            strategic::apply(before.clone(), patch.body.clone(), view).map_err(|error| error.status())?
        }
        PatchKind::Apply { force } => {
            let mut applied = patch.body.clone();
            decode::expect_kind(&mut applied, &kind)?;
            let versions = AlikeVersions::default().with("autoscaling/v1", view);
            let manager = FieldManager {
                kind: &kind,
                subresource: "scale",
                versions: &versions,
                reset: &std::collections::BTreeMap::new(),
                now: request.now,
            };
            return Ok((manager.apply(before, &applied, request.manager, force)?, true));
        }
    };
    decode::expect_kind(&mut scale, &kind)?;
    Ok((scale, false))
}

/// What is wrong with the numbers of an object that has a scale.
pub(super) fn judge_numbers(paths: &ScalePaths, object: &Value, errors: &mut Vec<FieldError>) {
    for path in [&paths.spec_replicas, &paths.status_replicas] {
        let Some(number) = at(object, path).and_then(Value::as_i64) else { continue };
        let path = FieldPath::root().child(&format!(".{path}"));
        if number < 0 {
            errors.push(FieldError::invalid(&path, number, "should be a non-negative integer"));
        } else if number > i64::from(i32::MAX) {
            let why = "should be less than or equal to 2147483647";
            errors.push(FieldError::invalid(&path, number, why));
        }
    }
}

/// What is wrong with a scale that a client wrote.
fn check(request: &Request<'_>, scale: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let path = FieldPath::of("spec.replicas");
    match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => {}
        Some(value) => match value.as_i64() {
            Some(replicas) if replicas < 0 => {
                errors.push(FieldError::invalid(&path, replicas, "must be greater than or equal to 0"));
            }
            Some(replicas) if replicas > i64::from(i32::MAX) => {
                errors.push(FieldError::invalid(&path, replicas, "must be less than or equal to 2147483647"));
            }
            Some(_) => {}
            None => {
                let text = value.to_string();
                return Err(Status::bad_request(format!(
                    "Scale in version \"v1\" cannot be handled as a Scale: {path} is no whole number: {text}"
                )));
            }
        },
    }
    let name = Metadata::of(scale).name();
    if !name.is_empty() && name != request.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            request.name
        )));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&kind(), request.name, &errors)) }
}

fn at<'a>(object: &'a Value, dotted: &str) -> Option<&'a Value> {
    dotted.split('.').try_fold(object, |value, name| value.get(name))
}

fn put(object: &mut Value, dotted: &str, value: Value) {
    let place = dotted.split('.').fold(object, |place, name| {
        if !place.is_object() {
            *place = json!({});
        }
        &mut place[name]
    });
    *place = value;
}

/// The selector as text: custom kinds have it as that, built-in ones as a LabelSelector or as labels.
fn selector_text(object: &Value, paths: &ScalePaths) -> String {
    if paths.selector.is_empty() {
        return String::new();
    }
    match at(object, &paths.selector) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(labels)) if labels.values().all(Value::is_string) => {
            Selector::of_labels(labels).to_string()
        }
        Some(selector) => {
            Selector::of_object(Some(selector)).map(|selector| selector.to_string()).unwrap_or_default()
        }
        None => String::new(),
    }
}
