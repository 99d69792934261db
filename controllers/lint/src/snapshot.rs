//! A picture of a cluster: some kinds with all that their objects are, and of every object its metadata. Data; must never be asked
//! for what was not read as if it were not there.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use barque_client::discovery::{Collection, Discovered};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{DaemonSet, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IPAddress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::finding::Object;

/// What every object has.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Where it is served.
    pub collection: Arc<Collection>,
    /// Empty for kinds that have none.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// Never given twice.
    pub uid: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Whether somebody has deleted it, and it is still there.
    pub deleting: bool,
}

impl Meta {
    /// That of an object.
    pub(crate) fn of(collection: &Arc<Collection>, meta: &ObjectMeta) -> Self {
        Self {
            collection: collection.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    /// Which object it is of.
    pub(crate) fn object(&self) -> Object {
        let kind = self.collection.kind.clone();
        Object { kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// A kind whose objects are kept whole.
pub trait Kept:
    Resource<DynamicType = ()> + k8s_openapi::Resource + DeserializeOwned + Clone + Debug + Send + 'static
{
    /// Those of a picture.
    fn of(snapshot: &mut Snapshot) -> &mut Vec<Self>;
}

/// Does something with a kind.
pub(crate) trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<K: Kept>(self) -> Self::Output;
}

/// Names the kinds that are kept whole.
macro_rules! kept {
    ($($field:ident: $type:ident;)*) => {
        /// A cluster, as it was read.
        #[derive(Clone, Debug, Default)]
        pub struct Snapshot {
            /// When it was read.
            pub at: Timestamp,
            /// What is served.
            pub served: Discovered,
            /// Collections that were not read, as `resource.group`, with the reason. Their objects may be there.
            pub unread: BTreeMap<String, String>,
            /// Every object that was read, also of the kinds below.
            pub objects: Vec<Meta>,
            $(
                #[doc = concat!("Every ", stringify!($type), ".")]
                pub $field: Vec<$type>,
            )*
        }

        /// The kinds that are kept whole.
        const KEPT: &[(&str, &str)] = &[$((
            <$type as k8s_openapi::Resource>::API_VERSION,
            <$type as k8s_openapi::Resource>::KIND,
        )),*];

        $(impl Kept for $type {
            fn of(snapshot: &mut Snapshot) -> &mut Vec<Self> {
                &mut snapshot.$field
            }
        })*

        /// Has a visitor look at the kind of a collection, if it is one that is kept whole.
        pub(crate) fn visit<V: Visitor>(collection: &Collection, visitor: V) -> Option<V::Output> {
            let (group, resource) = (&*collection.group, &*collection.resource);
            $(if (group, resource) == (<$type as k8s_openapi::Resource>::GROUP, <$type>::URL_PATH_SEGMENT) {
                return Some(visitor.visit::<$type>());
            })*
            None
        }
    };
}

kept! {
    pods: Pod;
    nodes: Node;
    services: Service;
    slices: EndpointSlice;
    leases: Lease;
    addresses: IPAddress;
    volumes: PersistentVolume;
    claims: PersistentVolumeClaim;
    replica_sets: ReplicaSet;
    stateful_sets: StatefulSet;
    daemon_sets: DaemonSet;
    jobs: Job;
    quotas: ResourceQuota;
    namespaces: Namespace;
}

impl Snapshot {
    /// Whether objects of this kind were read.
    #[must_use]
    pub fn has<K: Kept>(&self) -> bool {
        let kind = self.served.of_kind(K::API_VERSION, <K as k8s_openapi::Resource>::KIND);
        kind.is_some_and(|collection| self.was_read(collection))
    }

    /// A kind whose absence would be taken for the absence of its objects. Those before Kubernetes 1.33 have no IPAddresses.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let mut needed = KEPT.iter().filter(|(_, kind)| *kind != IPAddress::KIND);
        needed.find(|(version, kind)| self.served.of_kind(version, kind).is_none()).map(|(_, kind)| *kind)
    }

    /// Takes in objects of a kind.
    pub(crate) fn keep<K: Kept>(&mut self, collection: &Arc<Collection>, mut objects: Vec<K>) {
        self.objects.extend(objects.iter().map(|object| Meta::of(collection, object.meta())));
        // Nobody here reads it, and it is large.
        objects.iter_mut().for_each(|object| object.meta_mut().managed_fields = None);
        K::of(self).append(&mut objects);
    }

    /// Whether objects of a collection were read.
    #[must_use]
    pub fn was_read(&self, collection: &Collection) -> bool {
        is_listed(collection) && !self.unread.contains_key(&collection.group_resource())
    }
}

/// Whether objects of a collection are stored, each of them once. What the garbage collector can follow is; of the two names of
/// events the older one counts.
pub(crate) fn is_listed(collection: &Collection) -> bool {
    collection.can(&["delete", "list", "watch"]) && collection.group_resource() != "events.events.k8s.io"
}
