//! Real kubectl against two servers over one store: sessions of commands in `kubectl/*.session`, whose output must be what it
//! was (`kubectl/*.MINOR.golden`). A kubectl of a release without a golden file is held to the exit codes of one.
//!
//! `BLESS=1` writes the golden files anew; look at what changed.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::cluster::kubectls::{Kubectl, kubectls};
use regex::Regex;

/// What differs from run to run, replaced.
struct Masks(Vec<(Regex, &'static str)>);

impl Masks {
    fn new(cluster: &Cluster, machine: IpAddr) -> Self {
        let directory = regex::escape(&cluster.directory.path().display().to_string());
        let table = [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w\w\w \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "<time>"),
            (r#"(resourceVersion"?: ?)"\d+""#, r#"$1"<version>""#),
            (r"X509SHA256=[0-9a-f]{64}", "<certificate>"),
            (r"127\.0\.0\.1:\d+", "<server>"),
            (&format!(r"\b{}:\d+", regex::escape(&machine.to_string())), "<pod>"),
            (r"(?m)(^|[ \t(])(\d+d)?(\d+h)?(\d+m)?\d+s\b( ago)?", "$1<age>"),
            (r"(?m)(\S)[ \t]{2,}", "$1  "),
            (r"(?m)[ \t]+$", ""),
            (r"\x1b\[[0-9;]*m", ""),
        ];
        let mut masks = vec![(Regex::new(&directory).unwrap(), "<directory>")];
        masks.extend(table.into_iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), with)));
        Self(masks)
    }

    fn apply(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
    }
}

/// A command of a session.
struct Step {
    words: String,
    /// The first release whose kubectl can do it.
    since: u32,
}

fn steps(session: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(session).unwrap();
    let mut steps = Vec::new();
    let mut since = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(minor) = comment.trim().strip_prefix("since 1.") {
                since = minor.parse().unwrap();
            }
            continue;
        }
        steps.push(Step { words: line.to_owned(), since });
        since = 0;
    }
    steps
}

/// A cluster of two servers and two nodes, as sessions see it.
struct Surroundings {
    cluster: Cluster,
    /// Of the node whose agent speaks SPDY alone.
    old: Agent,
    /// Of the node with barque's node API, which takes WebSockets too.
    new: Agent,
    /// What a pod serves at an address of this machine.
    web: SocketAddr,
    masks: Masks,
}

impl Surroundings {
    fn start(kubectl: &Kubectl) -> Self {
        let cluster = Cluster::start(2);
        cluster.ready(&kubectl.program);
        let (directory, certificates) = (cluster.directory.path(), &cluster.certificates);
        let old = Agent::start(directory, certificates, false);
        let new = Agent::ours(directory, certificates, &cluster.kubeconfig(0));
        let web = old.pod(own_address());
        let masks = Masks::new(&cluster, web.ip());
        Self { cluster, old, new, web, masks }
    }
}

/// An address of this machine that pods may have: no loopback.
fn own_address() -> IpAddr {
    // Nothing is sent: the system says which address it would send from.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("192.0.2.1:9")
        .expect("this machine has a network; proxies go to no address of the loopback");
    socket.local_addr().unwrap().ip()
}

/// Runs a session, and tells what was said.
fn run(kubectl: &Kubectl, surroundings: &Surroundings, session: &Path) -> String {
    let Surroundings { cluster, old, new, web, masks } = surroundings;
    // A home of its own: kubectl remembers which kinds there are.
    let name = session.file_stem().unwrap().to_str().unwrap();
    let home = cluster.directory.path().join(format!("home-{}-{name}", kubectl.minor));
    std::fs::create_dir_all(&home).unwrap();
    let bin = home.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let link = bin.join("kubectl");
    if !link.exists() {
        std::os::unix::fs::symlink(&kubectl.program, &link).unwrap();
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let mut told = String::new();
    for (number, step) in steps(session).iter().enumerate().filter(|(_, step)| step.since <= kubectl.minor) {
        // In turns: what one server was told, the other knows.
        let config = cluster.kubeconfig(number % cluster.servers.len());
        let output = Command::new("timeout")
            .args(["60", "bash", "-c", &format!("exec 2>&1; {}", step.words)])
            .current_dir(session.parent().unwrap())
            .env_clear()
            .env("PATH", &path)
            .env("HOME", &home)
            // Where kubectl leaves what could not be edited.
            .env("TMPDIR", &home)
            .env("KUBECONFIG", config)
            .env("CLUSTER", cluster.directory.path())
            .env("OLD_AGENT", old.address.port().to_string())
            .env("NEW_AGENT", new.address.port().to_string())
            .env("POD_ADDRESS", web.ip().to_string())
            .env("POD_PORT", web.port().to_string())
            .output()
            .unwrap();
        writeln!(told, "$ {}", step.words).unwrap();
        told.push_str(&masks.apply(&String::from_utf8_lossy(&output.stdout)));
        if !told.ends_with('\n') {
            told.push('\n');
        }
        match output.status.code() {
            Some(0) => {}
            Some(code) => writeln!(told, "[exit {code}]").unwrap(),
            None => writeln!(told, "[killed]").unwrap(),
        }
    }
    told
}

/// The exit code of each command.
fn codes(told: &str) -> Vec<(String, String)> {
    let mut codes: Vec<(String, String)> = Vec::new();
    for line in told.lines() {
        if let Some(words) = line.strip_prefix("$ ") {
            codes.push((words.to_owned(), String::new()));
        } else if line.starts_with("[exit ") || line == "[killed]" {
            codes.last_mut().unwrap().1 = line.to_owned();
        }
    }
    codes
}

/// The golden file whose release is nearest.
fn golden(session: &Path, minor: u32) -> Option<(u32, PathBuf)> {
    let stem = session.file_stem().unwrap().to_str().unwrap();
    let files = std::fs::read_dir(session.parent().unwrap()).unwrap();
    let known = files.filter_map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name()?.to_str()?.to_owned();
        let of = name.strip_prefix(stem)?.strip_prefix(".1.")?.strip_suffix(".golden")?.parse().ok()?;
        Some((of, path))
    });
    known.min_by_key(|(of, _): &(u32, PathBuf)| of.abs_diff(minor))
}

#[test]
fn sessions_are_answered_as_they_were() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/kubectl");
    let mut sessions: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "session"))
        .collect();
    sessions.sort();
    let only = std::env::var("SESSION").unwrap_or_default();
    sessions.retain(|path| path.file_stem().unwrap().to_string_lossy().contains(&only));
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = String::new();
    for kubectl in kubectls() {
        let surroundings = Surroundings::start(&kubectl);
        for session in &sessions {
            let told = run(&kubectl, &surroundings, session);
            let name = session.file_stem().unwrap().to_str().unwrap();
            let own = session.with_file_name(format!("{name}.1.{}.golden", kubectl.minor));
            if bless {
                std::fs::write(&own, &told).unwrap();
                continue;
            }
            let (of, file) =
                golden(session, kubectl.minor).unwrap_or_else(|| panic!("{name} has no golden file"));
            let expected = std::fs::read_to_string(&file).unwrap();
            if of == kubectl.minor {
                differences(&expected, &told, &format!("{name} with kubectl 1.{of}"), &mut wrong);
                continue;
            }
            let known = codes(&expected);
            for (words, code) in codes(&told) {
                let before = known.iter().find(|(other, _)| *other == words);
                if before.is_some_and(|(_, other)| *other != code) {
                    writeln!(wrong, "kubectl 1.{}: {words} ended otherwise: {code}\n{told}", kubectl.minor)
                        .unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Tells the commands whose output differs.
fn differences(expected: &str, told: &str, name: &str, wrong: &mut String) {
    let blocks = |text: &str| -> Vec<String> {
        text.split("\n$ ").map(|block| block.trim_start_matches("$ ").trim_end().to_owned()).collect()
    };
    let (before, now) = (blocks(expected), blocks(told));
    for at in 0..before.len().max(now.len()) {
        let (old, new) = (before.get(at), now.get(at));
        if old != new {
            let show = |block: Option<&String>| block.map_or("(nothing)", String::as_str).to_owned();
            writeln!(wrong, "--- {name}, expected:\n$ {}\n--- got:\n$ {}\n", show(old), show(new)).unwrap();
        }
    }
}
