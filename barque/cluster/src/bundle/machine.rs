//! Pieces of a bundle from this machine: its system, links, routes and rules, and the last part of the logs. Reads only.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Bundle, Keep};

/// A program that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many lines of each unit's log are told.
const LINES: &str = "5000";

/// Files, as they are.
const FILES: [(&str, &str); 9] = [
    ("machine/kernel.txt", "/proc/version"),
    ("machine/system.txt", "/etc/os-release"),
    ("machine/memory.txt", "/proc/meminfo"),
    ("machine/load.txt", "/proc/loadavg"),
    ("machine/pressure-io.txt", "/proc/pressure/io"),
    ("machine/pressure-memory.txt", "/proc/pressure/memory"),
    ("network/routes-proc.txt", "/proc/net/route"),
    ("network/devices.txt", "/proc/net/dev"),
    ("network/resolvers.txt", "/etc/resolv.conf"),
];

/// What programs print.
const PROGRAMS: [(&str, &str, &[&str]); 7] = [
    ("network/addresses.txt", "ip", &["-details", "address", "show"]),
    ("network/routes.txt", "ip", &["route", "show", "table", "all"]),
    ("network/routes-v6.txt", "ip", &["-6", "route", "show", "table", "all"]),
    ("network/neighbours.txt", "ip", &["neighbour", "show"]),
    ("network/rules-nftables.txt", "nft", &["list", "ruleset"]),
    ("network/sockets.txt", "ss", &["--summary"]),
    ("machine/disks.txt", "df", &["--print-type", "--block-size=1M"]),
];

/// Everything; `units` are those of systemd whose logs are wanted.
pub(super) async fn collect(bundle: &mut Bundle, units: &[&str]) {
    for (name, path) in FILES {
        bundle.text(
            name,
            std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}")),
            Keep::First,
        );
    }
    for (name, program, words) in PROGRAMS {
        bundle.text(name, run(program, words).await, Keep::First);
    }
    for unit in units {
        let words = ["--unit", unit, "--lines", LINES, "--no-pager", "--output", "short-iso-precise"];
        bundle.text(&format!("logs/{unit}.txt"), run("journalctl", &words).await, Keep::Last);
    }
}

/// What a program prints; why there is nothing otherwise.
async fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let running = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let output = tokio::time::timeout(PATIENCE, running.wait_with_output()).await;
    let output = output.map_err(|_| format!("{program} did not end within {} s", PATIENCE.as_secs()))?;
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {}: {}", words.join(" "), why.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_not_there_or_fails_says_so() {
        assert!(run("no-such-program", &[]).await.unwrap_err().starts_with("no-such-program cannot be run"));
        assert!(run("df", &["--no-such-flag"]).await.unwrap_err().contains("no-such-flag"));
    }
}
