//! A node that is lost with everything on it: its pods come up elsewhere, and it may come back.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::ground;
use super::services::{answers, from_machine, from_node};
use super::world::World;

const LIVE: &str = "kubectl get pods -l app=moves -o jsonpath='{range .items[?(@.status.phase==\"Running\")]}\
                    {.metadata.deletionTimestamp} {.spec.nodeName} {.metadata.name}{\"\\n\"}{end}'";

/// Names of the pods that are not on their way out, and not on this node.
fn elsewhere(told: &str, node: &str) -> Vec<String> {
    let live = told.lines().filter(|line| line.starts_with(' ') && !line.contains(&format!(" {node} ")));
    live.map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
}

/// Pods that would rather be on one node.
pub(crate) fn pods_are_on_one_node(world: &World) {
    world.apply(
        "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: moves}, spec: {replicas: 2, \
           selector: {matchLabels: {app: moves}}, template: {metadata: {labels: {app: moves}}, spec: {\
             terminationGracePeriodSeconds: 1, affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [\
               {weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n3]}]}}]}}, \
             containers: [{name: c, image: 'busybox:test', \
               command: [sh, -c, 'echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']}]}}}}\n",
    );
    world.kubectl("kubectl expose deployment moves --port=80 --target-port=8080");
    world.kubectl("kubectl rollout status deployment moves --timeout=60s");
    let told = world.kubectl(LIVE);
    assert!(elsewhere(&told, "n3").is_empty() && told.lines().count() == 2, "{told}");
}

/// Processes of a node's pods: those in its control groups, and the shims that keep them.
fn processes(world: &World, node: &str) -> Vec<i32> {
    let directory = world.directory(node).display().to_string();
    let group = format!("/{}/{node}/", ground::control_group());
    let is_of_node = |path: &Path| {
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let groups = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        // Those that have ended already have no words.
        !words.is_empty()
            && (groups.contains(&group) || (words.contains("shim") && words.contains(&directory)))
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let of_node = all.filter(|path| is_of_node(path));
    of_node.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

/// Everything on a node ends at once.
pub(crate) fn a_node_is_lost(world: &mut World) {
    world.kill_agent("n3");
    assert!(!processes(world, "n3").is_empty(), "containers outlive the agent");
    let killed = || {
        let left = processes(world, "n3");
        for pid in &left {
            // Some end with others.
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
        }
        left.is_empty()
    };
    world.patiently(killed, "everything of the node ends");
}

/// After a loss of that node.
pub(crate) fn its_pods_come_up_elsewhere(world: &World) {
    let told = world.until(LIVE, |said| elsewhere(said, "n3").len() == 2);
    world.kubectl("kubectl rollout status deployment moves --timeout=60s");
    let pods = elsewhere(&told, "n3").into_iter().collect();
    let ip = world.kubectl("kubectl get service moves -o jsonpath='{.spec.clusterIP}'");
    world.patiently(
        || answers(&from_node("n1", &from_machine(&ip, "80"))) == pods,
        "the service leads to them",
    );
    let taints = "kubectl get node n3 -o jsonpath='{.spec.taints[*].key}'";
    assert!(world.kubectl(taints).contains("node.kubernetes.io/unreachable"));
}

/// As after a boot: nothing of its pods runs.
pub(crate) fn it_comes_back_without_them(world: &mut World) {
    world.start_agent("n3");
    world.kubectl("kubectl wait --for=condition=Ready node/n3 --timeout=60s");
    // Those that nobody could say had ended have now.
    world.until("kubectl get pods -l app=moves -o name", |said| said.lines().count() == 2);
    assert_eq!(processes(world, "n3"), Vec::<i32>::new(), "nothing runs there");
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: again}, spec: {nodeName: n3, terminationGracePeriodSeconds: 0, \
           containers: [{name: c, image: 'busybox:test', command: [sleep, '100000']}]}}\n",
    );
    world.kubectl("kubectl wait --for=condition=Ready pod/again --timeout=60s");
    world.kubectl("kubectl delete pod again; kubectl delete deployment,service moves");
}
