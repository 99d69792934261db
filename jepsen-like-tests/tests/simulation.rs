//! Simulated clusters: a fixed part of the seeds holds, a seed is one run whenever it is run, and bugs that are put in on
//! purpose are found.

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_jepsen-like-tests")).arg("simulate").args(arguments).output();
    output.expect("the simulator can be started")
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    parts.concat()
}

/// The numbers before `what` in the verdicts.
fn numbers_before(text: &str, what: &str) -> Vec<u64> {
    let before = text.match_indices(what).map(|(at, _)| &text[..at]);
    before.filter_map(|before| before.rsplit([' ', ',']).next()?.parse().ok()).collect()
}

/// The number behind `trace` in a verdict.
fn trace_of(seed: &str) -> String {
    let output = simulate(&["--seed", seed, "--lines", "0"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    let (_, behind) = text.rsplit_once("trace ").expect("a verdict tells its trace");
    behind.chars().take_while(char::is_ascii_hexdigit).collect()
}

#[test]
fn nothing_is_wrong_in_the_first_seeds() {
    let output = simulate(&["--seeds", "0..12", "--jobs", "2", "--lines", "60"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    // A run without load is no test, nor is one without faults.
    let promised: u64 = numbers_before(&text, " promised").iter().sum();
    let leaders: u64 = numbers_before(&text, " leaders").iter().sum();
    let leases: u64 = numbers_before(&text, " leases ended").iter().sum();
    let lost: u64 = numbers_before(&text, " sectors lost").iter().sum();
    assert!(promised > 1_500 && leaders > 12 && leases > 15 && lost > 2, "{text}");
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    let (first, again, another) = (trace_of("3"), trace_of("3"), trace_of("4"));
    assert_eq!(first, again);
    assert_ne!(first, another);
}

/// Each in so many seeds at most. Which ones follows from what members do: a change of the store may need others, as many.
#[test]
fn planted_bugs_are_found() {
    for (bug, seeds, by) in [
        (
            "lying-disk",
            "0..6",
            &[
                "election safety",
                "committed is durable",
                "state machine safety",
                "leader completeness",
                "only damage is damage",
            ][..],
        ),
        ("ack-before-store", "0..2", &["committed is on a quorum"]),
        ("stale-read", "0..3", &["the revision never goes back"]),
        ("lease-read", "36..42", &["the revision never goes back"]),
        ("double-apply", "0..2", &["a write is executed once"]),
        ("lost-event", "0..4", &["watch guarantees"]),
        ("duplicate-event", "0..2", &["watch guarantees"]),
        ("back-in-time", "0..2", &["watch guarantees"]),
        ("lost-delete", "0..2", &["watch guarantees"]),
        ("early-lease", "0..4", &["no lease ends early"]),
        ("stale-revoke", "0..2", &["no lease ends early"]),
    ] {
        let output = simulate(&["--seeds", seeds, "--plant", bug, "--lines", "0", "--fail-fast"]);
        let text = text(&output);
        assert!(!output.status.success(), "{bug} was not found in seeds {seeds}:\n{text}");
        let found = text.lines().filter_map(|line| line.split_once("VIOLATION at ")).map(|(_, what)| what);
        let found: Vec<&str> = found.collect();
        assert!(
            found.iter().any(|what| by.iter().any(|by| what.contains(by))),
            "{bug} was found as {found:?}"
        );
    }
}
