//! What webhooks and policies need to know of a request beside what it says: its namespace, the other versions of its objects,
//! and its object in one of them. Must never decide who is asked.

use std::borrow::Cow;
use std::sync::Arc;

use barque_api::field::FieldPath;
use barque_api::kind::GroupResource;
use barque_api::schema::{self, BuiltinSchemas, Extent, View};
use barque_api::status::Status;
use serde_json::Value;

use super::asked::{Asked, Namespace, Place, is_about_namespaces, namespace_of};
use super::{Attributes, Operation};
use crate::registry::collections::{Catalog, Collections};
use crate::registry::conversion;
use crate::registry::served::Served;
use crate::storage::Storage;

/// The request with what is known about it.
pub(super) async fn gather<'a, S: Storage>(
    collections: &Collections<S>,
    attributes: &'a Attributes<'a>,
) -> Asked<'a> {
    let catalog = collections.catalog();
    let served = catalog.named(attributes.resource).map(|endpoint| Arc::clone(&endpoint.served));
    let equivalents = equivalents(&catalog, attributes);
    Asked { attributes, equivalents, namespace: namespace(collections, attributes).await, served }
}

async fn namespace<S: Storage>(collections: &Collections<S>, attributes: &Attributes<'_>) -> Namespace {
    let name = namespace_of(attributes, &Value::Null);
    let is_new = is_about_namespaces(attributes.resource) && attributes.operation == Operation::Create;
    if name.is_empty() || is_new {
        return Namespace::None;
    }
    match found(collections, &GroupResource::new("", "namespaces"), "", name).await {
        Ok(Some(namespace)) => Namespace::Found(namespace),
        Ok(None) => Namespace::Missing(Status::not_found(&GroupResource::new("", "namespaces"), name)),
        Err(status) => Namespace::Missing(status),
    }
}

/// An object as the cache has it; as the store has it, if the cache has none: it may be new.
pub(super) async fn found<S: Storage>(
    collections: &Collections<S>,
    resource: &GroupResource,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Status> {
    match collections.object(resource, namespace, name).await? {
        Some(object) => Ok(Some(object)),
        None => collections.newest_object(resource, namespace, name).await,
    }
}

fn equivalents<S: Storage>(catalog: &Catalog<S>, attributes: &Attributes<'_>) -> Vec<Place> {
    let Some(own) = catalog.named(attributes.resource) else { return Vec::new() };
    let below = attributes.subresource;
    let others = catalog.endpoints.iter().map(|one| &one.served).filter(|other| {
        other.stored == own.served.stored
            && other.resource.name != own.served.resource.name
            && (below.is_empty() || other.resource.subresource(below).is_some())
    });
    // What is sent to a subresource is of the object's type, or of one that knows no versions of it.
    let whole = *attributes.kind == own.served.kind;
    others
        .map(|other| Place {
            resource: other.resource.name.clone(),
            kind: if whole { other.kind.clone() } else { attributes.kind.clone() },
        })
        .collect()
}

/// An object of the request in the version of another place than that in which it is; null stays null.
///
/// # Errors
/// When it cannot be converted.
pub(super) async fn in_version<'a>(
    asked: &Asked<'_>,
    object: &'a Value,
    from: &Place,
    to: &Place,
) -> Result<Cow<'a, Value>, Status> {
    if object.is_null() || from.kind == to.kind {
        return Ok(Cow::Borrowed(object));
    }
    let converted = match asked.served.as_ref().and_then(|served| served.converter()) {
        None => conversion::convert(object.clone(), &to.kind),
        Some(converter) => {
            let all = converter.convert(vec![object.clone()], &to.kind).await;
            all.and_then(|mut all| all.pop().ok_or_else(|| "a conversion lost its object".to_owned()))
        }
    };
    converted.map(Cow::Owned).map_err(Status::internal)
}

/// The schema of what is sent: the collection's, or of one that subresources have, such as a `Scale`.
pub(super) fn view_of<'a>(served: Option<&'a Served>, place: &Place) -> Option<View<'a>> {
    if let Some(served) = served.filter(|served| served.kind == place.kind) {
        return served.view();
    }
    let schemas = BuiltinSchemas::get();
    schemas.definitions().view(schemas.name_of(&place.kind)?)
}

/// Makes an object that was changed one of its kind: unknown fields go, what was left out is entered.
///
/// # Errors
/// When it is none any more.
pub(super) fn settle(served: &Served, place: &Place, object: &mut Value) -> Result<(), Status> {
    let is = |field: &str, wanted: &str| object.get(field).and_then(Value::as_str) == Some(wanted);
    let version = place.kind.group_version().to_string();
    if !is("kind", &place.kind.kind) || !is("apiVersion", &version) {
        return Err(Status::internal(format!("the object is no {} any more", place.kind)));
    }
    let misfits = if served.kind == place.kind {
        served.prune(object);
        served.misfits(object)
    } else {
        let Some(view) = view_of(None, place) else { return Ok(()) };
        schema::prune(view, object, schema::Place::Object);
        schema::validate(view, object, &FieldPath::root(), Extent::Types)
    };
    if let Some(error) = misfits.first() {
        return Err(Status::internal(format!("the object cannot be read any more: {error}")));
    }
    if served.kind == place.kind {
        served.default(object);
    }
    Ok(())
}
