//! What nodes and pods use, as `kubectl top` shows it with nothing but the cluster itself.

use super::world::World;
use crate::cluster::kubectls::kubectls;

pub(crate) fn top_tells_what_nodes_and_pods_use(world: &World) {
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: busy, labels: {is: busy}}, spec: {terminationGracePeriodSeconds: 0, containers: [\
           {name: works, image: 'busybox:test', command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 200m}}}, \
           {name: rests, image: 'busybox:test', command: [sleep, '1000']}]}}\n",
    );
    world.kubectl("kubectl wait --for=condition=Ready pod/busy --timeout=60s");
    for kubectl in kubectls() {
        let top = format!("{} top", kubectl.program.display());
        let told = world.until(&format!("{top} pod busy --containers --no-headers"), |told| {
            millicores(told, "works").is_some_and(|used| used > 20)
        });
        assert!(millicores(&told, "rests").is_some_and(|used| used < 20), "1.{}: {told}", kubectl.minor);
        let told = world.kubectl(&format!("{top} pods -l is=busy --no-headers"));
        assert!(told.starts_with("busy ") && told.lines().count() == 1, "1.{}: {told}", kubectl.minor);
        let told = world.kubectl(&format!("{top} nodes --no-headers"));
        let names: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["n1", "n2"], "1.{}: {told}", kubectl.minor);
        assert!(!told.contains("unknown"), "1.{}: {told}", kubectl.minor);
    }
    world.kubectl("kubectl delete pod busy --timeout=60s");
}

/// What a container uses, out of a line such as `busy works 199m 1Mi`.
fn millicores(told: &str, container: &str) -> Option<u32> {
    let mut words = told.lines().find(|line| line.contains(container))?.split_whitespace();
    words.find_map(|word| word.strip_suffix('m')?.parse().ok())
}
