//! The story of a cluster on one machine, as people have it: it comes up with what they brought, loses masters and nodes and goes
//! on, and is gone when they say so.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::world::{PATIENCE, World};
use crate::containers::ground;

const WEB: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
    apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n\
    spec: {replicas: 2, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {\n\
      terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:test',\n\
      command: [sh, -c, 'echo a-page > /index.html; exec httpd -f -p 8080 -h /'], readinessProbe: {tcpSocket: {port: 8080}}}]}}}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
    spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n---\n\
    apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: book, namespace: shop}\n\
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: {name: lonely, namespace: shop}\n\
    spec: {terminationGracePeriodSeconds: 0, volumes: [{name: v, persistentVolumeClaim: {claimName: book}}],\n\
      containers: [{name: c, image: 'busybox:test', volumeMounts: [{name: v, mountPath: /v}],\n\
      command: [sh, -c, 'echo written > /v/book; exec sleep 100000']}]}\n";

/// What `lonely` has written, by way of its node's agent.
const LOOK: [&str; 7] = ["exec", "-n", "shop", "lonely", "--", "cat", "/v/book"];

/// The certificate by which a node serves, and its key.
fn shown(world: &World, node: &str) -> PathBuf {
    ["root", "cluster", "serving.pem"].iter().fold(world.cluster().join(node), |path, part| path.join(part))
}

/// What kubectl says.
type Told = Result<String, String>;

/// Asks until it is so, and that is the answer; what was said otherwise is told in the end.
fn until(mut asked: impl FnMut() -> Told, right: impl Fn(&Told) -> bool) -> Told {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = asked();
        if right(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "{told:?}");
    }
}

/// An agent at the right address with a certificate of its own making, or that of another node, is told nothing; the node mends it by
/// itself when it looks.
fn who_answers_for_a_node_proves_to_be_it(world: &World) {
    assert_eq!(world.kubectl(&LOOK).unwrap(), "written\n");
    let metrics = world.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).unwrap();
    assert!(metrics.contains("\"n1\"") && metrics.contains("\"n2\""), "{metrics}");
    let node = ["get", "pod", "lonely", "-n", "shop", "-o", "jsonpath={.spec.nodeName}"];
    let node = world.kubectl(&node).unwrap();
    let other = if node == "n1" { "n2" } else { "n1" };
    let shown = |node: &str| shown(world, node);
    let good = std::fs::read_to_string(shown(&node)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![node.clone()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    let own = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    let others = std::fs::read_to_string(shown(other)).unwrap();
    let is_other = format!("certificate is for \"system:node:{other}\", not for \"system:node:{node}\"");
    for (shows, why) in [(own, "certificate signed by unknown authority"), (others, &*is_other)] {
        let shows_wrong = || {
            std::fs::write(shown(&node), &shows).unwrap();
            world.kubectl(&LOOK)
        };
        // It may have been mended before it was asked.
        let told = until(shows_wrong, Result::is_err).unwrap_err();
        let prove = format!("does not prove to be node {node}");
        assert!(told.contains(why) && told.contains(&prove), "{told}");
        world.kubectl(&["annotate", "node", &node, "--overwrite", &format!("look={}", shows.len())]).unwrap();
        let _ = until(|| world.kubectl(&LOOK), Result::is_ok);
        let again = std::fs::read_to_string(shown(&node)).unwrap();
        assert!(again != shows && again != good, "it was made anew");
    }
}

/// Nodes get certificates of the new authority, and whoever looks into pods does not see any of it.
fn authorities_are_exchanged_under_those_who_look_into_pods(world: &World) {
    let master = format!("{}-m1", world.name);
    let place = world.cluster().join("m1");
    let rotate = |words: &[&str]| {
        let mut command = ground::on_host(&master, Path::new(env!("CARGO_BIN_EXE_barque")));
        command.args(["certs", "rotate-ca"]).args(words).arg("--data-dir").arg(&place);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    };
    let shown = || std::fs::read_to_string(shown(world, "n1")).unwrap();
    let _ = until(|| world.kubectl(&LOOK), Result::is_ok);
    let before = shown();
    std::thread::scope(|scope| {
        let rotating = scope.spawn(|| rotate(&[]));
        while !rotating.is_finished() {
            assert_eq!(world.kubectl(&LOOK).unwrap(), "written\n");
        }
        rotating.join().unwrap();
    });
    assert_ne!(shown(), before);
    rotate(&["--finish"]);
    let mut kubectl = ground::on_host(&master, world.kubectl_program());
    kubectl.arg("--kubeconfig").arg(place.join("admin.kubeconfig")).args(LOOK);
    let output = kubectl.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "written\n", "{output:?}");
}

#[test]
fn three_masters_and_two_nodes_lose_a_master_and_go_on() {
    if !ground::enter("up::story::three_masters_and_two_nodes_lose_a_master_and_go_on") {
        return;
    }
    let world = World::new('s');
    for node in ["n1", "n2"] {
        world.load_image(node);
    }
    let web = world.manifest("web.yaml", WEB);
    let told = world.done("up", &["--name", &world.name, "-f", &web]);
    assert!(told.contains("export KUBECONFIG=") && told.contains("barque down"), "{told}");
    let nodes = world.kubectl(&["get", "nodes", "-o", "name"]).unwrap();
    assert_eq!(nodes.lines().collect::<Vec<_>>(), ["node/n1", "node/n2"]);
    let available = world.kubectl(&[
        "get",
        "deployment",
        "web",
        "-n",
        "shop",
        "-o",
        "jsonpath={.status.availableReplicas}",
    ]);
    assert_eq!(available.unwrap(), "2", "it came back when that was so");

    // Agents leave the way to the outside to the machines.
    for machine in ["m1", "n1", "n2"] {
        let machine = format!("{}-{machine}", world.name);
        let asked =
            ground::on_host(&machine, Path::new("ip")).args(["route", "show", "default"]).output().unwrap();
        let told = String::from_utf8_lossy(&asked.stdout).into_owned();
        assert!(told.starts_with("default via "), "{machine}: {told}");
    }

    // Masters reach pods, on whatever node.
    let pods = ["get", "pods", "-n", "shop", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"];
    for pod in world.kubectl(&pods).unwrap().split_whitespace() {
        let page = format!("/api/v1/namespaces/shop/pods/{pod}:8080/proxy/");
        assert_eq!(world.kubectl(&["get", "--raw", &page]).unwrap(), "a-page\n");
    }

    // And services, as webhooks are asked.
    let service = ["get", "service", "web", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}"];
    let service = world.kubectl(&service).unwrap();
    let script =
        format!("exec 3<>/dev/tcp/{service}/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3");
    let master = format!("{}-m2", world.name);
    let ask = || {
        let asked = ground::on_host(&master, Path::new("bash")).args(["-c", &script]).output().unwrap();
        String::from_utf8_lossy(&asked.stdout).into_owned()
    };
    // Pods are ready before every node has heard of it.
    let deadline = Instant::now() + PATIENCE;
    while !ask().ends_with("a-page\n") {
        assert!(Instant::now() < deadline, "{service}: {}", ask());
    }
    for _ in 0..4 {
        let told = ask();
        assert!(told.ends_with("a-page\n"), "{service}: {told}");
    }

    assert!(world.done("up", &[]).contains("runs already"));

    // A claim that names no class has a directory of this cluster's.
    let book = ["get", "pvc", "book", "-n", "shop", "-o", "jsonpath={.spec.volumeName}_shop_book"];
    let book = world.cluster().join("volumes").join(world.kubectl(&book).unwrap());
    assert_eq!(std::fs::read_to_string(book.join("book")).unwrap(), "written\n");

    world.write("before");
    let snapshot = world.save_snapshot();

    who_answers_for_a_node_proves_to_be_it(&world);

    // The first master has begun everything, and is no more than the others.
    world.done("fault", &["kill", "m1"]);
    world.write("after-m1");
    assert!(world.done("up", &[]).contains("m1 does not run"));
    world.done("fault", &["restart", "m1"]);
    // The first one's disk is lost; a new one joins in its place.
    let told = world.barque("fault", &["replace", "n1"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("n1 is no master"), "{told:?}");
    world.done("fault", &["replace", "m1"]);
    world.write("after-all");

    // Stopped, and started again with what it had.
    world.done("down", &["--keep-data"]);
    world.done("up", &[]);
    let told = world.kubectl(&["get", "configmap", "-o", "name"]).unwrap();
    for name in ["after-m1", "after-all"] {
        assert!(told.contains(name), "{told}");
    }
    let told = world.barque("up", &["--restore", &snapshot]);
    let runs = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(runs.contains("runs already"), "{told:?}");
    world.done("down", &["--keep-data"]);
    let told = world.barque("up", &["--restore", &snapshot]);
    let errors = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && errors.contains("there is a cluster in"), "{errors}");

    world.done("down", &[]);
    world.nothing_is_left();
    assert!(world.done("down", &[]).contains("there is no cluster"));

    // Another cluster begins with what was saved: it has that, runs it, and takes no word of the masters of before.
    for node in ["n1", "n2"] {
        world.load_image(node);
    }
    let words = ["--name", &world.name, "--masters=2", "--restore", &snapshot, "-f", &web];
    world.done("up", &words);
    let told = world.kubectl(&["get", "configmap", "-o", "name"]).unwrap();
    assert!(told.contains("before") && !told.contains("after"), "{told}");
    let masters = ["get", "configmap", "barque-masters", "-n", "kube-system", "-o", "jsonpath={.data}"];
    let masters = world.kubectl(&masters).unwrap();
    assert!(masters.contains("m2") && !masters.contains("m3"), "{masters}");
    let tokens = [
        "get",
        "secret",
        "-n",
        "kube-system",
        "--field-selector=type=bootstrap.kubernetes.io/token",
        "-o",
        "name",
    ];
    assert_eq!(
        world.kubectl(&tokens).unwrap().lines().count(),
        2,
        "tokens of the other cluster are good for nothing"
    );
    authorities_are_exchanged_under_those_who_look_into_pods(&world);
    world.done("down", &[]);
    world.nothing_is_left();
}

#[test]
fn on_loopback_nodes_are_hollow_and_objects_come_about() {
    if !ground::enter("up::story::on_loopback_nodes_are_hollow_and_objects_come_about") {
        return;
    }
    let world = World::new('l');
    let web = world.manifest("web.yaml", WEB);
    let words = ["--loopback", "--name", &world.name, "--masters=1", "--nodes=1", "-f", &web];
    let output = world.barque("up", &words);
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{errors}");
    assert!(errors.contains("hollow") && errors.contains("all objects are what they ask for"), "{errors}");
    let ready =
        world.kubectl(&["get", "pod", "lonely", "-n", "shop", "-o", "jsonpath={.status.phase}"]).unwrap();
    assert_eq!(ready, "Running");

    // What never comes about is told, and what ran before goes on.
    world.done("down", &["--keep-data"]);
    let never = world.manifest(
        "never.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: never}\n\
         spec: {nodeName: nowhere, containers: [{name: c, image: a}]}\n",
    );
    let output = world.barque("up", &["--timeout=20s", "-f", &never]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("Pod never is not ready"), "{errors}");
    world.done("up", &[]);
    let told = world.barque("fault", &["partition", "m1"]);
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && errors.contains("no link"), "{errors}");

    world.done("down", &[]);
    world.nothing_is_left();
}
