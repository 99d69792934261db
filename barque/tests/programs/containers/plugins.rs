//! A node whose pods get their networks from CNI plugins, Debian's: said beforehand, used instead of the built-in network, told
//! when broken, and taken up again when right.

use std::path::{Path, PathBuf};

use super::ground;
use super::services::{answers, from_machine, from_node};
use super::world::World;

/// Where Debian has the plugins.
const DEBIAN: &str = "/usr/lib/cni";

fn file(world: &World) -> PathBuf {
    world.directory("n4").join("net.d/10-bridge.conflist")
}

fn configure(world: &World, text: &str) {
    let path = file(world);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // As careful people do: nobody sees half of it.
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn bridge(world: &World) -> String {
    let addresses = world.directory("n4").join("addresses");
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "test", "plugins": [
            {{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
              "ipam": {{"type": "host-local", "dataDir": {addresses:?}, "ranges": [[{{"subnet": "10.77.0.0/24"}}]]}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
    )
}

fn flags(world: &World) -> [(&'static str, String); 2] {
    let directory = file(world).parent().unwrap().display().to_string();
    [("cni-conf-dir", directory), ("cni-bin-dir", DEBIAN.to_owned())]
}

/// What the check says of plugins.
fn checked(world: &World) -> String {
    let mut command = ground::on_host("n4", Path::new(env!("CARGO_BIN_EXE_barque")));
    command.args(["agent", "check"]).args(world.places("n4"));
    command.args(flags(world).map(|(flag, value)| format!("--{flag}={value}")));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    told.lines().find(|line| line.contains(" CNI ")).unwrap_or_else(|| panic!("{told}")).to_owned()
}

pub(crate) fn plugins_give_pods_their_networks_where_somebody_configured_them(world: &mut World) {
    configure(world, "{}");
    let (broken, flags) = (file(world).display().to_string(), flags(world));
    let taint = ("register-with-taints", "network=other:NoSchedule".to_owned());
    let all: Vec<_> = flags.iter().cloned().chain([taint]).collect();
    world.add_node("n4", &all);
    let line = checked(world);
    assert!(line.contains("MISSING") && line.contains(&broken), "{line}");
    let why = "kubectl get node n4 -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].message}'";
    let told = world.until(why, |said| said.contains("NetworkPluginNotReady"));
    assert!(told.contains(&format!("the CNI configuration {broken} has no name")), "{told}");
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: bridged}, spec: {nodeName: n4, terminationGracePeriodSeconds: 0, \
           tolerations: [{operator: Exists}], containers: [{name: c, image: 'busybox:test', command: [sh, -c, \
             'echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp'], ports: [{containerPort: 8080, hostPort: 8088}]}]}}\n",
    );
    world.until("kubectl get events --field-selector involvedObject.name=bridged", |said| {
        said.contains("NetworkNotReady") && said.contains(&broken)
    });

    // It is put right, and nothing has to be restarted.
    let text = bridge(world);
    configure(world, &text);
    world.kubectl("kubectl wait --for=condition=Ready node/n4 pod/bridged --timeout=90s");
    let line = checked(world);
    assert!(line.contains("bridge, portmap instead of the built-in network"), "{line}");
    let ip = world.kubectl("kubectl get pod bridged -o jsonpath='{.status.podIP}'");
    assert!(ip.starts_with("10.77.0."), "{ip}");
    let asked = |host: &str, port: &str| answers(&from_node("n4", &from_machine(host, port)));
    assert_eq!(asked(&ip, "8080"), answers("bridged\n"));
    // Services and ports of hosts are the node's own rules, for these pods too.
    world.kubectl(
        "kubectl label pod bridged app=bridged; kubectl expose pod bridged --port=80 --target-port=8080",
    );
    let service = world.kubectl("kubectl get service bridged -o jsonpath='{.spec.clusterIP}'");
    world.patiently(|| asked(&service, "80") == answers("bridged\n"), "by the service");
    let host = super::world::address("n4");
    world.patiently(|| asked(&host, "8088") == answers("bridged\n"), "by the port of the host");
    let links = from_node("n4", "ip -o link show");
    assert!(links.contains("cni0") && !links.contains("barque"), "nothing of the built-in network: {links}");

    // A new agent knows it, and removes what the plugins made.
    let id =
        "kubectl get pod bridged -o jsonpath='{.status.containerStatuses[0].containerID} {.status.podIP}'";
    let before = world.kubectl(id);
    world.kill_agent("n4");
    world.start_agent_with("n4", &flags);
    assert_eq!(world.kubectl("kubectl exec bridged -- echo there"), "there\n");
    assert_eq!(world.kubectl(id), before);
    world.kubectl("kubectl delete service bridged; kubectl delete pod bridged --timeout=60s");
    let addresses = world.directory("n4").join("addresses/test");
    let is_free = || {
        let held = std::fs::read_dir(&addresses).unwrap().flatten();
        !held.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("10."))
    };
    world.patiently(is_free, "the address is free again");
}
