//! What happens in a cluster, as far as it may help a pod that waits. Values only.

use std::sync::Arc;

use crate::node::NodeSpec;
use crate::snapshot::Pod;
use crate::volume::ClaimKey;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node is there.
    NodeAdded(Arc<NodeSpec>),
    /// A node is different.
    NodeChanged {
        /// It was so.
        old: Arc<NodeSpec>,
        /// It is so.
        new: Arc<NodeSpec>,
    },
    /// A node is gone; that makes domains fewer.
    NodeRemoved(Arc<NodeSpec>),
    /// A pod was placed.
    PodPlaced(Arc<Pod>),
    /// A placed pod has other labels, or asks for less.
    PodChanged {
        /// It was so.
        old: Arc<Pod>,
        /// It is so.
        new: Arc<Pod>,
    },
    /// A placed pod is gone, or takes nothing any more.
    PodGone(Arc<Pod>),
    /// The waiting pod itself is different.
    Pending {
        /// It was so.
        old: Arc<Pod>,
        /// It is so.
        new: Arc<Pod>,
    },
    /// A claim is there or different.
    Claim(ClaimKey),
    /// A volume is there or different.
    Volume,
    /// A storage class is there or different.
    Class,
    /// The drivers of a node attach more, or something was detached.
    Limits,
    /// A namespace has other labels.
    Namespace,
    /// Something that the others do not tell: everybody is tried again.
    Anything,
}

impl Event {
    /// As Kubernetes' metrics call it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeChanged { .. } => "NodeUpdate",
            Self::NodeRemoved(_) => "NodeDelete",
            Self::PodPlaced(_) => "AssignedPodAdd",
            Self::PodChanged { .. } => "AssignedPodUpdate",
            Self::PodGone(_) => "AssignedPodDelete",
            Self::Pending { .. } => "TargetPodUpdate",
            Self::Claim(_) => "PersistentVolumeClaimUpdate",
            Self::Volume => "PersistentVolumeUpdate",
            Self::Class => "storage.k8s.io/StorageClassUpdate",
            Self::Limits => "storage.k8s.io/CSINodeUpdate",
            Self::Namespace => "NamespaceUpdate",
            Self::Anything => "*",
        }
    }

    /// Whether it can be about a pod: what happens to waiting pods is only about themselves.
    pub(super) fn is_about(&self, pod: &Pod) -> bool {
        match self {
            Self::Pending { new, .. } => new.uid == pod.uid,
            _ => true,
        }
    }
}
