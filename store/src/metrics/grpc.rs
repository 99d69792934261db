//! `grpc_server_*` and the bytes of clients: counted for each method without allocating on the way.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::Register;

/// Every method of the client port: service, method, type.
const METHODS: &[(&str, &str, &str)] = &[
    ("etcdserverpb.KV", "Range", "unary"),
    ("etcdserverpb.KV", "RangeStream", "server_stream"),
    ("etcdserverpb.KV", "Put", "unary"),
    ("etcdserverpb.KV", "DeleteRange", "unary"),
    ("etcdserverpb.KV", "Txn", "unary"),
    ("etcdserverpb.KV", "Compact", "unary"),
    ("etcdserverpb.Watch", "Watch", "bidi_stream"),
    ("etcdserverpb.Lease", "LeaseGrant", "unary"),
    ("etcdserverpb.Lease", "LeaseRevoke", "unary"),
    ("etcdserverpb.Lease", "LeaseKeepAlive", "bidi_stream"),
    ("etcdserverpb.Lease", "LeaseTimeToLive", "unary"),
    ("etcdserverpb.Lease", "LeaseLeases", "unary"),
    ("etcdserverpb.Cluster", "MemberAdd", "unary"),
    ("etcdserverpb.Cluster", "MemberRemove", "unary"),
    ("etcdserverpb.Cluster", "MemberUpdate", "unary"),
    ("etcdserverpb.Cluster", "MemberList", "unary"),
    ("etcdserverpb.Cluster", "MemberPromote", "unary"),
    ("etcdserverpb.Maintenance", "Alarm", "unary"),
    ("etcdserverpb.Maintenance", "Status", "unary"),
    ("etcdserverpb.Maintenance", "Defragment", "unary"),
    ("etcdserverpb.Maintenance", "Hash", "unary"),
    ("etcdserverpb.Maintenance", "HashKV", "unary"),
    ("etcdserverpb.Maintenance", "Snapshot", "server_stream"),
    ("etcdserverpb.Maintenance", "MoveLeader", "unary"),
    ("etcdserverpb.Maintenance", "Downgrade", "unary"),
    ("etcdserverpb.Auth", "AuthEnable", "unary"),
    ("etcdserverpb.Auth", "AuthDisable", "unary"),
    ("etcdserverpb.Auth", "AuthStatus", "unary"),
    ("etcdserverpb.Auth", "Authenticate", "unary"),
    ("etcdserverpb.Auth", "UserAdd", "unary"),
    ("etcdserverpb.Auth", "UserGet", "unary"),
    ("etcdserverpb.Auth", "UserList", "unary"),
    ("etcdserverpb.Auth", "UserDelete", "unary"),
    ("etcdserverpb.Auth", "UserChangePassword", "unary"),
    ("etcdserverpb.Auth", "UserGrantRole", "unary"),
    ("etcdserverpb.Auth", "UserRevokeRole", "unary"),
    ("etcdserverpb.Auth", "RoleAdd", "unary"),
    ("etcdserverpb.Auth", "RoleGet", "unary"),
    ("etcdserverpb.Auth", "RoleList", "unary"),
    ("etcdserverpb.Auth", "RoleDelete", "unary"),
    ("etcdserverpb.Auth", "RoleGrantPermission", "unary"),
    ("etcdserverpb.Auth", "RoleRevokePermission", "unary"),
    ("v3lockpb.Lock", "Lock", "unary"),
    ("v3lockpb.Lock", "Unlock", "unary"),
    ("v3electionpb.Election", "Campaign", "unary"),
    ("v3electionpb.Election", "Proclaim", "unary"),
    ("v3electionpb.Election", "Leader", "unary"),
    ("v3electionpb.Election", "Observe", "server_stream"),
    ("v3electionpb.Election", "Resign", "unary"),
    ("grpc.health.v1.Health", "Check", "unary"),
    ("grpc.health.v1.Health", "Watch", "server_stream"),
    ("barque.admin.Admin", "Space", "unary"),
    ("barque.admin.Admin", "Activity", "server_stream"),
    ("barque.admin.Admin", "RevisionAt", "unary"),
    ("barque.admin.Admin", "TimeOf", "unary"),
    ("barque.admin.Admin", "Snapshot", "server_stream"),
    ("barque.admin.Admin", "ListSnapshots", "unary"),
    ("barque.admin.Admin", "Clock", "unary"),
];

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

/// As Go's gRPC prints them, because dashboards select by these texts.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Code {
    /// Success.
    pub const OK: Self = Self(0);
    /// The client went away.
    pub const CANCELED: Self = Self(1);
    /// No code that is known.
    pub const UNKNOWN: Self = Self(2);

    /// From the text of `grpc-status`.
    #[must_use]
    pub fn from_header(text: &[u8]) -> Self {
        match text {
            [digit @ b'0'..=b'9'] => Self(digit - b'0'),
            [b'1', digit @ b'0'..=b'6'] => Self(10 + digit - b'0'),
            _ => Self::UNKNOWN,
        }
    }

    /// Go's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        CODES[usize::from(self.0)]
    }
}

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        Self(u8::try_from(i32::from(code)).unwrap_or(Self::UNKNOWN.0))
    }
}

/// The counters of all methods. Cheap to clone.
#[derive(Clone)]
pub struct GrpcMetrics {
    methods: Arc<HashMap<String, Arc<MethodMetrics>>>,
}

impl fmt::Debug for GrpcMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcMetrics").field("methods", &self.methods.len()).finish()
    }
}

/// The counters of one method.
#[derive(Debug)]
pub struct MethodMetrics {
    labels: (&'static str, &'static str, &'static str),
    started: IntCounter,
    handled: IntCounterVec,
    by_code: [OnceLock<IntCounter>; CODES.len()],
    /// Unary methods only: a stream's duration says nothing.
    handling_seconds: Option<Histogram>,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

impl GrpcMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let started = r.counters("grpc_server_started_total", "RPCs started on the server.", &labels);
        let handled = r.counters(
            "grpc_server_handled_total",
            "RPCs completed on the server, regardless of success or failure.",
            &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
        );
        let seconds = r.histograms(
            "grpc_server_handling_seconds",
            "How long unary RPCs took, in seconds.",
            &labels,
            prometheus::DEFAULT_BUCKETS.to_vec(),
        );
        let received_bytes =
            r.counter("etcd_network_client_grpc_received_bytes_total", "Bytes received from gRPC clients.");
        let sent_bytes =
            r.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes sent to gRPC clients.");
        let methods = METHODS.iter().map(|&(service, method, kind)| {
            let labels = [kind, service, method];
            let metrics = MethodMetrics {
                labels: (kind, service, method),
                started: started.with_label_values(&labels),
                handled: handled.clone(),
                by_code: [const { OnceLock::new() }; CODES.len()],
                handling_seconds: (kind == "unary").then(|| seconds.with_label_values(&labels)),
                received_bytes: received_bytes.clone(),
                sent_bytes: sent_bytes.clone(),
            };
            // Rates need a zero to start from.
            metrics.handled(Code::OK).inc_by(0);
            (format!("/{service}/{method}"), Arc::new(metrics))
        });
        Self { methods: Arc::new(methods.collect()) }
    }

    /// Counts the start of a call of the method at `path`, such as `/etcdserverpb.KV/Put`. `None` for a method
    /// that is not there: so that strangers cannot add series.
    #[must_use]
    pub fn start(&self, path: &str) -> Option<Call> {
        let method = Arc::clone(self.methods.get(path)?);
        method.started.inc();
        let began = method.handling_seconds.is_some().then(Instant::now);
        Some(Call { method, began, ended: false })
    }
}

impl MethodMetrics {
    /// Whether a call is more than one request and one answer.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.handling_seconds.is_none()
    }

    fn handled(&self, code: Code) -> &IntCounter {
        self.by_code[usize::from(code.0)].get_or_init(|| {
            let (kind, service, method) = self.labels;
            self.handled.with_label_values(&[kind, service, method, code.name()])
        })
    }

    /// Counts bytes of messages that came from a client.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }
}

/// A call that runs. Dropped without an end, it counts as canceled.
#[derive(Debug)]
pub struct Call {
    method: Arc<MethodMetrics>,
    began: Option<Instant>,
    ended: bool,
}

impl Call {
    /// The method's counters.
    #[must_use]
    pub fn method(&self) -> &Arc<MethodMetrics> {
        &self.method
    }

    /// Counts bytes of messages that go to the client.
    pub fn sent(&self, bytes: usize) {
        self.method.sent_bytes.inc_by(bytes as u64);
    }

    /// Counts the end. Only the first one.
    pub fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.method.handled(code).inc();
        if let (Some(seconds), Some(began)) = (&self.method.handling_seconds, self.began) {
            seconds.observe(began.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::CANCELED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `rpc` of the client port's contracts has its counters, with the right type.
    #[test]
    fn the_table_is_the_contracts() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/proto/");
        let mut found = Vec::new();
        for file in [
            "etcd/rpc.proto",
            "etcd/v3lock.proto",
            "etcd/v3election.proto",
            "grpc/health.proto",
            "barque/admin.proto",
        ] {
            let text = std::fs::read_to_string(format!("{folder}{file}")).unwrap();
            let line =
                |prefix: &str| text.lines().find_map(|l| l.trim().strip_prefix(prefix).map(str::to_owned));
            let package = line("package ").unwrap();
            let package = package.trim_end_matches(';');
            let mut service = String::new();
            for line in text.lines().map(str::trim) {
                if let Some(name) = line.strip_prefix("service ") {
                    service = format!("{package}.{}", name.split([' ', '{']).next().unwrap());
                }
                if let Some(rpc) = line.strip_prefix("rpc ") {
                    let (name, signature) = rpc.split_once('(').unwrap();
                    let (request, response) = signature.split_once("returns").unwrap();
                    let kind = match (request.contains("stream "), response.contains("stream ")) {
                        (false, false) => "unary",
                        (false, true) => "server_stream",
                        (true, false) => "client_stream",
                        (true, true) => "bidi_stream",
                    };
                    found.push((service.clone(), name.trim().to_owned(), kind.to_owned()));
                }
            }
        }
        let mut table: Vec<_> =
            METHODS.iter().map(|(s, m, k)| (s.to_string(), m.to_string(), k.to_string())).collect();
        table.sort();
        found.sort();
        assert_eq!(table, found);
    }

    #[test]
    fn codes_are_read_from_the_wire() {
        for (text, name) in [
            ("0", "OK"),
            ("1", "Canceled"),
            ("9", "FailedPrecondition"),
            ("14", "Unavailable"),
            ("16", "Unauthenticated"),
        ] {
            assert_eq!(Code::from_header(text.as_bytes()).name(), name);
        }
        for text in ["", "17", "-1", "00", "x"] {
            assert_eq!(Code::from_header(text.as_bytes()), Code::UNKNOWN, "{text}");
        }
    }
}
