//! Changes of objects that there are: whatever the change is, it is made to what the store has, and stored if that is still
//! what the store has.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::{GroupResource, GroupVersionKind};
use barque_api::managed_fields::{Versions, keep_times_of_unchanged};
use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::status::Status;
use serde_json::Value;

use super::{
    Answer, Asked, Current, Pipeline, Ready, Request, answer, create, group_resource, own_fields, prepare,
    refuse,
};
use crate::admission::{Operation, Told};
use crate::registry::allocation::Fate;
use crate::registry::collections::Collection;
use crate::registry::{decode, deletion, owner_versions};
use crate::storage::{Action, Expected, Storage, Write, Written};

/// What a change makes of an object.
pub(super) struct Changed {
    /// In the version of the request.
    pub(super) object: Value,
    /// Its owners are already entered.
    pub(super) owned: bool,
}

impl<S: Storage> Pipeline<S> {
    /// Replaces an object. Its kind was checked.
    ///
    /// # Errors
    /// What is wrong with it, who refused it, that there is none, or that it was changed meanwhile.
    pub async fn update(
        &self,
        request: &Request<'_>,
        mut object: Value,
        duplicates: &[String],
        told: &mut Told,
    ) -> Result<Answer, Status> {
        decode::settle(request.served, &mut object, duplicates, request.validation, &mut told.warnings)?;
        create::place(request, &mut object)?;
        let name = Metadata::of(&object).name().to_owned();
        if name.is_empty() {
            if let Some(mut metadata) = MetadataMut::of(&mut object) {
                metadata.set_name(request.name);
            }
        } else if name != request.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.name
            )));
        }
        let guarded = !Metadata::of(&object).resource_version().is_empty();
        let replace = |current: Option<&Value>, _: &dyn Versions| match current {
            Some(_) => Ok(Changed { object: object.clone(), owned: false }),
            None if prepare::creates_on_update(request) && request.subresource.is_empty() => {
                Ok(Changed { object: object.clone(), owned: false })
            }
            None => Err(Status::not_found(&group_resource(request), request.name)),
        };
        self.change(request, guarded, replace, told).await
    }

    /// Changes an object by `change`, which is handed what there is, in the version of the request, and by which versions owners
    /// are told. When somebody else's change gets in the way, it is asked again for as long as the request may take, unless the change is `guarded` by a resource
    /// version: who does not say a version need not know of others.
    ///
    /// # Errors
    /// That of `change`, what is wrong with the result, or who refused it.
    pub(super) async fn change(
        &self,
        request: &Request<'_>,
        guarded: bool,
        mut change: impl FnMut(Option<&Value>, &dyn Versions) -> Result<Changed, Status>,
        told: &mut Told,
    ) -> Result<Answer, Status> {
        let collection = self.collection(request)?;
        loop {
            let Some(current) = self.current(request, &collection).await? else {
                let changed =
                    owner_versions::settled(request.served, |versions| change(None, versions)).await??;
                match self.create_named(request, changed.object, changed.owned, told).await? {
                    Ok(answer) => return Ok(answer),
                    Err(_) => continue,
                }
            };
            let changed =
                owner_versions::settled(request.served, |versions| change(Some(&current.object), versions));
            let Changed { mut object, owned } = changed.await??;
            check_version(request, &mut object, &current)?;
            if let Some(answer) = self.replace(request, &collection, &current, object, owned, told).await? {
                return Ok(answer);
            }
            if guarded {
                return Err(modified(request));
            }
        }
    }

    /// Stores `object` in place of what there is; nothing when something else is there by now.
    async fn replace(
        &self,
        request: &Request<'_>,
        collection: &Collection<S>,
        current: &Current,
        mut object: Value,
        owned: bool,
        told: &mut Told,
    ) -> Result<Option<Answer>, Status> {
        let served = request.served;
        let old = &current.object;
        keep_what_is_the_servers(&mut object, old);
        served.default(&mut object);
        prepare::for_update(request, &mut object, old);
        let mut object = if owned { object } else { own_fields(request, old, object).await? };

        let asked =
            Asked { operation: Operation::Update, kind: &served.kind, name: request.name, old: Some(old) };
        let unchanged = object.clone();
        self.mutate(request, asked, &mut object, told).await?;
        if object != unchanged {
            served.default(&mut object);
            prepare::for_update(request, &mut object, old);
        }
        let judged = served.is_custom().then(|| object.clone());
        let mut stored = served.to_stored(object).await?;

        let reservation = self.services.update(request, &mut stored, &current.stored).await?;
        let ready = Ready { stored, judged };
        let mut fate = Fate::Refused;
        let answered = self.store_changed(request, collection, current, ready, asked, told, &mut fate).await;
        self.services.settle(reservation, fate, request.now).await;
        answered
    }

    /// Stores a complete changed object, if there is nothing wrong with it; `fate` is what became of it, also after a failure.
    #[expect(clippy::too_many_arguments, reason = "one step of `replace`, which has them all at hand")]
    async fn store_changed(
        &self,
        request: &Request<'_>,
        collection: &Collection<S>,
        current: &Current,
        ready: Ready,
        asked: Asked<'_>,
        told: &mut Told,
        fate: &mut Fate,
    ) -> Result<Option<Answer>, Status> {
        let Ready { mut stored, judged } = ready;
        let (one, before) = match &judged {
            Some(judged) => (judged, &current.object),
            None => (&stored, &current.stored),
        };
        refuse(request, one, &prepare::validate(request, one, Some(before)))?;
        told.warnings.extend(prepare::warnings(request, one, Some(before)));
        let admitted = match judged {
            Some(judged) => judged,
            None => request.served.of_stored(stored.clone()).await?,
        };
        self.admit(request, asked, &admitted, told).await?;

        keep_times_of_unchanged(&current.stored, &mut stored);
        if stored == current.stored || request.dry_run {
            return answer(request, stored, None, false).await.map(Some);
        }
        let key = current.entry.key.clone();
        let expected = Expected::At(current.entry.revision);
        if deletion::is_over(&stored) {
            // Nothing holds it any more: this was its last change.
            let write = Write { key, expected, action: Action::Delete };
            let written = collection.storage.write(&write).await.map_err(|error| error.to_status());
            return match written.inspect_err(|status| *fate = Fate::of_failure(status))? {
                Written::Done(revision) => {
                    *fate = Fate::Gone;
                    answer(request, stored, Some(revision), false).await.map(Some)
                }
                Written::Differs(_) => Ok(None),
            };
        }
        let put = self.put(collection, key, expected, &stored).await;
        match put.inspect_err(|status| *fate = Fate::of_failure(status))? {
            Ok(revision) => {
                *fate = Fate::Stored;
                answer(request, stored, Some(revision), false).await.map(Some)
            }
            Err(_) => Ok(None),
        }
    }
}

/// The object was changed by somebody else.
fn modified(request: &Request<'_>) -> Status {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(&group_resource(request), request.name, why)
}

/// Holds the object to the version and the object that it says it was made of.
fn check_version(request: &Request<'_>, object: &mut Value, current: &Current) -> Result<(), Status> {
    let old = Metadata::of(&current.object);
    let new = Metadata::of(object);
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(Status::conflict(&group_resource(request), request.name, why));
    }
    let version = new.resource_version().to_owned();
    if version.is_empty() || version == "0" {
        if prepare::needs_version(request) {
            return Err(needs_version(&group_resource(request), request.name));
        }
        if let Some(mut metadata) = MetadataMut::of(object) {
            metadata.set("resourceVersion", old.resource_version());
        }
    } else if version != old.resource_version() {
        if version.parse::<u64>().is_err() {
            let error = barque_api::resource_version::ResourceVersion::parse(&version);
            let errors: Vec<_> = error.err().into_iter().collect();
            return Err(Status::invalid(&request.served.kind, request.name, &errors));
        }
        return Err(modified(request));
    }
    Ok(())
}

/// The object does not say which version it replaces. Kubernetes names the resource here, not the kind, and the version as it
/// has read it.
fn needs_version(resource: &GroupResource, name: &str) -> Status {
    let path = FieldPath::of("metadata.resourceVersion");
    let error = FieldError::invalid(&path, 0, "must be specified for an update");
    let named = GroupVersionKind::new(&resource.group, "", &resource.resource);
    Status::invalid(&named, name, &[error])
}

/// Metadata that clients do not change, whatever they send.
fn keep_what_is_the_servers(object: &mut Value, old: &Value) {
    let before = Metadata::of(old);
    let Some(mut metadata) = MetadataMut::of(object) else { return };
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
    ] {
        match before.field(field) {
            Some(value) => metadata.set(field, value.clone()),
            None => {
                metadata.remove(field);
            }
        }
    }
    // A client that does not know owners does not wish them away; an empty list does.
    if metadata.read().field("managedFields").is_none() && !before.managed_fields().is_empty() {
        metadata.set("managedFields", before.managed_fields().to_vec());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use barque_api::kind::GroupVersionResource;
    use barque_api::resources::Builtin;
    use barque_api::time::Time;
    use futures::FutureExt as _;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::authorization::User;
    use crate::registry::allocation::settings::ServiceNetwork;
    use crate::registry::collections::Collections;
    use crate::registry::decode::FieldValidation;
    use crate::registry::served::Served;
    use crate::storage::Revision;
    use crate::storage::memory::Memory;
    use crate::test_parts;

    /// Somebody else writes between each look at the object and the write that follows, so many times.
    async fn changed_beside(rivals: usize, guarded: bool) -> Result<Answer, Status> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let storage = Memory::default();
        let collections = Collections::start(test_parts::in_memory(storage.clone()), &tasks, &stop);
        let network = ServiceNetwork::parse("10.0.0.0/24", "30000-30010").unwrap();
        let pipeline = test_parts::pipeline(&collections, &network, &tasks, &stop);
        let row = Builtin::table().named(&GroupVersionResource::new("", "v1", "configmaps")).unwrap();
        let (served, user) = (Arc::new(Served::builtin(Arc::clone(row))), User::default());
        let request = Request {
            user: &user,
            served: &served,
            namespace: "default",
            name: "m",
            subresource: "",
            dry_run: false,
            manager: "m",
            validation: FieldValidation::Ignore,
            options: &Value::Null,
            now: Time::of_unix(1_000_000),
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
        pipeline.create(&request, map, &[], &mut Told::default()).await.unwrap();
        let key = pipeline.collection(&request).unwrap().keys.object("default", "m");
        let mut left = rivals;
        let change = |current: Option<&Value>, _: &dyn Versions| {
            let mut object = current.unwrap().clone();
            if left > 0 {
                left -= 1;
                let mut theirs = object.clone();
                theirs["data"] = json!({"theirs": left.to_string()});
                let value = serde_json::to_vec(&theirs).unwrap().into();
                let action = Action::Put { value, lease: None };
                let expected =
                    Expected::At(Revision(Metadata::of(&object).resource_version().parse().unwrap()));
                let write = Write { key: key.clone(), expected, action };
                storage.write(&write).now_or_never().expect("memory answers at once").unwrap();
            }
            object["data"]["ours"] = json!("1");
            Ok(Changed { object, owned: true })
        };
        let answer = pipeline.change(&request, guarded, change, &mut Told::default()).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        answer
    }

    #[tokio::test]
    async fn who_names_no_version_is_not_told_of_others() {
        let answer = changed_beside(50, false).await.unwrap();
        assert_eq!(answer.object["data"], json!({"ours": "1", "theirs": "0"}));
        let refused = changed_beside(1, true).await.unwrap_err();
        assert_eq!(refused.reason.code(), 409);
        changed_beside(0, true).await.unwrap();
    }

    #[test]
    fn a_replacement_that_must_name_a_version_and_does_not_is_told_so() {
        let status = needs_version(&GroupResource::new("policy", "poddisruptionbudgets"), "guard");
        assert_eq!((status.reason.code(), status.details.kind.as_str()), (422, "poddisruptionbudgets"));
        assert_eq!(
            status.message,
            "poddisruptionbudgets.policy \"guard\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
             specified for an update"
        );
    }
}
