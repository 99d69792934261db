//! The agent's own containers as those see them who speak CRI: tools, and an agent that takes them for another runtime's.

use std::path::PathBuf;
use std::time::Duration;

use barque_agent::node_api::containers::PodStreams as _;
use barque_agent::runtime::Runtime;
use barque_agent::runtime::cri::{self, CriRuntime, LogRotation};
use barque_agent::runtime::embedded::served::CriServer;
use barque_cri::{Client, CriError, v1};
use barque_streams::process::Wanted;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::contract::{patient, pod, removed, started, until_ended, until_running};
use super::images::BUSYBOX;
use super::inside::{command, heard, log};
use super::subjects::{Embedded, Subject, supplies};

/// Serves while something is done with the socket.
async fn while_served<F: Future<Output = ()>>(subject: &Embedded, work: impl FnOnce(PathBuf) -> F) {
    let path = subject.directory().join("cri.sock");
    let server = CriServer::bind(&path, subject.shared()).await.unwrap();
    let stop = CancellationToken::new();
    let ends = stop.clone().drop_guard();
    let working = async {
        work(path).await;
        drop(ends);
    };
    tokio::join!(server.run(stop), working);
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap()
}

fn of_pod(pod: &Pod) -> std::collections::HashMap<String, String> {
    [("io.kubernetes.pod.uid".to_owned(), uid(pod))].into()
}

pub(crate) async fn tools_see_what_runs(subject: &mut Embedded) {
    let runtime = subject.runtime();
    let pod = patient(json!({}));
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    let address = runtime.observe(&pod).await.ready_sandbox().unwrap().addresses[0].to_string();
    while_served(subject, async |path| {
        let client = Client::new(path.into()).unwrap();
        let version = client.version(v1::VersionRequest::default()).await.unwrap();
        assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("barque", "v1"));
        let status = client.status(v1::StatusRequest::default()).await.unwrap().status.unwrap();
        assert!(status.conditions.iter().all(|condition| condition.status), "{status:?}");

        // Pods.
        let filter = v1::PodSandboxFilter { label_selector: of_pod(&pod), ..Default::default() };
        let listed =
            client.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await.unwrap();
        assert_eq!(listed.items.len(), 1);
        assert_eq!(listed.items[0].state(), v1::PodSandboxState::SandboxReady);
        assert_eq!(listed.items[0].metadata.as_ref().unwrap().namespace, "ns");
        let other = v1::PodSandboxFilter { id: "no-such".to_owned(), ..Default::default() };
        let none = client.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(other) }).await.unwrap();
        assert_eq!(none.items, []);
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: uid(&pod), verbose: false };
        let told = client.pod_sandbox_status(request).await.unwrap().status.unwrap();
        assert_eq!(told.network.unwrap().ip, address);

        // Containers, found by the beginnings of their ids too.
        let filter = v1::ContainerFilter { pod_sandbox_id: uid(&pod), ..Default::default() };
        let listed =
            client.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await.unwrap();
        assert_eq!(listed.containers.len(), 1);
        let container_id = format!("{}_c", uid(&pod));
        let request = v1::ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
        let told = client.container_status(request).await.unwrap().status.unwrap();
        assert_eq!(
            (told.id.clone(), told.state()),
            (listed.containers[0].id.clone(), v1::ContainerState::ContainerRunning)
        );
        assert_eq!(told.image.unwrap().image, BUSYBOX);
        assert!(told.log_path.ends_with("c/0.log"), "{}", told.log_path);
        let cmd = ["sh", "-c", "echo out; echo err >&2; exit 5"].map(str::to_owned).to_vec();
        let request = v1::ExecSyncRequest { container_id: container_id.clone(), cmd, timeout: 0 };
        let said = client.exec_sync(request).await.unwrap();
        assert_eq!((said.stdout, said.stderr, said.exit_code), (b"out\n".to_vec(), b"err\n".to_vec(), 5));
        let stats =
            client.container_stats(v1::ContainerStatsRequest { container_id }).await.unwrap().stats.unwrap();
        assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);

        // Images.
        let images = client.list_images(v1::ListImagesRequest::default()).await.unwrap().images;
        assert!(images.iter().any(|image| image.repo_tags.iter().any(|tag| tag == BUSYBOX)), "{images:?}");
        let spec = |image: &str| Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() });
        let status = async |image: &str| {
            let request = v1::ImageStatusRequest { image: spec(image), verbose: false };
            client.image_status(request).await.unwrap().image
        };
        assert!(status("busybox:test").await.unwrap().size > 0);
        assert_eq!(status("registry.invalid/none:1").await, None);
        let error = client.remove_image(v1::RemoveImageRequest { image: spec(BUSYBOX) }).await.unwrap_err();
        assert!(matches!(error, CriError::Failed { .. }), "somebody uses it: {error}");
        client.remove_image(v1::RemoveImageRequest { image: spec("registry.invalid/none:1") }).await.unwrap();
        let request = v1::PullImageRequest { image: spec("registry.invalid/none:1"), ..Default::default() };
        let error = client.pull_image(request).await.unwrap_err();
        assert!(error.to_string().contains("registry.invalid"), "{error}");
        let usage = client.image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap();
        assert!(usage.image_filesystems[0].used_bytes.unwrap().value > 0);
    })
    .await;
    removed(subject.runtime(), &pod).await;
}

pub(crate) async fn tools_end_what_runs_and_make_nothing(subject: &mut Embedded) {
    let pod = patient(json!({}));
    started(subject.runtime(), &pod).await;
    until_running(subject.runtime(), &pod).await;
    while_served(subject, async |path| {
        let client = Client::new(path.into()).unwrap();
        let container_id = format!("{}_c_0", uid(&pod));
        let stop = |id: &str| v1::StopContainerRequest { container_id: id.to_owned(), timeout: 3600 };
        client.stop_container(stop(&container_id)).await.unwrap();
        client.stop_container(stop("none")).await.unwrap();
        let request = v1::ContainerStatusRequest { container_id, verbose: false };
        let told = client.container_status(request).await.unwrap().status.unwrap();
        assert_eq!(told.state(), v1::ContainerState::ContainerExited);
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: uid(&pod) };
        client.stop_pod_sandbox(request).await.unwrap();
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: "none".to_owned(), verbose: false };
        assert!(client.pod_sandbox_status(request).await.unwrap_err().is_not_found());
        let error = client.run_pod_sandbox(v1::RunPodSandboxRequest::default()).await.unwrap_err();
        assert!(matches!(error, CriError::Unimplemented { call: "RunPodSandbox", .. }), "{error}");
    })
    .await;
    until_ended(subject.runtime(), &pod).await;
    removed(subject.runtime(), &pod).await;
}

pub(crate) async fn another_agent_reaches_into_it(subject: &mut Embedded) {
    let pod = pod(
        "echo served > /tmp/index.html; httpd -p 8080 -h /tmp; while read -r line; do echo \"got $line\"; done; echo end",
        json!({"stdin": true, "stdinOnce": true, "readinessProbe": {"tcpSocket": {"port": 8080}}}),
        json!({}),
        json!({}),
    );
    started(subject.runtime(), &pod).await;
    let running = until_running(subject.runtime(), &pod).await;
    let directory = subject.directory().join("other");
    std::fs::create_dir_all(&directory).unwrap();
    while_served(subject, async |path| {
        let stop = CancellationToken::new();
        let other = CriRuntime::adopt(cri::Parts {
            runtime: cri::find(path.into()).await.unwrap(),
            supplies: supplies(&directory, &stop),
            cgroup_root: "elsewhere".to_owned(),
            logs: LogRotation { file_bytes: 10 << 20, files: 5, period: Duration::from_secs(10) },
            networks: watch::channel(Vec::new()).0,
            stop: stop.clone(),
        });
        let other = other.await.unwrap();
        assert_eq!(until_running(&other, &pod).await, running, "both tell the same");
        while other.probe(&pod, "c", barque_agent::pods::probes::ProbeKind::Readiness).await.is_err() {}

        let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        let process = other.exec(&pod, "c", command("cat; echo wrong >&2; exit 42", wanted)).await.unwrap();
        assert_eq!(heard(process, Some("through")).await, ("through".to_owned(), "wrong\n".to_owned(), 42));
        let terminal = Wanted { stdin: false, stdout: true, stderr: false, tty: true };
        let process = other.exec(&pod, "c", command("tty", terminal)).await.unwrap();
        assert_eq!(heard(process, None).await.0.trim_end(), "/dev/pts/0");

        let mut connection = other.connect(&pod, 8080).await.unwrap();
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        connection.read_to_string(&mut page).await.unwrap();
        assert!(page.ends_with("served\n"), "{page}");

        assert!(other.stats(&pod).await.unwrap().cpu.unwrap().used_ns > 0);
        let process = other.attach(&pod, "c", wanted).await.unwrap();
        let (told, _, code) = heard(process, Some("one\n")).await;
        assert_eq!((told.as_str(), code), ("got one\nend\n", 0));
        until_ended(&other, &pod).await;
        assert_eq!(log(&other, &pod, false).await, "got one\nend\n");
        stop.cancel();
        other.drained().await;
    })
    .await;
    removed(subject.runtime(), &pod).await;
}

pub(crate) async fn a_socket_is_taken_over_and_nothing_else(subject: &mut Embedded) {
    // Twice: the first one leaves its socket.
    for _ in 0..2 {
        while_served(subject, async |path| {
            let client = Client::new(path.into()).unwrap();
            client.version(v1::VersionRequest::default()).await.unwrap();
        })
        .await;
    }
    let file = subject.directory().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = CriServer::bind(&file, subject.shared()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("and no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
