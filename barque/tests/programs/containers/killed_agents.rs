//! Agents that are killed: what they made goes on without them. Containers run, and services lead to them.

use super::services::{deployment, once};
use super::world::World;

/// How often one has to be asked before it counts as going on.
const SOME: usize = 20;

fn asked(world: &World, node: &str) -> usize {
    let count = world.kubectl(&format!("kubectl exec asks-{node} -- grep -c asked /tmp/load"));
    count.trim().parse().unwrap()
}

/// Waits until the one on this node has asked some more.
fn goes_on(world: &World, node: &str) {
    let before = asked(world, node);
    let count = format!("kubectl exec asks-{node} -- grep -c asked /tmp/load");
    world.until(&count, |said| said.trim().parse::<usize>().unwrap() > before + SOME);
}

pub(crate) fn agents_killed_under_load_lose_no_request(world: &mut World) {
    world.apply(&deployment("stands", 2, ""));
    world.kubectl("kubectl expose deployment stands --port=80 --target-port=8080");
    world.kubectl("kubectl rollout status deployment stands --timeout=60s");
    let ids = "kubectl get pods -l app=stands -o jsonpath='{range .items[*]}{.metadata.name} \
               {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}'";
    let before = world.kubectl(ids);
    for node in ["n1", "n2"] {
        world.until(&format!("kubectl exec asks-{node} -- {}", once("stands", 80)), |said| {
            said.contains("stands-")
        });
        // In the pod itself, so that it goes on without any stream. By the address: the names are the agent's to tell.
        let ip = world.kubectl("kubectl get service stands -o jsonpath='{.spec.clusterIP}'");
        world.kubectl(&format!(
            "kubectl exec asks-{node} -- setsid sh -c '(until test -e /tmp/stop; do {} > /dev/null || echo lost; echo asked; done) \
             > /tmp/load 2>&1 < /dev/null &'",
            once(&ip, 80)
        ));
    }
    for (killed, other) in [("n1", "n2"), ("n2", "n1")] {
        goes_on(world, other);
        world.kill_agent(killed);
        goes_on(world, other);
        world.start_agent(killed);
        goes_on(world, killed);
    }
    for node in ["n1", "n2"] {
        let load =
            world.kubectl(&format!("kubectl exec asks-{node} -- sh -c 'touch /tmp/stop; cat /tmp/load'"));
        let lost = load.matches("lost").count();
        assert_eq!(lost, 0, "of {} from {node}", load.matches("asked").count());
        world.kubectl(&format!("kubectl exec asks-{node} -- rm /tmp/stop"));
    }
    assert_eq!(world.kubectl(ids), before, "nothing was restarted");
    world.kubectl("kubectl delete deployment,service stands");
}
