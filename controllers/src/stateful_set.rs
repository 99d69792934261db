//! StatefulSets: pods with names that stay, in order, each with its own volumes. Must never have two pods of one ordinal, nor
//! touch a volume but to make it or to say who owns it.

mod claims;
mod identity;
mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::history;
use crate::kind::{Key, Object as _};
use crate::owners;
use crate::plan::{Outcome, Plan, Planned};

/// The controller of StatefulSets.
#[derive(Default)]
pub(crate) struct StatefulSets;

/// One StatefulSet and what belongs to it.
pub(crate) struct View {
    set: Arc<StatefulSet>,
    selector: Selector,
    /// Pods that it controls, and those of its namespace that nobody does.
    pods: Vec<Arc<Pod>>,
    /// Revisions that it controls, and those of its namespace that nobody does.
    revisions: Vec<Arc<ControllerRevision>>,
    /// The claims of its namespace whose names could be those of its pods, by name.
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// Whether a revision has the name already that a new one would get.
    name_is_taken: bool,
}

impl Controller for StatefulSets {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<StatefulSet>();
        watches.controlled_or_selected::<Pod, StatefulSet>(|set| owners::selector(&set.spec.selector));
        watches.controlled::<ControllerRevision, StatefulSet>();
        watches.read::<PersistentVolumeClaim>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let set = caches.of::<StatefulSet>().get(key)?;
        let spec = &set.spec;
        let selector = owners::selector(&spec.selector)?;
        let mut pods = caches.of::<Pod>().controlled_by(set.uid());
        pods.extend(caches.of::<Pod>().orphans(&key.namespace));
        let mut revisions = caches.of::<ControllerRevision>().controlled_by(set.uid());
        revisions.extend(caches.of::<ControllerRevision>().orphans(&key.namespace));
        let templates = spec.volume_claim_templates.iter().flatten();
        let prefixes: Vec<_> =
            templates.map(|template| format!("{}-{}-", template.key().name, key.name)).collect();
        let claims = if prefixes.is_empty() {
            BTreeMap::new()
        } else {
            let all = caches.of::<PersistentVolumeClaim>().in_namespace(&key.namespace);
            let named = all.into_iter().map(|claim| (claim.key().name, claim));
            named.filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect()
        };
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let name = history::key_of(&*set, &spec.template, collisions);
        let name_is_taken = caches.of::<ControllerRevision>().get(&name).is_some();
        Some(View { set, selector, pods, revisions, claims, name_is_taken })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }

    fn status(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        status::update(view, outcome, now)
    }
}
