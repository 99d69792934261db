//! What is asked before an object is stored, after it is known who may: plugins that change objects, then those that refuse
//! them. Plugins are pure where they can be; what they look up is in the caches. Must never write.

mod asked;
mod conditions;
pub(crate) mod expressions;
mod known;
mod lookup;
mod matching;
pub mod policies;
pub mod reinvocation;
#[cfg(test)]
mod test_request;
pub mod webhooks;

use barque_api::kind::{GroupVersionKind, GroupVersionResource};
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::Value;

use crate::authorization::User;
use crate::registry::collections::Collections;
use crate::storage::Storage;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// An object changes.
    Update,
    /// An object goes.
    Delete,
    /// A connection to what an object stands for.
    Connect,
}

impl Operation {
    /// As webhooks and policies write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What is asked about. The object itself goes beside it, because it may change.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// What is done.
    pub operation: Operation,
    /// Who does it.
    pub user: &'a User,
    /// The type of the body: `Scale` or `Binding` for such subresources.
    pub kind: &'a GroupVersionKind,
    /// The collection in the version of the request.
    pub resource: &'a GroupVersionResource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for objects without one.
    pub namespace: &'a str,
    /// Empty while it is not generated yet, and for collections.
    pub name: &'a str,
    /// The object before, in the version of the request; nothing for one that is created.
    pub old: Option<&'a Value>,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions`.
    pub options: &'a Value,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Now.
    pub now: Time,
}

/// What webhooks and policies say beside yes or no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit log: keys and values.
    pub annotations: Vec<(String, String)>,
}

/// All plugins, in their order. Cloning copies pointers.
#[derive(Clone)]
pub struct Admission<S: Storage> {
    collections: Collections<S>,
}

impl<S: Storage> Admission<S> {
    /// Over these objects.
    #[must_use]
    pub fn new(collections: Collections<S>) -> Self {
        Self { collections }
    }

    /// Lets the plugins change the object. Texts in `warnings` are for the client.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let _ = (&self.collections, attributes, object, warnings);
        Ok(())
    }

    /// Lets the plugins refuse the object; it is null for deletions and connections.
    ///
    /// # Errors
    /// When one of them does.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let _ = (&self.collections, attributes, object, warnings);
        Ok(())
    }
}
