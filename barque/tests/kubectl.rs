//! Real kubectl against two servers over one store: sessions of commands in `kubectl/*.session`, whose output must be what it
//! was (`kubectl/*.MINOR.golden`). A kubectl of a release without a golden file is held to the exit codes of one.
//!
//! `BLESS=1` writes the golden files anew; look at what changed.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod certificates;
mod cluster;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::Cluster;
use regex::Regex;

/// A kubectl, and the minor number of its release.
struct Kubectl {
    program: PathBuf,
    minor: u32,
}

/// Debian's, which `make test` puts below `target`, and whatever the machine has.
fn kubectls() -> Vec<Kubectl> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let debian = root.join("target/debian-kubectl/usr/bin/kubectl");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|directory| directory.join("kubectl"));
    let mut found: Vec<Kubectl> = Vec::new();
    for program in std::iter::once(debian).chain(installed).filter(|program| program.is_file()) {
        let version = Command::new(&program).args(["version", "--client", "-o", "json"]).output().unwrap();
        let version: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
        let minor =
            version["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+').parse().unwrap();
        if found.iter().all(|known| known.minor != minor) {
            found.push(Kubectl { program, minor });
        }
    }
    assert!(!found.is_empty(), "there is no kubectl; `make kubectl` brings Debian's");
    found
}

/// What differs from run to run, replaced.
struct Masks(Vec<(Regex, &'static str)>);

impl Masks {
    fn new(cluster: &Cluster) -> Self {
        let directory = regex::escape(&cluster.directory.path().display().to_string());
        let table = [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w\w\w \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "<time>"),
            (r#"(resourceVersion"?: ?)"\d+""#, r#"$1"<version>""#),
            (r"127\.0\.0\.1:\d+", "<server>"),
            (r"(?m)([ \t(])(\d+d)?(\d+h)?(\d+m)?\d+s\b( ago)?", "$1<age>"),
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

/// Runs a session, and tells what was said.
fn run(kubectl: &Kubectl, cluster: &Cluster, session: &Path, masks: &Masks) -> String {
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
            .env("KUBECONFIG", config)
            .env("CLUSTER", cluster.directory.path())
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
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl");
    let mut sessions: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "session"))
        .collect();
    sessions.sort();
    let only = std::env::var("SESSION").unwrap_or_default();
    sessions.retain(|path| path.display().to_string().contains(&only));
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = String::new();
    for kubectl in kubectls() {
        let cluster = Cluster::start(2);
        cluster.ready(&kubectl.program);
        let masks = Masks::new(&cluster);
        for session in &sessions {
            let told = run(&kubectl, &cluster, session, &masks);
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
