//! Lives of containers: probes, restarts, hooks, sidecars, memory, and what follows when their objects change.

use super::world::World;

fn pod(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 2, {spec}}}}}\n"
    )
}

pub(crate) fn who_is_broken_is_restarted_and_says_why(world: &World) {
    world.apply(&pod(
        "sickly",
        "containers: [{name: c, image: 'busybox:test', command: [sh, -c, 'touch /tmp/healthy; exec sleep 100000'], \
           livenessProbe: {exec: {command: [cat, /tmp/healthy]}, periodSeconds: 1, failureThreshold: 1}, \
           lifecycle: {postStart: {exec: {command: [sh, -c, 'echo began > /tmp/hook']}}}}]",
    ));
    world.kubectl("kubectl wait --for=condition=Ready pod/sickly --timeout=60s");
    assert_eq!(world.kubectl("kubectl exec sickly -- cat /tmp/hook"), "began\n");
    world.kubectl("kubectl exec sickly -- rm /tmp/healthy");
    world.until("kubectl get pod sickly -o jsonpath='{.status.containerStatuses[0].restartCount}'", |said| {
        said == "1"
    });
    let events = world.until("kubectl get events --field-selector involvedObject.name=sickly", |said| {
        said.contains("Unhealthy")
    });
    assert!(events.contains("failed liveness probe, will be restarted"), "{events}");

    world.apply(&pod(
        "greedy",
        "restartPolicy: Never, containers: [{name: c, image: 'busybox:test', command: [sh, -c, 'tail /dev/zero'], \
           resources: {limits: {memory: 20Mi}}}]",
    ));
    world.kubectl("kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/greedy --timeout=60s");
    let state = "kubectl get pod greedy -o jsonpath='{.status.containerStatuses[0].state.terminated.reason}'";
    assert_eq!(world.kubectl(state), "OOMKilled");

    world.apply(&pod(
        "crashes",
        "containers: [{name: c, image: 'busybox:test', command: [sh, -c, 'echo gone > /dev/termination-log; exit 9']}]",
    ));
    let waits = "kubectl get pod crashes -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'";
    world.until(waits, |said| said == "CrashLoopBackOff");
    let last = "kubectl get pod crashes -o jsonpath='{.status.containerStatuses[0].lastState.terminated.exitCode} \
                {.status.containerStatuses[0].lastState.terminated.message}'";
    assert_eq!(world.kubectl(last).trim(), "9 gone");
    world.kubectl("kubectl delete pod sickly greedy crashes --timeout=60s");
}

pub(crate) fn what_cannot_run_is_told(world: &World) {
    world.apply(&pod("imageless", "containers: [{name: c, image: '127.0.0.1:1/none:v1'}]"));
    world.apply(&pod("never", "containers: [{name: c, image: 'none:v1', imagePullPolicy: Never}]"));
    world.apply(&pod("nameless", "containers: [{name: c, image: 'UPPER:v1'}]"));
    world.apply(&pod(
        "programless",
        "containers: [{name: c, image: 'busybox:test', command: [/no/such/program]}]",
    ));
    world.apply(&pod(
        "keyless",
        "containers: [{name: c, image: 'busybox:test', env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: a}}}]}]",
    ));
    world.apply(&pod(
        "rootless",
        "containers: [{name: c, image: 'busybox:test', securityContext: {runAsNonRoot: true}}]",
    ));
    for (name, reason) in [
        ("imageless", "ErrImagePull ImagePullBackOff"),
        ("never", "ErrImageNeverPull"),
        ("nameless", "InvalidImageName"),
        ("programless", "CreateContainerError RunContainerError"),
        ("keyless", "CreateContainerConfigError"),
        ("rootless", "CreateContainerConfigError"),
    ] {
        let waits = format!(
            "kubectl get pod {name} -o jsonpath='{{.status.containerStatuses[0].state.waiting.reason}}'"
        );
        world.until(&waits, |said| !said.is_empty() && reason.split(' ').any(|reason| reason == said));
    }
    let told = world.kubectl(
        "kubectl get pod keyless -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'",
    );
    assert_eq!(told, "configmap \"absent\" not found");
    // What was missing comes, and the pod goes on.
    world.kubectl("kubectl create configmap absent --from-literal=a=b");
    world.until("kubectl get pod keyless -o jsonpath='{.status.containerStatuses[0].state}'", |said| {
        !said.contains("CreateContainerConfigError")
    });
    world.kubectl("kubectl delete configmap absent; kubectl delete pod --timeout=60s imageless never nameless programless keyless rootless");
}

pub(crate) fn what_objects_become_appears_in_volumes(world: &World) {
    world.kubectl("kubectl create configmap changes --from-literal=key=old");
    world.apply(&pod(
        "reads",
        "volumes: [{name: v, configMap: {name: changes}}], initContainers: [\
           {name: side, image: 'busybox:test', restartPolicy: Always, command: [sh, -c, 'trap \"exit 0\" TERM; while true; do sleep 1; done']}], \
         containers: [{name: c, image: 'busybox:test', command: [sleep, '100000'], volumeMounts: [{name: v, mountPath: /v}]}]",
    ));
    world.kubectl("kubectl wait --for=condition=Ready pod/reads --timeout=60s");
    let read = "kubectl exec reads -c c -- cat /v/key";
    assert_eq!(world.kubectl(read), "old");
    world.kubectl("kubectl patch configmap changes -p '{\"data\":{\"key\":\"new\"}}'");
    world.until(read, |said| said == "new");
    let side = "kubectl get pod reads -o jsonpath='{.status.initContainerStatuses[0].started}'";
    assert_eq!(world.kubectl(side), "true");
    world.kubectl("kubectl delete pod reads --timeout=60s; kubectl delete configmap changes");
}
