//! What ReplicaSets and ReplicationControllers have in common. Shapes only.

use barque_api::labels::Selector;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};

use crate::kind::Object;
use crate::owners;

/// What a set asks for, and says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) replicas: i32,
    pub(crate) selector: Selector,
    pub(crate) template: PodTemplateSpec,
    pub(crate) min_ready_seconds: i32,
    pub(crate) status: Status,
}

/// What a set says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Status {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    /// Not told by ReplicationControllers.
    pub(crate) terminating: Option<i32>,
    pub(crate) observed_generation: i64,
    pub(crate) conditions: Vec<Condition>,
}

/// A condition of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) last_transition: Option<Time>,
}

/// A kind of such sets.
pub(crate) trait Replicated: Object {
    /// What it asks for; nothing when its selector selects nobody or it has no template.
    fn set(&self) -> Option<Set>;

    /// Its selector; nothing when it selects nobody.
    fn selects(&self) -> Option<Selector>;

    /// The same with another status.
    fn with_status(&self, status: &Status) -> Self;

    /// Whether its status counts pods that are on their way out.
    const COUNTS_TERMINATING: bool;
}

impl Replicated for ReplicaSet {
    const COUNTS_TERMINATING: bool = true;

    fn selects(&self) -> Option<Selector> {
        owners::selector(&self.spec.selector)
    }

    fn set(&self) -> Option<Set> {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        Some(Set {
            replicas: spec.replicas.unwrap_or(1),
            selector: self.selects()?,
            template: spec.template.clone()?,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            status: Status {
                replicas: status.replicas,
                fully_labeled: status.fully_labeled_replicas.unwrap_or_default(),
                ready: status.ready_replicas.unwrap_or_default(),
                available: status.available_replicas.unwrap_or_default(),
                terminating: status.terminating_replicas,
                observed_generation: status.observed_generation.unwrap_or_default(),
                conditions: status
                    .conditions
                    .unwrap_or_default()
                    .into_iter()
                    .map(|it| Condition {
                        type_: it.type_.unwrap_or_default(),
                        status: it.status.unwrap_or_default(),
                        reason: it.reason,
                        message: it.message,
                        last_transition: it.last_transition_time,
                    })
                    .collect(),
            },
        })
    }

    fn with_status(&self, status: &Status) -> Self {
        let conditions = status.conditions.iter().cloned().map(|it| ReplicaSetCondition {
            type_: Some(it.type_),
            status: Some(it.status),
            reason: it.reason,
            message: it.message,
            last_transition_time: it.last_transition,
        });
        let conditions: Vec<_> = conditions.collect();
        let status = ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: told(status.fully_labeled),
            ready_replicas: told(status.ready),
            available_replicas: told(status.available),
            terminating_replicas: status.terminating,
            observed_generation: Some(status.observed_generation),
            conditions: (!conditions.is_empty()).then_some(conditions),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

impl Replicated for ReplicationController {
    const COUNTS_TERMINATING: bool = false;

    fn selects(&self) -> Option<Selector> {
        let labels = self.spec.as_ref()?.selector.clone();
        owners::selector(&LabelSelector { match_labels: labels, match_expressions: None })
    }

    fn set(&self) -> Option<Set> {
        let spec = self.spec.as_ref()?;
        let status = self.status.clone().unwrap_or_default();
        Some(Set {
            replicas: spec.replicas.unwrap_or(1),
            selector: self.selects()?,
            template: spec.template.clone()?,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            status: Status {
                replicas: status.replicas,
                fully_labeled: status.fully_labeled_replicas.unwrap_or_default(),
                ready: status.ready_replicas.unwrap_or_default(),
                available: status.available_replicas.unwrap_or_default(),
                terminating: None,
                observed_generation: status.observed_generation.unwrap_or_default(),
                conditions: status
                    .conditions
                    .unwrap_or_default()
                    .into_iter()
                    .map(|it| Condition {
                        type_: it.type_,
                        status: it.status,
                        reason: it.reason,
                        message: it.message,
                        last_transition: it.last_transition_time,
                    })
                    .collect(),
            },
        })
    }

    fn with_status(&self, status: &Status) -> Self {
        let conditions = status.conditions.iter().cloned().map(|it| ReplicationControllerCondition {
            type_: it.type_,
            status: it.status,
            reason: it.reason,
            message: it.message,
            last_transition_time: it.last_transition,
        });
        let conditions: Vec<_> = conditions.collect();
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: told(status.fully_labeled),
            ready_replicas: told(status.ready),
            available_replicas: told(status.available),
            observed_generation: Some(status.observed_generation),
            conditions: (!conditions.is_empty()).then_some(conditions),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

/// Zero is left out, as upstream leaves it out.
fn told(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
