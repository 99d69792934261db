//! How many pods a budget's pods should be, by what controls them, and how many of them must be healthy. A decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::int_or_string::{IntOrString as Share, Round};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::View;
use crate::cache::Caches;
use crate::kind::{Key, Object as _};
use crate::question::Question;
use crate::scale::{Scalable, Search};

/// What controls some of the pods.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Control {
    /// It, or what controls it in turn, is a kind that is watched: its uid, and how many pods it wants.
    Known(String, i32),
    /// Its scale must be asked for. With the name of one of its pods.
    Asked(OwnerReference, String),
}

/// What a budget asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// So many pods there should be.
    pub(super) pods: i32,
    /// So many of them must be healthy.
    pub(super) healthy: i32,
    /// Whether some have no controller though controllers are counted.
    pub(super) unmanaged: bool,
}

/// Whether it counts what controllers want, and not the pods that there are.
pub(super) fn is_scaled(budget: &PodDisruptionBudget) -> bool {
    budget.spec.as_ref().is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

fn is_of(reference: &OwnerReference, kind: &str, groups: &[&str]) -> bool {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    reference.kind == kind && groups.contains(&group)
}

/// The controllers of these pods, each once.
pub(super) fn controls(pods: &[Arc<Pod>], caches: &Caches) -> Vec<Control> {
    let mut found: BTreeMap<String, Control> = BTreeMap::new();
    for pod in pods {
        let Some(reference) = pod.controller() else { continue };
        let entry = found.entry(reference.uid.clone());
        entry.or_insert_with(|| {
            let key = Key::new(&pod.key().namespace, &reference.name);
            let known = watched(reference, &key, caches);
            let known = known.map(|(uid, wanted)| Control::Known(uid, wanted.unwrap_or(1)));
            known.unwrap_or_else(|| Control::Asked(reference.clone(), pod.key().name))
        });
    }
    found.into_values().collect()
}

/// How many pods a controller of a watched kind wants, with its uid. A ReplicaSet of a Deployment counts as the Deployment.
fn watched(reference: &OwnerReference, key: &Key, caches: &Caches) -> Option<(String, Option<i32>)> {
    let same = |uid: &str| uid == reference.uid;
    if is_of(reference, "ReplicationController", &[""]) {
        let found = caches.of::<ReplicationController>().get(key).filter(|it| same(it.uid()))?;
        return Some((reference.uid.clone(), found.spec.as_ref().and_then(|spec| spec.replicas)));
    }
    if is_of(reference, "StatefulSet", &["apps"]) {
        let found = caches.of::<StatefulSet>().get(key).filter(|it| same(it.uid()))?;
        return Some((reference.uid.clone(), found.spec.replicas));
    }
    if !is_of(reference, "ReplicaSet", &["apps", "extensions"]) {
        return None;
    }
    let set = caches.of::<ReplicaSet>().get(key).filter(|it| same(it.uid()))?;
    match set.controller().filter(|owner| owner.kind == "Deployment") {
        None => Some((reference.uid.clone(), set.spec.replicas)),
        Some(owner) if is_of(owner, "Deployment", &["apps", "extensions"]) => {
            let key = Key::new(&key.namespace, &owner.name);
            let found = caches.of::<Deployment>().get(&key).filter(|it| it.uid() == owner.uid)?;
            Some((owner.uid.clone(), found.spec.replicas))
        }
        Some(_) => None,
    }
}

fn scale(view: &View, reference: &OwnerReference) -> Search {
    let namespace = view.budget.key().namespace;
    let it = Scalable {
        namespace: &namespace,
        api_version: &reference.api_version,
        kind: &reference.kind,
        name: &reference.name,
    };
    it.search(&view.answers)
}

/// What must be known of controllers of other kinds.
pub(super) fn questions(view: &View) -> Vec<Question> {
    let mut questions = Vec::new();
    for control in &view.controllers {
        if let Control::Asked(reference, _) = control
            && let Search::Ask(question) = scale(view, reference)
            && !questions.contains(&question)
        {
            questions.push(question);
        }
    }
    questions
}

/// The sum of what all controllers want.
fn scaled(view: &View) -> Result<i32, String> {
    let mut wanted: BTreeMap<&str, i32> = BTreeMap::new();
    for control in &view.controllers {
        match control {
            Control::Known(uid, count) => {
                wanted.insert(uid, *count);
            }
            Control::Asked(reference, pod) => match scale(view, reference) {
                Search::Found(scale) if scale.uid == reference.uid => {
                    wanted.insert(&reference.uid, scale.wanted);
                }
                Search::Failed(why) => return Err(why),
                Search::Found(_) | Search::Missing(_) | Search::Ask(_) => {
                    return Err(format!("found no controllers for pod {pod:?}"));
                }
            },
        }
    }
    Ok(wanted.values().fold(0, |sum, count| sum.saturating_add(*count)))
}

fn share(value: &IntOrString, of: i32) -> Result<i32, String> {
    let value = match value {
        IntOrString::Int(number) => Share::Int(*number),
        IntOrString::String(text) => Share::Text(text.clone()),
    };
    let number = value.scaled(of.into(), Round::Up).map_err(|error| error.to_string())?;
    Ok(i32::try_from(number).unwrap_or(i32::MAX))
}

/// What the budget asks for of these pods.
pub(super) fn expected(view: &View, pods: &[Arc<Pod>]) -> Result<Expected, String> {
    let unmanaged = is_scaled(&view.budget) && pods.iter().any(|pod| pod.controller().is_none());
    let spec = view.budget.spec.as_ref();
    let (least, most) =
        (spec.and_then(|it| it.min_available.as_ref()), spec.and_then(|it| it.max_unavailable.as_ref()));
    match (most, least) {
        (Some(most), _) => {
            let pods = scaled(view)?;
            let healthy = pods.saturating_sub(share(most, pods)?).max(0);
            Ok(Expected { pods, healthy, unmanaged })
        }
        (None, Some(IntOrString::Int(least))) => {
            let pods = i32::try_from(pods.len()).unwrap_or(i32::MAX);
            Ok(Expected { pods, healthy: *least, unmanaged })
        }
        (None, Some(least)) => {
            let pods = scaled(view)?;
            Ok(Expected { pods, healthy: share(least, pods)?, unmanaged })
        }
        (None, None) => Ok(Expected { pods: 0, healthy: 0, unmanaged }),
    }
}
