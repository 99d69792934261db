//! The one way in which objects of all kinds are written: what a client sent becomes an object of its kind, admission has its
//! say, the kind's rules are applied, owners of fields are accounted for, and the store takes it if nothing changed
//! meanwhile. Must never answer before the store did, nor write what was not validated.

mod binding;
mod create;
mod delete;
mod eviction;
mod patch;
mod prepare;
pub mod scale;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::field::FieldError;
use barque_api::kind::{GroupResource, GroupVersionKind};
use barque_api::managed_fields::{FieldManager, FieldSet, Versions};
use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::resource_version::ResourceVersion;
use barque_api::status::Status;
use barque_api::time::Time;
use bytes::Bytes;
use serde_json::Value;

use super::allocation::ServiceAllocator;
use super::collections::{Collection, Collections};
use super::decode::FieldValidation;
use super::owner_versions;
use super::served::{Served, reset_fields};
use crate::admission::{Admission, Attributes, Operation, Told};
use crate::authorization::{User, granting};
use crate::rights::Authorization;
use crate::storage::{Action, Entry, Expected, Revision, Storage, Write, Written};

pub use delete::DeleteAnswer;
pub use patch::{Patch, PatchKind, check_manager};
pub use scale::ScaleChange;

/// What is the same for all writes: who, what, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub user: &'a User,
    /// The version of the collection that the request names.
    pub served: &'a Arc<Served>,
    /// Empty for collections without namespaces.
    pub namespace: &'a str,
    /// Empty for the collection.
    pub name: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Everything happens but the writing (`dryRun=All`).
    pub dry_run: bool,
    /// Whom fields will belong to.
    pub manager: &'a str,
    /// What becomes of unknown fields.
    pub validation: FieldValidation,
    /// The options as an object, for admission.
    pub options: &'a Value,
    /// Now.
    pub now: Time,
}

/// An object as the store has it after a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// In the version of the request, with its resource version.
    pub object: Value,
    /// Whether it is new.
    pub created: bool,
}

/// Writes objects. Cloning copies pointers.
#[derive(Clone)]
pub struct Pipeline<S: Storage> {
    /// What there is.
    pub collections: Collections<S>,
    /// Who has a say.
    pub admission: Admission<S>,
    /// Who gives services their addresses and ports.
    pub services: ServiceAllocator<S>,
    /// Who may what: nobody gives rights that they do not have.
    pub authorization: Authorization,
}

impl<S: Storage> Pipeline<S> {
    /// The objects that a request is about.
    fn collection(&self, request: &Request<'_>) -> Result<Arc<Collection<S>>, Status> {
        let catalog = self.collections.catalog();
        let endpoint = catalog.named(&request.served.resource.name);
        endpoint.and_then(|one| one.collection.clone()).ok_or_else(Status::no_such_path)
    }

    /// The object of a request as the store has it, with its entry.
    async fn current(
        &self,
        request: &Request<'_>,
        collection: &Collection<S>,
    ) -> Result<Option<Current>, Status> {
        let key = collection.keys.object(request.namespace, request.name);
        let got = collection.storage.get(&key).await.map_err(|error| error.to_status())?;
        match got.entry {
            Some(entry) => Current::of(entry, request).await.map(Some),
            None => Ok(None),
        }
    }

    /// Admission may change the object; through its scale, that alone.
    async fn mutate(
        &self,
        request: &Request<'_>,
        asked: Asked<'_>,
        object: &mut Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        match request.subresource {
            // It was asked about the Binding.
            "binding" => Ok(()),
            "scale" => {
                let (kind, old) = (scale::kind(), old_scale(request, asked)?);
                let asked = Asked { kind: &kind, old: old.as_ref(), ..asked };
                let before = scale::scale_of(request.served, object)?;
                let mut scale = before.clone();
                self.admission.mutate(&attributes(request, asked), &mut scale, told).await?;
                if scale != before {
                    scale::enter(request, &scale, object)?;
                }
                Ok(())
            }
            _ => self.admission.mutate(&attributes(request, asked), object, told).await,
        }
    }

    /// Admission may refuse the object, or the scale of one.
    async fn admit(
        &self,
        request: &Request<'_>,
        asked: Asked<'_>,
        object: &Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        if !object.is_null() && request.subresource.is_empty() {
            let resource = group_resource(request);
            self.authorization
                .ask(|chain| granting::check(chain, request.user, &resource, object, asked.old))?;
        }
        match request.subresource {
            "binding" => Ok(()),
            "scale" => {
                let (kind, old) = (scale::kind(), old_scale(request, asked)?);
                let asked = Asked { kind: &kind, old: old.as_ref(), ..asked };
                let scale = scale::scale_of(request.served, object)?;
                self.admission.validate(&attributes(request, asked), &scale, told).await
            }
            _ => self.admission.validate(&attributes(request, asked), object, told).await,
        }
    }

    /// Puts a version of an object into the store, and answers its revision; nothing when something else stands there.
    async fn put(
        &self,
        collection: &Collection<S>,
        key: Bytes,
        expected: Expected,
        object: &Value,
    ) -> Result<Result<Revision, Option<Entry>>, Status> {
        let lease = collection.lease().await?;
        let action = Action::Put { value: stored_bytes(object)?, lease };
        let written = collection.storage.write(&Write { key, expected, action }).await;
        match written.map_err(|error| error.to_status())? {
            Written::Done(revision) => Ok(Ok(revision)),
            Written::Differs(entry) => Ok(Err(entry)),
        }
    }
}

/// What admission is asked about, beside the request.
#[derive(Clone, Copy)]
struct Asked<'a> {
    operation: Operation,
    kind: &'a GroupVersionKind,
    /// With a generated name, that one.
    name: &'a str,
    old: Option<&'a Value>,
}

/// The scale before a change.
fn old_scale(request: &Request<'_>, asked: Asked<'_>) -> Result<Option<Value>, Status> {
    asked.old.map(|old| scale::scale_of(request.served, old)).transpose()
}

fn attributes<'a>(request: &Request<'a>, asked: Asked<'a>) -> Attributes<'a> {
    Attributes {
        operation: asked.operation,
        user: request.user,
        kind: asked.kind,
        resource: &request.served.resource.name,
        subresource: request.subresource,
        namespace: request.namespace,
        name: asked.name,
        old: asked.old,
        options: request.options,
        dry_run: request.dry_run,
        now: request.now,
    }
}

/// An object that is about to be stored.
struct Ready {
    stored: Value,
    /// In the version of the request, in which custom kinds are judged.
    judged: Option<Value>,
}

/// An object that the store has.
struct Current {
    entry: Entry,
    /// As stored, with its resource version.
    stored: Value,
    /// In the version of the request.
    object: Value,
}

impl Current {
    async fn of(entry: Entry, request: &Request<'_>) -> Result<Self, Status> {
        let stored = with_version(&entry)?;
        let object = request.served.of_stored(stored.clone()).await?;
        Ok(Self { entry, stored, object })
    }
}

/// An object of the store, with its resource version.
fn with_version(entry: &Entry) -> Result<Value, Status> {
    let mut object: Value = serde_json::from_slice(&entry.value).map_err(|error| {
        let key = String::from_utf8_lossy(&entry.key);
        Status::internal(format!("the stored object {key} cannot be read: {error}"))
    })?;
    set_version(&mut object, entry.revision);
    Ok(object)
}

fn set_version(object: &mut Value, revision: Revision) {
    if let Some(mut metadata) = MetadataMut::of(object) {
        metadata.set_resource_version(ResourceVersion::of_revision(revision.0));
    }
}

/// As an object is stored: without a resource version, which is the revision of the write.
fn stored_bytes(object: &Value) -> Result<Bytes, Status> {
    let encoded = if Metadata::of(object).resource_version().is_empty() {
        serde_json::to_vec(object)
    } else {
        let mut object = object.clone();
        if let Some(mut metadata) = MetadataMut::of(&mut object) {
            metadata.remove("resourceVersion");
        }
        serde_json::to_vec(&object)
    };
    encoded.map(Bytes::from).map_err(Status::internal)
}

/// What a collection is called in errors.
fn group_resource(request: &Request<'_>) -> GroupResource {
    request.served.group_resource()
}

/// What went wrong while an object was validated, as a Status.
fn refuse(request: &Request<'_>, object: &Value, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&request.served.kind, Metadata::of(object).name(), errors))
}

/// Accounts for the fields that a write changed.
///
/// # Errors
/// See [`owner_versions::settled`].
async fn own_fields(request: &Request<'_>, live: &Value, object: Value) -> Result<Value, Status> {
    let reset = reset_fields(request.served, request.subresource);
    owner_versions::settled(request.served, |versions| {
        field_manager(request, versions, &reset).update(live, object.clone(), request.manager)
    })
    .await
}

fn field_manager<'a>(
    request: &'a Request<'a>,
    versions: &'a dyn Versions,
    reset: &'a BTreeMap<String, FieldSet>,
) -> FieldManager<'a> {
    FieldManager {
        kind: &request.served.kind,
        subresource: request.subresource,
        versions,
        reset,
        now: request.now,
    }
}

/// The object in the version of the request, as the client is answered.
async fn answer(
    request: &Request<'_>,
    mut stored: Value,
    revision: Option<Revision>,
    created: bool,
) -> Result<Answer, Status> {
    if let Some(revision) = revision {
        set_version(&mut stored, revision);
    }
    let object = request.served.of_stored(stored).await?;
    Ok(Answer { object, created })
}
