//! Priority: the name of a pod's class becomes its number, and one class at most is the default of all pods. Must never let a
//! pod choose its number.

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::Value;

use super::pod::{given, text};
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

impl<S: Storage> Admission<S> {
    /// Puts number and policy into a pod.
    pub(super) async fn resolve_priority(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if !attributes.is_plainly("", "pods") {
            return Ok(());
        }
        match attributes.operation {
            Operation::Update => {
                keep(object, attributes.old);
                Ok(())
            }
            Operation::Create => {
                let name = text(object, "/spec/priorityClassName");
                let class = if name.is_empty() {
                    default_of(self.priority_classes().await?)
                } else {
                    let found = self.found("scheduling.k8s.io", "priorityclasses", "", name).await?;
                    let why = || format!("no PriorityClass with name {name} was found");
                    Some(found.ok_or_else(|| attributes.forbidden(why()))?)
                };
                resolve(object, class.as_ref()).map_err(|why| attributes.forbidden(why))
            }
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    /// Whether a class may be the default.
    pub(super) async fn check_priority_class(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        if !attributes.is_plainly("scheduling.k8s.io", "priorityclasses")
            || !matches!(attributes.operation, Operation::Create | Operation::Update)
            || !is_default(object)
        {
            return Ok(());
        }
        let Some(default) = default_of(self.priority_classes().await?) else { return Ok(()) };
        let name = Metadata::of(&default).name();
        if attributes.operation == Operation::Update && name == attributes.name {
            return Ok(());
        }
        Err(attributes.forbidden(format!(
            "PriorityClass {name} is already marked as default. Only one default can exist"
        )))
    }

    async fn priority_classes(&self) -> Result<Vec<Value>, Status> {
        let classes = GroupResource::new("scheduling.k8s.io", "priorityclasses");
        self.collections.objects(&classes, "").await
    }
}

fn is_default(class: &Value) -> bool {
    class.get("globalDefault").and_then(Value::as_bool) == Some(true)
}

fn number(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or_default()
}

/// The class of pods that name none: the lowest, should there be several.
fn default_of(classes: Vec<Value>) -> Option<Value> {
    classes.into_iter().filter(is_default).min_by_key(number)
}

/// What a client that does not know the fields leaves out.
fn keep(pod: &mut Value, old: Option<&Value>) {
    for field in ["priority", "preemptionPolicy"] {
        let before = old.and_then(|old| given(old, "/spec")?.get(field)).filter(|value| !value.is_null());
        if let (Some(before), Some(spec)) = (before, pod.get_mut("spec").and_then(Value::as_object_mut))
            && spec.get(field).is_none_or(Value::is_null)
        {
            spec.insert(field.to_owned(), before.clone());
        }
    }
}

fn resolve(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let priority = class.map_or(0, number);
    let policy = match class {
        None => "PreemptLowerPriority",
        Some(class) => text(class, "/preemptionPolicy"),
    };
    if let Some(own) = given(pod, "/spec/priority").filter(|own| own.as_i64() != Some(priority)) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        ));
    }
    let own = text(pod, "/spec/preemptionPolicy");
    if !policy.is_empty() && !own.is_empty() && own != policy {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        ));
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    spec.insert("priority".to_owned(), priority.into());
    if !policy.is_empty() {
        spec.insert("preemptionPolicy".to_owned(), policy.into());
    }
    if let Some(class) = class {
        spec.insert("priorityClassName".to_owned(), Metadata::of(class).name().into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn class(name: &str, value: i64, default: bool) -> Value {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "globalDefault": default, "preemptionPolicy": "Never"})
    }

    #[tokio::test]
    async fn names_become_numbers() {
        let cluster = Cluster::with(&[class("high", 1000, false)]).await;
        let resolved = async |spec: Value| {
            let mut pod = json!({"spec": spec});
            let asked = Asked::pod();
            let answer = cluster.admission.resolve_priority(&asked.attributes(), &mut pod).await;
            answer.map(|()| pod["spec"].clone()).map_err(|status| status.message)
        };
        assert_eq!(
            resolved(json!({})).await,
            Ok(json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}))
        );
        assert_eq!(
            resolved(json!({"priorityClassName": "high"})).await,
            Ok(json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"}))
        );
        assert_eq!(
            resolved(json!({"priorityClassName": "none"})).await,
            Err(r#"pods "p" is forbidden: no PriorityClass with name none was found"#.to_owned())
        );
        assert_eq!(
            resolved(json!({"priority": 7})).await,
            Err("pods \"p\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority \
                 admission controller computed 0 from the given PriorityClass name"
                .to_owned())
        );
        let message =
            resolved(json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"})).await;
        assert!(
            message
                .unwrap_err()
                .contains("the string value of PreemptionPolicy (PreemptLowerPriority) must not")
        );
    }

    #[tokio::test]
    async fn one_class_is_the_default() {
        let cluster = Cluster::with(&[class("usual", 5, true)]).await;
        let mut pod = json!({"spec": {}});
        cluster.admission.resolve_priority(&Asked::pod().attributes(), &mut pod).await.unwrap();
        assert_eq!(
            (&pod["spec"]["priority"], &pod["spec"]["priorityClassName"]),
            (&json!(5), &json!("usual"))
        );
        let check = async |name: &str, operation| {
            let asked = Asked::create("scheduling.k8s.io", "priorityclasses", "PriorityClass")
                .named(name)
                .doing(operation);
            cluster.admission.check_priority_class(&asked.attributes(), &class(name, 1, true)).await
        };
        assert_eq!(
            check("other", Operation::Create).await.unwrap_err().message,
            "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. \
             Only one default can exist"
        );
        assert_eq!(check("usual", Operation::Update).await, Ok(()));
    }

    #[test]
    fn a_change_keeps_the_number() {
        let mut pod = json!({"spec": {}});
        keep(&mut pod, Some(&json!({"spec": {"priority": 3, "preemptionPolicy": "Never"}})));
        assert_eq!(pod["spec"], json!({"priority": 3, "preemptionPolicy": "Never"}));
    }
}
