//! What becomes of single pods.

use super::world::World;

/// A pod of one container, as YAML in one line.
fn pod(name: &str, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, {rest}}}}}\n"
    )
}

fn container(script: &str, rest: &str) -> String {
    format!("{{name: c, image: 'busybox:test', command: [sh, -c, {script:?}]{rest}}}")
}

pub(crate) fn a_pod_runs_says_something_and_ends(world: &World) {
    let said = container("echo hello from $HOSTNAME; echo oops >&2; exit 3", "");
    world.apply(&pod("speaks", &format!("restartPolicy: Never, containers: [{said}]")));
    world.kubectl("kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/speaks --timeout=60s");
    let logs = world.kubectl("kubectl logs speaks");
    assert_eq!(logs.lines().collect::<Vec<_>>(), ["hello from speaks", "oops"]);
    let state = "jsonpath='{.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason}'";
    assert_eq!(world.kubectl(&format!("kubectl get pod speaks -o {state}")), "3 Error");
    world.kubectl("kubectl delete pod speaks --timeout=60s");
}

pub(crate) fn what_runs_is_what_was_asked_for(world: &World) {
    world.kubectl("kubectl create configmap settings --from-literal=color=blue --from-literal=size=7");
    world.kubectl("kubectl create secret generic key --from-literal=password=secret");
    let script = "echo $FROM_IMAGE $COLOR $PASSWORD $WHERE; cat /settings/size; echo; id -u; id -g; cat /scratch/from-init; \
                  touch /nothing 2> /dev/null || echo read-only; grep -c kubernetes /var/run/secrets/kubernetes.io/serviceaccount/namespace; \
                  exec sleep 1000";
    let all = container(
        script,
        ", env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}, \
                 {name: PASSWORD, valueFrom: {secretKeyRef: {name: key, key: password}}}, \
                 {name: WHERE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}], \
           securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true}, \
           volumeMounts: [{name: settings, mountPath: /settings}, {name: scratch, mountPath: /scratch}]",
    );
    world.apply(&pod(
        "asked",
        &format!(
            "nodeName: n2, volumes: [{{name: settings, configMap: {{name: settings}}}}, {{name: scratch, emptyDir: {{}}}}], \
             initContainers: [{{name: first, image: 'busybox:test', command: [sh, -c, 'echo prepared > /scratch/from-init'], \
               volumeMounts: [{{name: scratch, mountPath: /scratch}}]}}], containers: [{all}]"
        ),
    ));
    world.kubectl("kubectl wait --for=condition=Ready pod/asked --timeout=60s");
    let said = world.until("kubectl logs asked -c c", |logs| logs.lines().count() >= 7);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines, ["yes blue secret n2", "7", "1000", "2000", "prepared", "read-only", "0"]);
    assert_eq!(world.kubectl("kubectl exec asked -c c -- sh -c 'echo $COLOR; exit 0'"), "blue\n");
    let failed = world.try_kubectl("kubectl exec asked -c c -- sh -c 'exit 7'").unwrap_err();
    assert!(failed.contains("exit code 7"), "{failed}");
    world.kubectl("kubectl delete pod asked --timeout=60s; kubectl delete configmap settings; kubectl delete secret key");
}

pub(crate) fn an_agent_that_comes_back_restarts_nothing(world: &mut World) {
    let stays = container("trap 'exit 0' TERM; while true; do sleep 1; done", "");
    world.apply(&pod("stays", &format!("nodeName: n1, containers: [{stays}]")));
    world.kubectl("kubectl wait --for=condition=Ready pod/stays --timeout=60s");
    let id = "kubectl get pod stays -o jsonpath='{.status.containerStatuses[0].containerID} {.status.podIP}'";
    let before = world.kubectl(id);
    world.kill_agent("n1");
    world.start_agent("n1");
    assert_eq!(world.kubectl("kubectl exec stays -- echo there"), "there\n");
    assert_eq!(world.kubectl(id), before);
    world.stop_agent("n1");
    world.start_agent("n1");
    assert_eq!(world.kubectl(id), before);
    world.kubectl("kubectl delete pod stays --timeout=60s");
}
