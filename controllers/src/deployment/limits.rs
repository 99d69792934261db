//! How many pods there may be, and how many must be available. Numbers only.

use barque_api::int_or_string::{IntOrString, Round};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString as Said;

/// What a Deployment allows, in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// How many are wanted.
    pub(super) replicas: i32,
    /// How many more there may be.
    pub(super) surge: i32,
    /// How many of them need not be available.
    pub(super) unavailable: i32,
}

/// How old pods make room for new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    /// A few at a time.
    Rolling,
    /// All of them go first.
    Recreate,
}

/// How a Deployment wants it.
pub(super) fn strategy(deployment: &Deployment) -> Strategy {
    let said = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    if said == Some("Recreate") { Strategy::Recreate } else { Strategy::Rolling }
}

impl Limits {
    /// Those of a Deployment: the surge is rounded up, what may be unavailable down; if both are nothing, one may be
    /// unavailable, for otherwise nothing could change.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.replicas.unwrap_or(1);
        if strategy(deployment) == Strategy::Recreate {
            return Self { replicas, surge: 0, unavailable: 0 };
        }
        let said = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let count = |said: Option<&Said>, round| {
            let said = match said {
                Some(Said::Int(count)) => IntOrString::Int(*count),
                Some(Said::String(text)) => IntOrString::Text(text.clone()),
                // What the API server would have filled in.
                None => IntOrString::Text("25%".to_owned()),
            };
            let count = said.scaled(replicas.into(), round).unwrap_or_default();
            i32::try_from(count).unwrap_or_default().max(0)
        };
        let surge = count(said.and_then(|said| said.max_surge.as_ref()), Round::Up);
        let unavailable = count(said.and_then(|said| said.max_unavailable.as_ref()), Round::Down);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { replicas, surge, unavailable: unavailable.min(replicas) }
    }

    /// The most pods.
    pub(super) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest available pods.
    pub(super) fn least_available(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn shares_are_rounded_so_that_something_can_change() {
        let check = |replicas: i32, surge: Value, unavailable: Value, expected: (i32, i32)| {
            let deployment: Deployment = serde_json::from_value(json!({"metadata": {}, "spec": {
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            }}))
            .unwrap();
            let limits = Limits::of(&deployment);
            assert_eq!((limits.surge, limits.unavailable), expected, "{replicas} {surge} {unavailable}");
        };
        check(10, json!("25%"), json!("25%"), (3, 2));
        check(10, json!(null), json!(null), (3, 2));
        check(1, json!("25%"), json!("25%"), (1, 0));
        check(4, json!("0%"), json!("10%"), (0, 1));
        check(4, json!(0), json!(0), (0, 1));
        check(2, json!(1), json!(5), (1, 2));
        check(0, json!("25%"), json!("25%"), (0, 0));
        check(3, json!("100%"), json!("100%"), (3, 3));
    }

    #[test]
    fn all_at_once_has_no_room() {
        let deployment: Deployment = serde_json::from_value(json!({"metadata": {}, "spec": {
            "replicas": 4, "selector": {}, "template": {}, "strategy": {"type": "Recreate"},
        }}))
        .unwrap();
        let limits = Limits::of(&deployment);
        assert_eq!((limits.most(), limits.least_available()), (4, 4));
    }
}
