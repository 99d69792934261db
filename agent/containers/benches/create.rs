//! How long it takes from nothing to a running container, and what a sandbox's shim costs in memory. Needs root and busybox;
//! everything is removed at the end. `cargo bench -p barque-containers`, with a number of rounds as its argument.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to tell")]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use barque_containers::spec::{ContainerSpec, Process, SandboxSpec, Seccomp};
use barque_containers::{Containers, Settings};

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "shim") {
        return barque_containers::shim::main(&words[2..]);
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return ExitCode::SUCCESS;
    }
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(50);
    let directory = tempfile::Builder::new().prefix("bqb").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(directory.path(), rounds));
    drop(runtime);
    let cleaned =
        barque_containers::cleanup(&directory.path().join("run"), &directory.path().join("data")).unwrap();
    assert!(cleaned.left.is_empty(), "{:?}", cleaned.left);
    ExitCode::SUCCESS
}

/// One round's times.
struct Times {
    sandbox: Duration,
    create: Duration,
    start: Duration,
    exec: Duration,
    remove: Duration,
}

/// A part of a round's times.
type Part = fn(&Times) -> Duration;

async fn measure(directory: &Path, rounds: usize) {
    let layer = directory.join("layer/bin");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::copy("/bin/busybox", layer.join("busybox")).expect("apt-get install busybox-static");
    let prefix = format!("bqb{}", std::process::id());
    let settings = Settings {
        state_dir: directory.join("run"),
        data_dir: directory.join("data"),
        shim: vec![std::env::current_exe().unwrap().into(), "shim".into()],
        cgroup_root: prefix.clone(),
        log_file_bytes: 10 << 20,
        log_files: 5,
    };
    let containers = Containers::open(settings).await.unwrap();
    let mut times = Vec::with_capacity(rounds);
    let mut memory = (0, 0);
    for round in 0..rounds {
        let (sandbox, container) = (format!("{prefix}-s{round}"), format!("{prefix}-c{round}"));
        let spec = ContainerSpec {
            id: container.clone(),
            name: "one".to_owned(),
            layers: vec![directory.join("layer")],
            log_path: directory.join("logs/one.log"),
            seccomp: Seccomp::RuntimeDefault,
            process: Process {
                args: ["/bin/busybox", "sleep", "600"].map(str::to_owned).to_vec(),
                ..Process::default()
            },
            ..ContainerSpec::default()
        };
        let mut clock = Instant::now();
        let mut lap = || {
            let elapsed = clock.elapsed();
            clock = Instant::now();
            elapsed
        };
        let group = format!("kubepods/besteffort/pod{round}");
        let spec_of_sandbox = SandboxSpec { id: sandbox.clone(), cgroup: group, ..SandboxSpec::default() };
        containers.create_sandbox(spec_of_sandbox).await.unwrap();
        let made = lap();
        containers.create(&sandbox, spec).await.unwrap();
        let create = lap();
        containers.start(&container).await.unwrap();
        let start = lap();
        let words = ["/bin/busybox", "true"].map(str::to_owned).to_vec();
        containers.exec_sync(&container, words, None).await.unwrap();
        let exec = lap();
        if round + 1 == rounds {
            memory = memory_of_shim(&directory.join("run/sandboxes").join(&sandbox));
        }
        lap();
        containers.remove_sandbox(&sandbox).await.unwrap();
        times.push(Times { sandbox: made, create, start, exec, remove: lap() });
    }
    containers.close().await;
    println!("{rounds} rounds, milliseconds          p50     p99");
    let rows: [(&str, Part); 6] = [
        ("sandbox (namespaces, group, shim)", |times| times.sandbox),
        ("container made", |times| times.create),
        ("container started", |times| times.start),
        ("nothing to running", |times| times.sandbox + times.create + times.start),
        ("exec of true", |times| times.exec),
        ("all removed", |times| times.remove),
    ];
    for (name, part) in rows {
        let mut values: Vec<Duration> = times.iter().map(part).collect();
        values.sort_unstable();
        let at = |percent: usize| values[(values.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!("{name:<34}{:>8.1}{:>8.1}", at(50), at(99));
    }
    println!("a shim's own memory: {} KiB; with its share of the program: {} KiB", memory.0, memory.1);
}

/// Anonymous and proportional memory in KiB.
fn memory_of_shim(sandbox: &Path) -> (u64, u64) {
    let text = std::fs::read_to_string(sandbox.join("shim.json")).unwrap();
    let pid: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let value = |key: &str| {
        let line = rollup.lines().find(|line| line.starts_with(key)).unwrap_or("x 0");
        line.split_whitespace().nth(1).unwrap_or("0").parse().unwrap_or(0)
    };
    (value("Anonymous:"), value("Pss:"))
}
