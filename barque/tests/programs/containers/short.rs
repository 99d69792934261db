//! Nodes that are short of something: pods that hold more than they may leave, also for the next agent, and a node whose disk is
//! full says so and takes no others.

use super::world::World;

fn writes(name: &str, file: &str, more: &str, of_container: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: n1, {more} containers: [{{name: c, \
           image: 'busybox:test', {of_container} command: [sh, -c, \
             'dd if=/dev/zero of={file} bs=1M count=3; exec sleep 100000']}}]}}}}\n"
    )
}

fn ended(pod: &str) -> String {
    format!("kubectl get pod {pod} -o jsonpath='{{.status.phase}} {{.status.reason}}: {{.status.message}}'")
}

pub(crate) fn who_holds_more_than_it_may_is_evicted(world: &mut World) {
    world.apply(&writes(
        "greedy",
        "/v/file",
        "volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}],",
        "volumeMounts: [{name: v, mountPath: /v}],",
    ));
    world.apply(&writes("writer", "/file", "", "resources: {limits: {ephemeral-storage: 1Mi}},"));
    world.apply(&writes("frugal", "/file", "", "resources: {limits: {ephemeral-storage: 100Mi}},"));
    let all = [
        ("greedy", "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "),
        ("writer", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "),
    ];
    for (pod, why) in all {
        let told = world.until(&ended(pod), |said| said.starts_with("Failed"));
        assert_eq!(told, format!("Failed Evicted: {why}"));
        let events = format!("kubectl get events --field-selector involvedObject.name={pod},reason=Evicted");
        world.until(&events, |said| said.contains(why.trim()));
    }
    world.kubectl("kubectl wait --for=condition=Ready pod/frugal --timeout=60s");

    // For another agent too it is over.
    let count = "kubectl get pod greedy -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode} \
                 {.status.containerStatuses[0].restartCount}'";
    let before = world.kubectl(count);
    world.kill_agent("n1");
    world.start_agent("n1");
    world.until("kubectl exec frugal -- echo there", |said| said == "there\n");
    assert_eq!(world.kubectl(count), before);
    assert!(world.kubectl(&ended("greedy")).starts_with("Failed Evicted"));
    world.kubectl("kubectl delete pod greedy writer frugal --grace-period=1 --timeout=60s");
}

pub(crate) fn a_node_with_a_full_disk_says_so_and_takes_no_pods(world: &mut World) {
    world.add_node("n2", &[("eviction-hard", "nodefs.available<99.9%".to_owned())]);
    let condition = "kubectl get node n2 -o jsonpath='{range .status.conditions[?(@.type==\"DiskPressure\")]}\
                     {.status} {.reason}{end}'";
    world.until(condition, |said| said == "True KubeletHasDiskPressure");
    world.until("kubectl get node n2 -o jsonpath='{.spec.taints}'", |said| {
        said.contains("node.kubernetes.io/disk-pressure")
    });
    for (reason, text) in [
        ("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage"),
        ("NodeHasDiskPressure", "Node n2 status is now: NodeHasDiskPressure"),
    ] {
        let events = format!("kubectl get events -A --field-selector involvedObject.name=n2,reason={reason}");
        world.until(&events, |said| said.contains(text));
    }
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: late}, spec: {nodeName: n2, containers: [{name: c, \
           image: 'busybox:test'}]}}\n",
    );
    let told = world.until(&ended("late"), |said| said.starts_with("Failed"));
    assert_eq!(told, "Failed Evicted: The node had condition: [DiskPressure]. ");

    // An agent that minds nothing is short of nothing.
    world.kill_agent("n2");
    world.start_agent("n2");
    world.until(condition, |said| said == "False KubeletHasNoDiskPressure");

    // Where it is short again, what those said for whom it is over gives way.
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: done}, spec: {nodeName: n2, restartPolicy: Never, containers: [{name: c, \
           image: 'busybox:test', command: [echo, said]}]}}\n",
    );
    world.kubectl("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/done --timeout=60s");
    assert_eq!(world.kubectl("kubectl logs done"), "said\n");
    let logs = format!("ls {}", world.directory("n2").join("logs").display());
    assert!(world.kubectl(&logs).contains("default_done_"));
    world.kill_agent("n2");
    world.start_agent_with("n2", &[("eviction-hard", "nodefs.available<99.9%".to_owned())]);
    world.until(&logs, |said| !said.contains("default_done_"));
    assert_eq!(world.kubectl("kubectl get pod done -o jsonpath='{.status.phase}'"), "Succeeded");
}
