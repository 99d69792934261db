//! Whole containers and sandboxes, from objects as they come from the API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barque_containers::spec::{PidShare, Share};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::env::{Sources, environment};
use super::identity::Accounts;
use super::mounts::PodFiles;
use super::{ContainerError, ImageFacts, Inputs, NodeFacts, all, container_spec, find, sandbox_spec};

fn node() -> NodeFacts {
    NodeFacts {
        name: "n".into(),
        hostname: "box".into(),
        cluster_domain: "cluster.local".into(),
        memory_capacity: 1 << 30,
        root: "/r".into(),
        logs: "/var/log/pods".into(),
        ..NodeFacts::default()
    }
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "p", "namespace": "ns", "uid": "u1"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn image() -> ImageFacts {
    ImageFacts {
        id: "sha256:1".into(),
        layers: vec!["/l/1".into(), "/l/2".into()],
        entrypoint: vec!["/enter".into()],
        cmd: vec!["a".into(), "b".into()],
        env: vec!["PATH=/bin".into(), "X=image".into(), "HOSTNAME=image".into()],
        working_dir: "/work".into(),
        user: "1000".into(),
        stop_signal: "3".into(),
        volumes: Vec::new(),
    }
}

fn make(container: Value) -> Result<barque_containers::spec::ContainerSpec, ContainerError> {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!("example.org/c:1");
    let pod = pod(json!({"enableServiceLinks": false, "containers": [container]}));
    let container = find(&pod, "c").unwrap();
    let node = node();
    let environment = environment(&pod, &container, &Sources::default(), &node, &[])?;
    container_spec(Inputs {
        pod: &pod,
        container: &container,
        attempt: 2,
        image: &image(),
        accounts: &Accounts::default(),
        environment: &environment,
        node: &node,
        volumes: &BTreeMap::new(),
        sub_paths: &BTreeMap::new(),
        files: &PodFiles::default(),
    })
}

#[test]
fn commands_are_the_pod_s_or_the_image_s() {
    let table = [
        (json!({}), vec!["/enter", "a", "b"]),
        (json!({"args": ["x"]}), vec!["/enter", "x"]),
        (json!({"command": ["run"]}), vec!["run"]),
        (json!({"command": ["run"], "args": ["$(X)", "$$(X)", "$(Y)"]}), vec!["run", "$(X)", "$(X)", "y"]),
    ];
    for (container, expected) in table {
        let mut container = container;
        container["env"] = json!([{"name": "Y", "value": "y"}]);
        let told = container.to_string();
        assert_eq!(make(container).unwrap().process.args, expected, "{told}");
    }
}

#[test]
fn a_container_has_all_that_was_decided_for_it() {
    let spec = make(json!({
        "tty": true, "stdin": true, "terminationMessagePolicy": "FallbackToLogsOnError",
        "terminationMessagePath": "/tmp/last",
        "env": [{"name": "X", "value": "pod"}],
        "securityContext": {"allowPrivilegeEscalation": false, "runAsUser": 5},
        "resources": {"limits": {"memory": "512Mi"}}}))
    .unwrap();
    assert_eq!((spec.id.as_str(), spec.attempt), ("u1_c_2", 2));
    assert_eq!(spec.process.env, ["PATH=/bin", "TERM=xterm", "X=pod", "HOSTNAME=p"]);
    assert_eq!(spec.process.cwd, Path::new("/work"));
    assert_eq!(
        (spec.process.user.uid, spec.process.terminal, spec.stdin, spec.stdin_once),
        (5, true, true, false)
    );
    assert!(spec.process.no_new_privileges && !spec.privileged);
    assert_eq!((spec.image.as_str(), spec.image_id.as_str()), ("example.org/c:1", "sha256:1"));
    assert_eq!(spec.layers, [PathBuf::from("/l/1"), PathBuf::from("/l/2")]);
    assert_eq!(spec.log_path, Path::new("/var/log/pods/ns_p_u1/c/2.log"));
    let word = spec.termination_message.unwrap();
    assert_eq!(word.path, Path::new("/r/pods/u1/containers/c/2"));
    assert!(word.fall_back_to_logs);
    assert!(
        spec.mounts
            .iter()
            .any(|it| it.destination == Path::new("/tmp/last") && Path::new(&it.source) == word.path)
    );
    assert_eq!(spec.labels["io.kubernetes.container.name"], "c");
    assert_eq!((spec.resources.memory_bytes, spec.process.oom_score_adj), (Some(512 << 20), 999));
    assert_eq!(spec.stop_signal, "SIGQUIT");
    let own = make(json!({"lifecycle": {"stopSignal": "SIGUSR1"}, "workingDir": "/own"})).unwrap();
    assert_eq!((own.stop_signal.as_str(), own.process.cwd.to_str()), ("SIGUSR1", Some("/own")));
}

#[test]
fn what_cannot_run_is_told_with_its_reason() {
    let error = make(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}})).unwrap_err();
    assert_eq!(error.reason(), "CreateContainerConfigError");
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let container = find(&pod, "c").unwrap();
    let error = container_spec(Inputs {
        pod: &pod,
        container: &container,
        attempt: 0,
        image: &ImageFacts::default(),
        accounts: &Accounts::default(),
        environment: &super::env::Environment::default(),
        node: &node(),
        volumes: &BTreeMap::new(),
        sub_paths: &BTreeMap::new(),
        files: &PodFiles::default(),
    })
    .unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().as_str()),
        ("CreateContainerError", "no command specified")
    );
}

#[test]
fn ephemeral_containers_are_read_as_any_other() {
    let pod = pod(json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}],
        "ephemeralContainers": [{"name": "e", "image": "x", "targetContainerName": "c", "tty": true}]}));
    let found = find(&pod, "e").unwrap();
    assert_eq!((found.image.as_deref(), found.tty), (Some("x"), Some(true)));
    let names: Vec<_> = all(&pod).into_iter().map(|container| container.name).collect();
    assert_eq!(names, ["i", "c", "e"]);
    assert!(find(&pod, "none").is_none());
}

#[test]
fn sandboxes_share_what_the_pod_shares() {
    let plain = sandbox_spec(&pod(json!({"containers": []})), &node()).unwrap();
    assert_eq!((plain.network, plain.ipc, plain.pid), (Share::Pod, Share::Pod, PidShare::Container));
    assert_eq!((plain.id.as_str(), plain.hostname.as_str()), ("u1", "p"));
    assert_eq!(plain.cgroup, "kubepods/besteffort/podu1");
    assert_eq!(plain.labels["io.kubernetes.pod.namespace"], "ns");
    let host = json!({"containers": [], "hostNetwork": true, "hostIPC": true, "hostPID": true});
    let host = sandbox_spec(&pod(host), &node()).unwrap();
    assert_eq!((host.network, host.ipc, host.pid), (Share::Host, Share::Host, PidShare::Host));
    assert_eq!(host.hostname, "box");
    let shared = json!({"containers": [], "shareProcessNamespace": true, "securityContext":
        {"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "0"}]}});
    let shared = sandbox_spec(&pod(shared), &node()).unwrap();
    assert_eq!(shared.pid, PidShare::Pod);
    assert_eq!(shared.sysctls, [("net.ipv4.tcp_syncookies".to_owned(), "0".to_owned())].into());
    let apart = json!({"containers": [], "hostUsers": false});
    assert!(sandbox_spec(&pod(apart), &node()).unwrap_err().to_string().starts_with("hostUsers: "));
    let unsafe_one =
        json!({"containers": [], "securityContext": {"sysctls": [{"name": "vm.x", "value": "0"}]}});
    let error = sandbox_spec(&pod(unsafe_one), &node()).unwrap_err();
    assert_eq!(error.to_string(), "forbidden sysctl: \"vm.x\" not allowlisted");
}
