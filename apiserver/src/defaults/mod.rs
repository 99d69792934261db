//! What stands in an object when its writer said nothing: the values that Kubernetes documents for each built-in kind, put in
//! before anything looks at the object. Applied twice it changes nothing. Must never overwrite what was given, and never
//! depend on anything but the object.

mod fill;
mod network;
mod pod;
mod policy;
mod storage;
mod workloads;

use serde_json::Value;

/// Fills in what was left out of an object of a built-in kind.
pub fn fill(group: &str, kind: &str, object: &mut Value) {
    let filled = pod::fill_kind(group, kind, object)
        || workloads::fill_kind(group, kind, object)
        || network::fill_kind(group, kind, object)
        || storage::fill_kind(group, kind, object);
    if !filled {
        policy::fill_kind(group, kind, object);
    }
}

#[cfg(test)]
mod tests {
    use barque_api::resources::Builtin;
    use serde_json::json;

    use super::*;

    /// What is filled into an object.
    pub(super) fn filled(group: &str, kind: &str, mut object: Value) -> Value {
        fill(group, kind, &mut object);
        let once = object.clone();
        fill(group, kind, &mut object);
        assert_eq!(object, once, "filled twice");
        object
    }

    #[test]
    fn no_kind_minds_an_object_of_the_wrong_shape() {
        let shapes =
            [json!(null), json!({}), json!({"spec": 1}), json!({"spec": {"template": [], "ports": {}}})];
        for resource in Builtin::table().all() {
            for shape in &shapes {
                filled(&resource.name.group, &resource.kind, shape.clone());
            }
        }
    }
}
