//! How references to owners are taken out of an object. Shapes only; must never touch another part of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

/// A change of the owners of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnersChange {
    /// These are not named any more, by their uids.
    Remove(Vec<String>),
    /// None of them waits for it any more.
    Unblock,
}

impl OwnersChange {
    /// The owners afterwards.
    pub(super) fn apply(&self, owners: &[OwnerReference]) -> Vec<OwnerReference> {
        let mut owners = owners.to_vec();
        match self {
            Self::Remove(uids) => owners.retain(|owner| !uids.contains(&owner.uid)),
            Self::Unblock => owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false)),
        }
        owners
    }

    /// As a strategic merge patch, for kinds that have one: whatever else changes meanwhile is no matter.
    pub(super) fn strategic(&self, uid: &str, owners: &[OwnerReference]) -> Value {
        let parts: Vec<Value> = match self {
            Self::Remove(uids) => uids.iter().map(|uid| json!({"$patch": "delete", "uid": uid})).collect(),
            Self::Unblock => {
                let blocking = owners.iter().filter(|owner| owner.block_owner_deletion == Some(true));
                blocking.map(|owner| json!({"uid": owner.uid, "blockOwnerDeletion": false})).collect()
            }
        };
        json!({"metadata": {"uid": uid, "ownerReferences": parts}})
    }

    /// As a merge patch of what was seen in this version.
    pub(super) fn merge(&self, uid: &str, version: &str, owners: &[OwnerReference]) -> Value {
        json!({"metadata": {"uid": uid, "resourceVersion": version, "ownerReferences": self.apply(owners)}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_name_what_they_change() {
        let owner = |uid: &str, blocks| OwnerReference {
            api_version: "v1".into(),
            kind: "A".into(),
            name: uid.into(),
            uid: uid.into(),
            controller: None,
            block_owner_deletion: blocks,
        };
        let owners = [owner("a", Some(true)), owner("b", None)];
        let remove = OwnersChange::Remove(vec!["a".into()]);
        let expected =
            json!({"metadata": {"uid": "u", "ownerReferences": [{"$patch": "delete", "uid": "a"}]}});
        assert_eq!(remove.strategic("u", &owners), expected);
        let left = json!([{"apiVersion": "v1", "kind": "A", "name": "b", "uid": "b"}]);
        let expected = json!({"metadata": {"uid": "u", "resourceVersion": "7", "ownerReferences": left}});
        assert_eq!(remove.merge("u", "7", &owners), expected);
        let expected =
            json!({"metadata": {"uid": "u", "ownerReferences": [{"uid": "a", "blockOwnerDeletion": false}]}});
        assert_eq!(OwnersChange::Unblock.strategic("u", &owners), expected);
        let unblocked = OwnersChange::Unblock.apply(&owners);
        assert!(unblocked.iter().all(|owner| owner.block_owner_deletion == Some(false)));
    }
}
