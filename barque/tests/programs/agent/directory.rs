//! Containers that are directories and scripts, behind barque's own node API. Must never pretend: what it says comes from files
//! and processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use barque_agent::metrics::Metrics;
use barque_agent::node_api::config::NodeApiConfig;
use barque_agent::node_api::containers::{
    BoxConnection, ContainerLog, ExecRequest, KnownPods, PodStreams, Process, RunError,
};
use barque_agent::node_api::reviews::KubeReviews;
use barque_agent::node_api::server::{NodeApi, NodeApiListener, Parts};
use barque_agent::node_api::stats::{PodStats, VolumeStats};
use barque_client::servers::{Servers, Source, connect};
use barque_streams::process::Wanted;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::super::certificates::Certificates;

/// Serves until the runtime ends.
pub(super) async fn serve(directory: &Path, certificates: &Certificates, kubeconfig: &Path) -> SocketAddr {
    let (cert, key) = certificates.agent.clone();
    let config = NodeApiConfig {
        address: "127.0.0.1".to_owned(),
        port: 0,
        tls_cert_file: Some(cert),
        tls_private_key_file: Some(key),
        client_ca_file: Some(certificates.ca.clone()),
        ..NodeApiConfig::default()
    };
    let source = Source::Kubeconfig(kubeconfig.to_owned());
    let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    let parts = Parts {
        node: "new".to_owned(),
        addresses: Vec::new(),
        root: directory.to_owned(),
        pods: Arc::new(AnyPod),
        streams: Arc::new(Directories(directory.join("node"))),
        reviews: Arc::new(KubeReviews::new(client)),
        metrics: Metrics::new(),
    };
    let config = config.validate().unwrap();
    let listener = NodeApiListener::bind(&config).await.unwrap();
    let api = NodeApi::on(listener, config, parts).unwrap();
    let address = api.address();
    tokio::spawn(api.run(CancellationToken::new()));
    address
}

/// Every pod is there and has two containers, as `files/running.sh` makes them.
struct AnyPod;

impl KnownPods for AnyPod {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        let status = json!({
            "name": "side", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": waiting
        });
        let pod = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "side", "image": "i"}]},
            "status": {"containerStatuses": [status]},
        });
        Some(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn all(&self) -> Vec<Arc<Pod>> {
        Vec::new()
    }
}

struct Directories(PathBuf);

impl Directories {
    fn of(&self, pod: &Pod, container: &str) -> PathBuf {
        self.0.join(pod.metadata.name.as_deref().unwrap()).join(container)
    }
}

impl PodStreams for Directories {
    async fn exec(&self, pod: &Pod, container: &str, request: ExecRequest) -> Result<Process, RunError> {
        let mut command = Command::new(&request.command[0]);
        command.args(&request.command[1..]).current_dir(self.of(pod, container));
        start(command, request.wanted)
    }

    async fn attach(&self, pod: &Pod, container: &str, wanted: Wanted) -> Result<Process, RunError> {
        let mut command = Command::new("sh");
        command.arg("main").current_dir(self.of(pod, container));
        start(command, wanted)
    }

    async fn connect(&self, pod: &Pod, port: u16) -> Result<BoxConnection, RunError> {
        let script = self.of(pod, &format!("port-{port}"));
        if !script.exists() {
            return Err(RunError("connection refused".to_owned()));
        }
        let mut command = Command::new("sh");
        command.arg(script);
        let mut process = start(command, Wanted { stdin: true, stdout: true, ..Wanted::default() })?;
        let both = tokio::io::join(process.stdout.take().unwrap(), process.stdin.take().unwrap());
        // What the script is killed with when nobody speaks to it any more.
        let (near, far) = tokio::io::duplex(4 << 10);
        tokio::spawn(async move {
            let (mut both, mut far) = (both, far);
            let _ = tokio::io::copy_bidirectional(&mut both, &mut far).await;
            drop(process);
        });
        Ok(Box::new(near))
    }

    async fn log(&self, pod: &Pod, container: &str, previous: bool) -> Option<ContainerLog> {
        let path = self.of(pod, container).join("0.log");
        (!previous && path.exists()).then(|| ContainerLog { path, ended: std::future::pending().boxed() })
    }

    async fn volumes(&self, _: &Pod) -> Vec<VolumeStats> {
        Vec::new()
    }

    async fn stats(&self, _: &Pod) -> Option<PodStats> {
        None
    }

    async fn written(&self, _: &Pod) -> std::collections::BTreeMap<String, barque_agent::volumes::Usage> {
        std::collections::BTreeMap::new()
    }
}

/// Starts a command; it is killed when the process is dropped.
fn start(mut command: Command, wanted: Wanted) -> Result<Process, RunError> {
    let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(piped(wanted.stdin))
        .stdout(piped(wanted.stdout))
        .stderr(piped(wanted.stderr))
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| RunError(error.to_string()))?;
    Ok(Process {
        stdin: child.stdin.take().map(|one| Box::new(one) as _),
        stdout: child.stdout.take().map(|one| Box::new(one) as _),
        stderr: child.stderr.take().map(|one| Box::new(one) as _),
        resize: None,
        exit: async move {
            let status = child.wait().await.map_err(|error| RunError(error.to_string()))?;
            Ok(status.code().unwrap_or(137))
        }
        .boxed(),
    })
}
