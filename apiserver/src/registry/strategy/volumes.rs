//! When a volume came into its phase. Must never change the phase.

use barque_api::time::Time;
use serde_json::Value;

/// Stamps a change of the phase, unless who made it did.
pub(super) fn stamp_phase(now: Time, object: &mut Value, old: &Value) {
    const TIME: &str = "lastPhaseTransitionTime";
    let before = old.get("status").unwrap_or(&Value::Null);
    let Some(status) = object.get_mut("status").filter(|status| status.is_object()) else { return };
    let unstamped = status.get(TIME).is_none_or(Value::is_null) || status.get(TIME) == before.get(TIME);
    if status.get("phase") != before.get("phase") && unstamped {
        status[TIME] = now.to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{created, updated};

    #[test]
    fn phases_of_volumes_are_stamped() {
        let old = created("", "PersistentVolume", json!({"metadata": {}, "spec": {}}));
        assert_eq!(old["status"]["lastPhaseTransitionTime"], "1970-01-01T00:00:00Z");
        let mut new = old.clone();
        new["status"]["phase"] = json!("Bound");
        let bound = updated("", "PersistentVolume", "status", new, &old);
        assert_eq!(bound["status"]["lastPhaseTransitionTime"], "1970-01-01T00:01:00Z");
        let same = updated("", "PersistentVolume", "status", old.clone(), &old);
        assert_eq!(same["status"], old["status"]);
    }
}
