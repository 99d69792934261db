//! The contracts on the wire: etcd's v3 API, the administrator's own calls, the members' own protocol, the gRPC
//! health check.
//!
//! Holds messages, clients, server traits and the numbers that belong to them, and nothing else; never any behaviour.

#![allow(
    unused_qualifications,
    unreachable_pub,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the .proto files carry the documentation"
)]

/// What stands before the 32 bytes of digest in the answer of `Maintenance.Snapshot` is a multiple of this; etcd's clients
/// tell a complete file by it.
pub const SNAPSHOT_ALIGNMENT_BYTES: u64 = 512;

/// Records and events (`mvccpb`).
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users and roles (`authpb`).
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// Leases as etcd's files hold them (`leasepb`).
pub mod leasepb {
    tonic::include_proto!("leasepb");
}

/// The client API (`etcdserverpb`): messages and clients.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Locks (`v3lockpb`): messages and client.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// Elections (`v3electionpb`): messages and client.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// The gRPC health check: messages and client.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The members' own protocol: messages and client.
pub mod peer {
    tonic::include_proto!("barque.peer.v1");
}

/// Nested as its name is: what it takes from other packages is found by that.
mod barque {
    /// What an administrator asks of one member beyond etcd's API: messages and client.
    pub mod admin {
        tonic::include_proto!("barque.admin");
    }
}
pub use barque::admin;

pub mod codec;
pub mod served;

/// The server traits of every service.
pub mod server {
    pub mod etcd {
        tonic::include_proto!("servers/etcdserverpb");
    }
    pub mod lock {
        tonic::include_proto!("servers/v3lockpb");
    }
    pub mod election {
        tonic::include_proto!("servers/v3electionpb");
    }
    pub mod health {
        tonic::include_proto!("servers/grpc.health.v1");
    }
    pub mod peer {
        tonic::include_proto!("servers/barque.peer.v1");
    }
    pub mod admin {
        tonic::include_proto!("servers/barque.admin");
    }
}
