//! The volumes that a pod names, as far as placing it depends on them. Must never know what the claims are bound to.

use k8s_openapi::api::core::v1 as core;

/// A disk as two pods could fight for it, without a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Disk {
    /// A GCE persistent disk.
    Gce {
        /// Its name.
        name: Box<str>,
        /// Readers get along.
        read_only: bool,
    },
    /// An EBS volume.
    Aws {
        /// Its id.
        id: Box<str>,
    },
    /// An iSCSI target.
    Iscsi {
        /// Its qualified name.
        iqn: Box<str>,
        /// Readers get along.
        read_only: bool,
    },
    /// A Ceph image.
    Rbd {
        /// Who serves it; one in common is enough.
        monitors: Box<[Box<str>]>,
        /// Its pool.
        pool: Box<str>,
        /// Its name.
        image: Box<str>,
        /// Readers get along.
        read_only: bool,
    },
}

impl Disk {
    /// Whether two pods cannot have them on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gce { name, read_only }, Self::Gce { name: theirs, read_only: they_read }) => {
                name == theirs && !(*read_only && *they_read)
            }
            (Self::Aws { id }, Self::Aws { id: theirs }) => id == theirs,
            (Self::Iscsi { iqn, read_only }, Self::Iscsi { iqn: theirs, read_only: they_read }) => {
                iqn == theirs && !(*read_only && *they_read)
            }
            (
                Self::Rbd { monitors, pool, image, read_only },
                Self::Rbd { monitors: m, pool: p, image: i, read_only: they_read },
            ) => {
                let served_by_one = monitors.iter().any(|monitor| m.contains(monitor));
                served_by_one && pool == p && image == i && !(*read_only && *they_read)
            }
            _ => false,
        }
    }
}

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimName {
    /// The claim, in the pod's namespace.
    pub name: Box<str>,
    /// Made for this pod alone (a generic ephemeral volume).
    pub ephemeral: bool,
}

/// The volumes of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodVolumes {
    /// Through claims.
    pub claims: Box<[ClaimName]>,
    /// Disks without a claim that pods can fight for.
    pub disks: Box<[Disk]>,
    /// Disks without a claim that are attached: the driver that is in charge of them now, and the disk.
    pub attached: Box<[(Box<str>, Box<str>)]>,
}

impl PodVolumes {
    /// Whether there are none that matter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.disks.is_empty() && self.attached.is_empty()
    }

    pub(super) fn of(pod_name: &str, spec: &core::PodSpec) -> Self {
        let (mut claims, mut disks, mut attached) = (Vec::new(), Vec::new(), Vec::new());
        for volume in spec.volumes.iter().flatten() {
            if let Some(claim) = &volume.persistent_volume_claim {
                claims.push(ClaimName { name: claim.claim_name.as_str().into(), ephemeral: false });
            }
            if volume.ephemeral.is_some() {
                claims
                    .push(ClaimName { name: format!("{pod_name}-{}", volume.name).into(), ephemeral: true });
            }
            if let Some(disk) = &volume.gce_persistent_disk {
                let name: Box<str> = disk.pd_name.as_str().into();
                disks.push(Disk::Gce { name: name.clone(), read_only: disk.read_only == Some(true) });
                attached.push(("pd.csi.storage.gke.io".into(), name));
            }
            if let Some(disk) = &volume.aws_elastic_block_store {
                disks.push(Disk::Aws { id: disk.volume_id.as_str().into() });
                attached.push(("ebs.csi.aws.com".into(), disk.volume_id.as_str().into()));
            }
            if let Some(disk) = &volume.azure_disk {
                attached.push(("disk.csi.azure.com".into(), disk.disk_uri.as_str().into()));
            }
            if let Some(disk) = &volume.cinder {
                attached.push(("cinder.csi.openstack.org".into(), disk.volume_id.as_str().into()));
            }
            if let Some(disk) = &volume.iscsi {
                disks.push(Disk::Iscsi {
                    iqn: disk.iqn.as_str().into(),
                    read_only: disk.read_only == Some(true),
                });
            }
            if let Some(disk) = &volume.rbd {
                disks.push(Disk::Rbd {
                    monitors: disk.monitors.iter().map(|monitor| monitor.as_str().into()).collect(),
                    pool: disk.pool.as_deref().unwrap_or("rbd").into(),
                    image: disk.image.as_str().into(),
                    read_only: disk.read_only == Some(true),
                });
            }
        }
        Self { claims: claims.into(), disks: disks.into(), attached: attached.into() }
    }
}
