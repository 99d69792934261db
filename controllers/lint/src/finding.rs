//! What is found: which rule does not hold, for which object, in words. Values; in an order that does not depend on chance.

use std::fmt;

use serde::Serialize;

use crate::objects;

/// Names the rules: each with its name and what holds in a cluster that is right.
macro_rules! rules {
    ($($rule:ident $name:literal $holds:literal;)*) => {
        /// A rule that may not hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $(
            #[doc = $holds]
            $rule,
        )* }

        impl Rule {
            /// All of them, group by group.
            pub const ALL: &'static [Self] = &[$(Self::$rule),*];

            /// As it is written.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// What holds in a cluster that is right.
            #[must_use]
            pub const fn holds(self) -> &'static str {
                match self { $(Self::$rule => $holds,)* }
            }
        }
    };
}

rules! {
    PodAddressShared "pod-address-shared" "no two pods have one address";
    PodAddressOutsideNode "pod-address-outside-node" "a pod's address is in its node's podCIDRs, if the node has some";
    NodeRangesOverlap "node-ranges-overlap" "podCIDRs of nodes do not overlap";
    ServiceAddressShared "service-address-shared" "no two services have one cluster IP";
    NodePortShared "node-port-shared" "no two services have one node port";
    ServiceAddressUnrecorded "service-address-unrecorded" "a cluster IP has an IPAddress of its service";
    AddressRecordStale "address-record-stale" "an IPAddress has a service with that cluster IP";
    OwnerGone "owner-gone" "owners are there";
    OwnerElsewhere "owner-elsewhere" "owners have the name and the namespace by which they are named";
    TwoControllers "two-controllers" "an object has one controller at most";
    SelectorMismatch "selector-mismatch" "a controller's selector matches its pods";
    PodNodeMissing "pod-node-missing" "the nodes of pods are there";
    NodeOvercommitted "node-overcommitted" "pods ask for no more than their node has to give";
    TaintNotTolerated "taint-not-tolerated" "pods stay no longer on a node with a NoExecute taint than they tolerate it";
    AntiAffinityViolated "anti-affinity-violated" "required anti-affinity by host name is kept";
    IndexTwice "index-twice" "a StatefulSet or Job has one living pod at most for each index";
    EndpointDead "endpoint-dead" "pods that slices tell of are there, have that uid and address, and have not ended";
    EndpointReadiness "endpoint-readiness" "slices tell whether pods are ready as it is";
    PodUntold "pod-untold" "a ready pod that a service selects is told of in a slice";
    SliceOrphaned "slice-orphaned" "services of slices are there";
    ReplicasMiscounted "replicas-miscounted" "status.replicas is the number of pods that are there";
    QuotaMiscounted "quota-miscounted" "a quota's status.used is what is used";
    ClaimVolumeDisagree "claim-volume-disagree" "a bound claim and its volume name each other";
    VolumeClaimedTwice "volume-claimed-twice" "a volume is bound to one claim at most";
    LeaseWithoutNode "lease-without-node" "leases in kube-node-lease have a node";
    JobFinalizerLeft "job-finalizer-left" "a pod that a Job has still to count has its Job";
    NamespaceGone "namespace-gone" "namespaces of objects are there";
    PodMoved "pod-moved" "a pod that was bound to a node stays there";
    PodAddressChanged "pod-address-changed" "a pod's address stays while its containers go on running";
    PodRanAgain "pod-ran-again" "a pod that has ended does not run again";
}

impl Rule {
    /// Whether it is about what happens over time ([`Bindings`](crate::Bindings)), and not about one picture.
    #[must_use]
    pub const fn is_of_histories(self) -> bool {
        matches!(self, Self::PodMoved | Self::PodAddressChanged | Self::PodRanAgain)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Object {
    /// Such as `Pod`.
    pub kind: String,
    /// Empty for kinds that have none.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl Object {
    /// The one that this is.
    pub(crate) fn of<K: kube::Resource<DynamicType = ()>>(object: &K) -> Self {
        let (namespace, name) = objects::place(object);
        Self { kind: K::kind(&()).into_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// `Pod shop/web-1`, `Node a`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// For which object.
    pub object: Object,
    /// What is wrong, as a sentence about the object without its beginning: `has the address 10.0.0.1, as shop/web-2 has`.
    pub words: String,
}

/// Where findings are put.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// One about an object.
    pub(crate) fn add<K: kube::Resource<DynamicType = ()>>(&mut self, rule: Rule, object: &K, words: String) {
        self.add_about(rule, Object::of(object), words);
    }

    /// One about the object of this name.
    pub(crate) fn add_about(&mut self, rule: Rule, object: Object, words: String) {
        self.0.push(Finding { rule, object, words });
    }

    /// All, in order, each once.
    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.rule, self.object, self.words)
    }
}
