//! One line of the record of a run of masters. Must never say more than a client, or a master's own audit log, can know.

use serde::{Deserialize, Serialize};

use crate::history::{ClientId, FaultId, OperationId};

/// An object as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Never given twice.
    pub uid: String,
    /// Its `resourceVersion`; of a deletion, that of the deletion.
    pub version: i64,
    /// What a client wrote into it; no two writes write the same.
    pub value: String,
}

/// What a client asks an API server for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// A new object.
    Create {
        /// Its name.
        name: String,
        /// What is in it.
        value: String,
    },
    /// Another value, if the object is of this version.
    Update {
        /// Its name.
        name: String,
        /// The version that is replaced.
        version: i64,
        /// What is in it.
        value: String,
    },
    /// The object goes, if it is this one.
    Delete {
        /// Its name.
        name: String,
        /// Which object of that name.
        uid: String,
        /// In which version; any, if none.
        version: Option<i64>,
    },
    /// One object.
    Get {
        /// Its name.
        name: String,
        /// With `resourceVersion=0`: any state that was is right.
        stale: bool,
    },
    /// All objects.
    List {
        /// With `resourceVersion=0`: any state that was is right.
        stale: bool,
    },
    /// Something about what is no object of clients, such as a Deployment.
    Other {
        /// Method and path.
        what: String,
    },
}

impl Request {
    /// Whether it changes something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Update { .. } | Self::Delete { .. })
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A write was done; of creations and updates, with the object.
    Done {
        /// As it is now.
        object: Option<Object>,
    },
    /// An object that was asked for.
    Found {
        /// As it is.
        object: Object,
    },
    /// All objects.
    Listed {
        /// The version of the list.
        version: i64,
        /// What there is.
        objects: Vec<Object>,
    },
    /// It was not done, for a reason (4xx).
    Refused {
        /// The code of HTTP.
        code: u16,
        /// The reason of the `Status`.
        reason: String,
    },
    /// Nobody knows whether it was done: no answer, or 5xx.
    Unknown {
        /// What the client was told.
        error: String,
    },
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// There is an object that was not.
    Added {
        /// The object.
        object: Object,
    },
    /// An object is another one.
    Modified {
        /// The object.
        object: Object,
    },
    /// An object is gone.
    Deleted {
        /// As it was, with the version of its deletion.
        object: Object,
    },
    /// Everything up to here was told.
    Bookmark {
        /// Up to where.
        version: i64,
    },
}

/// A version of a Lease by which one of several processes is elected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseVersion {
    /// Which Lease.
    pub lease: String,
    /// Its `resourceVersion`.
    pub version: i64,
    /// Who has it; empty if nobody.
    pub holder: String,
    /// How often it went from one to another.
    pub transitions: i64,
    /// For how long it is left to a holder who does not renew it, in seconds.
    pub duration_s: i64,
    /// When it was taken, by the holder's wall clock, in microseconds since 1970.
    pub acquired_us: i64,
    /// When it was renewed, by the holder's wall clock.
    pub renewed_us: i64,
}

/// A write by controllers or a scheduler, as the audit log of the API server that took it tells. They speak to that of their own
/// master alone, so that the log says whose they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The process: a master, and how often it had been started.
    pub process: String,
    /// The Lease that they need for it.
    pub lease: String,
    /// What was done to what.
    pub what: String,
    /// When it came in, by the master's wall clock, in microseconds since 1970.
    pub received_us: i64,
    /// When its answer was complete.
    pub completed_us: i64,
    /// The `resourceVersion` of what was written, where the answer tells.
    pub version: Option<i64>,
}

/// What is there when all is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Deployments.
    pub deployments: Vec<Deployment>,
    /// ReplicaSets of Deployments.
    pub replica_sets: Vec<ReplicaSet>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Service>,
    /// Names and owners of EndpointSlices: a slice, and the service it is of.
    pub slices: Vec<(String, String)>,
    /// Names of nodes.
    pub nodes: Vec<String>,
    /// The allocator's records of addresses: an address, and the service that it is for.
    pub addresses: Vec<(String, String)>,
    /// What Services had who are gone, and a new one could not have.
    pub lost: Vec<Lost>,
}

/// An address or a node port that nobody has and nobody can have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// What it is.
    pub what: String,
    /// The name of the Service that had it last.
    pub service: String,
    /// Why a new one could not have it.
    pub why: String,
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// How often what it asks for has changed.
    pub generation: i64,
    /// The generation that its controller has seen.
    pub observed: i64,
    /// Pods that it asks for.
    pub wanted: i64,
    /// `status.replicas`, `updatedReplicas`, `availableReplicas`.
    pub counts: [i64; 3],
    /// What its pods are to have as `round`.
    pub round: String,
}

/// A ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSet {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The uid of its controller.
    pub owner: String,
    /// Pods that it asks for.
    pub wanted: i64,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The uid of its controller.
    pub owner: String,
    /// Where it runs.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether somebody has deleted it.
    pub deleting: bool,
    /// Its annotation `round`.
    pub round: String,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name with its namespace.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its node ports.
    pub node_ports: Vec<u16>,
}

/// One line of the record. Times are nanoseconds since the run began, on a clock that never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// A client sends a request.
    Invoked {
        /// When.
        time_ns: u64,
        /// Which request.
        operation: OperationId,
        /// Who sends it.
        client: ClientId,
        /// To which master.
        member: String,
        /// What.
        request: Request,
    },
    /// A client learns what became of it.
    Completed {
        /// When.
        time_ns: u64,
        /// Which request.
        operation: OperationId,
        /// What the client was told.
        outcome: Outcome,
    },
    /// An informer has listed.
    Relisted {
        /// When.
        time_ns: u64,
        /// Who.
        informer: ClientId,
        /// At which master.
        member: String,
        /// The version of the list.
        version: i64,
        /// What there was.
        objects: Vec<Object>,
    },
    /// An informer watches from what it has seen last.
    Resumed {
        /// When.
        time_ns: u64,
        /// Who.
        informer: ClientId,
        /// At which master.
        member: String,
        /// From behind this version on.
        version: i64,
    },
    /// An informer is told something.
    Told {
        /// When.
        time_ns: u64,
        /// Who.
        informer: ClientId,
        /// What.
        told: Told,
    },
    /// The watch of an informer has ended.
    Broken {
        /// When.
        time_ns: u64,
        /// Who.
        informer: ClientId,
        /// Why.
        why: String,
    },
    /// An informer is told of a Lease.
    Lease {
        /// When.
        time_ns: u64,
        /// What it says.
        lease: LeaseVersion,
    },
    /// A process wrote a Lease under this name, or tried to, as an audit log tells.
    LeaseWritten {
        /// Which process: a master, and how often it had been started.
        process: String,
        /// Which Lease.
        lease: String,
        /// The name.
        holder: String,
        /// What became of the Lease, if it was written.
        version: Option<i64>,
        /// When that was complete, by the master's wall clock, in microseconds since 1970.
        completed_us: i64,
    },
    /// What an audit log tells of controllers and schedulers.
    Act(Act),
    /// A fault begins.
    FaultBegan {
        /// When.
        time_ns: u64,
        /// Which fault.
        fault: FaultId,
        /// What it is.
        kind: String,
        /// Whom it strikes.
        members: Vec<String>,
    },
    /// A fault is over.
    FaultEnded {
        /// When.
        time_ns: u64,
        /// Which fault.
        fault: FaultId,
    },
    /// What has come to be after all faults, and how long that took.
    Settled {
        /// When.
        time_ns: u64,
        /// What.
        what: String,
        /// How long it took.
        took_ms: u64,
    },
    /// What is there in the end.
    End(Picture),
    /// What the linter says is wrong in the end.
    Lint {
        /// How many objects it looked at.
        objects: usize,
        /// Its findings, in words.
        findings: Vec<String>,
    },
}
