//! Which library is used where: a table of the test of the project's shape. Must never allow a place without a reason to.

/// Libraries that stay in their place, so that replacing one touches that place alone.
pub(super) const CONFINED: &[(&str, &[&str])] = &[
    // Hashing takes tens of milliseconds: never where commands are executed or calls are served.
    ("argon2::", &["store/src/auth/password.rs"]),
    ("bcrypt::", &["store/src/auth/password.rs"]),
    // The member still reads openraft's metrics and proposes its membership changes directly.
    ("openraft::", &["store/src/raft/", "store/src/member/"]),
    ("sled::", &["store/src/records/"]),
    (
        "tonic::",
        &[
            "proto/",
            "agent/cri/",
            "agent/csi/",
            "agent/src/volumes/csi/tests.rs",
            "agent/src/runtime/embedded/served/",
            "store/src/error.rs",
            "store/src/metrics/grpc.rs",
            "store/src/serve/",
            "store/src/server.rs",
            "store/src/rpc/",
            "store/src/raft/",
            "store/src/member/peer_backend.rs",
            "kvctl/src/connection/",
            "apiserver/src/storage/etcd/",
            "barque/cluster/src/doctor/probe/store.rs",
            "barque/cluster/src/membership.rs",
            "barque/cluster/src/status.rs",
            "jepsen-like-tests/",
        ],
    ),
    // Real processes are seen as any client sees them; only simulations are made of the store's parts.
    (
        "barque_store::",
        &[
            "store/",
            "barque/",
            "kvctl/",
            "jepsen-like-tests/src/simulation/",
            "apiserver/src/aggregation/",
            "apiserver/src/storage/",
            "apiserver/src/watch_cache/index.rs",
            // Certificates that are followed, and numbers of the process, are told once.
            "apiserver/src/config/",
            "apiserver/src/metrics/mod.rs",
            "apiserver/src/server.rs",
            "apiserver/src/streaming/",
            "apiserver/src/test_parts.rs",
        ],
    ),
    // The tool would otherwise depend on what members are made of. A master begins with a snapshot as well.
    (
        "barque_store::offline",
        &[
            "barque/src/server_command.rs",
            "kvctl/src/command/snapshot/",
            "kvctl/src/command/recover.rs",
            "store/",
        ],
    ),
    // How a command reaches the cluster is no command's business.
    (
        "rustls::",
        &[
            "api/unverified-tls/",
            // Certificates as bytes.
            "barque/cluster/src/authority.rs",
            "store/src/tls/",
            "kvctl/src/connection/",
            "agent/images/src/registry/transport.rs",
            "agent/src/handlers/http.rs",
            "agent/src/node_api/",
            "api/client/src/component/serve.rs",
            "apiserver/src/aggregation/dial.rs",
            "apiserver/src/authentication/",
            "apiserver/src/dial.rs",
            "apiserver/src/http/serve.rs",
            "apiserver/src/server.rs",
            "apiserver/src/streaming/dial.rs",
            "apiserver/src/streaming/node_verifier.rs",
            "apiserver/src/webhook_client/",
            "apiserver/src/test_webhook.rs",
            "controllers/src/certificates/",
            "controllers/src/root_certificates.rs",
            "controllers/src/signing_key.rs",
            "barque/local/src/front/probe.rs",
            "barque/tests/programs/hostile.rs",
            "barque/tests/programs/policies_and_volumes.rs",
            "jepsen-like-tests/src/door.rs",
        ],
    ),
    // Nobody else speaks on a bus; the test stands in for who is on it.
    ("zbus::", &["agent/src/node_shutdown/", "barque/tests/programs/shutdown/logind.rs"]),
    // Only a network of the tests' own carries packets.
    ("tokio_tun::", &["jepsen-like-tests/src/network/"]),
];
