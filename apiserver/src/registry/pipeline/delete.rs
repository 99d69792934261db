//! Deletions: of an object, or of all that a selector fits.

use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::Value;

use super::{Answer, Asked, Pipeline, Request, answer, group_resource};
use crate::admission::{Operation, Told};
use crate::custom_resources;
use crate::registry::deletion::{self, DeleteOptions, Deletion};
use crate::storage::{Action, Expected, Storage, Write, Written};

/// What became of an object that was to be deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum DeleteAnswer {
    /// It is gone; this was its last version.
    Gone(Value),
    /// It is there, marked, and goes later.
    Going(Value),
}

impl<S: Storage> Pipeline<S> {
    /// Deletes an object, or marks it.
    ///
    /// # Errors
    /// That there is none, that it is not the one that is meant, or who refused it.
    pub async fn delete(
        &self,
        request: &Request<'_>,
        options: &DeleteOptions,
        told: &mut Told,
    ) -> Result<DeleteAnswer, Status> {
        self.remove(request, options, Some(told)).await
    }

    /// The same; where nothing can be told, admission has had its say.
    pub(super) async fn remove(
        &self,
        request: &Request<'_>,
        options: &DeleteOptions,
        mut told: Option<&mut Told>,
    ) -> Result<DeleteAnswer, Status> {
        let collection = self.collection(request)?;
        let resource = group_resource(request);
        // Somebody else's change that gets in the way is no reason to stop, as long as the request may take.
        loop {
            let current = self.current(request, &collection).await?;
            let current = current.ok_or_else(|| Status::not_found(&resource, request.name))?;
            let asked = Asked {
                operation: Operation::Delete,
                kind: &request.served.kind,
                name: request.name,
                old: Some(&current.object),
            };
            if let Some(told) = told.as_deref_mut() {
                self.mutate(request, asked, &mut Value::Null, told).await?;
                self.admit(request, asked, &Value::Null, told).await?;
            }
            let held = custom_resources::are_definitions(&resource)
                .then(|| custom_resources::deletion::on_delete(&current.stored, request.now));
            let held = held.as_ref().unwrap_or(&current.stored);
            let plan = deletion::plan(held, &resource, request.served.manner, options, request.now)?;
            let expected = Expected::At(current.entry.revision);
            let key = current.entry.key.clone();
            match plan {
                Deletion::Pending => {
                    return answer(request, current.stored, None, false)
                        .await
                        .map(|one| DeleteAnswer::Going(one.object));
                }
                Deletion::Remove => {
                    if request.dry_run {
                        return Ok(DeleteAnswer::Gone(current.object));
                    }
                    let write = Write { key, expected, action: Action::Delete };
                    let written = collection.storage.write(&write).await;
                    if let Written::Done(_) = written.map_err(|error| error.to_status())? {
                        self.services.release(request, &current.stored).await;
                        return Ok(DeleteAnswer::Gone(current.object));
                    }
                }
                Deletion::Mark(marked) => {
                    if request.dry_run {
                        return answer(request, marked, None, false)
                            .await
                            .map(|one| DeleteAnswer::Going(one.object));
                    }
                    if let Ok(revision) = self.put(&collection, key, expected, &marked).await? {
                        let Answer { object, .. } = answer(request, marked, Some(revision), false).await?;
                        return Ok(DeleteAnswer::Going(object));
                    }
                }
            }
        }
    }

    /// Deletes objects one after another, and answers those that there were. One that is gone by the time is none.
    ///
    /// # Errors
    /// The first that a deletion met.
    pub async fn delete_all(
        &self,
        request: &Request<'_>,
        objects: Vec<Value>,
        options: &DeleteOptions,
        told: &mut Told,
    ) -> Result<Vec<Value>, Status> {
        let mut deleted = Vec::with_capacity(objects.len());
        for object in objects {
            let metadata = Metadata::of(&object);
            let one = Request { namespace: metadata.namespace(), name: metadata.name(), ..*request };
            match self.delete(&one, options, told).await {
                Ok(DeleteAnswer::Gone(object) | DeleteAnswer::Going(object)) => deleted.push(object),
                Err(status) if status.reason == barque_api::status::Reason::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        Ok(deleted)
    }
}
