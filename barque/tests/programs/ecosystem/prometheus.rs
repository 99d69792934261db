//! Prometheus with `examples/prometheus`, of which nothing is changed but addresses and how often it asks: finds all parts of a
//! cluster with the rights of `system:monitoring`, and has something for every panel of the dashboard.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::up::world::{PATIENCE, World};

const ADDRESS: &str = "127.0.0.1:19090";
/// Of masters: health of each of its parts.
const MASTERS: [&str; 4] = ["apiserver", "controllers", "scheduler", "store"];
/// Of nodes: what agents count, and what containers use.
const NODES: [&str; 2] = ["containers", "node"];
/// Nothing goes wrong, so there is nothing to show.
const EMPTY: [&str; 1] = ["Errors of the API"];

pub(super) struct Prometheus {
    process: Child,
    /// Holds what it keeps.
    _directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Debian's, which `make test` puts below `target`, or that of the machine.
fn program() -> Option<PathBuf> {
    let debian = root().join("target/debian-prometheus/usr/bin/prometheus");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|directory| directory.join("prometheus"));
    std::iter::once(debian).chain(installed).find(|program| program.is_file())
}

/// The example's files, with what the comment at its beginning says: a user, and its files.
fn furnish(world: &World, directory: &Path) {
    let made = Command::new(env!("CARGO_BIN_EXE_barque"))
        .args(["kubeconfig", "--user", "prometheus", "--group", "system:monitoring", "--data-dir"])
        .arg(world.cluster().join("m1"))
        .output()
        .unwrap();
    let kubeconfig = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let field = |name: &str| {
        let line = kubeconfig.lines().find_map(|line| line.split_once(&format!("{name}: "))).unwrap().1;
        STANDARD.decode(line.trim_matches(['"', '\'', ' ', '}'])).unwrap()
    };
    std::fs::write(directory.join("client.crt"), field("client-certificate-data")).unwrap();
    std::fs::write(directory.join("client.key"), field("client-key-data")).unwrap();
    std::fs::write(directory.join("ca.crt"), field("certificate-authority-data")).unwrap();

    let example = std::fs::read_to_string(root().join("examples/prometheus/prometheus.yml")).unwrap();
    let mut here = example.replace(": 15s", ": 5s");
    for (theirs, ours) in [("1", "11"), ("2", "12"), ("3", "13"), ("21", "101"), ("22", "102")] {
        here = here.replace(&format!("'10.0.0.{theirs}:"), &format!("'10.77.0.{ours}:"));
    }
    std::fs::write(directory.join("prometheus.yml"), here).unwrap();
    std::fs::copy(root().join("examples/prometheus/alerts.yml"), directory.join("alerts.yml")).unwrap();
}

/// Asks its API, as Grafana does.
fn ask(path: &str) -> Result<Value, String> {
    let mut stream = TcpStream::connect(ADDRESS).map_err(|error| error.to_string())?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    let answer: Value = serde_json::from_str(body).map_err(|_| format!("{path}: {body}"))?;
    if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(format!("{path}: {answer}")) }
}

fn query(expression: &str) -> Result<Vec<Value>, String> {
    let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    Ok(ask(&format!("/api/v1/query?query={escaped}"))?["result"].as_array().unwrap().clone())
}

/// Asks until the answer is right; what is not right is told in the end.
fn until(mut right: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(told) = right() {
        assert!(Instant::now() < deadline, "{told}");
    }
}

impl Prometheus {
    /// Starts it beside the cluster; nothing where there is none, which is told.
    pub(super) fn start(world: &World) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: Prometheus is not here; `make prometheus` brings Debian's");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        furnish(world, directory.path());
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new(program)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={ADDRESS}"))
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { process, _directory: directory })
    }

    /// All targets answer, all rules can be evaluated, all panels show something.
    pub(super) fn sees_everything(&self) {
        let mut expected: Vec<(String, usize)> = MASTERS
            .iter()
            .map(|job| ((*job).to_owned(), 3))
            .chain(NODES.iter().map(|job| ((*job).to_owned(), 2)))
            .collect();
        expected.sort();
        until(|| {
            let up = query("count by (job) (up == 1)")?;
            let mut found: Vec<(String, usize)> = up
                .iter()
                .map(|one| {
                    let count = one["value"][1].as_str().unwrap().parse().unwrap();
                    (one["metric"]["job"].as_str().unwrap().to_owned(), count)
                })
                .collect();
            found.sort();
            let targets =
                || ask("/api/v1/targets").map_or_else(|told| told, |all| all["activeTargets"].to_string());
            if found == expected { Ok(()) } else { Err(format!("{found:?}: {}", targets())) }
        });
        until(|| {
            let rules = ask("/api/v1/rules")?;
            let groups = rules["groups"].as_array().unwrap();
            let all: Vec<&Value> =
                groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
            assert!(all.len() > 10, "{rules}");
            let ill: Vec<_> = all.iter().filter(|rule| rule["health"] != "ok").collect();
            if ill.is_empty() { Ok(()) } else { Err(format!("{ill:?}")) }
        });
        let dashboard = std::fs::read_to_string(root().join("examples/prometheus/dashboard.json")).unwrap();
        let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
                until(|| {
                    let shown = query(&expression)?;
                    let some = !shown.is_empty() || EMPTY.contains(&title);
                    if some { Ok(()) } else { Err(format!("{title} shows nothing: {expression}")) }
                });
            }
        }
    }

    /// Somebody would be woken.
    pub(super) fn misses(&self, member: &str) {
        let address = format!("10.77.0.1{}:6443", &member[1..]);
        until(|| {
            let alerts = ask("/api/v1/alerts")?;
            let told = |name: &str| {
                alerts["alerts"].as_array().unwrap().iter().any(|alert| {
                    alert["labels"]["alertname"] == name && alert["labels"]["instance"] == address.as_str()
                })
            };
            let all = ["StoreMemberDown", "ApiServerDown"].iter().all(|name| told(name));
            if all { Ok(()) } else { Err(alerts.to_string()) }
        });
    }
}
