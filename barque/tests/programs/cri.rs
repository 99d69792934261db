//! A node whose pods run in Debian's containerd: the agent as a program with `--runtime=cri`, a real API server and a real store.
//! Needs root; without it, says so and does nothing.

#[path = "../../../agent/tests/runtimes/containerd.rs"]
#[allow(dead_code, reason = "the contract of runtimes asks it for more")]
mod containerd;

use std::path::Path;

use crate::containers::world::World;
use crate::containers::{ground, images};
use containerd::Containerd;

#[test]
fn pods_run_in_containerd() {
    if !ground::enter("cri::pods_run_in_containerd") {
        return;
    }
    for directory in ["/run/containerd", "/var/lib/cni"] {
        std::fs::create_dir_all(directory).unwrap();
        ground::run(&format!("mount -t tmpfs tests {directory}"));
    }
    let mut world = World::start(&[]);
    world.add_host("n1");
    let own = world.directory("n1").join("containerd");
    let containerd = Containerd::start(&own, ground::on_host("n1", Path::new("containerd")));
    let endpoint = format!("unix://{}", containerd.socket().display());
    let runtime = [("runtime", "cri".to_owned()), ("container-runtime-endpoint", endpoint)];
    world.start_agent_with("n1", &runtime);
    world.node_is_ready("n1");
    let version = "kubectl get node n1 -o jsonpath='{.status.nodeInfo.containerRuntimeVersion}'";
    assert!(world.kubectl(version).starts_with("containerd://1."));

    // A pod runs, says something, and is reached into.
    world.apply(
        "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {key: value}}\n\
         ---\n{apiVersion: v1, kind: Pod, metadata: {name: runs}, spec: {nodeName: n1, terminationGracePeriodSeconds: 1, \
           volumes: [{name: v, configMap: {name: settings}}], containers: [{name: c, image: 'busybox:test', \
           command: [sh, -c, 'cat /v/key; echo; echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp'], \
           volumeMounts: [{name: v, mountPath: /v}], readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}}]}}\n",
    );
    world.kubectl("kubectl wait --for=condition=Ready pod/runs --timeout=60s");
    assert_eq!(world.kubectl("kubectl logs runs"), "value\n");
    let told = world.kubectl("echo through | kubectl exec -i runs -- sh -c 'cat; hostname'");
    assert_eq!(told, "through\nruns\n");
    let failed = world.kubectl("kubectl exec runs -- sh -c 'exit 42' || echo code $?");
    assert!(failed.ends_with("code 42\n"), "{failed}");

    // One that fails is started anew, and says why.
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: fails}, spec: {nodeName: n1, containers: [{name: c, image: 'busybox:test', \
           command: [sh, -c, 'echo -n oops > /dev/termination-log; exit 3']}]}}\n",
    );
    let state = "kubectl get pod fails -o jsonpath='{.status.containerStatuses[0].restartCount} \
                 {.status.containerStatuses[0].lastState.terminated.exitCode} \
                 {.status.containerStatuses[0].lastState.terminated.message}'";
    world.until(state, |told| told == "1 3 oops");

    // Another agent restarts nothing.
    let id = "kubectl get pod runs -o jsonpath='{.status.containerStatuses[0].containerID} {.status.podIP}'";
    let before = world.kubectl(id);
    assert!(before.starts_with("containerd://"), "{before}");
    world.kill_agent("n1");
    world.start_agent_with("n1", &runtime);
    assert_eq!(world.kubectl("kubectl exec runs -- echo there"), "there\n");
    assert_eq!(world.kubectl(id), before);

    // Nothing is left of those that are deleted.
    world.kubectl("kubectl delete pod runs fails --timeout=60s");
    let socket = containerd.socket();
    let left = std::process::Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "containers", "list", "--quiet"])
        .output()
        .unwrap();
    assert!(left.status.success());
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    world.stop_agent("n1");
}
