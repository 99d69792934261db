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
    let runtime = [
        ("runtime", "cri".to_owned()),
        ("container-runtime-endpoint", endpoint),
        ("container-log-max-size", "20Ki".to_owned()),
        ("container-log-max-files", "3".to_owned()),
        ("container-log-monitor-interval", "1s".to_owned()),
    ];
    // However full the machine's disk is.
    let any_disk = [("image-gc-high-threshold", "100".to_owned())];
    world.start_agent_with("n1", &[&runtime[..], &any_disk].concat());
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

    // Who says much has its logs rotated, and is read across them.
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: talks}, spec: {nodeName: n1, terminationGracePeriodSeconds: 1, \
           containers: [{name: c, image: 'busybox:test', command: [sh, -c, \
             'i=0; while true; do i=$((i+1)); echo $i and so on and so on and so on; [ $((i % 100)) != 0 ] || sleep 0.1; done']}]}}\n",
    );
    let files = format!("ls {}/default_talks_*/c", world.directory("n1").join("logs").display());
    // The first of all went when there were too many.
    let first = world.until(&files, |told| told.lines().count() == 2).lines().last().unwrap().to_owned();
    let kept = world.until(&files, |told| told.lines().count() == 3 && !told.contains(&first));
    assert!(kept.lines().all(|name| name.starts_with("0.log")), "{kept}");
    let told = world.kubectl("kubectl logs talks");
    let numbers: Vec<u64> =
        told.lines().map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert!(numbers[0] > 1 && numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    world.kubectl("kubectl delete pod talks --timeout=60s");

    // Another agent restarts nothing, and has images go that nobody uses when the disk is fuller than it may be.
    let unused = images::write_as(&own.join("unused.tar"), "docker.io/library/unused:test", &["true"]);
    let ctr = format!("ctr --address {} --namespace k8s.io", containerd.socket().display());
    ground::run(&format!("{ctr} images import {}", unused.display()));
    let names = format!("{ctr} images list --quiet | grep : | grep -v ^sha256");
    assert!(world.kubectl(&names).contains("unused:test"));
    let full = [
        ("image-gc-high-threshold", "1".to_owned()),
        ("image-gc-low-threshold", "0".to_owned()),
        ("minimum-image-ttl-duration", "0s".to_owned()),
    ];
    let runtime: Vec<_> = runtime.into_iter().chain(full).collect();
    let id = "kubectl get pod runs -o jsonpath='{.status.containerStatuses[0].containerID} {.status.podIP}'";
    let before = world.kubectl(id);
    assert!(before.starts_with("containerd://"), "{before}");
    world.kill_agent("n1");
    world.start_agent_with("n1", &runtime);
    assert_eq!(world.kubectl("kubectl exec runs -- echo there"), "there\n");
    assert_eq!(world.kubectl(id), before);
    let left = world.until(&names, |told| !told.contains("unused"));
    assert!(left.contains("busybox:test") && left.contains("pause:test"), "{left}");

    // Of the runs of one that fails again and again the last two have logs.
    let of_fails = format!("ls {}/default_fails_*/c", world.directory("n1").join("logs").display());
    world.until(&of_fails, |told| told.contains("2.log") && !told.contains("0.log"));

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
