//! The cluster as it was last told: the snapshot, the queue, and what both are fed with. Pure: must never do I/O or read a clock;
//! time is handed in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use barque_scheduler::label_set::LabelSet;
use barque_scheduler::node::NodeSpec;
use barque_scheduler::pod::{DefaultSpread, OwnerKind, PodError, PodSpec, Surroundings, Workloads};
use barque_scheduler::preemption::{Budget, Budgets};
use barque_scheduler::profile::Profile;
use barque_scheduler::queue::{self, Event, Queue};
use barque_scheduler::snapshot::{Pod, Snapshot};
use barque_scheduler::volume::{ClaimKey, ClaimSpec, ClassSpec, VolumeSpec, limits_of};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::observe::{Gone, Kind, Named, Object};
use crate::pending::{Pending, nomination_after};

/// What pods of a scheduler's name are compiled with.
#[derive(Debug)]
struct Served {
    scheduler_name: Box<str>,
    default_spread: DefaultSpread,
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) snapshot: Snapshot,
    pub(crate) queue: Queue,
    pub(crate) budgets: Budgets,
    workloads: Workloads,
    served: Vec<Served>,
    pending: HashMap<Arc<str>, Pending>,
}

impl Cluster {
    /// Empty.
    pub(crate) fn new(profiles: &[Profile], queue: queue::Settings) -> Self {
        let served = profiles.iter().map(|profile| Served {
            scheduler_name: profile.scheduler_name.clone(),
            default_spread: profile.default_spread.clone(),
        });
        Self {
            snapshot: Snapshot::new(),
            queue: Queue::new(queue),
            budgets: Budgets::default(),
            workloads: Workloads::default(),
            served: served.collect(),
            pending: HashMap::new(),
        }
    }

    /// A pod that waits, or is being placed.
    pub(crate) fn pending(&self, uid: &str) -> Option<&Pending> {
        self.pending.get(uid)
    }

    /// Everything has been told once: pods for which room is being made may have been told before their nodes.
    pub(crate) fn complete(&mut self) {
        let nominated = self.pending.iter().filter(|(_, pending)| pending.nominated.is_some());
        let nominated: Vec<Arc<str>> = nominated.map(|(uid, _)| uid.clone()).collect();
        for uid in nominated {
            self.nominate_as_known(&uid);
        }
    }

    /// An object is there, or different.
    pub(crate) fn there(&mut self, object: Object, now: Duration) {
        let told = match object {
            Object::Pod(pod) => self.put_pod(*pod, now).map_err(|error| error.to_string()),
            Object::Node(node) => {
                NodeSpec::of(&node).map(|node| self.put_node(node, now)).map_err(|error| error.to_string())
            }
            Object::Namespace(namespace) => {
                let name = namespace.metadata.name.unwrap_or_default();
                self.snapshot.put_namespace(&name, LabelSet::of(namespace.metadata.labels.as_ref()));
                self.queue.event(Event::Namespace, now);
                Ok(())
            }
            Object::Service(service) => {
                let metadata = &service.metadata;
                let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                let selector = selector.filter(|selector| !selector.is_empty());
                self.workloads.put_service(namespace.unwrap_or_default(), name.unwrap_or_default(), selector);
                Ok(())
            }
            Object::ReplicationController(owner) => {
                let labels = owner.spec.and_then(|spec| spec.selector);
                let selector = LabelSelector { match_labels: labels, match_expressions: None };
                self.put_owner(OwnerKind::ReplicationController, &owner.metadata, Some(&selector))
            }
            Object::ReplicaSet(owner) => {
                self.put_owner(OwnerKind::ReplicaSet, &owner.metadata, Some(&owner.spec.selector))
            }
            Object::StatefulSet(owner) => {
                self.put_owner(OwnerKind::StatefulSet, &owner.metadata, Some(&owner.spec.selector))
            }
            Object::Budget(budget) => {
                Budget::of(&budget).map(|budget| self.budgets.put(budget)).map_err(|error| error.to_string())
            }
            Object::Volume(volume) => self.put_volume(&volume, now),
            Object::Claim(claim) => self.put_claim(&claim, now),
            Object::Class(class) => match ClassSpec::of(&class) {
                Ok(class) => {
                    self.snapshot.put_class(class);
                    self.queue.event(Event::Class, now);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
            Object::CsiNode(node) => match limits_of(&node) {
                Ok((node, limits)) => {
                    self.snapshot.put_limits(node, limits);
                    self.queue.event(Event::Limits, now);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(error) = told {
            tracing::warn!(error, "an object cannot be read and is left out");
        }
    }

    /// An object is gone.
    pub(crate) fn gone(&mut self, gone: &Gone, now: Duration) {
        let Named { namespace, name } = &gone.named;
        match gone.kind {
            Kind::Pod => self.pod_gone(&gone.uid, now),
            Kind::Node => {
                let node = self.snapshot.node(name);
                let old = node.and_then(|node| self.snapshot.node_spec(node)).cloned();
                self.snapshot.remove_node(name);
                if let Some(old) = old {
                    self.queue.event(Event::NodeRemoved(old), now);
                }
            }
            Kind::Namespace => {
                self.snapshot.remove_namespace(name);
                self.queue.event(Event::Namespace, now);
            }
            Kind::Service => self.workloads.remove_service(namespace, name),
            Kind::ReplicationController => {
                self.workloads.remove_owner(OwnerKind::ReplicationController, namespace, name);
            }
            Kind::ReplicaSet => self.workloads.remove_owner(OwnerKind::ReplicaSet, namespace, name),
            Kind::StatefulSet => self.workloads.remove_owner(OwnerKind::StatefulSet, namespace, name),
            Kind::Budget => self.budgets.remove(namespace, name),
            Kind::Volume => {
                self.snapshot.remove_volume(name);
                self.queue.event(Event::Volume, now);
            }
            Kind::Claim => {
                let key = ClaimKey { namespace: namespace.as_str().into(), name: name.as_str().into() };
                self.snapshot.remove_claim(&key);
                self.queue.event(Event::Claim(key), now);
            }
            Kind::Class => {
                self.snapshot.remove_class(name);
                self.queue.event(Event::Class, now);
            }
            Kind::CsiNode => {
                self.snapshot.remove_limits(name);
                self.queue.event(Event::Limits, now);
            }
        }
    }

    fn put_owner(
        &mut self,
        kind: OwnerKind,
        metadata: &kube::core::ObjectMeta,
        selector: Option<&LabelSelector>,
    ) -> Result<(), String> {
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        self.workloads
            .put_owner(kind, namespace.unwrap_or_default(), name.unwrap_or_default(), selector)
            .map_err(|error| error.to_string())
    }

    fn put_node(&mut self, spec: NodeSpec, now: Duration) {
        let old = self.snapshot.node(&spec.name).and_then(|node| self.snapshot.node_spec(node)).cloned();
        let node = self.snapshot.put_node(spec);
        let Some(new) = self.snapshot.node_spec(node).cloned() else { return };
        match old {
            None => self.queue.event(Event::NodeAdded(new), now),
            // Kubelets write their nodes every few minutes; most of it does not matter here.
            Some(old) if Arc::ptr_eq(&old, &new) => {}
            Some(old) => self.queue.event(Event::NodeChanged { old, new }, now),
        }
    }

    fn put_volume(&mut self, volume: &core::PersistentVolume, now: Duration) -> Result<(), String> {
        let volume = VolumeSpec::of(volume).map_err(|error| error.to_string())?;
        self.snapshot.put_volume(volume);
        self.queue.event(Event::Volume, now);
        Ok(())
    }

    fn put_claim(&mut self, claim: &core::PersistentVolumeClaim, now: Duration) -> Result<(), String> {
        let claim = ClaimSpec::of(claim).map_err(|error| error.to_string())?;
        let key = claim.key.clone();
        self.snapshot.put_claim(claim);
        self.queue.event(Event::Claim(key), now);
        Ok(())
    }

    fn put_pod(&mut self, pod: core::Pod, now: Duration) -> Result<(), PodError> {
        let name = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
        let name = name.unwrap_or("default-scheduler");
        let profile = self.served.iter().position(|served| &*served.scheduler_name == name);
        let spec = self.compile(&pod, profile.unwrap_or(0))?;
        if spec.ended {
            self.pod_gone(&spec.uid, now);
        } else if spec.node.is_some() {
            self.put_placed(spec, now);
        } else if let Some(profile) = profile {
            if spec.terminating {
                // Nobody binds it any more.
                self.pod_gone(&spec.uid, now);
            } else {
                self.put_pending(pod, spec, profile, now);
            }
        }
        Ok(())
    }

    fn compile(&self, pod: &core::Pod, profile: usize) -> Result<PodSpec, PodError> {
        let default_spread = &self.served[profile].default_spread;
        PodSpec::of(pod, Surroundings { workloads: &self.workloads, default_spread })
    }

    /// A pod that has a node, bound by whomever.
    fn put_placed(&mut self, spec: PodSpec, now: Duration) {
        let uid = spec.uid.clone();
        let assumed = self.snapshot.placement(&uid).is_some_and(|(_, assumed)| assumed);
        let old = self.snapshot.pod(&uid).filter(|_| !assumed).cloned();
        self.pending.remove(&uid);
        self.queue.remove(&uid);
        self.snapshot.put_pod(spec);
        let Some(new) = self.snapshot.pod(&uid).cloned() else { return };
        match old {
            None => self.queue.event(Event::PodPlaced(new), now),
            Some(old) if old.is_seen_as(&new) => {}
            Some(old) => self.queue.event(Event::PodChanged { old, new }, now),
        }
    }

    fn put_pending(&mut self, object: core::Pod, mut spec: PodSpec, profile: usize, now: Duration) {
        let uid = spec.uid.clone();
        if self.snapshot.placement(&uid).is_some() && !self.queue.has(&uid) {
            // It was bound here, and this is how it was before.
            return;
        }
        let nominated = nomination_after(self.pending.get(&uid), &object);
        spec.nominated_node.clone_from(&nominated);
        let pod = self.snapshot.register(spec);
        let pending = Pending { object: Arc::new(object), pod: pod.clone(), profile, nominated };
        self.pending.insert(uid.clone(), pending);
        self.nominate_as_known(&uid);
        self.queue.put(pod, now);
    }

    fn pod_gone(&mut self, uid: &str, now: Duration) {
        let placed = self.snapshot.pod(uid).cloned();
        self.snapshot.remove_pod(uid);
        self.queue.remove(uid);
        let pending = self.pending.remove(uid);
        let held = pending.filter(|pending| pending.nominated.is_some()).map(|pending| pending.pod);
        if let Some(pod) = placed.or(held) {
            self.queue.event(Event::PodGone(pod), now);
        }
    }

    /// Compiles a pod anew, with the services and controllers that there are now.
    pub(crate) fn refresh(&mut self, uid: &str) -> Option<Pending> {
        let known = self.pending.get(uid)?;
        let mut spec = self.compile(&known.object, known.profile).ok()?;
        spec.nominated_node.clone_from(&known.nominated);
        let pod = self.snapshot.register(spec);
        let known = self.pending.get_mut(uid)?;
        known.pod = pod;
        Some(known.clone())
    }

    /// Room is being made for a pod there, or nowhere.
    pub(crate) fn nominate(&mut self, uid: &str, node: Option<Box<str>>) {
        if let Some(pending) = self.pending.get_mut(uid) {
            pending.nominated = node;
            self.nominate_as_known(uid);
        }
    }

    fn nominate_as_known(&mut self, uid: &str) {
        let Some(pending) = self.pending.get(uid) else { return };
        if self.snapshot.placement(uid).is_some() {
            return;
        }
        let node = pending.nominated.as_ref().and_then(|name| self.snapshot.node(name));
        match node {
            Some(node) => self.snapshot.nominate(&pending.pod.clone(), node),
            None => self.snapshot.unnominate(uid),
        }
    }

    /// What was decided on a pod came to nothing: it is as if it had not been placed.
    pub(crate) fn forget(
        &mut self,
        pod: &Arc<Pod>,
        claims: &barque_scheduler::snapshot::ClaimPlan,
        now: Duration,
    ) {
        let assumed = self.snapshot.placement(&pod.uid).is_some_and(|(_, assumed)| assumed);
        self.snapshot.forget(&pod.uid, claims);
        if assumed {
            self.nominate_as_known(&pod.uid);
            self.queue.event(Event::PodGone(pod.clone()), now);
        }
    }

    /// A pod is bound; the watch will say so too.
    pub(crate) fn bound(&mut self, uid: &str) {
        self.queue.placed(uid);
        self.pending.remove(uid);
    }
}

#[cfg(test)]
mod tests;
