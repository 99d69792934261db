//! Claims on directories of nodes: made where the first pod goes, kept as long as the claim is, gone with it.

use super::world::World;

fn pod(name: &str, script: &str, rest: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, \
           terminationGracePeriodSeconds: 0, volumes: [{{name: v, persistentVolumeClaim: {{claimName: kept}}}}], \
           containers: [{{name: c, image: 'busybox:test', command: [sh, -c, {script:?}], \
             volumeMounts: [{{name: v, mountPath: /v}}]}}]{rest}}}}}\n"
    )
}

pub(crate) fn what_a_pod_wrote_another_one_reads_on_the_same_node(world: &World) {
    let directory = world.directory("n1").join("volumes");
    world.apply(&format!(
        "---\n{{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {{name: local}}, \
           provisioner: barque.dev/local-path, volumeBindingMode: WaitForFirstConsumer, parameters: {{path: {}}}}}\n\
         ---\n{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: kept}}, spec: {{storageClassName: local, \
           accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}}}\n",
        directory.display()
    ));
    world.apply(&pod("writes", "echo precious > /v/file", ", nodeSelector: {kubernetes.io/hostname: n1}"));
    world.kubectl("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/writes --timeout=60s");
    world.kubectl("kubectl delete pod writes");
    // One that may go anywhere goes where it is, and one that may not waits and says why.
    world.apply(&pod("reads", "cat /v/file; exec sleep 100000", ""));
    world.apply(&pod("elsewhere", "true", ", nodeSelector: {kubernetes.io/hostname: n2}"));
    world.kubectl("kubectl wait --for=condition=Ready pod/reads --timeout=60s");
    world.until("kubectl logs reads", |said| said == "precious\n");
    assert_eq!(world.kubectl("kubectl get pod reads -o jsonpath='{.spec.nodeName}'"), "n1");
    // What the claim holds is told.
    let summary = world.kubectl("kubectl get --raw /api/v1/nodes/n1/proxy/stats/summary");
    assert!(summary.contains("\"pvcRef\":{\"name\":\"kept\",\"namespace\":\"default\"}"), "{summary}");
    let metrics =
        world.kubectl("kubectl get --raw /api/v1/nodes/n1/proxy/metrics | grep kubelet_volume_stats");
    let of = "{namespace=\"default\",persistentvolumeclaim=\"kept\"} ";
    for name in ["capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"] {
        let sample = format!("kubelet_volume_stats_{name}{of}");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&sample)).expect(name);
        assert!(value.parse::<f64>().unwrap() > 0.0, "{name}: {value}");
    }
    let why =
        "kubectl get pod elsewhere -o jsonpath='{.status.conditions[?(@.type==\"PodScheduled\")].message}'";
    world.until(why, |said| said.contains("node(s) didn't match PersistentVolume's node affinity"));
    let there = || std::fs::read_dir(&directory).unwrap().count();
    assert_eq!(there(), 1);
    world.kubectl("kubectl delete pod reads elsewhere; kubectl delete pvc kept --timeout=60s");
    world.until("kubectl get pv -o name", str::is_empty);
    assert_eq!(there(), 0, "the directory goes with its claim");
    world.kubectl("kubectl delete storageclass local");
}
