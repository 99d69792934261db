//! Binding: the scheduler says on which node a pod runs. Once said, it stays.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::{GroupVersionKind, GroupVersionResource};
use barque_api::managed_fields::Versions;
use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::status::Status;
use serde_json::{Value, json};

use super::update::Changed;
use super::{Asked, Pipeline, Request, attributes, group_resource};
use crate::admission::{Attributes, Operation, Told};
use crate::storage::Storage;

impl<S: Storage> Pipeline<S> {
    /// Assigns the request's pod to the target of a `Binding` that was sent to a collection.
    ///
    /// # Errors
    /// 422 for one without a target, 404 without the pod, 409 for one that is assigned, gated or going, or who refused it.
    pub async fn bind(
        &self,
        request: &Request<'_>,
        collection: &GroupVersionResource,
        mut binding: Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        let kind = GroupVersionKind::new("", "v1", "Binding");
        let asked = Asked { operation: Operation::Create, kind: &kind, name: request.name, old: None };
        let attributes = Attributes { resource: collection, ..attributes(request, asked) };
        self.admission.mutate(&attributes, &mut binding, told).await?;
        check(&binding)?;
        self.admission.validate(&attributes, &binding, told).await?;
        let change = |pod: Option<&Value>, _: &dyn Versions| {
            let pod = pod.ok_or_else(|| Status::not_found(&group_resource(request), request.name))?;
            let object = bound(request, pod, &binding)?;
            Ok(Changed { object, owned: false })
        };
        let inner = Request { subresource: "binding", ..*request };
        self.change(&inner, false, change, told).await.map(|_| ())
    }
}

/// What is wrong with a binding.
fn check(binding: &Value) -> Result<(), Status> {
    let text = |pointer| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/target/kind");
    let mut errors = Vec::new();
    if !["", "Node"].contains(&kind) {
        errors.push(FieldError::not_supported(&FieldPath::of("target.kind"), kind, &["Node", "<empty>"]));
    }
    if text("/target/name").is_empty() {
        errors.push(FieldError::required(&FieldPath::of("target.name"), ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let name = Metadata::of(binding).name();
    Err(Status::invalid(&GroupVersionKind::new("", "v1", "Binding"), name, &errors))
}

fn bound(request: &Request<'_>, pod: &Value, binding: &Value) -> Result<Value, Status> {
    let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
    let name = request.name;
    let conflict = |why: String| Err(Status::conflict(&group_resource(request), name, why));
    let meant = Metadata::of(binding);
    let metadata = Metadata::of(pod);
    if !meant.uid().is_empty() && meant.uid() != metadata.uid() {
        return conflict(format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            meant.uid(),
            metadata.uid()
        ));
    }
    if !meant.resource_version().is_empty() && meant.resource_version() != metadata.resource_version() {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {}, ResourceVersion in object meta: {}",
            meant.resource_version(),
            metadata.resource_version()
        ));
    }
    if metadata.is_deleting() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let assigned = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if !assigned.is_empty() {
        return conflict(format!("pod {name} is already assigned to node \"{assigned}\""));
    }
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    if let Some(mut metadata) = MetadataMut::of(&mut pod) {
        for (key, value) in meant.annotations().into_iter().flatten() {
            metadata.set_annotation(key, value.as_str().unwrap_or_default());
        }
        for (key, value) in meant.labels().into_iter().flatten() {
            metadata.set_label(key, value.as_str().unwrap_or_default());
        }
    }
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": request.now.to_string(),
    });
    if pod.get("status").is_none_or(Value::is_null) {
        pod["status"] = json!({});
    }
    let conditions = &mut pod["status"]["conditions"];
    let mut list = conditions.as_array().cloned().unwrap_or_default();
    list.retain(|condition| condition["type"] != "PodScheduled");
    list.push(scheduled);
    *conditions = list.into();
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use barque_api::resources::Builtin;
    use barque_api::time::Time;

    use super::*;
    use crate::authorization::User;
    use crate::registry::decode::FieldValidation;
    use crate::registry::served::Served;

    #[test]
    fn a_pod_is_assigned_once() {
        let row = Builtin::table().named(&GroupVersionResource::new("", "v1", "pods")).unwrap();
        let served = Arc::new(Served::builtin(row.clone()));
        let request = Request {
            user: &User::default(),
            served: &served,
            namespace: "a",
            name: "p",
            subresource: "binding",
            dry_run: false,
            manager: "",
            validation: FieldValidation::Ignore,
            options: &Value::Null,
            now: Time::of_unix(0),
        };
        let binding = json!({"metadata": {"annotations": {"x": "y"}, "labels": {"zone": "z"}}, "target": {"name": "n"}});
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}});
        let done = bound(&request, &pod, &binding).unwrap();
        assert_eq!(
            (&done["spec"]["nodeName"], &done["metadata"]["annotations"]["x"]),
            (&json!("n"), &json!("y"))
        );
        assert_eq!(done["metadata"]["labels"], json!({"zone": "z"}));
        assert_eq!(done["status"]["conditions"][0]["type"], "PodScheduled");
        let refused = |pod: &Value, binding: &Value| bound(&request, pod, binding).unwrap_err().message;
        assert!(refused(&done, &binding).ends_with("pod p is already assigned to node \"n\""));
        let gated = json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "g"}]}});
        assert!(refused(&gated, &binding).ends_with("has non-empty .spec.schedulingGates"));
        let going = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(refused(&going, &binding).contains("is being deleted"));
        let other = json!({"metadata": {"uid": "v"}, "target": {"name": "n"}});
        assert!(refused(&pod, &other).contains("UID in precondition: v"));
    }
}
