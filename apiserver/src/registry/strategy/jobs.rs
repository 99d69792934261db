//! Jobs: the labels that tell the pods of one from those of all others. Must never make a pod.

use barque_api::metadata::Metadata;
use serde_json::{Map, Value, json};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

/// The selector by uid and the labels of the template, unless the job wants to select by itself. What is there stays:
/// whether it fits is judged later.
pub(super) fn generate_selector(object: &mut Value) {
    let metadata = Metadata::of(object);
    let (name, uid) = (metadata.name().to_owned(), metadata.uid().to_owned());
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("manualSelector").and_then(Value::as_bool) == Some(true) {
        return;
    }
    let template = made(spec, "template").and_then(|template| made(template, "metadata"));
    if let Some(labels) = template.and_then(|metadata| made(metadata, "labels")) {
        for (label, value) in [(OLD_NAME, &name), (NAME, &name), (OLD_UID, &uid), (UID, &uid)] {
            labels.entry(label).or_insert_with(|| json!(value));
        }
    }
    if let Some(labels) = made(spec, "selector").and_then(|selector| made(selector, "matchLabels")) {
        labels.entry(UID).or_insert_with(|| json!(uid));
    }
}

/// The object in a field, made if there is none; nothing when something else stands there.
fn made<'a>(fields: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    let found = fields.entry(field).or_insert(Value::Null);
    if found.is_null() {
        *found = json!({});
    }
    found.as_object_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::created;

    #[test]
    fn a_job_selects_its_pods_by_its_uid() {
        let job =
            created("batch", "Job", json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {}}}));
        assert_eq!(
            job["spec"],
            json!({
                "template": {"metadata": {"labels": {
                    "job-name": "j", "batch.kubernetes.io/job-name": "j",
                    "controller-uid": "u", "batch.kubernetes.io/controller-uid": "u",
                }}},
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
            })
        );
    }

    #[test]
    fn a_job_may_select_by_itself() {
        let spec = json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "template": {}});
        let job = created("batch", "Job", json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec}));
        assert_eq!(job["spec"], spec);
    }
}
