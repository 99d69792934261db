//! A cluster whose nodes are hosts of the ground: store, API servers, controllers and scheduler beside the test, an agent on
//! each host. Driven by kubectl, as people do.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::cluster::kubectls::kubectls;
use super::cluster::{Cluster, ELECTION, Program, start, start_by};
use super::ground::{self, ADDRESS};
use super::images;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The network of all pods.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// Where the cluster's resolver is.
pub(crate) const DNS: &str = "10.0.0.10";

/// A cluster with nodes.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// End with it.
    _parts: Vec<Program>,
    agents: BTreeMap<String, Program>,
    /// What agents are told of who runs containers, by their nodes.
    runtimes: BTreeMap<String, Vec<String>>,
    kubectl: PathBuf,
    turn: Cell<usize>,
}

/// The address of a node, whose name ends with its number.
pub(crate) fn address(node: &str) -> String {
    let number: u8 = node.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap();
    format!("10.9.0.{}", 10 + number)
}

impl World {
    /// With these nodes, ready.
    pub(crate) fn start(nodes: &[&str]) -> Self {
        Self::start_with(nodes, |_, directory| {
            let archive = images::write(directory);
            let loaded = Command::new(env!("CARGO_BIN_EXE_barque"))
                .args(["image", "load", "--root"])
                .arg(directory.join("root/images"))
                .arg("-i")
                .arg(&archive)
                .output()
                .unwrap();
            assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
            vec!["--runtime=embedded".to_owned()]
        })
    }

    /// With these nodes, ready; each is prepared, and its agent is told what comes of that.
    pub(crate) fn start_with(nodes: &[&str], mut prepare: impl FnMut(&str, &Path) -> Vec<String>) -> Self {
        let cluster = Cluster::at(ADDRESS, 2, |_| {
            // Nobody knows the nodes by their names here.
            ["--default-unreachable-toleration-seconds=2", "--kubelet-preferred-address-types=InternalIP"]
                .map(str::to_owned)
                .into()
        });
        let kubectl = kubectls().pop().unwrap().program;
        cluster.ready(&kubectl);
        let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig(0).display());
        let part = |words: &[&str]| {
            let mut all: Vec<String> = words.iter().chain(&ELECTION).map(|word| (*word).to_owned()).collect();
            all.push(kubeconfig.clone());
            start(&all, "serving health and metrics").0
        };
        let parts = vec![
            part(&[
                "controller-manager",
                "--secure-port=0",
                "--allocate-node-cidrs",
                &format!("--cluster-cidr={PODS}"),
                "--node-monitor-grace-period=8s",
            ]),
            part(&["scheduler", "--secure-port=0"]),
        ];
        let mut world = Self {
            cluster,
            _parts: parts,
            agents: BTreeMap::new(),
            runtimes: BTreeMap::new(),
            kubectl,
            turn: Cell::new(0),
        };
        world.kubectl(
            "kubectl create clusterrolebinding agents-are-asked --clusterrole=system:kubelet-api-admin \
             --user=apiserver-kubelet-client",
        );
        for node in nodes {
            ground::add_host(node, &address(node));
            let directory = world.directory(node);
            std::fs::create_dir_all(&directory).unwrap();
            world.runtimes.insert((*node).to_owned(), prepare(node, &directory));
            world.start_agent(node);
        }
        for node in nodes {
            world.kubectl(&format!("kubectl wait --for=condition=Ready node/{node} --timeout=60s"));
        }
        world
    }

    /// What belongs to a node.
    pub(crate) fn directory(&self, node: &str) -> PathBuf {
        self.cluster.directory.path().join(node)
    }

    /// Starts the agent of a node, which may have run before.
    pub(crate) fn start_agent(&mut self, node: &str) {
        let directory = self.directory(node);
        std::fs::create_dir_all(&directory).unwrap();
        let (certificate, key) =
            self.cluster.certificates.client(&format!("system:node:{node}"), &["system:nodes"]);
        let kubeconfig = self.cluster.kubeconfig_of(node, &certificate, &key);
        let (certificate, key) =
            self.cluster.certificates.serving(&format!("{node}-serving"), &address(node));
        let resolv = directory.join("resolv.conf");
        std::fs::write(&resolv, "search example.org\n").unwrap();
        let mut words: Vec<String> =
            ["agent", "--healthz-port=0", "--node-lease-duration-seconds=4", "--log-level=debug"]
                .map(str::to_owned)
                .into();
        words.extend(self.runtimes[node].iter().cloned());
        for (flag, value) in [
            ("hostname-override", node.to_owned()),
            ("node-ip", address(node)),
            ("kubeconfig", kubeconfig.display().to_string()),
            ("root-dir", directory.join("root").display().to_string()),
            ("run-dir", directory.join("run").display().to_string()),
            ("pod-logs-dir", directory.join("logs").display().to_string()),
            ("cgroup-root", format!("{}/{node}", ground::control_group())),
            ("cluster-dns", DNS.to_owned()),
            ("cluster-cidr", PODS.to_owned()),
            ("resolv-conf", resolv.display().to_string()),
            ("tls-cert-file", certificate.display().to_string()),
            ("tls-private-key-file", key.display().to_string()),
            ("client-ca-file", self.cluster.certificates.ca.display().to_string()),
        ] {
            words.push(format!("--{flag}={value}"));
        }
        let command = ground::on_host(node, env!("CARGO_BIN_EXE_barque").as_ref());
        let (program, _) = start_by(
            command,
            &[("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
            &words,
            "keeping nodes",
        );
        self.agents.insert(node.to_owned(), program);
    }

    /// Ends the agent of a node at once.
    pub(crate) fn kill_agent(&mut self, node: &str) {
        drop(self.agents.remove(node).unwrap());
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop_agent(&mut self, node: &str) {
        assert_eq!(self.agents.remove(node).unwrap().stop(), Some(0));
    }

    /// Takes away what a node left behind.
    pub(crate) fn cleanup(&self, node: &str) -> Output {
        let directory = self.directory(node);
        let mut command = ground::on_host(node, env!("CARGO_BIN_EXE_barque").as_ref());
        command.args(["agent", "cleanup", &format!("--cluster-dns={DNS}")]);
        for (flag, part) in [("root-dir", "root"), ("run-dir", "run"), ("pod-logs-dir", "logs")] {
            command.arg(format!("--{flag}={}", directory.join(part).display()));
        }
        command.output().unwrap()
    }

    fn command(&self, script: &str) -> Command {
        let server = self.turn.replace(self.turn.get() + 1) % 2;
        let home = self.cluster.directory.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new("bash");
        command
            .args([
                "-c",
                &format!("exec 2>&1; set -e; kubectl() {{ {} \"$@\"; }}; {script}", self.kubectl.display()),
            ])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", home)
            .env("KUBECONFIG", self.cluster.kubeconfig(server))
            .stdin(Stdio::null());
        command
    }

    /// Runs a script with kubectl that must succeed; what it said.
    pub(crate) fn kubectl(&self, script: &str) -> String {
        self.try_kubectl(script).unwrap_or_else(|told| panic!("{script}\n{told}\n{}", self.told()))
    }

    /// Runs a script with kubectl; what it said, as an error when it failed.
    pub(crate) fn try_kubectl(&self, script: &str) -> Result<String, String> {
        let output = self.command(script).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(told) } else { Err(told) }
    }

    /// Starts a script with kubectl, which goes on while other things happen.
    pub(crate) fn begin(&self, script: &str) -> Begun {
        let child = self.command(script).stdout(Stdio::piped()).spawn().unwrap();
        Begun { child, script: script.to_owned() }
    }

    /// Forwards a port of a pod to one of this machine that the system chooses, until it is dropped.
    pub(crate) fn forward(&self, kubectl: &str, pod: &str, port: u16) -> Forwarding {
        let mut command = self.command(&format!("exec {kubectl} port-forward {pod} :{port}"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        Forwarding { child, told }
    }

    /// Runs a script until it succeeds and says what it should.
    pub(crate) fn until(&self, script: &str, what: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.try_kubectl(script);
            match told {
                Ok(told) if what(&told) => return told,
                told => assert!(Instant::now() < deadline, "{script}\n{told:?}\n{}", self.told()),
            }
        }
    }

    /// Applies objects, as YAML.
    pub(crate) fn apply(&self, objects: &str) {
        let path = self.cluster.directory.path().join("objects.yaml");
        std::fs::write(&path, objects).unwrap();
        self.kubectl(&format!("kubectl apply -f {}", path.display()));
    }

    /// What helps to understand a failure.
    fn told(&self) -> String {
        self.try_kubectl(
            "kubectl get pods -A -o wide; kubectl get events -A --sort-by=.lastTimestamp | tail -40",
        )
        .unwrap_or_else(|told| told)
    }
}

/// A script that runs.
pub(crate) struct Begun {
    child: Child,
    script: String,
}

impl Begun {
    /// Waits for its end, which must be a good one; what it said.
    pub(crate) fn wait(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}\n{told}", self.script);
        told
    }
}

/// A forwarded port.
pub(crate) struct Forwarding {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Forwarding {
    /// The port of this machine.
    pub(crate) fn port(&mut self) -> u16 {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        // `Forwarding from 127.0.0.1:41234 -> 8080`
        let port = line.split(" -> ").next().and_then(|from| from.rsplit(':').next());
        port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
