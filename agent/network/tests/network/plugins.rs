//! Pods' networks by CNI plugins: Debian's, and shell scripts that fail.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use barque_network::cni::{Bandwidth, Cni, CniError, PortMapping, Sandbox};

use crate::lab::{Lab, Namespace};

/// Where Debian has the plugins.
const DEBIAN: &str = "/usr/lib/cni";

fn sandbox(namespace: PathBuf) -> Sandbox {
    Sandbox {
        id: "sandbox-1".to_owned(),
        namespace,
        pod_namespace: "default".to_owned(),
        pod_name: "web".to_owned(),
        pod_uid: "uid-1".to_owned(),
        port_mappings: vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".to_owned(),
            host_ip: None,
        }],
        bandwidth: Some(Bandwidth { ingress_rate: 1, ingress_burst: 2, egress_rate: 3, egress_burst: 4 }),
    }
}

/// A directory with configurations, plugins and what is remembered.
struct Setup {
    directory: tempfile::TempDir,
}

impl Setup {
    fn new(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["conf", "bin", "log"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let configuration = configuration.replace("DIRECTORY", &directory.path().display().to_string());
        std::fs::write(directory.path().join("conf/10-test.conflist"), configuration).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A plugin that writes down what it was told, and then does what the script says.
    fn plugin(&self, name: &str, script: &str) {
        let path = self.path().join("bin").join(name);
        let log = self.path().join("log").display().to_string();
        let text = format!(
            "#!/bin/sh\ncat > {log}/{name}.$CNI_COMMAND\necho \"$CNI_COMMAND {name} $CNI_NETNS $CNI_IFNAME $CNI_ARGS\" >> {log}/calls\n{script}\n"
        );
        // Written by another process: a thread that forks meanwhile would hold the file open, and then it cannot be run.
        let mut writer = std::process::Command::new("sh");
        writer.args(["-c", r#"printf %s "$1" > "$0"; chmod 755 "$0""#]).arg(&path).arg(text);
        assert!(writer.status().unwrap().success());
    }

    fn told(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join("log").join(file)).unwrap()
    }

    fn cni(&self, plugins: &Path) -> Cni {
        Cni::find(&self.path().join("conf"), &[plugins.to_owned()], self.path().join("cache"))
            .unwrap()
            .unwrap()
    }

    fn own(&self) -> Cni {
        self.cni(&self.path().join("bin"))
    }
}

/// Runs something in a namespace, with a runtime.
fn inside<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> T + Send) -> T {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    })
}

const SUCCESS: &str = r#"case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.5.0.7/24","gateway":"10.5.0.1","interface":0}]}';; esac"#;

const TWO: &str = r#"{"cniVersion":"1.1.0","name":"two","plugins":[
    {"type":"first","capabilities":{"portMappings":true}},
    {"type":"second","capabilities":{"bandwidth":true}}]}"#;

#[test]
fn debians_plugins_give_a_pod_its_network_and_take_it_after_a_restart() {
    let Some(lab) = Lab::new() else { return };
    if !Path::new(DEBIAN).join("ptp").exists() {
        eprintln!("skipped: needs containernetworking-plugins");
        return;
    }
    let setup = Setup::new(
        r#"{"cniVersion":"1.0.0","name":"debian","plugins":[
            {"type":"ptp","mtu":1400,"ipam":{"type":"host-local","dataDir":"DIRECTORY/ipam",
             "ranges":[[{"subnet":"10.5.0.0/24"}],[{"subnet":"fd05::/64"}]],
             "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}]}"#,
    );
    let (node, pod) = (lab.pod(), lab.pod());
    let sandbox = sandbox(pod.path());
    let attached = inside(&node, async || setup.cni(DEBIAN.as_ref()).attach(&sandbox).await.unwrap());
    assert_eq!(attached.addresses[0].to_string(), "10.5.0.2");
    assert_eq!(attached.gateways[0].to_string(), "10.5.0.1");
    assert_eq!(attached.addresses.len(), 2);
    node.asks(&pod, attached.addresses[0], 100).unwrap();
    pod.asks(&pod, [127, 0, 0, 1].into(), 100).expect("the loopback interface is up");
    inside(&node, async || {
        let again = setup.cni(DEBIAN.as_ref());
        again.status().await.unwrap();
        again.check(&sandbox.id).await.unwrap();
        pod.ip("addr del 10.5.0.2/24 dev eth0");
        let error = again.check(&sandbox.id).await.unwrap_err();
        assert!(error.to_string().starts_with("the CNI plugin ptp failed to CHECK: "), "{error}");
        assert_eq!(again.collect(&HashSet::new()).await.unwrap(), ["sandbox-1"]);
        again.detach(&sandbox.id).await.unwrap();
        assert!(matches!(again.check(&sandbox.id).await, Err(CniError::Unknown { .. })));
    });
    assert!(!pod.ip("-o link show").contains("eth0"));
}

#[test]
fn plugins_run_one_after_the_other_and_back_and_are_told_what_they_can() {
    let Some(lab) = Lab::new() else { return };
    let setup = Setup::new(TWO);
    setup.plugin("first", SUCCESS);
    setup.plugin("second", SUCCESS);
    let pod = lab.pod();
    let path = pod.path();
    let sandbox = sandbox(path.clone());
    inside(&lab.pod(), async || {
        setup.own().status().await.unwrap();
        setup.own().attach(&sandbox).await.unwrap();
        setup.own().check(&sandbox.id).await.unwrap();
    });
    drop(pod);
    inside(&lab.pod(), async || setup.own().detach(&sandbox.id).await.unwrap());
    let netns = path.display();
    let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=sandbox-1;K8S_POD_UID=uid-1";
    let expected = format!(
        "STATUS first   \nSTATUS second   \n\
         ADD first {netns} eth0 {arguments}\nADD second {netns} eth0 {arguments}\n\
         CHECK first {netns} eth0 {arguments}\nCHECK second {netns} eth0 {arguments}\n\
         DEL second  eth0 {arguments}\nDEL first  eth0 {arguments}\n"
    );
    assert_eq!(setup.told("calls"), expected);
    let read = |file: &str| -> serde_json::Value { serde_json::from_str(&setup.told(file)).unwrap() };
    let first = read("first.ADD");
    assert_eq!(first["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
    assert!(first.get("prevResult").is_none() && first["runtimeConfig"].get("bandwidth").is_none());
    let second = read("second.ADD");
    assert_eq!(second["name"], "two");
    assert_eq!(second["prevResult"]["ips"][0]["address"], "10.5.0.7/24");
    assert_eq!(second["runtimeConfig"]["bandwidth"]["ingressRate"], 1);
    assert_eq!(read("first.DEL")["prevResult"]["ips"][0]["address"], "10.5.0.7/24");
}

#[test]
fn a_plugin_that_fails_is_heard_and_what_others_did_is_undone() {
    let Some(lab) = Lab::new() else { return };
    let setup = Setup::new(TWO);
    setup.plugin("first", SUCCESS);
    let pod = lab.pod();
    let sandbox = sandbox(pod.path());
    for (script, message) in [
        (
            r#"[ $CNI_COMMAND = DEL ] || { echo '{"code":11,"msg":"no more addresses","details":"10.5.0.0/24"}'; exit 1; }"#,
            "the CNI plugin second failed to ADD: no more addresses: 10.5.0.0/24",
        ),
        (
            "[ $CNI_COMMAND = DEL ] || { echo 'segmentation fault' >&2; exit 3; }",
            "the CNI plugin second failed to ADD: exit status: 3: segmentation fault",
        ),
        ("true", "the CNI plugin second failed to ADD: it said what is not JSON"),
    ] {
        setup.plugin("second", script);
        inside(&lab.pod(), async || {
            let error = setup.own().attach(&sandbox).await.unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(setup.own().collect(&HashSet::new()).await.unwrap(), [""; 0], "nothing is left");
        });
        let calls = setup.told("calls");
        let commands: Vec<_> = calls.lines().rev().take(2).map(|line| &line[..9]).collect();
        assert_eq!(commands, ["DEL first", "DEL secon"]);
    }
}

#[test]
fn a_node_that_cannot_give_networks_says_why() {
    let Some(lab) = Lab::new() else { return };
    let setup = Setup::new(TWO);
    setup.plugin("first", r#"echo '{"code":50,"msg":"the plugin has no connection"}'; exit 1"#);
    inside(&lab.pod(), async || {
        let error = setup.own().status().await.unwrap_err();
        assert!(matches!(&error, CniError::Plugin { code: Some(50), .. }), "{error}");
        setup.plugin("first", "true");
        let error = setup.own().status().await.unwrap_err().to_string();
        let directory = setup.path().join("bin").display().to_string();
        assert_eq!(error, format!("there is no CNI plugin second in {directory}; install it there"));
    });
}
