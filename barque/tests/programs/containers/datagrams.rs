//! Services of datagrams: whoever asks again and again from one port is led to pods that are there.

use super::world::World;

/// Answers each datagram with a letter.
const ANSWER: &str = "socket(S,2,2,17); bind(S,pack('SnNx8',2,5000,0)) or die; \
                      while(1) { $from = recv(S,$told,9,0); send(S,$ENV{LETTER},0,$from) }";

fn pod(letter: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: letter-{letter}, labels: {{app: letters}}}}, spec: {{\
           nodeName: n2, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:test', \
             command: [perl, -e, {ANSWER:?}], env: [{{name: LETTER, value: {letter}}}]}}]}}}}\n"
    )
}

pub(crate) fn who_keeps_asking_from_one_port_finds_the_next_pod(world: &World) {
    world.apply(&pod("a"));
    world.apply(
        "---\n{apiVersion: v1, kind: Service, metadata: {name: letters}, spec: {selector: {app: letters}, \
           ports: [{port: 53, targetPort: 5000, protocol: UDP}]}}\n",
    );
    world.kubectl("kubectl wait --for=condition=Ready pod/letter-a --timeout=60s");
    let ip = world.kubectl("kubectl get service letters -o jsonpath='{.spec.clusterIP}'");
    // One socket all the time: the kernel remembers where what came from it went, as long as something comes. Says the letters
    // when they change, and ends with the second one.
    let ask = format!(
        "exec 3<> /dev/udp/{ip}/53; until test \"$letter\" = b; do printf q >&3; \
         if read -r -n 1 -t 1 -u 3 letter; then test \"$letter\" = \"$last\" || echo $letter | tee -a /tmp/letters; last=$letter; fi; done"
    );
    let asking = world.begin(&format!("kubectl exec asks-n1 -- timeout 90 bash -c '{ask}' 2> /dev/null"));
    world.until("kubectl exec asks-n1 -- cat /tmp/letters", |said| said == "a\n");
    world.apply(&pod("b"));
    world.kubectl("kubectl wait --for=condition=Ready pod/letter-b --timeout=60s");
    world.kubectl("kubectl delete pod letter-a --timeout=60s");
    assert_eq!(asking.wait(), "a\nb\n");
    world.kubectl("kubectl delete pod letter-b; kubectl delete service letters");
}
