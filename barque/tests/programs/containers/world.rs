//! A cluster whose nodes are hosts of the ground: store, API servers, controllers and scheduler beside the test, an agent on
//! each host. Driven by kubectl, as people do.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::ground::{self, ADDRESS};
use super::images;
use crate::cluster::kubectls::kubectls;
use crate::cluster::{Cluster, ELECTION, Program, start, start_by};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The network of all pods.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The same of IPv6.
pub(crate) const PODS_V6: &str = "fd10:244::/56";
/// The addresses of services, of both families.
const SERVICES: &str = "10.0.0.0/24,fd10:96::/112";
/// Where the cluster's resolver is.
pub(crate) const DNS: &str = "10.0.0.10";

/// A cluster with nodes.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// End with it.
    _parts: Vec<Program>,
    agents: BTreeMap<String, Program>,
    kubectl: PathBuf,
    turn: Cell<usize>,
    is_dual: bool,
}

/// The address of a node, whose name ends with its number.
pub(crate) fn address(node: &str) -> String {
    format!("10.9.0.{}", 10 + number(node))
}

/// The same of IPv6.
pub(crate) fn address_v6(node: &str) -> String {
    format!("fd09::{}", 10 + number(node))
}

fn number(node: &str) -> u8 {
    node.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
}

fn networks(is_dual: bool) -> String {
    if is_dual { format!("{PODS},{PODS_V6}") } else { PODS.to_owned() }
}

/// What an agent finds programs by.
pub(crate) fn agent_environment() -> [(String, String); 1] {
    [("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())]
}

impl World {
    /// With these nodes, ready.
    pub(crate) fn start(nodes: &[&str]) -> Self {
        Self::start_with(nodes, false, &[])
    }

    /// The same with both families of addresses, or not, and with other values of the agents' flags.
    pub(crate) fn start_with(nodes: &[&str], is_dual: bool, others: &[(&str, String)]) -> Self {
        let cluster = Cluster::at(ADDRESS, 2, |_| {
            // Nobody knows the nodes by their names here.
            let usual = [
                "--default-unreachable-toleration-seconds=2",
                "--kubelet-preferred-address-types=InternalIP",
            ];
            let services = is_dual.then(|| format!("--service-cluster-ip-range={SERVICES}"));
            usual.map(str::to_owned).into_iter().chain(services).collect()
        });
        let kubectl = kubectls().pop().unwrap().program;
        cluster.ready(&kubectl);
        let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig(0).display());
        let part = |words: &[&str]| {
            let mut all: Vec<String> = words.iter().chain(&ELECTION).map(|word| (*word).to_owned()).collect();
            all.push(kubeconfig.clone());
            start(&all, "serving health and metrics").0
        };
        // Longer than leases last: upstream's, where these are not short.
        let is_short = others.iter().all(|(flag, _)| *flag != "node-lease-duration-seconds");
        let grace = if is_short { "8s" } else { "50s" };
        let parts = vec![
            part(&[
                "controller-manager",
                "--secure-port=0",
                "--allocate-node-cidrs",
                &format!("--cluster-cidr={}", networks(is_dual)),
                // The fast profile, and faster still, as leases are.
                "--node-failover=fast",
                &format!("--node-monitor-grace-period={grace}"),
            ]),
            part(&["scheduler", "--secure-port=0"]),
        ];
        let mut world =
            Self { cluster, _parts: parts, agents: BTreeMap::new(), kubectl, turn: Cell::new(0), is_dual };
        world.kubectl(
            "kubectl create clusterrolebinding agents-are-asked --clusterrole=system:kubelet-api-admin \
             --user=apiserver-kubelet-client",
        );
        images::write(world.cluster.directory.path());
        for node in nodes {
            world.add_node(node, others);
        }
        for node in nodes {
            world.node_is_ready(node);
        }
        world
    }

    /// Waits until a node is there and ready.
    pub(crate) fn node_is_ready(&self, node: &str) {
        // Whoever waits for what is not there at all does not wait.
        self.until(&format!("kubectl wait --for=condition=Ready node/{node} --timeout=60s"), |_| true);
    }

    /// The machine of a node.
    pub(crate) fn add_host(&self, node: &str) {
        ground::add_host(node, &address(node), &address_v6(node));
        std::fs::create_dir_all(self.directory(node)).unwrap();
    }

    /// Starts another node, with the image.
    pub(crate) fn add_node(&mut self, node: &str, others: &[(&str, String)]) {
        self.add_host(node);
        self.load_image(&self.directory(node).join("root"));
        self.start_agent_with(node, others);
    }

    /// Puts the image where a node with this root directory has its own.
    pub(crate) fn load_image(&self, root: &Path) {
        let loaded = Command::new(env!("CARGO_BIN_EXE_barque"))
            .args(["image", "load", "--root"])
            .arg(root.join("images"))
            .arg("-i")
            .arg(self.cluster.directory.path().join("busybox.tar"))
            .output()
            .unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    }

    /// What belongs to a node.
    pub(crate) fn directory(&self, node: &str) -> PathBuf {
        self.cluster.directory.path().join(node)
    }

    /// Where a node finds pods without being told of them.
    pub(crate) fn manifests(&self, node: &str) -> PathBuf {
        self.directory(node).join("manifests")
    }

    /// Starts the agent of a node, which may have run before.
    pub(crate) fn start_agent(&mut self, node: &str) {
        self.start_agent_with(node, &[]);
    }

    /// The same with other values of flags than the usual ones, or with more flags.
    pub(crate) fn start_agent_with(&mut self, node: &str, others: &[(&str, String)]) {
        self.start_agent_in(node, &agent_environment(), others);
    }

    /// The same with this environment.
    pub(crate) fn start_agent_in(
        &mut self,
        node: &str,
        environment: &[(String, String)],
        others: &[(&str, String)],
    ) {
        let words = self.agent_words(node, others);
        let command = ground::on_host(node, env!("CARGO_BIN_EXE_barque").as_ref());
        let (program, _) = start_by(command, environment, &words, "keeping nodes");
        self.agents.insert(node.to_owned(), program);
    }

    /// What the agent of a node is started with.
    pub(crate) fn agent_words(&self, node: &str, others: &[(&str, String)]) -> Vec<String> {
        let directory = self.directory(node);
        std::fs::create_dir_all(self.manifests(node)).unwrap();
        let (certificate, key) =
            self.cluster.certificates.client(&format!("system:node:{node}"), &["system:nodes"]);
        let kubeconfig = self.cluster.kubeconfig_of(node, &certificate, &key);
        let (certificate, key) =
            self.cluster.certificates.serving(&format!("{node}-serving"), &address(node));
        let resolv = directory.join("resolv.conf");
        std::fs::write(&resolv, "search example.org\n").unwrap();
        let usual = [
            ("runtime", "embedded".to_owned()),
            ("healthz-port", "0".to_owned()),
            ("node-lease-duration-seconds", "4".to_owned()),
            ("log-level", "debug".to_owned()),
            ("hostname-override", node.to_owned()),
            ("node-ip", self.addresses(node)),
            ("kubeconfig", kubeconfig.display().to_string()),
            ("root-dir", directory.join("root").display().to_string()),
            ("run-dir", directory.join("run").display().to_string()),
            ("pod-logs-dir", directory.join("logs").display().to_string()),
            ("pod-manifest-path", self.manifests(node).display().to_string()),
            ("cgroup-root", format!("{}/{node}", ground::control_group())),
            ("cluster-dns", DNS.to_owned()),
            ("cluster-cidr", networks(self.is_dual)),
            ("resolv-conf", resolv.display().to_string()),
            ("tls-cert-file", certificate.display().to_string()),
            ("tls-private-key-file", key.display().to_string()),
            ("client-ca-file", self.cluster.certificates.ca.display().to_string()),
            // The machine's disk may be as full as it likes.
            ("eviction-hard", String::new()),
        ];
        let flags: BTreeMap<&str, String> = usual.into_iter().chain(others.iter().cloned()).collect();
        let flags = flags.into_iter().map(|(flag, value)| format!("--{flag}={value}"));
        std::iter::once("agent".to_owned()).chain(flags).collect()
    }

    fn addresses(&self, node: &str) -> String {
        if self.is_dual { format!("{},{}", address(node), address_v6(node)) } else { address(node) }
    }

    /// The process of a node's agent.
    #[allow(dead_code, reason = "a benchmark asks")]
    pub(crate) fn agent_pid(&self, node: &str) -> u32 {
        self.agents[node].pid()
    }

    /// Ends the agent of a node at once.
    pub(crate) fn kill_agent(&mut self, node: &str) {
        drop(self.agents.remove(node).unwrap());
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop_agent(&mut self, node: &str) {
        assert_eq!(self.agents.remove(node).unwrap().stop(), Some(0));
    }

    /// Flags by which a node's directories are named.
    pub(crate) fn places(&self, node: &str) -> [String; 3] {
        let directory = self.directory(node);
        [("root-dir", "root"), ("run-dir", "run"), ("pod-logs-dir", "logs")]
            .map(|(flag, part)| format!("--{flag}={}", directory.join(part).display()))
    }

    /// Takes away what a node left behind.
    pub(crate) fn cleanup(&self, node: &str) -> Output {
        let mut command = ground::on_host(node, env!("CARGO_BIN_EXE_barque").as_ref());
        command.args(["agent", "cleanup", &format!("--cluster-dns={DNS}")]);
        command.args(self.places(node)).output().unwrap()
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

    /// Looks until it is so.
    pub(crate) fn patiently(&self, mut is_so: impl FnMut() -> bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}\n{}", self.told());
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
