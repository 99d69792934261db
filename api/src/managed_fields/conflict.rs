//! What an owner may not apply because others own it, as clients are told.

use super::entries::ManagerId;
use super::path::Path;
use super::set::FieldSet;
use crate::status::{Reason, Status};

/// One field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) manager: ManagerId,
    pub(crate) path: Path,
}

/// Fields that others own, by owner; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflicts(pub(crate) Vec<Conflict>);

impl Conflicts {
    /// All the fields.
    pub(crate) fn fields(&self) -> FieldSet {
        self.0.iter().map(|conflict| conflict.path.clone()).collect()
    }

    /// Those that are not about these fields.
    pub(crate) fn without(self, allowed: &FieldSet) -> Self {
        Self(self.0.into_iter().filter(|conflict| !allowed.contains(conflict.path.steps())).collect())
    }

    /// What the client is told.
    pub(crate) fn status(&self) -> Status {
        let status = Status::new(Reason::Conflict, self.message());
        self.0.iter().fold(status, |status, Conflict { manager, path }| {
            status.because("FieldManagerConflict", format!("conflict with {manager}"), &path.to_string())
        })
    }

    fn message(&self) -> String {
        if let [Conflict { manager, path }] = self.0.as_slice() {
            return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut lines = Vec::new();
        let mut last = None;
        for Conflict { manager, path } in &self.0 {
            if last != Some(manager) {
                lines.push(format!("conflicts with {manager}:"));
                last = Some(manager);
            }
            lines.push(format!("- {path}"));
        }
        format!("Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::managed_fields::entries::Operation;

    #[test]
    fn conflicts_read_as_kubectl_shows_them() {
        let hpa = ManagerId::new("hpa", Operation::Update, "apps/v1", "");
        let other = ManagerId::new("other", Operation::Apply, "apps/v1", "");
        let conflict =
            |manager: &ManagerId, path: &str| Conflict { manager: manager.clone(), path: Path::of(path) };
        let one = Conflicts(vec![conflict(&hpa, "spec.replicas")]);
        assert_eq!(
            one.status().to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409,
                "reason": "Conflict",
                "message": "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas",
                "details": {"causes": [{
                    "reason": "FieldManagerConflict",
                    "message": "conflict with \"hpa\" using apps/v1",
                    "field": ".spec.replicas",
                }]},
            })
        );
        let several = Conflicts(vec![
            conflict(&hpa, "spec.paused"),
            conflict(&hpa, "spec.replicas"),
            conflict(&other, "spec.replicas"),
        ]);
        assert_eq!(
            several.status().message,
            "Apply failed with 3 conflicts: conflicts with \"hpa\" using apps/v1:\n- .spec.paused\n- .spec.replicas\nconflicts with \"other\":\n- .spec.replicas"
        );
        assert_eq!(several.without(&FieldSet::of(&["spec.replicas"])).0.len(), 1);
    }
}
