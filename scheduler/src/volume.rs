//! Volumes, claims, classes and the limits of drivers, compiled. Pure; must never know which pods use them.

use std::collections::BTreeMap;

use barque_api::labels::Selector;
use barque_api::quantity::{Quantity, QuantityError};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1 as storage;

use crate::label_set::{LabelSet, SelectorError, selector_of};
use crate::pod::NodeTerms;

/// An object of storage that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// It has no name, namespace or specification.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
    /// An amount that is none.
    #[error("an amount cannot be read")]
    Amount(#[from] QuantityError),
    /// A selector that is none.
    #[error("a selector cannot be read")]
    Selector(#[from] SelectorError),
}

/// A claim by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimKey {
    /// Where it lives.
    pub namespace: Box<str>,
    /// Its name there.
    pub name: Box<str>,
}

/// Labels of volumes that say where they are, and of nodes that say the same.
pub(crate) const PLACES: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// A persistent volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: Box<str>,
    /// Bytes.
    pub capacity: i64,
    /// Its class; empty for none.
    pub class: Box<str>,
    /// Sorted.
    pub access_modes: Box<[Box<str>]>,
    /// A device and not a file system.
    pub block: bool,
    /// Whose it is, or is to be: the claim and its uid, if that is known.
    pub claim: Option<(ClaimKey, Box<str>)>,
    /// Nobody else has it.
    pub available: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// The nodes that reach it; all if it does not say.
    pub nodes: Option<NodeTerms>,
    /// Its labels.
    pub labels: LabelSet,
    /// The places that its labels name: a label and the values that will do.
    pub places: Box<[Place]>,
    /// Who attaches it, and what that is called there.
    pub attachment: Option<(Box<str>, Box<str>)>,
}

impl VolumeSpec {
    /// Compiles a persistent volume.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(volume: &core::PersistentVolume) -> Result<Self, VolumeError> {
        let name = volume.metadata.name.as_deref().ok_or(VolumeError::Incomplete("name"))?;
        let spec = volume.spec.as_ref().ok_or(VolumeError::Incomplete("specification"))?;
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
        let labels = LabelSet::of(volume.metadata.labels.as_ref());
        let places = PLACES.iter().filter_map(|(key, _)| {
            let values = labels.get(key)?.split("__").filter(|value| !value.is_empty());
            Some(((*key).into(), values.map(Into::into).collect()))
        });
        let places = places.collect();
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let claim = spec.claim_ref.as_ref().map(|claim| {
            let text = |field: &Option<String>| Box::from(field.as_deref().unwrap_or_default());
            (ClaimKey { namespace: text(&claim.namespace), name: text(&claim.name) }, text(&claim.uid))
        });
        Ok(Self {
            name: name.into(),
            capacity: capacity.map_or(Ok(0), |it| Quantity::parse(&it.0).map(|it| it.value()))?,
            class: spec.storage_class_name.as_deref().unwrap_or_default().into(),
            access_modes: sorted(spec.access_modes.as_deref()),
            block: spec.volume_mode.as_deref() == Some("Block"),
            claim,
            available: phase == Some("Available"),
            deleting: volume.metadata.deletion_timestamp.is_some(),
            nodes: required.map(NodeTerms::of),
            labels,
            places,
            attachment: attachment(spec),
        })
    }
}

fn sorted(texts: Option<&[String]>) -> Box<[Box<str>]> {
    let mut all: Vec<Box<str>> = texts.into_iter().flatten().map(|text| text.as_str().into()).collect();
    all.sort_unstable();
    all.into()
}

/// The driver of a volume; disks of old plugins belong to the drivers that took their place.
fn attachment(spec: &core::PersistentVolumeSpec) -> Option<(Box<str>, Box<str>)> {
    let pair = |driver: &str, handle: &str| Some((driver.into(), handle.into()));
    if let Some(csi) = &spec.csi {
        return pair(&csi.driver, &csi.volume_handle);
    }
    if let Some(disk) = &spec.gce_persistent_disk {
        return pair("pd.csi.storage.gke.io", &disk.pd_name);
    }
    if let Some(disk) = &spec.aws_elastic_block_store {
        return pair("ebs.csi.aws.com", &disk.volume_id);
    }
    if let Some(disk) = &spec.azure_disk {
        return pair("disk.csi.azure.com", &disk.disk_uri);
    }
    let disk = spec.cinder.as_ref()?;
    pair("cinder.csi.openstack.org", &disk.volume_id)
}

/// A claim to a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSpec {
    /// Which.
    pub key: ClaimKey,
    /// Which of this name; unique over time.
    pub uid: Box<str>,
    /// The volume it has or wants.
    pub volume: Option<Box<str>>,
    /// The volume is its own.
    pub bound: bool,
    /// Its volume is gone.
    pub lost: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// Its class; empty for none.
    pub class: Box<str>,
    /// Bytes.
    pub request: i64,
    /// Sorted.
    pub access_modes: Box<[Box<str>]>,
    /// A device and not a file system.
    pub block: bool,
    /// Volumes that will do; all when there is none.
    pub selector: Option<Selector>,
    /// The node on which it is being provisioned.
    pub selected_node: Option<Box<str>>,
    /// The uid of the pod for which it was made.
    pub owner: Option<Box<str>>,
}

/// Set once a claim and its volume agree.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Set when the scheduler chose a node for a claim whose volume is not there yet.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// How classes were named before there was a field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

impl ClaimSpec {
    /// Compiles a claim.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(claim: &core::PersistentVolumeClaim) -> Result<Self, VolumeError> {
        let name = claim.metadata.name.as_deref().ok_or(VolumeError::Incomplete("name"))?;
        let namespace = claim.metadata.namespace.as_deref().ok_or(VolumeError::Incomplete("namespace"))?;
        let spec = claim.spec.as_ref().ok_or(VolumeError::Incomplete("specification"))?;
        let note = |key: &str| claim.metadata.annotations.as_ref().and_then(|notes| notes.get(key));
        let volume = spec.volume_name.as_deref().filter(|name| !name.is_empty());
        let request =
            spec.resources.as_ref().and_then(|it| it.requests.as_ref()).and_then(|it| it.get("storage"));
        let class = note(CLASS).map(String::as_str).or(spec.storage_class_name.as_deref());
        let owners = claim.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        Ok(Self {
            key: ClaimKey { namespace: namespace.into(), name: name.into() },
            uid: claim.metadata.uid.as_deref().unwrap_or_default().into(),
            volume: volume.map(Into::into),
            bound: volume.is_some() && note(BIND_COMPLETED).is_some(),
            lost: phase == Some("Lost"),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            class: class.unwrap_or_default().into(),
            request: request.map_or(Ok(0), |it| Quantity::parse(&it.0).map(|it| it.value()))?,
            access_modes: sorted(spec.access_modes.as_deref()),
            block: spec.volume_mode.as_deref() == Some("Block"),
            selector: spec.selector.as_ref().map(|it| selector_of(Some(it))).transpose()?,
            selected_node: note(SELECTED_NODE).map(|node| node.as_str().into()),
            owner: owner.map(|owner| owner.uid.as_str().into()),
        })
    }

    /// Whether one pod alone may use it.
    #[must_use]
    pub fn for_one_pod(&self) -> bool {
        self.access_modes.iter().any(|mode| &**mode == "ReadWriteOncePod")
    }
}

/// A label and the values that will do.
pub type Place = (Box<str>, Box<[Box<str>]>);

/// A storage class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSpec {
    /// Its name.
    pub name: Box<str>,
    /// Who makes volumes; `kubernetes.io/no-provisioner` is nobody.
    pub provisioner: Box<str>,
    /// Volumes are bound once a pod was placed.
    pub waits: bool,
    /// Where volumes can be made: one of these, of which all must hold; anywhere when there is none.
    pub allowed: Box<[Box<[Place]>]>,
}

impl ClassSpec {
    /// Compiles a class.
    ///
    /// # Errors
    /// When it has no name.
    pub fn of(class: &storage::StorageClass) -> Result<Self, VolumeError> {
        let name = class.metadata.name.as_deref().ok_or(VolumeError::Incomplete("name"))?;
        let allowed = class.allowed_topologies.iter().flatten().map(|term| {
            let places = term.match_label_expressions.iter().flatten();
            places.map(|place| (place.key.as_str().into(), sorted(Some(&place.values)))).collect()
        });
        Ok(Self {
            name: name.into(),
            provisioner: class.provisioner.as_str().into(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            allowed: allowed.collect(),
        })
    }

    /// Whether volumes are made at all.
    #[must_use]
    pub fn provisions(&self) -> bool {
        !self.provisioner.is_empty() && &*self.provisioner != "kubernetes.io/no-provisioner"
    }

    /// Whether volumes can be made for a node with these labels.
    #[must_use]
    pub fn allows(&self, labels: &LabelSet) -> bool {
        let holds = |(key, values): &Place| {
            labels.get(key).is_some_and(|have| values.iter().any(|value| &**value == have))
        };
        self.allowed.is_empty() || self.allowed.iter().any(|term| !term.is_empty() && term.iter().all(holds))
    }
}

/// How many volumes each driver attaches.
pub type Limits = BTreeMap<Box<str>, i64>;

/// How many volumes the drivers of a node attach: the node, and driver by driver.
///
/// # Errors
/// When the object has no name.
pub fn limits_of(node: &storage::CSINode) -> Result<(Box<str>, Limits), VolumeError> {
    let name = node.metadata.name.as_deref().ok_or(VolumeError::Incomplete("name"))?;
    let limit = |driver: &storage::CSINodeDriver| {
        let count = driver.allocatable.as_ref()?.count?;
        Some((driver.name.as_str().into(), i64::from(count)))
    };
    let drivers = node.spec.drivers.iter();
    Ok((name.into(), drivers.filter_map(limit).collect()))
}
