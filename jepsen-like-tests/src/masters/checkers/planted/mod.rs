//! Histories of a model store that is right, and the same with a fault planted: checkers must pass the ones and find the others.

mod faults;
mod model;

use super::check_all;
use crate::checkers::Finding;
use crate::masters::history::History;
use faults::Fault;

/// In how many histories each fault must be found.
const SEEDS: u64 = 12;

fn failed(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().filter(|finding| !finding.verdict.passed()).map(|finding| finding.checker).collect()
}

fn told(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{}: {}\n", finding.checker, finding.verdict)).collect()
}

#[test]
fn what_is_right_passes() {
    for seed in 0..60 {
        let history = model::history(seed);
        let findings = check_all(&history);
        assert!(failed(&findings).is_empty(), "seed {seed}:\n{}", told(&findings));
        for finding in findings.iter().filter(|finding| finding.checker != "converged") {
            let words = finding.verdict.to_string();
            assert!(!words.contains("(0 checked)"), "seed {seed}: {} had nothing to judge", finding.checker);
        }
    }
}

#[test]
fn what_is_planted_is_found() {
    for fault in Fault::ALL {
        for seed in 0..SEEDS {
            let mut history: History = model::history(seed);
            fault.plant(&mut history, seed);
            let findings = check_all(&history);
            let found = failed(&findings);
            // What cannot be is told before anything is judged by it.
            let is_found = found.contains(&fault.checker()) || found.contains(&"truth");
            assert!(is_found, "{fault:?}, seed {seed}: not found\n{}", told(&findings));
        }
    }
}
