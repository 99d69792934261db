//! Images from registries: by digest, with passwords, from one that is down and comes back, onto a disk that is full.

use std::path::Path;

use super::ground;
use super::images::make;
use super::registry::{PASSWORD, Registry, USER};
use super::world::World;

/// Where the registries are, and what the agents are told of them.
pub(crate) struct Registries {
    pub(crate) open: Registry,
    asks: Registry,
    directory: tempfile::TempDir,
}

impl Registries {
    /// One for all, one that asks who it is.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = Registry::start(directory.path(), 5000, false);
        let asks = Registry::start(directory.path(), 5001, true);
        let mirror = |authority: &str| format!("  '{authority}': {{endpoint: ['http://{authority}']}}\n");
        let text = format!("mirrors:\n{}{}", mirror(&open.authority()), mirror(&asks.authority()));
        std::fs::write(directory.path().join("registries.yaml"), text).unwrap();
        Self { open, asks, directory }
    }

    /// The flag by which an agent knows them.
    pub(crate) fn flag(&self) -> (&'static str, String) {
        ("registry-config", self.directory.path().join("registries.yaml").display().to_string())
    }
}

fn pod(name: &str, node: &str, image: &str, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, \
           containers: [{{name: c, image: '{image}', imagePullPolicy: Always, command: [sh, -c, 'echo $FROM_IMAGE; exec sleep 100000']}}]{rest}}}}}\n"
    )
}

/// Waits until a pod's container waits for its image, and an event of it has all these words.
fn is_told(world: &World, name: &str, words: &[&str]) {
    let waits =
        format!("kubectl get pod {name} -o jsonpath='{{.status.containerStatuses[0].state.waiting.reason}}'");
    world.until(&waits, |said| ["ErrImagePull", "ImagePullBackOff"].contains(&said));
    let events = format!("kubectl get events --field-selector involvedObject.name={name},reason=Failed");
    world.until(&events, |said| words.iter().all(|word| said.contains(word)));
}

fn runs(world: &World, name: &str, told: &str) {
    world.kubectl(&format!("kubectl wait --for=condition=Ready pod/{name} --timeout=90s"));
    world.until(&format!("kubectl logs {name}"), |said| said == format!("{told}\n"));
}

/// A node whose images have little room: all that the image is, but not twice.
pub(crate) fn a_small_disk(world: &mut World, registries: &Registries) {
    let root = world.directory("n5").join("root");
    std::fs::create_dir_all(&root).unwrap();
    let bytes = make("").layer.len();
    ground::run(&format!("mount -t tmpfs -o size={} small {}", bytes / 2, root.display()));
    ground::add_host("n5", &super::world::address("n5"), &super::world::address_v6("n5"));
    // Nobody else is sent there.
    let taint = ("register-with-taints", "small=disk:NoSchedule".to_owned());
    world.start_agent_with("n5", &[registries.flag(), taint]);
    world.node_is_ready("n5");
}

pub(crate) fn what_registries_have_runs_and_what_they_refuse_is_told(
    world: &World,
    registries: &mut Registries,
) {
    let digest = registries.open.push("fleet/ship", "v1", &make("by digest"));
    registries.open.push("fleet/ship", "v2", &make("late"));
    let (open, asks) = (registries.open.authority(), registries.asks.authority());
    let nothing = format!("{open}/fleet/ship@sha256:{}", "0".repeat(64));
    world.kubectl(&format!(
        "kubectl create secret docker-registry pull --docker-server={asks} --docker-username={USER} --docker-password={PASSWORD}"
    ));
    let secret = ", imagePullSecrets: [{name: pull}]";
    world.apply(&pod("by-digest", "n1", &format!("{open}/fleet/ship@{digest}"), ""));
    world.apply(&pod("wrong-digest", "n1", &nothing, ""));
    world.apply(&pod("unknown", "n2", &format!("{asks}/fleet/ship:v2"), ""));
    world.apply(&pod("known", "n2", &format!("{asks}/fleet/ship:v2"), secret));
    world.apply(&pod("no-room", "n5", &format!("{open}/fleet/ship:v2"), ""));

    runs(world, "by-digest", "by digest");
    let id = world.kubectl("kubectl get pod by-digest -o jsonpath='{.status.containerStatuses[0].imageID}'");
    assert!(id.ends_with(&format!("fleet/ship@{digest}")), "{id}");
    is_told(world, "wrong-digest", &[&nothing, "not found"]);
    runs(world, "known", "late");
    is_told(world, "unknown", &[&asks, "pull access denied"]);
    is_told(world, "no-room", &["No space left on device"]);
    // What was half there is gone, and the node with all else goes on.
    let full = |root: &Path| {
        let found = rustix::fs::statvfs(root).unwrap();
        found.f_bavail * 2 < found.f_blocks
    };
    assert!(!full(&world.directory("n5").join("root")), "what came half is left");
    world.kubectl("kubectl wait --for=condition=Ready node/n5 --timeout=60s");

    registries.open.stop();
    world.apply(&pod("patient", "n1", &format!("{open}/fleet/ship:v2"), ""));
    is_told(world, "patient", &[&open, "refused"]);
    registries.open.go_on();
    runs(world, "patient", "late");
    world.kubectl("kubectl delete pod by-digest wrong-digest unknown known no-room patient --timeout=60s; kubectl delete secret pull");
}
