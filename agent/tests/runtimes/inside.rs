//! What runs in containers, as probes, hooks and clients of the node API meet it: the same whoever runs them.

use std::time::Duration;

use barque_agent::node_api::containers::{ExecRequest, PodStreams, Process};
use barque_agent::pods::probes::ProbeKind;
use barque_agent::runtime::Runtime;
use barque_streams::process::Wanted;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::contract::{patient, pod, removed, started, until, until_ended, until_running};
use super::subjects::Real;

/// The text of a log, without times and streams.
pub(crate) async fn log<R: PodStreams>(runtime: &R, pod: &Pod, previous: bool) -> String {
    let log = runtime.log(pod, "c", previous).await.expect("it has a log");
    log.ended.await;
    let text = std::fs::read_to_string(&log.path).unwrap();
    text.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap_or_default())).collect()
}

/// Runs a script to its end; what it said.
async fn said<R: Runtime + PodStreams>(runtime: &R, script: &str, fields: Value, spec: Value) -> String {
    let pod = pod(script, fields, spec, json!({}));
    started(runtime, &pod).await;
    let exit = until_ended(runtime, &pod).await;
    let text = log(runtime, &pod, false).await;
    assert_eq!(exit.code, 0, "{text}");
    removed(runtime, &pod).await;
    text
}

/// Everything that a process says, and how it ended.
pub(crate) async fn heard(process: Process, input: Option<&str>) -> (String, String, i32) {
    let Process { stdin, stdout, stderr, exit, resize: _resize } = process;
    let writing = async {
        if let (Some(mut to), Some(input)) = (stdin, input) {
            to.write_all(input.as_bytes()).await.unwrap();
            to.shutdown().await.unwrap();
        }
    };
    let all = async |from: Option<barque_agent::node_api::containers::BoxRead>| {
        let mut text = String::new();
        if let Some(mut from) = from {
            from.read_to_string(&mut text).await.unwrap();
        }
        text
    };
    let ((), out, err, exit) = tokio::join!(writing, all(stdout), all(stderr), exit);
    (out, err, exit.unwrap())
}

pub(crate) fn command(script: &str, wanted: Wanted) -> ExecRequest {
    ExecRequest { command: ["sh", "-c", script].map(str::to_owned).into(), wanted }
}

pub(crate) async fn what_it_says_is_in_its_log<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = pod(
        "echo one; echo two >&2; echo -n bye > /dev/termination-log; exit 4",
        json!({}),
        json!({}),
        json!({}),
    );
    started(runtime, &pod).await;
    let exit = until_ended(runtime, &pod).await;
    assert_eq!(exit.message.as_deref(), Some("bye"));
    let mut lines: Vec<_> = log(runtime, &pod, false).await.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
    runtime.start(&pod, "c", 1).await.unwrap();
    until(runtime, &pod, |observed| {
        observed.newest("c").filter(|newest| newest.attempt == 1 && newest.exit().is_some()).map(drop)
    })
    .await;
    assert!(log(runtime, &pod, true).await.contains("one"), "the one before has its own");
    // The end of the log stands in for a last word.
    let falls = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    let speaks = super::contract::pod("echo why; exit 1", falls, json!({}), json!({}));
    started(runtime, &speaks).await;
    assert_eq!(until_ended(runtime, &speaks).await.message.as_deref(), Some("why\n"));
    removed(runtime, &speaks).await;
    removed(runtime, &pod).await;
}

pub(crate) async fn a_container_is_what_its_pod_says<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let fields = json!({
        "env": [{"name": "OWN", "value": "x"}, {"name": "BOTH", "value": "$(OWN)y"}], "workingDir": "/srv",
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["elsewhere"]}]});
    let script = "echo $OWN $BOTH $FROM_IMAGE; pwd; id -u; id -g; grep CapEff /proc/self/status; touch /v/file && ls /v; \
                  hostname; grep -c elsewhere /etc/hosts; grep nameserver /etc/resolv.conf; ls /sys/class/net | wc -l";
    let told = said(runtime, script, fields, spec).await;
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[..4], ["x xy yes", "/srv", "1000", "2000"], "{told}");
    assert_eq!(lines[4].split_whitespace().last(), Some("0000000000000000"), "{told}");
    assert_eq!(lines[5], "file", "{told}");
    assert!(lines[6].starts_with('p'), "{told}");
    assert_eq!(lines[7..9], ["1", "nameserver 10.0.0.10"], "{told}");
    assert_eq!(lines[9], "2", "a loopback and a link: {told}");
    let bounded = json!({"resources": {"limits": {"memory": "64Mi", "cpu": "100m"}}});
    let script =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2> /dev/null; true";
    assert_eq!(said(runtime, script, bounded, json!({})).await, format!("{}\n", 64 << 20));
}

pub(crate) async fn commands_run_in_it<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = patient(json!({}));
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
    let process = runtime.exec(&pod, "c", command("cat; echo wrong >&2; exit 42", wanted)).await.unwrap();
    assert_eq!(heard(process, Some("through")).await, ("through".to_owned(), "wrong\n".to_owned(), 42));
    let terminal = Wanted { stdin: false, stdout: true, stderr: false, tty: true };
    let process = runtime.exec(&pod, "c", command("tty", terminal)).await.unwrap();
    let (told, _, code) = heard(process, None).await;
    assert_eq!((told.trim_end(), code), ("/dev/pts/0", 0));
    // Much is said, and all of it arrives.
    let wanted = Wanted { stdin: false, stdout: true, stderr: false, tty: false };
    let process = runtime.exec(&pod, "c", command("yes | head -c 3000000", wanted)).await.unwrap();
    assert_eq!(heard(process, None).await.0.len(), 3_000_000);
    removed(runtime, &pod).await;
    let error = runtime.exec(&pod, "c", command("true", wanted)).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("does not run"), "{error}");
}

pub(crate) async fn who_attaches_is_heard_and_hears<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = pod(
        "while read -r line; do echo \"got $line\"; done; echo end",
        json!({"stdin": true, "stdinOnce": true}),
        json!({}),
        json!({}),
    );
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
    let process = runtime.attach(&pod, "c", wanted).await.unwrap();
    let Process { stdin, stdout, exit, .. } = process;
    let talk = async {
        let (mut to, mut from) = (stdin.unwrap(), stdout.unwrap());
        to.write_all(b"one\n").await.unwrap();
        let mut told = [0; 8];
        from.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"got one\n");
        to.shutdown().await.unwrap();
        drop(to);
        let mut rest = String::new();
        from.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "end\n");
    };
    let ((), _) = tokio::join!(talk, exit);
    assert_eq!(until_ended(runtime, &pod).await.code, 0);
    removed(runtime, &pod).await;
}

pub(crate) async fn its_ports_are_reached<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = pod(
        "echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp",
        json!({"readinessProbe": {"tcpSocket": {"port": 8080}}}),
        json!({}),
        json!({}),
    );
    started(runtime, &pod).await;
    while runtime.probe(&pod, "c", ProbeKind::Readiness).await.is_err() {}
    for _ in 0..2 {
        let mut connection = runtime.connect(&pod, 8080).await.unwrap();
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        connection.read_to_string(&mut page).await.unwrap();
        assert!(page.ends_with("served\n"), "{page}");
    }
    removed(runtime, &pod).await;
}

pub(crate) async fn probes_and_hooks_are_answered<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let exec = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let mut slow = exec("sleep 1000");
    slow["timeoutSeconds"] = json!(1);
    let pod = patient(json!({
        "readinessProbe": exec("test -e /tmp/hooked"), "livenessProbe": exec("echo sick; exit 1"), "startupProbe": slow,
        "lifecycle": {"postStart": exec("touch /tmp/hooked"), "preStop": exec("exit 3")},
    }));
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    assert_eq!(
        runtime.probe(&pod, "c", ProbeKind::Readiness).await,
        Err("command \"sh -c test -e /tmp/hooked\" exited with 1".to_owned())
    );
    assert_eq!(runtime.post_start(&pod, "c").await, Ok(()));
    assert_eq!(runtime.probe(&pod, "c", ProbeKind::Readiness).await, Ok(()));
    assert_eq!(runtime.probe(&pod, "c", ProbeKind::Liveness).await, Err("sick".to_owned()));
    let late = runtime.probe(&pod, "c", ProbeKind::Startup).await.unwrap_err();
    assert_eq!(late, "command timed out: \"sh -c sleep 1000\" timed out after 1s");
    assert!(runtime.pre_stop(&pod, "c").await.is_err());
    removed(runtime, &pod).await;
}

pub(crate) async fn what_it_uses_is_counted<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let pod = pod(
        "head -c 8000000 /dev/zero > /dev/shm/file; exec sleep 100000",
        json!({}),
        json!({"hostPID": true}),
        json!({}),
    );
    started(runtime, &pod).await;
    until_running(runtime, &pod).await;
    let wanted = Wanted { stdin: false, stdout: true, stderr: true, tty: false };
    let waits = command(
        "while ! test -e /dev/shm/file; do :; done; while [ $(stat -c %s /dev/shm/file) -lt 8000000 ]; do :; done",
        wanted,
    );
    assert_eq!(heard(runtime.exec(&pod, "c", waits).await.unwrap(), None).await.2, 0);
    let stats = runtime.stats(&pod).await.expect("it runs");
    assert_eq!(stats.containers.len(), 1);
    let container = &stats.containers[0];
    assert_eq!(container.name, "c");
    assert!(container.cpu.unwrap().used_ns > 0, "{container:?}");
    assert!(container.memory.unwrap().working_set > 4_000_000, "{container:?}");
    assert!(stats.cpu.unwrap().used_ns >= container.cpu.unwrap().used_ns);
    removed(runtime, &pod).await;
    assert_eq!(runtime.stats(&pod).await, None);
}

pub(crate) async fn who_cannot_be_started_says_why<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let missing = pod("true", json!({"command": ["/no/such/program"]}), json!({}), json!({}));
    runtime.create_sandbox(&missing).await.unwrap();
    let error = runtime.start(&missing, "c", 0).await.unwrap_err();
    assert!(error.message.contains("/no/such/program"), "{error}");
    assert!(["CreateContainerError", "RunContainerError"].contains(&error.reason), "{error:?}");
    // The next attempt finds the way free.
    assert!(runtime.start(&missing, "c", 0).await.is_err());
    runtime.remove_sandbox(&missing).await.unwrap();
    runtime.forget(&missing).await;
    let unready = pod("true", json!({"securityContext": {"runAsNonRoot": true}}), json!({}), json!({}));
    runtime.create_sandbox(&unready).await.unwrap();
    let error = runtime.start(&unready, "c", 0).await.unwrap_err();
    assert_eq!(error.reason, "CreateContainerConfigError", "{error}");
    runtime.remove_sandbox(&unready).await.unwrap();
    runtime.forget(&unready).await;
}

pub(crate) async fn shared_memory_and_processes_are_the_pods<S: Real>(subject: &mut S) {
    let runtime = subject.runtime();
    let spec = json!({"shareProcessNamespace": true});
    assert_eq!(said(runtime, "test $$$$ != 1 && echo shared", json!({}), spec).await, "shared\n");
    assert_eq!(said(runtime, "test $$$$ = 1 && echo alone", json!({}), json!({})).await, "alone\n");
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "99"}]}});
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(said(runtime, script, json!({}), sysctl).await, "99\n");
    let grace = Duration::from_secs(1);
    assert_eq!(runtime.stop(&patient(json!({})), "c", grace).await, Ok(()), "one that never was has stopped");
}
