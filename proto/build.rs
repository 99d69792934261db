//! Compiles the protobuf texts without `protoc`.
//!
//! Two passes: the first makes every message and the clients; the second makes the servers alone, with
//! the answers that carry stored records replaced by the forms of `served`, which hold those records as
//! bytes that are already encoded.

use std::path::PathBuf;

const PROTOS: [&str; 9] = [
    "etcd/kv.proto",
    "etcd/auth.proto",
    "etcd/lease.proto",
    "etcd/rpc.proto",
    "etcd/v3lock.proto",
    "etcd/v3election.proto",
    "grpc/health.proto",
    "barque/peer.proto",
    "barque/admin.proto",
];

/// Messages whose server side is written by hand in `served`.
const SERVED: [&str; 6] = [
    "RangeResponse",
    "RangeStreamResponse",
    "PutResponse",
    "DeleteRangeResponse",
    "TxnResponse",
    "WatchResponse",
];

const PACKAGES: [(&str, &str); 7] = [
    (".etcdserverpb", "crate::etcdserverpb"),
    (".mvccpb", "crate::mvccpb"),
    (".authpb", "crate::authpb"),
    (".leasepb", "crate::leasepb"),
    (".v3lockpb", "crate::v3lockpb"),
    (".v3electionpb", "crate::v3electionpb"),
    (".grpc.health.v1", "crate::health"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(files.clone())?;

    let servers = out.join("servers");
    std::fs::create_dir_all(&servers)?;
    let mut builder = tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .codec_path("crate::codec::SizedCodec")
        .out_dir(servers);
    for (proto, rust) in PACKAGES {
        builder = builder.extern_path(proto, rust);
    }
    for message in SERVED {
        builder =
            builder.extern_path(format!(".etcdserverpb.{message}"), format!("crate::served::{message}"));
    }
    builder =
        builder.extern_path(".barque.peer.v1", "crate::peer").extern_path(".barque.admin", "crate::admin");
    builder.compile_fds(files)?;
    Ok(())
}
