//! `ResourceClaim`: what drivers say of devices goes with the devices. Must never allocate one.

use serde_json::Value;

const NAME: [&str; 3] = ["driver", "pool", "device"];

fn devices(claim: &Value) -> Vec<[Option<&Value>; 3]> {
    let results = claim.pointer("/status/allocation/devices/results").and_then(Value::as_array);
    results.into_iter().flatten().map(|result| NAME.map(|field| result.get(field))).collect()
}

/// Drops what the status says of devices that were allocated and are no more.
pub(super) fn drop_deallocated(object: &mut Value, old: &Value) {
    let (before, after) = (devices(old), devices(object));
    let gone: Vec<[Option<&Value>; 3]> =
        before.into_iter().filter(|device| !after.contains(device)).collect();
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else { return };
    let Some(told) = status.get_mut("devices").and_then(Value::as_array_mut) else { return };
    told.retain(|device| !gone.contains(&NAME.map(|field| device.get(field))));
    if told.is_empty() {
        status.remove("devices");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::updated;

    #[test]
    fn what_is_said_of_a_device_goes_with_it() {
        let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
        let claim = |allocated: &[&str]| {
            let results: Vec<_> = allocated.iter().map(|name| device(name)).collect();
            json!({"metadata": {}, "status": {
                "allocation": {"devices": {"results": results}}, "devices": [device("a"), device("b")],
            }})
        };
        let told = |new: &[&str]| {
            updated("resource.k8s.io", "ResourceClaim", "status", claim(new), &claim(&["a", "b"]))["status"]["devices"]
                .clone()
        };
        assert_eq!(told(&["a", "b"]), json!([device("a"), device("b")]));
        assert_eq!(told(&["b"]), json!([device("b")]));
        assert_eq!(told(&[]), json!(null));
    }
}
