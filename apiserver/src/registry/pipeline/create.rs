//! New objects: named, stamped and stored, if there is none with their name.

use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::names::generated_name;
use barque_api::status::Status;
use serde_json::Value;

use super::{Answer, Asked, Pipeline, Ready, Request, answer, group_resource, own_fields, prepare, refuse};
use crate::admission::{Operation, Told};
use crate::registry::allocation::Fate;
use crate::registry::collections::Collection;
use crate::registry::decode;
use crate::registry::uid::new_uid;
use crate::storage::{Expected, Storage};

/// How many names are made up before a request fails.
const NAME_TRIES: usize = 8;

impl<S: Storage> Pipeline<S> {
    /// Stores a new object. Its kind was checked; `duplicates` are fields that its body gave twice.
    ///
    /// # Errors
    /// What is wrong with it, who refused it, or that there is one.
    pub async fn create(
        &self,
        request: &Request<'_>,
        mut object: Value,
        duplicates: &[String],
        told: &mut Told,
    ) -> Result<Answer, Status> {
        decode::settle(request.served, &mut object, duplicates, request.validation, &mut told.warnings)?;
        place(request, &mut object)?;
        if !Metadata::of(&object).resource_version().is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let base = Metadata::of(&object).generate_name().to_owned();
        let is_generated = Metadata::of(&object).name().is_empty() && !base.is_empty();
        let mut tries = if is_generated { NAME_TRIES } else { 1 };
        loop {
            tries -= 1;
            let mut one = object.clone();
            if is_generated && let Some(mut metadata) = MetadataMut::of(&mut one) {
                metadata.set_name(&generated_name(&base, rand::random()));
            }
            match self.create_named(request, one, false, told).await? {
                Ok(answer) => return Ok(answer),
                Err(_) if tries > 0 => {}
                Err(name) => return Err(Status::already_exists(&group_resource(request), &name)),
            }
        }
    }

    /// Stores it, or answers its name if there is one with it. One that is `owned` has its owners entered already.
    pub(super) async fn create_named(
        &self,
        request: &Request<'_>,
        mut object: Value,
        owned: bool,
        told: &mut Told,
    ) -> Result<Result<Answer, String>, Status> {
        let collection = self.collection(request)?;
        let served = request.served;
        stamp(request, &mut object);
        served.default(&mut object);
        prepare::for_create(request, &mut object);
        let mut object = if owned { object } else { own_fields(request, &Value::Null, object).await? };

        let name = Metadata::of(&object).name().to_owned();
        let asked = Asked { operation: Operation::Create, kind: &served.kind, name: &name, old: None };
        let unchanged = object.clone();
        self.mutate(request, asked, &mut object, told).await?;
        if object != unchanged {
            served.default(&mut object);
            prepare::for_create(request, &mut object);
        }
        let judged = served.is_custom().then(|| object.clone());
        let mut stored = served.to_stored(object).await?;

        let reservation = self.services.create(request, &mut stored).await?;
        let ready = Ready { stored, judged };
        let mut fate = Fate::Refused;
        let answered = self.store_new(request, &collection, ready, asked, told, &mut fate).await;
        self.services.settle(reservation, fate, request.now).await;
        answered
    }

    /// Stores a complete new object, if there is nothing wrong with it; `fate` is what became of it, also after a failure.
    async fn store_new(
        &self,
        request: &Request<'_>,
        collection: &Collection<S>,
        ready: Ready,
        asked: Asked<'_>,
        told: &mut Told,
        fate: &mut Fate,
    ) -> Result<Result<Answer, String>, Status> {
        let name = asked.name.to_owned();
        let Ready { mut stored, judged } = ready;
        let one = judged.as_ref().unwrap_or(&stored);
        refuse(request, one, &prepare::validate(request, one, None))?;
        told.warnings.extend(prepare::warnings(request, one, None));
        let admitted = match judged {
            Some(judged) => judged,
            None => request.served.of_stored(stored.clone()).await?,
        };
        self.admit(request, asked, &admitted, told).await?;

        let key = collection.keys.object(request.namespace, &name);
        if request.dry_run {
            let got = collection.storage.get(&key).await.map_err(|error| error.to_status())?;
            return match got.entry {
                Some(_) => Ok(Err(name)),
                None => answer(request, stored, None, true).await.map(Ok),
            };
        }
        if let Some(mut metadata) = MetadataMut::of(&mut stored) {
            metadata.remove("resourceVersion");
        }
        let put = self.put(collection, key, Expected::Absent, &stored).await;
        match put.inspect_err(|status| *fate = Fate::of_failure(status))? {
            Ok(revision) => {
                *fate = Fate::Stored;
                answer(request, stored, Some(revision), true).await.map(Ok)
            }
            Err(_) => Ok(Err(name)),
        }
    }
}

/// Puts an object where the request says that it is.
///
/// # Errors
/// When it says that it is somewhere else.
pub(super) fn place(request: &Request<'_>, object: &mut Value) -> Result<(), Status> {
    let Some(mut metadata) = MetadataMut::of(object) else {
        return Err(Status::bad_request("metadata: the object has none that can be read"));
    };
    let own = metadata.read().namespace().to_owned();
    if request.served.resource.namespaced {
        if own.is_empty() {
            metadata.set_namespace(request.namespace);
        } else if own != request.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// What the server says of every new object.
fn stamp(request: &Request<'_>, object: &mut Value) {
    let Some(mut metadata) = MetadataMut::of(object) else { return };
    metadata.set_uid(&new_uid());
    metadata.set_creation_time(request.now);
    metadata.clear_deletion();
    for field in ["selfLink", "resourceVersion"] {
        metadata.remove(field);
    }
}
