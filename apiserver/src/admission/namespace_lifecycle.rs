//! NamespaceLifecycle: nothing is made in a namespace that is not there, or on its way out, and three namespaces stay for ever.
//! Must never look at the object.

use barque_api::kind::GroupResource;
use barque_api::status::Status;
use serde_json::Value;

use super::pod::text;
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

impl<S: Storage> Admission<S> {
    /// Whether the namespace of a request is there for it.
    pub(super) async fn check_namespace(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        if is_immortal(attributes) {
            return Err(attributes.forbidden("this namespace may not be deleted"));
        }
        if !needs_namespace(attributes) {
            return Ok(());
        }
        let namespace = self.found("", "namespaces", "", attributes.namespace).await?;
        judge(attributes, namespace.as_ref())
    }
}

fn is_namespace(attributes: &Attributes<'_>) -> bool {
    attributes.kind.group.is_empty() && &*attributes.kind.kind == "Namespace"
}

fn is_immortal(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Delete
        && is_namespace(attributes)
        && IMMORTAL.contains(&attributes.name)
}

/// Changes and deletions go on to the end of a namespace. Who only asks what is allowed learns nothing of namespaces.
fn needs_namespace(attributes: &Attributes<'_>) -> bool {
    !attributes.namespace.is_empty()
        && !is_namespace(attributes)
        && attributes.operation == Operation::Create
        && !attributes.is_about("authorization.k8s.io", "localsubjectaccessreviews")
}

fn judge(attributes: &Attributes<'_>, namespace: Option<&Value>) -> Result<(), Status> {
    let name = attributes.namespace;
    let Some(namespace) = namespace else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), name));
    };
    if text(namespace, "/status/phase") != "Terminating" {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let cause = format!("namespace {name} is being terminated");
    Err(attributes.forbidden(why).because("NamespaceTerminating", cause, "metadata.namespace"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    #[tokio::test]
    async fn objects_are_made_only_in_namespaces_that_stay() {
        let cluster = Cluster::with(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here"}, "status": {"phase": "Active"}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"},
                "status": {"phase": "Terminating"}}),
        ])
        .await;
        let check = async |asked: &Asked| cluster.admission.check_namespace(&asked.attributes()).await;
        let map = |namespace: &str| Asked::create("", "configmaps", "ConfigMap").within(namespace).named("m");

        assert_eq!(check(&map("here")).await, Ok(()));
        let missing = check(&map("gone")).await.unwrap_err();
        assert_eq!((missing.reason.code(), &*missing.message), (404, r#"namespaces "gone" not found"#));
        let going = check(&map("going")).await.unwrap_err();
        assert_eq!(
            (going.reason.code(), &*going.message),
            (
                403,
                r#"configmaps "m" is forbidden: unable to create new content in namespace going because it is being terminated"#
            )
        );
        let cause = &going.details.causes[0];
        assert_eq!(
            (&*cause.reason, &*cause.message, &*cause.field),
            ("NamespaceTerminating", "namespace going is being terminated", "metadata.namespace")
        );
        for operation in [Operation::Update, Operation::Delete, Operation::Connect] {
            assert_eq!(check(&map("going").doing(operation)).await, Ok(()));
        }
        let review =
            Asked::create("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview");
        assert_eq!(check(&review.within("gone")).await, Ok(()));
    }

    #[tokio::test]
    async fn three_namespaces_are_immortal() {
        let cluster = Cluster::with(&[]).await;
        for (name, dies) in
            [("default", false), ("kube-system", false), ("kube-public", false), ("mine", true)]
        {
            let asked = Asked::create("", "namespaces", "Namespace").named(name).doing(Operation::Delete);
            let answer = cluster.admission.check_namespace(&asked.attributes()).await;
            assert_eq!(answer.is_ok(), dies, "{name}");
            if let Err(status) = answer {
                let expected =
                    format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
                assert_eq!(status.message, expected);
            }
        }
    }
}
