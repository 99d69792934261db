//! Whole masters under faults, for some seconds: objects, informers and Leases while masters die, Deployments while they hang.

use std::time::Duration;

use jepsen_like_tests::checkers::Verdict;
use jepsen_like_tests::masters::nemesis::MasterNemesis;
use jepsen_like_tests::masters::run::{Plan, Summary, run};
use jepsen_like_tests::masters::workload::Workload;

/// Runs a workload under a fault; these checkers must have had something to judge.
async fn passes(workload: Workload, nemesis: MasterNemesis, seed: u64, checkers: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let plan = Plan {
        workload,
        nemesis,
        duration: Duration::from_secs(3),
        seed,
        clients: 4,
        pace: Duration::from_millis(20),
        out: out.path().to_owned(),
    };
    let run = run(&plan, |_| ()).await.unwrap();
    println!("{}", Summary(&run));
    for finding in &run.findings {
        assert!(
            finding.verdict.passed(),
            "{workload} under {nemesis}: {}: {}",
            finding.checker,
            finding.verdict
        );
    }
    for checker in checkers {
        let own = run.findings.iter().find(|finding| finding.checker == *checker).unwrap();
        let is_something = matches!(own.verdict, Verdict::Passed { checked: 1.. });
        assert!(is_something, "{checker} had nothing to judge: {}", own.verdict);
    }
    assert!(run.strikes > 0, "no fault struck");
}

// The seeds are of faults that are soon over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_and_informers_while_masters_die() {
    let all = ["truth", "writes", "reads", "watches", "leader", "traffic"];
    passes(Workload::Watches, MasterNemesis::Kill, 4, &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_while_all_masters_are_upgraded() {
    passes(Workload::Deployments, MasterNemesis::Upgrade, 4, &["leader", "converged", "traffic"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_while_masters_hang() {
    passes(Workload::Deployments, MasterNemesis::Pause, 4, &["leader", "converged", "traffic"]).await;
}
