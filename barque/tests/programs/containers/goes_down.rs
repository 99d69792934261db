//! The machine of a node goes down: real containers are asked to stop, those that matter least first, before it may.

use std::time::Duration;

use super::world::{World, agent_environment};
use crate::shutdown::logind::Logind;

fn pod(name: &str, more: &str, directory: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: n1, {more} \
           terminationGracePeriodSeconds: 60, volumes: [{{name: v, hostPath: {{path: {directory}}}}}], \
           containers: [{{name: c, image: 'busybox:test', volumeMounts: [{{name: v, mountPath: /v}}], command: [sh, -c, \
             'trap \"sleep 0.5; echo {name} >> /v/ends; exit 0\" TERM; touch /tmp/up; while true; do sleep 0.1; done'], \
           readinessProbe: {{exec: {{command: [cat, /tmp/up]}}, periodSeconds: 1}}}}]}}}}\n"
    )
}

pub(crate) fn containers_end_in_their_order_before_the_machine_does(world: &mut World) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut logind = runtime.block_on(Logind::start(scratch.path(), Duration::from_secs(60)));
    world.kill_agent("n1");
    let mut environment = agent_environment().to_vec();
    environment.push(("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), logind.address.clone()));
    let flags = [
        ("shutdown-grace-period", "40s".to_owned()),
        ("shutdown-grace-period-critical-pods", "20s".to_owned()),
        ("logind-conf-dir", logind.directory.display().to_string()),
    ];
    world.start_agent_in("n1", &environment, &flags);
    let held = runtime.block_on(logind.held());
    assert!(!logind.directory.exists(), "logind allows more than pods shall have");

    let directory = world.directory("n1").join("ends");
    std::fs::create_dir_all(&directory).unwrap();
    let place = directory.display().to_string();
    world.apply(&pod("guard", "priorityClassName: system-node-critical,", &place));
    world.apply(&pod("polite", "", &place));
    world.kubectl("kubectl wait --for=condition=Ready pod/guard pod/polite --timeout=60s");
    runtime.block_on(async {
        logind.prepare(true).await;
        held.released().await;
    });
    assert_eq!(std::fs::read_to_string(directory.join("ends")).unwrap(), "polite\nguard\n");
    for name in ["polite", "guard"] {
        let told = world.kubectl(&format!(
            "kubectl get pod {name} -o jsonpath='{{.status.phase}} {{.status.reason}} \
             {{.status.containerStatuses[0].state.terminated.exitCode}}'"
        ));
        assert_eq!(told, "Failed Terminated 0");
    }
    let ready = "kubectl get node n1 -o jsonpath='{range .status.conditions[?(@.type==\"Ready\")]}{.status} {.message}{end}'";
    assert_eq!(world.kubectl(ready), "False node is shutting down");
    runtime.block_on(logind.prepare(false));
    world.node_is_ready("n1");
    world.kubectl("kubectl delete pod polite guard --timeout=60s");
    world.kill_agent("n1");
    world.start_agent("n1");
}
