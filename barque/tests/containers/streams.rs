//! Streams of real containers with every kubectl that is there: old ones speak SPDY, new ones WebSocket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::cluster::kubectls::kubectls;
use super::world::World;

pub(crate) fn every_kubectl_reaches_into_containers(world: &World) {
    world.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: talks}, spec: {nodeName: n1, restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [\
           {name: c, image: 'busybox:test', command: [sh, -c, 'echo served > /tmp/index.html; httpd -p 8080 -h /tmp; \
             n=0; while read -r line; do n=$((n+1)); echo \"$n: $line\"; done; echo end'], stdin: true, stdinOnce: true}]}}\n",
    );
    world.kubectl("kubectl wait --for=condition=Ready pod/talks --timeout=60s");
    for kubectl in kubectls() {
        let with = |script: &str| {
            let own = format!("kubectl() {{ {} \"$@\"; }}; {script}", kubectl.program.display());
            world.kubectl(&own)
        };
        let told = with("echo through | kubectl exec -i talks -- sh -c 'cat; echo wrong >&2; id -u'");
        let mut lines: Vec<_> = told.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["0", "through", "wrong"], "1.{}", kubectl.minor);
        let failed = with("kubectl exec talks -- sh -c 'exit 42' || echo code $?");
        assert!(failed.ends_with("code 42\n"), "1.{}: {failed}", kubectl.minor);
        // A terminal, as `script` makes one.
        let told = with("TERM=xterm script -qec 'kubectl exec -it talks -- sh -c \"tty; stty size | wc -w\"' /dev/null < /dev/null".replace("kubectl exec", &format!("{} exec", kubectl.program.display())).as_str());
        assert!(told.contains("/dev/pts/0"), "1.{}: {told}", kubectl.minor);
        // A file there and back.
        let told = with(
            "cd $HOME; rm -rf there back; echo precious > there; kubectl cp there talks:/tmp/copied > /dev/null; \
             kubectl cp talks:/tmp/copied back > /dev/null 2>&1; cat back",
        );
        assert_eq!(told, "precious\n", "1.{}", kubectl.minor);
        forwards(world, &kubectl.program.display().to_string());
    }
    // What is written to it is read once, and then its input has ended, and so has it. Who follows its log sees all of that.
    let following = world.begin("kubectl logs -f talks");
    let told = world.kubectl("printf 'one\\ntwo\\n' | kubectl attach -i talks -c c");
    assert!(told.contains("2: two"), "{told}");
    let followed = following.wait();
    assert!(followed.contains("1: one\n2: two\nend"), "{followed}");
    world.kubectl("kubectl delete pod talks --timeout=60s");
}

/// Several connections through one forwarded port.
fn forwards(world: &World, kubectl: &str) {
    let mut forwarding = world.forward(kubectl, "talks", 8080);
    let port = forwarding.port();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.ends_with("served\n"), "{kubectl}: {page}");
    }
}
