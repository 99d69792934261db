//! Streams of real containers with every kubectl that is there: old ones speak SPDY, new ones WebSocket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::world::World;
use crate::cluster::kubectls::kubectls;

/// Serves a page, and tells what it reads once.
fn talks(name: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: n1, restartPolicy: Never, \
           terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:test', command: [sh, -c, \
             'echo served > /tmp/index.html; httpd -p 8080 -h /tmp; n=0; while read -r line; do n=$((n+1)); \
              echo \"$n: $line\"; done; echo end'], stdin: true, stdinOnce: true}}]}}}}\n"
    )
}

pub(crate) fn every_kubectl_reaches_into_containers(world: &World) {
    let kubectls = kubectls();
    let pods: Vec<String> = kubectls.iter().map(|kubectl| format!("talks-{}", kubectl.minor)).collect();
    world.apply(&pods.iter().map(|pod| talks(pod)).collect::<String>());
    for (kubectl, pod) in kubectls.iter().zip(&pods) {
        world.kubectl(&format!("kubectl wait --for=condition=Ready pod/{pod} --timeout=60s"));
        let program = kubectl.program.display().to_string();
        let of = format!("1.{}", kubectl.minor);
        let own = format!("kubectl() {{ {program} \"$@\"; }}; ");
        let with = |script: &str| world.kubectl(&format!("{own}{script}"));
        let told =
            with(&format!("echo through | kubectl exec -i {pod} -- sh -c 'cat; echo wrong >&2; id -u'"));
        let mut lines: Vec<_> = told.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["0", "through", "wrong"], "{of}");
        let failed = with(&format!("kubectl exec {pod} -- sh -c 'exit 42' || echo code $?"));
        assert!(failed.ends_with("code 42\n"), "{of}: {failed}");
        // A terminal, as `script` makes one.
        let told = with(&format!(
            "TERM=xterm script -qec '{program} exec -it {pod} -- sh -c \"tty; stty size | wc -w\"' /dev/null < /dev/null"
        ));
        assert!(told.contains("/dev/pts/0"), "{of}: {told}");
        // A file there and back.
        let told = with(&format!(
            "cd $HOME; rm -rf there back; echo precious > there; kubectl cp there {pod}:/tmp/copied > /dev/null; \
             kubectl cp {pod}:/tmp/copied back > /dev/null 2>&1; cat back"
        ));
        assert_eq!(told, "precious\n", "{of}");
        forwards(world, &program, pod);
        // What is written to it is read once, and then its input has ended, and so has it. Who follows its log sees all of
        // that.
        let following = world.begin(&format!("{own}kubectl logs -f {pod}"));
        let told = with(&format!("printf 'one\\ntwo\\n' | kubectl attach -i {pod} -c c"));
        assert!(told.contains("2: two"), "{of}: {told}");
        let followed = following.wait();
        assert!(followed.contains("1: one\n2: two\nend"), "{of}: {followed}");
    }
    world.kubectl(&format!("kubectl delete pod {} --timeout=60s", pods.join(" ")));
}

/// Several connections through one forwarded port.
fn forwards(world: &World, kubectl: &str, pod: &str) {
    let mut forwarding = world.forward(kubectl, pod, 8080);
    let port = forwarding.port();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.ends_with("served\n"), "{kubectl}: {page}");
    }
}
