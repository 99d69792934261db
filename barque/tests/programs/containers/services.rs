//! Services and names: pods reached by the cluster's addresses and names, from pods, from nodes and from outside.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use super::world::{PATIENCE, World, address};
use super::{ground, images};

/// Serves the pod's name at port 8080.
const SERVE: &str = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";

pub(crate) fn deployment(name: &str, replicas: usize, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, \
           selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{\
             terminationGracePeriodSeconds: 5, containers: [{{name: c, image: 'busybox:test', command: [sh, -c, {SERVE:?}], \
             ports: [{{containerPort: 8080}}]{rest}}}]}}}}}}}}\n"
    )
}

/// One pod on each node that can be told to ask.
pub(crate) fn askers(world: &World) {
    for node in ["n1", "n2"] {
        world.apply(&format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: asks-{node}}}, spec: {{nodeName: {node}, \
               terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:test', command: [sleep, '100000']}}]}}}}\n"
        ));
    }
    world.kubectl("kubectl wait --for=condition=Ready pod/asks-n1 pod/asks-n2 --timeout=60s");
}

/// In a shell of the image: asks once, and for a while at most.
pub(crate) fn once(host: &str, port: u16) -> String {
    format!("timeout 10 ask {host} {port}")
}

/// What so many questions of a shell script were answered.
pub(crate) fn answers(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// Asks so often that every pod is asked.
pub(crate) fn many(once: &str) -> String {
    format!("for i in $(seq 30); do {once} || echo failed; done")
}

/// Asks from the network of a node.
pub(crate) fn from_node(node: &str, script: &str) -> String {
    let output = ground::on_host(node, "bash".as_ref()).args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks from the network of the test, which is no node's.
pub(crate) fn from_outside(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same on the machine.
pub(crate) fn from_machine(host: &str, port: &str) -> String {
    format!("ask() (\n{}); {}", images::ASK, many(&format!("ask {host} {port}")))
}

pub(crate) fn a_service_is_reached_from_everywhere_and_spreads_over_its_pods(world: &World) {
    world.apply(&deployment("web", 3, ""));
    world.kubectl("kubectl expose deployment web --port=80 --target-port=8080 --type=NodePort");
    askers(world);
    world.kubectl("kubectl rollout status deployment web --timeout=60s");
    let pods = world
        .kubectl("kubectl get pods -l app=web -o jsonpath='{range .items[*]}{.metadata.name}{\"\\n\"}{end}'");
    let pods = answers(&pods);
    assert_eq!(pods.len(), 3);

    let ip = world.kubectl("kubectl get service web -o jsonpath='{.spec.clusterIP}'");
    let port = world.kubectl("kubectl get service web -o jsonpath='{.spec.ports[0].nodePort}'");
    for node in ["n1", "n2"] {
        for host in ["web", "web.default.svc.cluster.local", &ip] {
            let script = format!("kubectl exec asks-{node} -- sh -c '{}'", many(&once(host, 80)));
            let said = world.until(&script, |said| answers(said) == pods);
            assert_eq!(answers(&said), pods, "from a pod on {node}, {host}");
        }
        assert_eq!(answers(&from_node(node, &from_machine(&ip, "80"))), pods, "from {node}");
        let outside = from_outside(&from_machine(&address(node), &port));
        assert_eq!(answers(&outside), pods, "from outside, through {node}");
    }
    // Headless: the names of the pods themselves.
    world.kubectl("kubectl expose deployment web --name=each --port=8080 --cluster-ip=None");
    let ips = world
        .kubectl("kubectl get pods -l app=web -o jsonpath='{range .items[*]}{.status.podIP}{\"\\n\"}{end}'");
    world.until("kubectl exec asks-n1 -- nslookup each.default.svc.cluster.local", |said| {
        ips.lines().all(|ip| said.contains(ip))
    });
    // Nobody answers for what has no pods, and that at once.
    world.kubectl("kubectl create service clusterip nobody --tcp=80:80");
    let ask = format!("kubectl exec asks-n2 -- sh -c '{} 2>&1 || true'", once("nobody", 80));
    world.until(&ask, |said| said.contains("refused"));
}

pub(crate) fn load_balancers_are_the_nodes_and_clients_keep_their_pod(world: &World) {
    world.kubectl(
        "kubectl expose deployment web --name=balanced --port=81 --target-port=8080 --type=LoadBalancer",
    );
    let given = "kubectl get service balanced -o jsonpath='{.status.loadBalancer.ingress[*].ip}'";
    let both = format!("{} {}", address("n1"), address("n2"));
    world.until(given, |said| said == both);
    let deadline = Instant::now() + PATIENCE;
    for node in ["n1", "n2"] {
        // The status is there before the rules are.
        while answers(&from_outside(&from_machine(&address(node), "81"))).len() != 3 {
            assert!(Instant::now() < deadline, "through {node}");
        }
    }
    world.kubectl(
        "kubectl expose deployment web --name=sticky --port=80 --target-port=8080 --session-affinity=ClientIP",
    );
    let script = format!("kubectl exec asks-n1 -- sh -c '{}'", many(&once("sticky", 80)));
    let said = world.until(&script, |said| !said.contains("failed"));
    assert_eq!(answers(&said).len(), 1, "{said}");
    world.kubectl("kubectl delete service balanced sticky");
}

pub(crate) fn readiness_decides_who_is_asked(world: &World) {
    let probe =
        ", readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}";
    world.apply(&deployment("gated", 2, probe));
    world.kubectl("kubectl expose deployment gated --port=80 --target-port=8080");
    world.until("kubectl get pods -l app=gated -o jsonpath='{.items[*].status.phase}'", |said| {
        said == "Running Running"
    });
    let names = world.kubectl(
        "kubectl get pods -l app=gated -o jsonpath='{range .items[*]}{.metadata.name}{\"\\n\"}{end}'",
    );
    let first = names.lines().next().unwrap();
    world.kubectl(&format!("kubectl exec {first} -- touch /tmp/ready"));
    world.kubectl(&format!("kubectl wait --for=condition=Ready pod/{first} --timeout=60s"));
    let script = format!("kubectl exec asks-n1 -- sh -c '{}'", many(&once("gated", 80)));
    world.until(&script, |said| answers(said) == BTreeSet::from([first.to_owned()]));
    world.kubectl(&format!("kubectl exec {first} -- rm /tmp/ready"));
    let ask = format!("kubectl exec asks-n1 -- sh -c '{} 2>&1 || true'", once("gated", 80));
    world.until(&ask, |said| said.contains("refused"));
    world.kubectl("kubectl delete deployment,service gated");
}

pub(crate) fn a_rolling_update_under_load_loses_no_request(world: &World) {
    let rest = ", readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}, \
                  lifecycle: {preStop: {sleep: {seconds: 3}}}";
    world.apply(&deployment("rolls", 3, rest));
    world.kubectl("kubectl expose deployment rolls --port=80 --target-port=8080");
    world.kubectl("kubectl rollout status deployment rolls --timeout=90s");
    let ask = format!("kubectl exec asks-n1 -- {}", once("rolls", 80));
    world.until(&ask, |said| said.contains("rolls-"));
    let load = format!(
        "kubectl exec asks-n1 -- sh -c 'until test -e /tmp/enough; do {} > /dev/null || echo lost; \
         echo asked; done'",
        once("rolls", 80)
    );
    let load = world.begin(&load);
    world.kubectl("kubectl set env deployment/rolls VERSION=2");
    world.kubectl("kubectl rollout status deployment rolls --timeout=120s");
    world.kubectl("kubectl exec asks-n1 -- touch /tmp/enough");
    let said = load.wait();
    let (asked, lost) = (said.matches("asked").count(), said.matches("lost").count());
    assert!(asked > 50, "only {asked} were asked");
    assert_eq!(lost, 0, "of {asked}");
    world.kubectl("kubectl delete deployment,service rolls");
}

pub(crate) fn policies_block_and_allow(world: &World) {
    // What the shell says of the one that it ended would stand before or after the answer.
    let try_it = |from: &str| {
        format!(
            "kubectl exec asks-{from} -- sh -c 'exec 2> /dev/null; timeout 3 ask web 80 > /dev/null && echo in || echo out'"
        )
    };
    world.until(&try_it("n1"), |said| said == "in\n");
    world.apply(
        "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: only-friends}, spec: {\
           podSelector: {matchLabels: {app: web}}, \
           ingress: [{from: [{podSelector: {matchLabels: {friend: 'yes'}}}], ports: [{port: 8080}]}]}}\n",
    );
    world.until(&try_it("n1"), |said| said == "out\n");
    world.until(&try_it("n2"), |said| said == "out\n");
    world.kubectl("kubectl label pod asks-n2 friend=yes");
    world.until(&try_it("n2"), |said| said == "in\n");
    assert_eq!(world.kubectl(&try_it("n1")), "out\n");
    world.kubectl("kubectl delete networkpolicy only-friends");
    world.until(&try_it("n1"), |said| said == "in\n");
}
