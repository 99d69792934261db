//! Which objects a pod names. A decision.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::containers::{all, env, namespace};
use crate::pods::spec;

/// What kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A config map.
    ConfigMap,
    /// A secret.
    Secret,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        })
    }
}

/// An object that a pod names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// All secrets and config maps that a pod names: for environments, volumes and images.
#[must_use]
pub fn named(pod: &Pod) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            found.insert(Reference { kind, namespace: namespace(pod).to_owned(), name: name.to_owned() });
        }
    };
    for container in all(pod) {
        env::secrets(&container).for_each(|name| add(Kind::Secret, name));
        env::config_maps(&container).for_each(|name| add(Kind::ConfigMap, name));
    }
    let Some(spec) = spec::spec(pod) else { return found };
    spec.volumes.iter().flatten().for_each(|volume| of_volume(volume, &mut add));
    spec.image_pull_secrets.iter().flatten().for_each(|secret| add(Kind::Secret, &secret.name));
    found
}

fn of_volume(volume: &Volume, add: &mut impl FnMut(Kind, &str)) {
    if let Some(source) = &volume.secret {
        add(Kind::Secret, source.secret_name.as_deref().unwrap_or_default());
    }
    if let Some(source) = &volume.config_map {
        add(Kind::ConfigMap, &source.name);
    }
    let parts = volume.projected.iter().filter_map(|projected| projected.sources.as_ref()).flatten();
    for part in parts {
        if let Some(source) = &part.secret {
            add(Kind::Secret, &source.name);
        }
        if let Some(source) = &part.config_map {
            add(Kind::ConfigMap, &source.name);
        }
    }
}
