//! Each workload under a fault of its own, for some seconds: nothing that clients saw may be wrong.
//!
//! The pairs are fixed, so that each workload and almost each fault has its turn. Longer runs and all pairs: the binary
//! `jepsen-like-tests run`.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

#[path = "chaos/masters.rs"]
mod masters;

use std::path::Path;
use std::time::Duration;

use jepsen_like_tests::checkers::Verdict;
use jepsen_like_tests::cluster::Flavor;
use jepsen_like_tests::excerpt;
use jepsen_like_tests::history::{History, read_lines};
use jepsen_like_tests::nemesis::Nemesis;
use jepsen_like_tests::run::{Plan, run};
use jepsen_like_tests::sick_disk;
use jepsen_like_tests::spawn;
use jepsen_like_tests::workload::Workload;
use tokio::process::Command;

/// How long faults strike.
const DURATION: Duration = Duration::from_secs(4);

/// Runs a workload under a fault; `checker` must have had something to judge.
async fn passes(workload: Workload, nemesis: Nemesis, checker: &str) {
    let out = tempfile::tempdir().unwrap();
    let plan = Plan {
        workload,
        nemesis,
        duration: DURATION,
        seed: rand::random(),
        clients: 6,
        pace: Duration::from_millis(10),
        secure: false,
        flavor: Flavor::under_test(),
        unsafe_no_fsync: false,
        out: Some(out.path().to_owned()),
    };
    let run = run(&plan, |_| ()).await.unwrap();
    for finding in &run.findings {
        println!("{:<14}{}", finding.checker, finding.verdict);
    }
    if let Some(finding) = run.findings.iter().find(|finding| !finding.verdict.passed()) {
        let shown = excerpt::of(&run.history, finding).map(|excerpt| excerpt::text(&excerpt));
        panic!(
            "{workload} under {nemesis}, seed {}: {}: {}\n{}",
            plan.seed,
            finding.checker,
            finding.verdict,
            shown.unwrap_or_default()
        );
    }
    let own = run.findings.iter().find(|finding| finding.checker == checker).unwrap();
    assert!(
        matches!(own.verdict, Verdict::Passed { checked: 1.. }),
        "{checker} had nothing to judge: {}",
        own.verdict
    );
    assert!(run.strikes > 0, "no fault struck");
    let began = run.history.faults.iter().filter(|fault| fault.ended_ns.is_none()).count();
    assert_eq!(began, 0, "faults that are not over");
    assert_eq!(run.history.members.len(), 3, "members whose state was compared");

    // The file says the same as what was judged.
    let file = std::fs::File::open(out.path().join("history.jsonl")).unwrap();
    let again = History::of(read_lines(std::io::BufReader::new(file)).unwrap()).unwrap();
    assert_eq!(again, run.history);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_under_kill_9() {
    passes(Workload::Register, Nemesis::Kill, "registers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_under_pauses() {
    passes(Workload::ListAppend, Nemesis::Pause, "list-append").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_under_replaced_members() {
    passes(Workload::Set, Nemesis::Replace, "set").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_under_moving_leaders() {
    passes(Workload::Counter, Nemesis::MoveLeader, "counter").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_under_compactions() {
    passes(Workload::Watch, Nemesis::Compact, "watch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_under_kill_9() {
    passes(Workload::Lease, Nemesis::Kill, "lease").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_under_pauses() {
    passes(Workload::Lock, Nemesis::Pause, "lock").await;
}

/// As [`passes`], on disks of our own.
async fn passes_on_disks(workload: Workload, nemesis: Nemesis, checker: &str) {
    if let Some(what) = sick_disk::missing() {
        println!("skipped: {nemesis} {what}");
        return;
    }
    passes(workload, nemesis, checker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_under_power_cuts() {
    passes_on_disks(Workload::Set, Nemesis::PowerCut, "set").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_on_sick_disks() {
    passes_on_disks(Workload::Register, Nemesis::SickDisk, "registers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_under_bit_flips() {
    passes(Workload::Watch, Nemesis::BitFlip, "watch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_under_restarts() {
    passes(Workload::Transactions, Nemesis::Restart, "revisions").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_under_everything() {
    passes(Workload::Register, Nemesis::Mixed, "registers").await;
}

/// By the program itself, which enters namespaces of its own; a test cannot.
#[tokio::test]
async fn watches_under_partitions() {
    let programs = ["ip", "nft", "unshare"];
    let missing = programs.into_iter().find(|program| spawn::command(Path::new(program)).is_err());
    if !rustix::process::geteuid().is_root() || missing.is_some() {
        println!("skipped: partitions need root, ip, nft and unshare");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_jepsen-like-tests"))
        .args(["run", "--workload", "watch", "--nemesis", "partition"])
        .args(["--duration", &DURATION.as_secs().to_string(), "--out"])
        .arg(out.path())
        .kill_on_drop(true)
        .output();
    let run = run.await.unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}{}", String::from_utf8_lossy(&run.stderr));
    let file = std::fs::File::open(out.path().join("history.jsonl")).unwrap();
    let history = History::of(read_lines(std::io::BufReader::new(file)).unwrap()).unwrap();
    assert!(history.faults.iter().any(|fault| fault.kind.starts_with("partition: ")), "{told}");
    assert_eq!(history.members.len(), 5, "members whose state was compared");
}

/// In a process of its own, which puts itself into a network of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_on_bad_networks() {
    let tools = ["ip", "nft", "unshare"].iter().all(|tool| spawn::command(Path::new(tool)).is_ok());
    if !rustix::process::geteuid().is_root() || !tools || !Path::new("/dev/net/tun").exists() {
        println!("skipped: bad networks need root, /dev/net/tun, iproute2, nftables and util-linux");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_jepsen-like-tests"))
        .args(["run", "--workload", "list-append", "--nemesis", "network", "--duration", "4", "--out"])
        .arg(out.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let packets = told.lines().find(|line| line.contains(" packets: ")).unwrap();
    assert!(
        packets.split(": ").nth(1).unwrap().contains(['1', '2', '3', '4', '5', '6', '7', '8', '9']),
        "{packets}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_under_wrong_clocks() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd asks the kernel for the time and not the C library");
        return;
    }
    passes(Workload::Lease, Nemesis::Clock, "lease").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_under_changing_rights() {
    passes(Workload::Set, Nemesis::Auth, "auth").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_under_snapshots() {
    passes(Workload::Kubernetes, Nemesis::Snapshot, "watch").await;
}
