//! What is asked before an object is stored, after it is known who may: plugins that change objects, then those that refuse
//! them, in the order of Kubernetes. A plugin is a file: a pure decision over what is asked and what was looked up, and a thin
//! shell that looks it up. Must never write, but for the usage in the status of a quota.

mod amounts;
mod asked;
mod certificates;
mod conditions;
mod default_class;
pub(crate) mod expressions;
mod known;
mod limit_ranger;
mod lookup;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod node_taints;
mod pod;
mod pod_security;
mod pod_topology_labels;
pub mod policies;
mod priority;
pub mod reinvocation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod signing_request;
mod volumes;
pub mod webhooks;

#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod test_request;

use std::fmt;
use std::sync::Arc;

use barque_api::kind::{GroupResource, GroupVersionKind, GroupVersionResource};
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::Value;

use self::policies::Policies;
use self::reinvocation::Rounds;
use self::webhooks::Webhooks;
use crate::authorization::{Action, Decision, User};
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

impl Attributes<'_> {
    /// Whether it is about objects of this collection, or what hangs below one.
    fn is_about(&self, group: &str, resource: &str) -> bool {
        *self.resource.group == *group && *self.resource.resource == *resource
    }

    /// Whether it is about objects of this collection themselves.
    fn is_plainly(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_about(group, resource)
    }

    /// 403 about what is asked.
    fn forbidden(&self, why: impl fmt::Display) -> Status {
        Status::forbidden(&self.resource.group_resource(), self.name, why)
    }
}

/// Asks whether somebody may do something, beside what the request itself does. Must not wait.
pub type Authorize = Arc<dyn Fn(&User, &Action) -> Decision + Send + Sync>;

/// All plugins, in their order. Cloning copies pointers.
#[derive(Clone)]
pub struct Admission<S: Storage> {
    collections: Collections<S>,
    authorize: Authorize,
    /// What users have a say by; nothing where they have none.
    users: Option<(Policies<S>, Webhooks<S>)>,
}

impl<S: Storage> Admission<S> {
    /// Over these objects, with rights as `authorize` knows them.
    #[must_use]
    pub fn new(collections: Collections<S>, authorize: Authorize) -> Self {
        Self { collections, authorize, users: None }
    }

    /// Asks the rules and webhooks of users too.
    #[must_use]
    pub fn with_users_rules(mut self, policies: Policies<S>, webhooks: Webhooks<S>) -> Self {
        self.users = Some((policies, webhooks));
        self
    }

    /// Lets the plugins change the object, and once more if rules of users changed it. Texts in `warnings` are for the client. What they ask of the request alone, whatever
    /// the object becomes, is asked here too, so that nothing else is told to those whom they refuse.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let (mut rounds, mut told) = (Rounds::default(), Told::default());
        loop {
            self.mutate_once(attributes, object).await?;
            if let Some((policies, webhooks)) = &self.users {
                policies.mutate(attributes, object, &mut rounds).await?;
                webhooks.mutate(attributes, object, &mut told, &mut rounds).await?;
            }
            if !rounds.again() {
                break;
            }
        }
        warnings.append(&mut told.warnings);
        Ok(())
    }

    async fn mutate_once(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        self.check_namespace(attributes).await?;
        self.default_limits(attributes, object).await?;
        self.give_account(attributes, object).await?;
        self.restrict_node(attributes, object).await?;
        node_taints::taint_new_node(attributes, object);
        self.resolve_priority(attributes, object).await?;
        node_taints::tolerate_lost_nodes(attributes, object);
        self.default_storage_class(attributes, object).await?;
        volumes::protect(attributes, object);
        self.apply_runtime_class(attributes, object).await?;
        self.default_ingress_class(attributes, object).await?;
        self.label_topology(attributes, object).await?;
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
        if attributes.operation == Operation::Delete {
            // Nothing was mutated that would have come before.
            self.check_namespace(attributes).await?;
            self.restrict_node(attributes, object).await?;
        }
        self.check_limits(attributes, object).await?;
        self.check_account(attributes, object).await?;
        self.check_pod_security(attributes, object, warnings).await?;
        self.check_priority_class(attributes, object).await?;
        self.check_expansion(attributes, object).await?;
        self.check_overhead(attributes, object).await?;
        self.check_approval(attributes)?;
        self.check_signing(attributes, object)?;
        certificates::check_subject(attributes, object)?;
        if let Some((policies, webhooks)) = &self.users {
            let mut told = Told::default();
            policies.validate(attributes, object, &mut told).await?;
            webhooks.validate(attributes, object, &mut told).await?;
            warnings.append(&mut told.warnings);
        }
        self.charge_quotas(attributes, object).await?;
        Ok(())
    }

    /// An object as the cache has it; as the store has it, if the cache has none: it may be new.
    async fn found(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let resource = GroupResource::new(group, resource);
        match self.collections.object(&resource, namespace, name).await? {
            Some(object) => Ok(Some(object)),
            None => self.collections.newest_object(&resource, namespace, name).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::test_cluster::{Asked, Cluster};
    use super::*;

    #[tokio::test]
    async fn a_pod_goes_through_all_plugins() {
        let cluster = Cluster::with(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {
                "pod-security.kubernetes.io/warn": "restricted"}}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "a"}}),
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "a"},
                "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m"}}]}}),
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "a"},
                "spec": {"hard": {"requests.cpu": "150m"}}}),
        ])
        .await;
        let asked = Asked::pod();
        let mut warnings = Vec::new();
        let mut pod =
            json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [{"name": "c"}]}});
        let admission = &cluster.admission;
        admission.mutate(&asked.attributes(), &mut pod, &mut warnings).await.unwrap();
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["priority"], 0);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "100m"}));

        admission.validate(&asked.attributes(), &pod, &mut warnings).await.unwrap();
        assert!(warnings[0].starts_with("would violate PodSecurity \"restricted:latest\": "), "{warnings:?}");
        let quota = cluster.newest("", "resourcequotas", "a", "q").await;
        assert_eq!(quota["status"]["used"], json!({"requests.cpu": "100m"}));
        let status = admission.validate(&asked.attributes(), &pod, &mut warnings).await.unwrap_err();
        assert!(status.message.contains("exceeded quota: q, requested: requests.cpu=100m"), "{status}");
    }

    #[tokio::test]
    async fn deletions_are_refused_too() {
        let cluster = Cluster::with(&[]).await;
        let refusal = async |asked: &Asked| {
            let answer = cluster.admission.validate(&asked.attributes(), &Value::Null, &mut Vec::new()).await;
            answer.err().map(|status| status.message).unwrap_or_default()
        };
        let namespaces = Asked::create("", "namespaces", "Namespace").doing(Operation::Delete);
        assert_eq!(
            refusal(&namespaces.clone().named("default")).await,
            "namespaces \"default\" is forbidden: this namespace may not be deleted"
        );
        assert_eq!(refusal(&namespaces.named("mine")).await, "");
        let pod = Asked::pod().over(json!({"spec": {"nodeName": "m"}})).doing(Operation::Delete);
        assert_eq!(
            refusal(&pod.clone().by("system:node:n", &["system:nodes"])).await,
            "pods \"p\" is forbidden: node \"n\" can only delete pods with spec.nodeName set to itself"
        );
        assert_eq!(refusal(&pod).await, "");
    }

    #[tokio::test]
    async fn a_missing_namespace_is_told_before_anything_else() {
        let cluster = Cluster::with(&[]).await;
        let mut pod =
            json!({"spec": {"runtimeClassName": "none", "priorityClassName": "none", "containers": []}});
        let asked = Asked::pod();
        let answer = cluster.admission.mutate(&asked.attributes(), &mut pod, &mut Vec::new()).await;
        assert_eq!(answer.unwrap_err().message, "namespaces \"a\" not found");
    }
}
