//! The server as a client of itself: what it keeps in the cluster goes through the same pipeline as everybody's objects, but
//! for the network. Must never do what a client with all rights could not.

use std::sync::{Arc, LazyLock};

use barque_api::kind::GroupVersionResource;
use barque_api::status::Status;
use serde_json::Value;

use super::decode::FieldValidation;
use super::deletion::DeleteOptions;
use super::pipeline::{Pipeline, Request};
use super::served::Served;
use crate::admission::Told;
use crate::authorization::{MASTERS, User};
use crate::clock;
use crate::storage::Storage;

static SELF: LazyLock<User> = LazyLock::new(|| User {
    name: "system:apiserver".to_owned(),
    groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()],
    ..User::default()
});

/// Whom the server's own fields belong to.
const MANAGER: &str = "barque-apiserver";

/// Writes in the server's own name. Cloning copies pointers.
#[derive(Clone)]
pub struct OwnClient<S: Storage>(Pipeline<S>);

impl<S: Storage> OwnClient<S> {
    /// Through this pipeline.
    #[must_use]
    pub const fn new(pipeline: Pipeline<S>) -> Self {
        Self(pipeline)
    }

    fn served(&self, resource: &GroupVersionResource) -> Result<Arc<Served>, Status> {
        let catalog = self.0.collections.catalog();
        catalog.named(resource).map(|one| Arc::clone(&one.served)).ok_or_else(Status::no_such_path)
    }

    /// The object as the store has it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        self.0.collections.newest_object(&resource.group_resource(), namespace, name).await
    }

    /// A new object.
    ///
    /// # Errors
    /// As for any client.
    pub async fn create(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let served = self.served(resource)?;
        let request = request(&served, namespace, "");
        let answer = self.0.create(&request, object, &[], &mut Told::default()).await?;
        Ok(answer.object)
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// As for any client.
    pub async fn update(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let served = self.served(resource)?;
        let request = Request { subresource, ..request(&served, namespace, name) };
        let answer = self.0.update(&request, object, &[], &mut Told::default()).await?;
        Ok(answer.object)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As for any client.
    pub async fn delete(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        let served = self.served(resource)?;
        let request = request(&served, namespace, name);
        self.0.delete(&request, &DeleteOptions::default(), &mut Told::default()).await?;
        Ok(())
    }
}

fn request<'a>(served: &'a Arc<Served>, namespace: &'a str, name: &'a str) -> Request<'a> {
    Request {
        user: &SELF,
        served,
        namespace,
        name,
        subresource: "",
        dry_run: false,
        manager: MANAGER,
        validation: FieldValidation::Ignore,
        options: &Value::Null,
        now: clock::now(),
    }
}
