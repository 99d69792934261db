//! Which objects a request means: its namespace, name, labels and fields, as the cache understands them. Pure; must never
//! look at objects.

use std::sync::Arc;

use barque_api::field::FieldPath;
use barque_api::field_selector::FieldSelector;
use barque_api::labels::{Labels, Selector};
use barque_api::status::Status;

use super::collections::Collection;
use super::selectable;
use super::served::{Served, Shape};
use crate::storage::Storage;
use crate::watch_cache::object::Object;
use crate::watch_cache::registry::{Filter, Selection};

/// What a request says about the objects that it means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Empty for all.
    pub namespace: &'a str,
    /// One object; empty for all.
    pub name: &'a str,
    /// `labelSelector`
    pub labels: &'a str,
    /// `fieldSelector`
    pub fields: &'a str,
}

/// The labels of an object in the cache.
struct OfObject<'a>(&'a Object);

impl Labels for OfObject<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0.label(key)
    }
}

/// Reads the selectors of a request.
///
/// # Errors
/// 400 for what is no selector, or asks for a field that this kind does not offer.
pub fn selection<S: Storage>(
    wanted: Wanted<'_>,
    served: &Served,
    collection: &Collection<S>,
) -> Result<Selection, Status> {
    let labels = Selector::parse(wanted.labels, &FieldPath::root())
        .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?;
    let fields: FieldSelector =
        wanted.fields.parse().map_err(|error| Status::bad_request(format!("{error}")))?;
    let (group, resource) = (&*served.resource.name.group, &*served.resource.name.resource);
    let mut terms = Vec::new();
    for term in fields.terms() {
        let path = selectable::stored_name(group, resource, &term.field);
        let index = collection.cache.field(path).filter(|_| may_ask(served, &term.field));
        let index =
            index.ok_or_else(|| Status::bad_request(format!("field label not supported: {}", term.field)))?;
        terms.push((index, term.equals, term.value.clone()));
    }

    let exact_name = if wanted.name.is_empty() { fields.exact("metadata.name") } else { Some(wanted.name) };
    let namespace = if wanted.namespace.is_empty() {
        fields.exact("metadata.namespace").unwrap_or_default()
    } else {
        wanted.namespace
    };
    let single = exact_name.filter(|name| {
        !name.is_empty() && (!served.resource.namespaced || !namespace.is_empty()) && !name.contains('/')
    });
    let prefix = match single {
        Some(name) => collection.keys.object(namespace, name),
        None if namespace.contains('/') => collection.keys.object(namespace, ""),
        None => collection.keys.namespace_prefix(namespace),
    };
    let value = selectable::indexed(&collection.resource).and_then(|path| fields.exact(path));
    let selective = !labels.is_everything() || !terms.is_empty();
    let filter = selective.then(|| {
        let filter = move |object: &Object| {
            terms.iter().all(|(index, equals, value)| (object.field(*index) == value) == *equals)
                && (labels.is_everything() || labels.matches(&OfObject(object)))
        };
        Arc::new(filter) as Filter
    });
    Ok(Selection { prefix, single: single.is_some(), value: value.map(str::to_owned), filter })
}

/// Whether this version offers the field to selectors: names of one version of events are not those of the other.
fn may_ask(served: &Served, path: &str) -> bool {
    match &served.shape {
        Shape::Custom(shape) => {
            path.starts_with("metadata.") || shape.offered.iter().any(|offered| offered == path)
        }
        Shape::Builtin(_) if &*served.resource.name.group == "events.k8s.io" => {
            !path.starts_with("involvedObject.") && path != "source"
        }
        Shape::Builtin(_) => !path.starts_with("regarding.") && path != "source.component",
    }
}
