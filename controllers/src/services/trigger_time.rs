//! The time of the change that made a service's endpoints change: what the delay until traffic follows is measured from. A data
//! structure; these are times that objects tell.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;

use crate::kind::{Key, Object as _};
use crate::pods;

/// The annotation that tells it.
pub(crate) const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen of each service's pods when its endpoints were last decided.
#[derive(Debug, Default)]
pub(crate) struct TriggerTimes {
    services: HashMap<Key, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl TriggerTimes {
    /// The earliest change since the last time; that of the service's creation the first time. Nothing when none is known.
    pub(crate) fn of(&mut self, service: &Service, of: &[Arc<Pod>]) -> Option<Timestamp> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let times: HashMap<_, _> =
            of.iter().filter_map(|pod| Some((pod.key().name, pods::readiness_changed(pod)?))).collect();
        let now = Seen { service: created, pods: times };
        let Some(before) = self.services.get(&service.key()) else {
            self.services.insert(service.key(), now);
            return created;
        };
        let changed =
            now.pods.iter().filter(|(name, time)| before.pods.get(*name).is_none_or(|it| it < time));
        let service_changed = now.service.filter(|time| before.service.is_none_or(|it| it < *time));
        let earliest = changed.map(|(_, time)| *time).chain(service_changed).min();
        self.services.insert(service.key(), now);
        earliest
    }

    /// The service is not there any more.
    pub(crate) fn forget(&mut self, service: &Key) {
        self.services.remove(service);
    }
}

/// As the annotation tells it.
pub(crate) fn text(time: Timestamp) -> String {
    time.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_earliest_change_since_the_last_time_counts() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "s", "creationTimestamp": "2026-01-01T00:00:00Z"},
        }))
        .unwrap();
        let pod = |name: &str, time: &str| -> Arc<Pod> {
            Arc::new(serde_json::from_value(json!({
                "metadata": {"namespace": "ns", "name": name},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time}]},
            }))
            .unwrap())
        };
        let mut times = TriggerTimes::default();
        let (a, b) = (pod("a", "2026-01-01T00:01:00Z"), pod("b", "2026-01-01T00:02:00Z"));
        let of = |times: &mut TriggerTimes, pods: &[Arc<Pod>]| times.of(&service, pods).map(text);
        assert_eq!(
            of(&mut times, std::slice::from_ref(&a)).as_deref(),
            Some("2026-01-01T00:00:00Z"),
            "the service is new"
        );
        assert_eq!(of(&mut times, std::slice::from_ref(&a)), None);
        assert_eq!(of(&mut times, &[a, b.clone()]).as_deref(), Some("2026-01-01T00:02:00Z"));
        let both = [pod("a", "2026-01-01T00:05:00Z"), pod("b", "2026-01-01T00:04:00Z")];
        assert_eq!(of(&mut times, &both).as_deref(), Some("2026-01-01T00:04:00Z"));
        assert_eq!(of(&mut times, &[b]), None, "a time that went back is no news");
        times.forget(&service.key());
        assert!(of(&mut times, &[]).is_some());
    }
}
