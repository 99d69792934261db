//! Which pods belong together for spreading by default: those that a Service selects, or that one controller owns. Must
//! never know pods.

use std::collections::{BTreeMap, HashMap};

use barque_api::labels::{Operator, Requirement, Selector};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Identity;
use crate::label_set::{SelectorError, requirement, requirements_of};

/// The kinds of controllers whose selectors are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// `v1`
    ReplicationController,
    /// `apps/v1`
    ReplicaSet,
    /// `apps/v1`
    StatefulSet,
}

impl OwnerKind {
    fn of(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("v1", "ReplicationController") => Some(Self::ReplicationController),
            ("apps/v1", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps/v1", "StatefulSet") => Some(Self::StatefulSet),
            _ => None,
        }
    }
}

type Named = (Box<str>, Box<str>);
type Selected = BTreeMap<String, String>;

/// Selectors of services and controllers.
#[derive(Debug, Default)]
pub struct Workloads {
    /// By namespace and name, with the labels that they select.
    services: HashMap<Box<str>, BTreeMap<Box<str>, Selected>>,
    owners: HashMap<(OwnerKind, Named), Vec<Requirement>>,
}

impl Workloads {
    /// A service that is there, with the labels that it selects; without some it selects nothing.
    pub fn put_service(&mut self, namespace: &str, name: &str, selector: Option<&BTreeMap<String, String>>) {
        match selector {
            Some(selector) => {
                let services = self.services.entry(namespace.into()).or_default();
                services.insert(name.into(), selector.clone());
            }
            None => self.remove_service(namespace, name),
        }
    }

    /// A service that is gone.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        if let Some(services) = self.services.get_mut(namespace) {
            services.remove(name);
            if services.is_empty() {
                self.services.remove(namespace);
            }
        }
    }

    /// A controller that is there.
    ///
    /// # Errors
    /// When its selector is none.
    pub fn put_owner(
        &mut self,
        kind: OwnerKind,
        namespace: &str,
        name: &str,
        selector: Option<&LabelSelector>,
    ) -> Result<(), SelectorError> {
        let requirements = requirements_of(selector)?.unwrap_or_default();
        self.owners.insert((kind, (namespace.into(), name.into())), requirements);
        Ok(())
    }

    /// A controller that is gone.
    pub fn remove_owner(&mut self, kind: OwnerKind, namespace: &str, name: &str) {
        self.owners.remove(&(kind, (namespace.into(), name.into())));
    }

    /// The pods that belong together with this one: what the services that select it ask, and its controller. `None` when
    /// nothing does.
    pub(super) fn selector_for(&self, pod: &core::Pod, identity: &Identity) -> Option<Selector> {
        let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
        for selector in self.services.get(&identity.namespace).into_iter().flat_map(BTreeMap::values) {
            let selects =
                selector.iter().all(|(key, value)| identity.labels.get(key) == Some(value.as_str()));
            if selects {
                labels.extend(selector.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            }
        }
        // A Service's selector is not checked as that of a controller is; what is no label selects nothing.
        let requirements = labels.into_iter().map(|(key, value)| requirement(key, Operator::In, &[value]));
        let mut requirements: Vec<Requirement> = requirements.collect::<Result<_, _>>().ok()?;
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
        if let Some(owner) = owner
            && let Some(kind) = OwnerKind::of(&owner.api_version, &owner.kind)
            && let Some(more) =
                self.owners.get(&(kind, (identity.namespace.clone(), owner.name.as_str().into())))
        {
            requirements.extend(more.iter().cloned());
        }
        (!requirements.is_empty()).then(|| Selector::of(requirements))
    }
}
