//! What is asked before an object is stored, after it is known who may: plugins that change objects, then those that refuse
//! them, in the order of Kubernetes. A plugin is a file: a pure decision over what is asked and what was looked up, and a thin
//! shell that looks it up. Must never write, but for the usage in the status of a quota.

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
mod rights;
mod runtime_class;
mod service_account;
mod signing_request;
pub mod told;
mod volumes;
pub mod webhooks;

#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod test_request;
#[cfg(test)]
mod whole_server_tests;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use barque_api::field_selector::FieldSelector;
use barque_api::kind::{GroupResource, GroupVersionKind, GroupVersionResource};
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::Value;

pub use self::node_taints::DefaultTolerations;
use self::policies::Policies;
use self::reinvocation::Rounds;
pub use self::told::Told;
use self::webhooks::Webhooks;
use crate::authorization::{Action, Decision, User};
use crate::metrics::{AdmissionMetrics, Step};
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
    /// What it was before, of the type of the body; nothing for one that is created.
    pub old: Option<&'a Value>,
    /// `CreateOptions`, `UpdateOptions`, `PatchOptions` or `DeleteOptions`; null for connections.
    pub options: &'a Value,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// Now.
    pub now: Time,
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

/// Plugins by which users have a say.
const OF_USERS: [&str; 4] = [
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// Asks whether somebody may do something, beside what the request itself does; the selector is that of a list. Must not wait.
pub type Authorize = Arc<dyn Fn(&User, &Action, &FieldSelector) -> Decision + Send + Sync>;

/// All plugins, in their order. Cloning copies pointers.
#[derive(Clone)]
pub struct Admission<S: Storage> {
    collections: Collections<S>,
    authorize: Authorize,
    metrics: Arc<AdmissionMetrics>,
    tolerations: DefaultTolerations,
    /// What users have a say by; nothing where they have none.
    users: Option<(Policies<S>, Webhooks<S>)>,
}

impl<S: Storage> Admission<S> {
    /// Over these objects, with rights as `authorize` knows them.
    #[must_use]
    pub fn new(collections: Collections<S>, authorize: Authorize, metrics: Arc<AdmissionMetrics>) -> Self {
        Self { collections, authorize, metrics, tolerations: DefaultTolerations::default(), users: None }
    }

    /// Pods stay so long on lost nodes.
    #[must_use]
    pub const fn with_tolerations(mut self, tolerations: DefaultTolerations) -> Self {
        self.tolerations = tolerations;
        self
    }

    /// Asks the rules and webhooks of users too.
    #[must_use]
    pub fn with_users_rules(mut self, policies: Policies<S>, webhooks: Webhooks<S>) -> Self {
        self.users = Some((policies, webhooks));
        self
    }

    /// Lets the plugins change the object, and once more if rules of users changed it. What they ask of the request alone,
    /// whatever the object becomes, is asked here too, so that nothing else is told to those whom they refuse.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let answer = Box::pin(self.mutate_in_rounds(attributes, object, told)).await;
        let operation = attributes.operation.name();
        self.metrics.step(Step::Admit, operation, answer.is_err(), began.elapsed());
        answer
    }

    async fn mutate_in_rounds(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let mut rounds = Rounds::default();
        loop {
            self.mutate_once(attributes, object).await?;
            if let Some((policies, webhooks)) = &self.users {
                let asked = policies.mutate(attributes, object, &mut rounds);
                self.admits("MutatingAdmissionPolicy", attributes, asked).await?;
                let asked = webhooks.mutate(attributes, object, told, &mut rounds);
                self.admits("MutatingAdmissionWebhook", attributes, asked).await?;
            }
            if !rounds.again() {
                return Ok(());
            }
        }
    }

    async fn mutate_once(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let of = attributes;
        self.admits("NamespaceLifecycle", of, self.check_namespace(of)).await?;
        self.admits("LimitRanger", of, self.default_limits(of, object)).await?;
        self.admits("ServiceAccount", of, self.give_account(of, object)).await?;
        self.admits("NodeRestriction", of, self.restrict_node(of, object)).await?;
        self.admits("TaintNodesByCondition", of, done(|| node_taints::taint_new_node(of, object))).await?;
        self.admits("Priority", of, self.resolve_priority(of, object)).await?;
        let tolerate = || node_taints::tolerate_lost_nodes(self.tolerations, of, object);
        self.admits("DefaultTolerationSeconds", of, done(tolerate)).await?;
        self.admits("DefaultStorageClass", of, self.default_storage_class(of, object)).await?;
        self.admits("StorageObjectInUseProtection", of, done(|| volumes::protect(of, object))).await?;
        self.admits("RuntimeClass", of, self.apply_runtime_class(of, object)).await?;
        self.admits("DefaultIngressClass", of, self.default_ingress_class(of, object)).await?;
        self.admits("PodTopologyLabels", of, self.label_topology(of, object)).await?;
        Ok(())
    }

    /// Lets the plugins change an object that is stored nowhere, and then refuse it.
    ///
    /// # Errors
    /// When one of them does.
    pub async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        self.mutate(attributes, object, told).await?;
        self.validate(attributes, object, told).await
    }

    /// Lets the plugins refuse the object; it is null for deletions.
    ///
    /// # Errors
    /// When one of them does.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let answer = Box::pin(self.validate_by_all(attributes, object, told)).await;
        let operation = attributes.operation.name();
        self.metrics.step(Step::Validate, operation, answer.is_err(), began.elapsed());
        answer
    }

    async fn validate_by_all(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let of = attributes;
        self.judges("LimitRanger", of, self.check_limits(of, object)).await?;
        self.judges("ServiceAccount", of, self.check_account(of, object)).await?;
        self.judges("PodSecurity", of, self.check_pod_security(of, object, told)).await?;
        self.judges("Priority", of, self.check_priority_class(of, object)).await?;
        self.judges("PersistentVolumeClaimResize", of, self.check_expansion(of, object)).await?;
        self.judges("RuntimeClass", of, self.check_overhead(of, object)).await?;
        self.judges("CertificateApproval", of, async { self.check_approval(of) }).await?;
        self.judges("CertificateSigning", of, async { self.check_signing(of, object) }).await?;
        let subject = async { certificates::check_subject(of, object) };
        self.judges("CertificateSubjectRestriction", of, subject).await?;
        if let Some((policies, webhooks)) = &self.users {
            let asked = policies.validate(of, object, told);
            self.judges("ValidatingAdmissionPolicy", of, asked).await?;
            let asked = webhooks.validate(of, object, told);
            self.judges("ValidatingAdmissionWebhook", of, asked).await?;
        }
        self.judges("ResourceQuota", of, self.charge_quotas(of, object)).await?;
        Ok(())
    }

    async fn admits(
        &self,
        plugin: &'static str,
        attributes: &Attributes<'_>,
        asked: impl Future<Output = Result<(), Status>>,
    ) -> Result<(), Status> {
        self.ask(plugin, Step::Admit, attributes, asked).await
    }

    async fn judges(
        &self,
        plugin: &'static str,
        attributes: &Attributes<'_>,
        asked: impl Future<Output = Result<(), Status>>,
    ) -> Result<(), Status> {
        self.ask(plugin, Step::Validate, attributes, asked).await
    }

    /// Asks a plugin, and counts that. Connections concern users' plugins alone.
    async fn ask(
        &self,
        plugin: &'static str,
        step: Step,
        attributes: &Attributes<'_>,
        asked: impl Future<Output = Result<(), Status>>,
    ) -> Result<(), Status> {
        if attributes.operation == Operation::Connect && !OF_USERS.contains(&plugin) {
            return Ok(());
        }
        let began = Instant::now();
        let answer = asked.await;
        self.metrics.plugin(plugin, step, attributes.operation.name(), answer.is_err(), began.elapsed());
        answer
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

/// A plugin that asks nobody and never refuses.
async fn done(change: impl FnOnce()) -> Result<(), Status> {
    change();
    Ok(())
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
        let mut told = Told::default();
        let mut pod =
            json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [{"name": "c"}]}});
        let admission = &cluster.admission;
        admission.mutate(&asked.attributes(), &mut pod, &mut told).await.unwrap();
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["priority"], 0);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "100m"}));

        admission.validate(&asked.attributes(), &pod, &mut told).await.unwrap();
        assert!(
            told.warnings[0].starts_with("would violate PodSecurity \"restricted:latest\": "),
            "{told:?}"
        );
        let quota = cluster.newest("", "resourcequotas", "a", "q").await;
        assert_eq!(quota["status"]["used"], json!({"requests.cpu": "100m"}));
        let status = admission.validate(&asked.attributes(), &pod, &mut told).await.unwrap_err();
        assert!(status.message.contains("exceeded quota: q, requested: requests.cpu=100m"), "{status}");
    }

    #[tokio::test]
    async fn deletions_are_refused_too() {
        let cluster = Cluster::with(&[]).await;
        let refusal = async |asked: &Asked| {
            let (attributes, mut told) = (asked.attributes(), Told::default());
            let answer = cluster.admission.admit(&attributes, &mut Value::Null, &mut told).await;
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
        let answer = cluster.admission.mutate(&asked.attributes(), &mut pod, &mut Told::default()).await;
        assert_eq!(answer.unwrap_err().message, "namespaces \"a\" not found");
    }
}
