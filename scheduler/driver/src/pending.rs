//! A pod that is to be placed, as it was last seen. Values only; must never know where it goes.

use std::sync::Arc;

use barque_scheduler::snapshot::Pod;
use k8s_openapi::api::core::v1 as core;

/// A pod that waits, or is being placed.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// As last seen.
    pub(crate) object: Arc<core::Pod>,
    /// Compiled.
    pub(crate) pod: Arc<Pod>,
    /// By number.
    pub(crate) profile: usize,
    /// Where room is being made for it: what was decided here runs ahead of what is seen.
    pub(crate) nominated: Option<Box<str>>,
}

/// Where room is being made, as an object says.
pub(crate) fn nominated_node(pod: &core::Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    status.nominated_node_name.as_deref().filter(|node| !node.is_empty())
}

/// Where room is being made, after an object was seen: what it says counts when it says something new.
pub(crate) fn nomination_after(known: Option<&Pending>, seen: &core::Pod) -> Option<Box<str>> {
    let told = nominated_node(seen);
    match known {
        Some(known) if nominated_node(&known.object) == told => known.nominated.clone(),
        _ => told.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use barque_scheduler::pod::{DefaultSpread, PodSpec, Surroundings, Workloads};
    use barque_scheduler::snapshot::Snapshot;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_old_object_does_not_take_back_a_nomination() {
        let object = |node: Option<&str>| -> core::Pod {
            let pod = json!({
                "metadata": {"name": "p", "namespace": "default"},
                "spec": {"containers": []},
                "status": {"nominatedNodeName": node},
            });
            serde_json::from_value(pod).unwrap()
        };
        let spread = DefaultSpread::of_system();
        let surroundings = Surroundings { workloads: &Workloads::default(), default_spread: &spread };
        let spec = PodSpec::of(&object(None), surroundings).unwrap();
        let pod = Snapshot::new().register(spec);
        let known = |seen: Option<&str>, nominated: Option<&str>| Pending {
            object: Arc::new(object(seen)),
            pod: pod.clone(),
            profile: 0,
            nominated: nominated.map(Into::into),
        };
        let after = |known: Option<&Pending>, seen: Option<&str>| nomination_after(known, &object(seen));
        assert_eq!(after(None, Some("a")).as_deref(), Some("a"));
        assert_eq!(after(Some(&known(None, Some("a"))), None).as_deref(), Some("a"), "not written yet");
        assert_eq!(after(Some(&known(None, Some("a"))), Some("a")).as_deref(), Some("a"));
        assert_eq!(after(Some(&known(Some("a"), None)), Some("a")), None, "cleared, not written yet");
        assert_eq!(after(Some(&known(Some("a"), Some("a"))), None), None, "cleared by somebody");
        assert_eq!(after(Some(&known(Some("a"), Some("a"))), Some("b")).as_deref(), Some("b"));
    }
}
