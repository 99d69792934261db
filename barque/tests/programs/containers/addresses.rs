//! Both families of addresses: pods have one of each and are reached by both, directly, by services, by names, by ports of nodes
//! and of hosts.

use super::services::{answers, from_machine, from_node, from_outside, many, once};
use super::world::{World, address, address_v6};

/// Serves the pod's name at port 8080, to both families.
const SERVE: &str = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";

fn pod(name: &str, node: &str, ports: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{nodeName: {node}, \
           terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:test', command: [sh, -c, {SERVE:?}], \
             ports: [{{containerPort: 8080{ports}}}]}}]}}}}\n"
    )
}

pub(crate) fn pods_and_services_have_addresses_of_both_families(world: &World) {
    world.apply(&pod("both", "n1", ""));
    world.apply(&pod("asks", "n2", ""));
    world.apply(
        "---\n{apiVersion: v1, kind: Service, metadata: {name: both}, spec: {type: NodePort, selector: {app: both}, \
           ipFamilyPolicy: RequireDualStack, ports: [{port: 80, targetPort: 8080}]}}\n",
    );
    world.kubectl("kubectl wait --for=condition=Ready pod/both pod/asks --timeout=60s");
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let pods = words(world.kubectl("kubectl get pod both -o jsonpath='{.status.podIPs[*].ip}'"));
    let services = words(world.kubectl("kubectl get service both -o jsonpath='{.spec.clusterIPs[*]}'"));
    for addresses in [&pods, &services] {
        assert_eq!(addresses.iter().filter(|address| address.contains(':')).count(), 1, "{addresses:?}");
        assert_eq!(addresses.len(), 2, "{addresses:?}");
    }
    let from_pod = |host: &str, port: u16| {
        let script = format!("kubectl exec asks -- {}", once(host, port));
        assert_eq!(world.until(&script, |said| said == "both\n"), "both\n", "{host}");
    };
    for address in &pods {
        from_pod(address, 8080);
    }
    for address in &services {
        from_pod(address, 80);
        let said = from_node("n2", &from_machine(address, "80"));
        assert_eq!(answers(&said), answers("both\n"), "{address} from a node");
    }
    let looked_up = world.until("kubectl exec asks -- nslookup both.default.svc.cluster.local", |said| {
        services.iter().all(|address| said.contains(address))
    });
    assert!(looked_up.contains("both.default.svc.cluster.local"), "{looked_up}");
    let port = world.kubectl("kubectl get service both -o jsonpath='{.spec.ports[0].nodePort}'");
    for node in ["n1", "n2"] {
        for address in [address(node), address_v6(node)] {
            let said = from_outside(&from_machine(&address, &port));
            assert_eq!(answers(&said), answers("both\n"), "from outside by {address}");
        }
    }
    world.kubectl("kubectl delete service both; kubectl delete pod both --timeout=60s");
}

/// The pod `asks` is there.
pub(crate) fn ports_of_hosts_lead_to_their_pods(world: &World) {
    let only = address("n1");
    world.apply(&pod("everywhere", "n1", ", hostPort: 9090"));
    world.apply(&pod("somewhere", "n1", &format!(", hostPort: 9091, hostIP: {only}")));
    world.kubectl("kubectl wait --for=condition=Ready pod/everywhere pod/somewhere --timeout=60s");
    for (address, port, expected) in [
        (only.clone(), "9090", "everywhere\n"),
        (address_v6("n1"), "9090", "everywhere\n"),
        (only.clone(), "9091", "somewhere\n"),
        (address_v6("n1"), "9091", "failed\n"),
    ] {
        // A pod is ready before the node's rules are.
        let asked = || answers(&from_outside(&from_machine(&address, port))) == answers(expected);
        world.patiently(asked, &format!("from outside by {address} and {port}: {expected}"));
        let said = from_node("n2", &from_machine(&address, port));
        assert_eq!(answers(&said), answers(expected), "from another node by {address} and {port}");
    }
    // From a pod of another node, and from the node itself.
    let script = format!("kubectl exec asks -- sh -c '{}'", many(&once(&only, 9090)));
    assert_eq!(answers(&world.kubectl(&script)), answers("everywhere\n"));
    assert_eq!(answers(&from_node("n1", &from_machine(&only, "9090"))), answers("everywhere\n"));
    // Two cannot have the same port of the same node.
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: third}, spec: {nodeSelector: {kubernetes.io/hostname: n1}, \
           containers: [{name: c, image: 'busybox:test', ports: [{containerPort: 8080, hostPort: 9090}]}]}}\n",
    );
    let why = "kubectl get pod third -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].message}'";
    world.until(why, |said| said.contains("didn't have free ports"));
    world.kubectl("kubectl delete pod everywhere somewhere third asks --timeout=60s");
    let gone = || answers(&from_outside(&from_machine(&only, "9090"))) == answers("failed\n");
    world.patiently(gone, "nobody answers for pods that are gone");
}
