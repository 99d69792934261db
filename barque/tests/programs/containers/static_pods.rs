//! Pods that a node has from files: they run, are told of, come again when somebody deletes them, and go with their files.

use super::world::World;

fn write(world: &World, words: &str) {
    let manifests = world.manifests("n1");
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: own, labels: {{app: own}}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - {{name: c, image: 'busybox:test', command: [sh, -c, 'echo {words}; exec sleep 1000']}}\n"
    );
    std::fs::write(manifests.join(".new"), text).unwrap();
    std::fs::rename(manifests.join(".new"), manifests.join("own.yaml")).unwrap();
}

/// Which container it is, and which pod stands for it.
const IDS: &str =
    "kubectl get pod own-n1 -o jsonpath='{.status.containerStatuses[0].containerID} {.metadata.uid}'";

fn container(ids: &str) -> &str {
    ids.split(' ').next().unwrap()
}

pub(crate) fn what_a_file_describes_runs_and_is_told(world: &mut World) {
    write(world, "first");
    let ready = "kubectl wait --for=condition=Ready pod/own-n1 --timeout=60s";
    world.until(ready, |_| true);
    assert_eq!(world.kubectl("kubectl logs own-n1"), "first\n");
    let owner = "kubectl get pod own-n1 -o jsonpath='{.metadata.ownerReferences[0].kind} {.spec.nodeName}'";
    assert_eq!(world.kubectl(owner), "Node n1");

    // Who deletes what stands for it does not end it.
    let before = world.kubectl(IDS);
    world.kubectl("kubectl delete pod own-n1 --wait=false");
    let after = world.until(IDS, |ids| ids.starts_with("barque://") && ids != before);
    assert_eq!(container(&after), container(&before));
    world.until(ready, |_| true);

    // Another agent takes it over.
    world.kill_agent("n1");
    world.start_agent("n1");
    world.until("kubectl exec own-n1 -- echo there", |told| told == "there\n");
    assert_eq!(world.kubectl(IDS), after);

    // What the file says counts; while it says nothing, what it said before.
    write(world, "'");
    std::fs::write(world.manifests("n1").join("broken.yaml"), "{").unwrap();
    write(world, "second");
    world.until("kubectl logs own-n1", |logs| logs == "second\n");
    world.until(ready, |_| true);
    assert_ne!(container(&world.kubectl(IDS)), container(&after));
    for file in ["own.yaml", "broken.yaml"] {
        std::fs::remove_file(world.manifests("n1").join(file)).unwrap();
    }
    world.until("kubectl get pod own-n1 --ignore-not-found", |told| told.is_empty());
}
