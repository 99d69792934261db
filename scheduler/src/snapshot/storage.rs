//! Volumes and claims as they are, and as they will be once what was decided is done. Must never know pods but by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::PodId;
use super::columns::Attachment;
use crate::pod::{PodName, PodVolumes};
use crate::volume::{ClaimKey, ClaimSpec, ClassSpec, VolumeSpec};

/// What placing a pod means for its claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimPlan {
    /// Claims that get a volume that is there.
    pub bind: Vec<(ClaimKey, Box<str>)>,
    /// Claims whose volume is to be made for the node.
    pub provision: Vec<ClaimKey>,
}

impl ClaimPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

/// The storage of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(crate) volumes: BTreeMap<Box<str>, VolumeSpec>,
    pub(crate) claims: HashMap<ClaimKey, ClaimSpec>,
    pub(crate) classes: HashMap<Box<str>, ClassSpec>,
    /// By node and driver.
    pub(crate) limits: HashMap<Box<str>, BTreeMap<Box<str>, i64>>,
    /// Volumes that nobody has, by class.
    pub(crate) free: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Volumes that were promised to a claim.
    pub(crate) promised: HashMap<Box<str>, ClaimKey>,
    /// Placed pods by the claims they use.
    pub(crate) users: HashMap<ClaimKey, Vec<PodId>>,
}

impl Storage {
    /// A volume that is there.
    pub(crate) fn put_volume(&mut self, volume: VolumeSpec) {
        self.remove_volume_from_free(&volume.name);
        if volume.claim.is_none() || volume.available {
            self.free.entry(volume.class.clone()).or_default().insert(volume.name.clone());
        }
        self.volumes.insert(volume.name.clone(), volume);
    }

    /// A volume that is gone.
    pub(crate) fn remove_volume(&mut self, name: &str) -> Option<VolumeSpec> {
        self.remove_volume_from_free(name);
        self.promised.remove(name);
        self.volumes.remove(name)
    }

    fn remove_volume_from_free(&mut self, name: &str) {
        if let Some(old) = self.volumes.get(name)
            && let Some(free) = self.free.get_mut(&old.class)
        {
            free.remove(name);
            if free.is_empty() {
                self.free.remove(&old.class);
            }
        }
    }

    /// The key of a claim that a pod names.
    pub(crate) fn key(pod: &PodName, claim: &str) -> ClaimKey {
        ClaimKey { namespace: pod.namespace.clone(), name: claim.into() }
    }

    /// What a pod attaches to its node, as far as is known.
    pub(crate) fn attachments(&self, pod: &PodName, volumes: &PodVolumes) -> Vec<Attachment> {
        let claimed = volumes.claims.iter().filter_map(|claim| self.attachment(&Self::key(pod, &claim.name)));
        let mut all: Vec<Attachment> = claimed.chain(volumes.attached.iter().cloned()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Who attaches a claim's volume; a volume that is not there yet is attached by whoever will make it.
    fn attachment(&self, key: &ClaimKey) -> Option<Attachment> {
        let claim = self.claims.get(key)?;
        let volume = claim.volume.as_ref().and_then(|name| self.volumes.get(name));
        if let Some(volume) = volume {
            return volume.attachment.clone();
        }
        let class = self.classes.get(&claim.class)?;
        class.provisions().then(|| {
            (
                class.provisioner.clone(),
                format!("{}-{}/{}", class.provisioner, key.namespace, key.name).into(),
            )
        })
    }
}
