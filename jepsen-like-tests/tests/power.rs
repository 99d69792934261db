//! Power that goes: what was acknowledged is there afterwards, and a member that does not sync is found out.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::sync::Arc;
use std::time::Duration;

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::nemesis::Nemesis;
use jepsen_like_tests::run::{Plan, run};
use jepsen_like_tests::sick_disk::loss::Loss;
use jepsen_like_tests::sick_disk::sickness::{Sickness, Syncs};
use jepsen_like_tests::sick_disk::{Disks, missing};
use jepsen_like_tests::workload::Workload;
use rand::SeedableRng;
use rand::rngs::StdRng;

fn disks() -> Option<Arc<Disks>> {
    if let Some(what) = missing() {
        println!("skipped: {what}");
        return None;
    }
    Some(Arc::default())
}

/// The power of the only member goes, and it starts again.
async fn cut(cluster: &mut Cluster, loss: Loss, seed: u64) {
    let disk = cluster.disk(0).unwrap();
    disk.power_off();
    cluster.kill9(0).unwrap();
    disk.set(Sickness::NONE);
    disk.power_on(loss, &mut StdRng::seed_from_u64(seed));
    cluster.restart(0).await.unwrap();
}

/// Alone, and new: every file and directory that it needs was made a moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_power() {
    let Some(disks) = disks() else { return };
    let options = Options::default().fast_elections().flag("--snapshot-count", 100).disks(disks);
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);
    let mut written = 0;
    for (seed, loss) in (0..).zip(Loss::ALL) {
        // The first write is all there is; later there are snapshots, and a log that begins with one.
        for _ in 0..1 + 50 * seed {
            client.put(format!("key/{written}"), "x".repeat(500)).await.unwrap();
            written += 1;
        }
        cut(&mut cluster, loss, seed).await;
        for number in 0..written {
            assert!(client.get(format!("key/{number}")).await.unwrap().is_some(), "key/{number}, {loss}");
        }
    }
}

/// After a sync that failed, the page cache holds what the disk does not. The member stops, is started again on a disk
/// that works, and acknowledges; then the power goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_a_failed_sync_outlives_the_power() {
    let Some(disks) = disks() else { return };
    let options = Options::default().fast_elections().disks(disks);
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);
    for round in 0..3 {
        client.put(format!("before/{round}"), "x").await.unwrap();
        cluster.disk(0).unwrap().set(Sickness::of_syncs(Syncs::Fail));
        assert!(client.put(format!("during/{round}"), "x").await.is_err());
        let ended = cluster.ended(0, Duration::from_secs(15)).await.unwrap();
        assert!(!ended.expect("it goes on after a failed sync").success());
        cluster.disk(0).unwrap().set(Sickness::NONE);
        cluster.restart(0).await.unwrap();
        let during = client.get(format!("during/{round}")).await.unwrap();
        client.put(format!("after/{round}"), "x").await.unwrap();
        cut(&mut cluster, Loss::Everything, 0).await;
        for key in ["before", "after"] {
            assert!(client.get(format!("{key}/{round}")).await.unwrap().is_some(), "{key}/{round} is gone");
        }
        assert_eq!(client.get(format!("during/{round}")).await.unwrap(), during, "it was read before");
    }
}

/// What the harness is worth: without syncs, acknowledged writes are lost when the power of all goes at once, and the run
/// fails: a checker misses a write, a member finds that its records are ahead of its log and ends, or the others refuse a
/// member whose log is shorter than what it acknowledged. The same run with syncs passes (`tests/chaos.rs`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_do_not_sync_are_found_out() {
    if !Flavor::under_test().is_barque() {
        println!("skipped: etcd has --unsafe-no-fsync from 3.5 on");
        return;
    }
    if let Some(what) = missing() {
        println!("skipped: {what}");
        return;
    }
    let plan = Plan {
        workload: Workload::Set,
        nemesis: Nemesis::PowerCut,
        duration: Duration::from_secs(4),
        seed: rand::random(),
        clients: 8,
        pace: Duration::from_millis(1),
        flavor: Flavor::under_test(),
        unsafe_no_fsync: true,
        secure: false,
        out: None,
    };
    let run = run(&plan, |_| ()).await.unwrap();
    for finding in &run.findings {
        println!("{:<14}{}", finding.checker, finding.verdict);
    }
    assert!(!run.passed(), "nobody found out, seed {}", plan.seed);
}
