//! One pod before all nodes: what can be known before any is looked at, and the verdict on each. Must never choose.

use crate::plugins::volume_binding::Claims;
use crate::plugins::{
    Fault, Faults, Overlay, Plugin, Refusal, Verdict, View, inter_pod_affinity, node_affinity, node_name,
    node_ports, node_resources_fit, node_unschedulable, node_volume_limits, pod_topology_spread,
    taint_toleration, volume_binding, volume_restrictions, volume_zone,
};
use crate::pod::NodeAsk;
use crate::profile::Profile;
use crate::snapshot::{NodeId, Pod, Snapshot, Taken};
use crate::volume::{ClaimKey, VolumeSpec};

/// What a pod asks, together with what there is.
#[derive(Debug)]
pub(crate) struct Inquiry<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) profile: &'a Profile,
    pub(crate) snapshot: &'a Snapshot,
    claims: Claims<'a>,
    exclusive: Vec<ClaimKey>,
    limits: node_volume_limits::Prepared,
    bound: Vec<&'a VolumeSpec>,
    /// Only limits of drivers can be against a node.
    easy_volumes: bool,
    spread: Option<pod_topology_spread::Prepared<'a>>,
    affinity: Option<inter_pod_affinity::Prepared<'a>>,
}

impl<'a> Inquiry<'a> {
    /// What is known before any node is looked at.
    ///
    /// # Errors
    /// Why no node at all will do.
    pub(crate) fn of(pod: &'a Pod, profile: &'a Profile, snapshot: &'a Snapshot) -> Result<Self, Refusal> {
        let asked = |plugin| profile.filters.has(plugin);
        let mut claims = Claims::default();
        let mut exclusive = Vec::new();
        let mut limits = node_volume_limits::Prepared::default();
        if !pod.volumes.is_empty() {
            if asked(Plugin::VolumeRestrictions) {
                exclusive = volume_restrictions::exclusive_claims(pod, snapshot);
            }
            if asked(Plugin::NodeVolumeLimits) {
                limits = node_volume_limits::Prepared::of(pod, snapshot);
            }
            if asked(Plugin::VolumeBinding) {
                claims = volume_binding::prepare(pod, snapshot)?;
            }
        }
        let bound = claims.bound.iter().copied().flatten().filter(|volume| !volume.places.is_empty());
        let bound: Vec<&VolumeSpec> = if asked(Plugin::VolumeZone) { bound.collect() } else { Vec::new() };
        let easy_volumes = pod.volumes.disks.is_empty()
            && exclusive.is_empty()
            && bound.is_empty()
            && claims.bind_anywhere();
        let spread = asked(Plugin::PodTopologySpread);
        let affinity = asked(Plugin::InterPodAffinity);
        Ok(Self {
            pod,
            profile,
            snapshot,
            claims,
            exclusive,
            limits,
            bound,
            easy_volumes,
            spread: spread.then(|| pod_topology_spread::Prepared::of(pod, snapshot)).flatten(),
            affinity: affinity.then(|| inter_pod_affinity::Prepared::of(pod, snapshot)).flatten(),
        })
    }

    /// Whether the verdict depends on more than the node alone.
    pub(crate) fn is_about_more_than_the_node(&self) -> bool {
        self.has_volumes() || self.has_neighbours()
    }

    pub(crate) const fn has_neighbours(&self) -> bool {
        self.spread.is_some() || self.affinity.is_some()
    }

    pub(crate) fn has_volumes(&self) -> bool {
        !self.pod.volumes.is_empty()
    }

    /// The verdict on volumes and neighbours of a node.
    pub(crate) fn beyond_the_node(&self, view: &View<'_>) -> Verdict {
        if self.has_volumes() {
            self.volumes(view)?;
        }
        self.neighbours(view.node, view.overlay).map_err(|fault| (*fault).into())
    }

    fn volumes(&self, view: &View<'_>) -> Verdict {
        let asked = |plugin| self.profile.filters.has(plugin);
        if asked(Plugin::VolumeRestrictions) {
            volume_restrictions::filter(self.pod, &self.exclusive, view)?;
        }
        self.limits.filter(view).map_err(|fault| Refusal::from(*fault))?;
        if !self.claims.bind_anywhere() {
            volume_binding::filter(&self.claims, view)?;
        }
        volume_zone::filter(&self.bound, view)
    }

    /// Whether a node will do for the volumes, if that is quickly said.
    pub(crate) fn has_easy_volumes(&self, node: NodeId) -> bool {
        self.easy_volumes && self.limits.has_room(self.snapshot, node)
    }

    /// The faults of the neighbours of all nodes as they are.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = vec![None; self.snapshot.columns.len()];
        if let Some(spread) = &self.spread {
            spread.mark(&mut faults);
        }
        if let Some(affinity) = &self.affinity {
            affinity.mark(&mut faults);
        }
        faults
    }

    /// The verdict on the neighbours of a node.
    fn neighbours(&self, node: NodeId, overlay: &Overlay) -> Result<(), &'static Fault> {
        if let Some(spread) = &self.spread {
            spread.filter(node, overlay)?;
        }
        self.affinity.as_ref().map_or(Ok(()), |affinity| affinity.filter(node, overlay))
    }

    /// The whole verdict on a node.
    pub(crate) fn verdict(&self, view: &View<'_>) -> Verdict {
        on_the_node(&self.pod.ask, &self.pod.taken, self.profile, view)?;
        self.beyond_the_node(view)
    }

    /// The whole verdict on a node, with pods removed or added, and both with and without those for which room is being
    /// made there.
    pub(crate) fn verdict_with_nominated(&self, node: NodeId, overlay: &Overlay) -> Verdict {
        let Some(view) = View::of(self.snapshot, node, overlay) else { return Err(node_name::gone()) };
        if let Some(more) = self.nominated(node, overlay) {
            self.verdict(&View { overlay: &more, ..view })?;
        }
        self.verdict(&view)
    }

    /// With the pods for which room is being made on a node and that matter as much as this one; `None` without such.
    pub(crate) fn nominated(&self, node: NodeId, overlay: &Overlay) -> Option<Overlay> {
        let pods = self.snapshot.nominated_on(node).iter();
        let pods = pods.filter(|pod| pod.ask.priority >= self.pod.ask.priority && pod.uid != self.pod.uid);
        let mut more = overlay.clone();
        more.added.extend(pods.cloned());
        (more.added.len() > overlay.added.len()).then_some(more)
    }

    /// What is to be done with the pod's claims if it goes to a node that will do.
    pub(crate) fn claim_plan(&self, node: NodeId) -> crate::snapshot::ClaimPlan {
        let view = View::of(self.snapshot, node, Overlay::none());
        view.and_then(|view| volume_binding::plan(&self.claims, &view)).unwrap_or_default()
    }
}

/// The verdict on a node by what stands on the node alone.
pub(crate) fn on_the_node(ask: &NodeAsk, taken: &[Taken], profile: &Profile, view: &View<'_>) -> Verdict {
    let asked = |plugin| profile.filters.has(plugin);
    if asked(Plugin::NodeUnschedulable) {
        node_unschedulable::filter(ask, view)?;
    }
    if asked(Plugin::NodeName) {
        node_name::filter(ask, view)?;
    }
    if asked(Plugin::TaintToleration) {
        taint_toleration::filter(ask, view)?;
    }
    if asked(Plugin::NodeAffinity) {
        node_affinity::filter(ask, &profile.added_affinity, view)?;
    }
    if asked(Plugin::NodePorts) {
        node_ports::filter(ask, view)?;
    }
    if asked(Plugin::NodeResourcesFit) {
        node_resources_fit::filter(taken, &profile.fit, view)?;
    }
    Ok(())
}
