//! Wrong clocks really are wrong: a member tells and counts the time that it was given.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jepsen_like_tests::clocks::Clocks;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::{PATIENCE, eventually};

const HOUR_MS: i64 = 3_600_000;
/// What may pass between two calls on a busy machine.
const SLACK_MS: i64 = 600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_goes_by_the_clock_it_was_given() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd asks the kernel for the time and not the C library");
        return;
    }
    let clocks = Arc::new(Clocks::build().unwrap());
    let options = Options::default().fast_elections().clocks(Arc::clone(&clocks));
    let cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);

    // The wall clock is only told, in marks that members make now and then.
    clocks.set_wall("m1", HOUR_MS).unwrap();
    let revision = client.put("k", "v").await.unwrap().header.unwrap().revision;
    let marked = eventually("a mark of time", PATIENCE, || async {
        let times = client.time_of(vec![revision]).await.map_err(|status| status.to_string())?;
        Some(times[0].until_ms).filter(|ms| *ms > 0).ok_or_else(|| "not marked yet".to_owned())
    });
    let marked_ms = marked.await.unwrap();
    let true_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let ahead_ms = marked_ms - i64::try_from(true_ms).unwrap();
    assert!((ahead_ms - HOUR_MS).abs() < SLACK_MS, "{ahead_ms}");

    // Leases count by the monotonic clock. A step ends none; where a minute takes three seconds, it is over after them.
    client.lease_grant(7, 60).await.unwrap();
    clocks.set_wall("m1", 5 * HOUR_MS).unwrap();
    let left_s = client.lease_time_to_live(7, false).await.unwrap().ttl;
    assert!(left_s > PATIENCE.as_secs() as i64, "{left_s} s are left");
    clocks.set_rate("m1", 19_000_000).unwrap();
    let over = eventually("the end of a lease by a fast clock", PATIENCE, || async {
        let ttl = client.lease_time_to_live(7, false).await.map_err(|status| status.to_string())?.ttl;
        if ttl < 0 { Ok(()) } else { Err(format!("{ttl} s are left")) }
    });
    over.await.unwrap();
}
