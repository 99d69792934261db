//! Pods that ask for other resources while they run, as `kubectl patch --subresource=resize` asks for them.

use super::world::World;

/// What bounds processors and memory, as a container sees it, whatever the version of control groups.
const BOUNDS: &str = "cd /sys/fs/cgroup; cat cpu.max memory.max 2> /dev/null || \
                      cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us memory/memory.limit_in_bytes";

fn bounds(world: &World, container: &str) -> String {
    let told = world.kubectl(&format!("kubectl exec grows -c {container} -- sh -c '{BOUNDS}'"));
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn resize(world: &World, container: &str, cpu: &str, memory: &str) {
    let amounts = format!(
        r#"{{"requests": {{"cpu": "{cpu}", "memory": "16Mi"}}, "limits": {{"cpu": "{cpu}", "memory": "{memory}"}}}}"#
    );
    let patch =
        format!(r#"{{"spec": {{"containers": [{{"name": "{container}", "resources": {amounts}}}]}}}}"#);
    world.kubectl(&format!("kubectl patch pod grows --subresource=resize -p '{patch}'"));
}

/// Waits until a container has this much memory by its status and its pod says that nothing else is under way.
fn has(world: &World, container: &str, memory: &str) {
    let list = format!(
        "kubectl get pod grows -o jsonpath='{{.status.containerStatuses[?(@.name==\"{container}\")].resources.limits.memory}} \
         {{.status.conditions[*].type}}'"
    );
    world.until(&list, |told| told.starts_with(&format!("{memory} ")) && !told.contains("PodResize"));
}

fn restarts(world: &World) -> String {
    world.kubectl("kubectl get pod grows -o jsonpath='{.status.containerStatuses[*].restartCount}'")
}

pub(crate) fn a_pod_gets_other_resources_while_it_runs(world: &World) {
    let container = |name: &str, policy: &str| {
        format!(
            "{{name: {name}, image: 'busybox:test', command: [sleep, '1000'], resizePolicy: [{policy}], \
             resources: {{requests: {{cpu: 100m, memory: 16Mi}}, limits: {{cpu: 100m, memory: 64Mi}}}}}}"
        )
    };
    world.apply(&format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: grows}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{}, {}]}}}}\n",
        container("a", ""),
        container("b", "{resourceName: memory, restartPolicy: RestartContainer}"),
    ));
    world.kubectl("kubectl wait --for=condition=Ready pod/grows --timeout=60s");
    assert_eq!(bounds(world, "a"), "10000 100000 67108864");

    // Where it runs: more, and less again.
    for (cpu, memory, expected) in
        [("200m", "128Mi", "20000 100000 134217728"), ("50m", "32Mi", "5000 100000 33554432")]
    {
        resize(world, "a", cpu, memory);
        has(world, "a", memory);
        assert_eq!(bounds(world, "a"), expected);
    }
    assert_eq!(restarts(world), "0 0");

    // Its policy wants it to be started anew.
    resize(world, "b", "100m", "128Mi");
    has(world, "b", "128Mi");
    assert_eq!(restarts(world), "0 1");
    world.until(&format!("kubectl exec grows -c b -- sh -c '{BOUNDS}'"), |told| told.contains("134217728"));

    // What no node has.
    resize(world, "a", "1000", "32Mi");
    let pending = "kubectl get pod grows -o jsonpath='{.status.conditions[?(@.type==\"PodResizePending\")]}'";
    let told = world.until(pending, |told| told.contains("Infeasible"));
    assert!(told.contains("Node didn't have enough capacity: cpu, requested: 1000100, capacity: "), "{told}");
    assert_eq!(bounds(world, "a"), "5000 100000 33554432");
    let told = world.until("kubectl get events -o custom-columns=R:.reason,M:.message", |told| {
        told.contains("ResizeInfeasible")
    });
    for reason in ["ResizeStarted", "ResizeCompleted"] {
        assert!(told.contains(reason), "{reason}: {told}");
    }
    world.kubectl("kubectl delete pod grows --timeout=60s");
}
