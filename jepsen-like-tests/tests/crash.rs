//! Processes that are killed, stopped and paused under load: nothing acknowledged is lost, nothing goes back,
//! nobody disagrees.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::time::Duration;

use bytes::Bytes;
use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, http_get};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::load::{Acknowledged, Load, Memories, PREFIX, check, history};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const WRITERS: usize = 4;
/// Of one member in one test. A loop without a pause writes a hundred thousand in a second.
const MOST_LOG_LINES: usize = 20_000;

/// Every member has the same history and the same hash, and both agree with what the clients remember.
async fn everybody_agrees(cluster: &mut Cluster, memories: &Memories) {
    let first = history(&cluster.client(0)).await;
    check(memories, &first);
    let revision = first.last().unwrap().revision;
    let hash = cluster.client(0).hash_kv(revision).await.unwrap();
    for index in 1..cluster.len() {
        let client = cluster.client(index);
        // The linearizable read in `history` makes the member catch up first.
        assert!(history(&client).await == first, "{} tells another history than m1", cluster.name(index));
        let other = client.hash_kv(revision).await.unwrap();
        assert_eq!(
            (hash.hash, hash.compact_revision),
            (other.hash, other.compact_revision),
            "hash at revision {revision} on {}",
            cluster.name(index)
        );
    }
    // Nobody lost anything, so nobody may have been taken for somebody who did.
    for index in 0..cluster.len() {
        let log = cluster.log(index);
        let refused = log.lines().find(|line| line.contains("rolled back"));
        assert_eq!(refused, None, "{} refuses a member that has everything", cluster.name(index));
        // A member that is gone is called again with pauses, each time with a few lines in the log.
        let lines = log.lines().count();
        assert!(lines < MOST_LOG_LINES, "{} wrote {lines} lines: it calls without rest", cluster.name(index));
    }
    println!("{} writes were acknowledged, {} are in the history", memories.acknowledged.len(), first.len());
}

/// etcd tells its clients that the leader has changed; they ask again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_asked_of_a_leader_that_hangs_is_answered_by_the_next_one() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd fails such reads");
        return;
    }
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::Barque, 3, options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let follower = cluster.client((leader + 1) % 3);
    follower.put("a", "1").await.unwrap();
    assert_eq!(follower.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    cluster.pause(leader).unwrap();
    // The one whom the question goes to answers nothing, and still hangs when the answer is there.
    assert_eq!(follower.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
    cluster.resume(leader).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_leaders_and_followers_loses_nothing() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let load = Load::start(&cluster.endpoints(), WRITERS);
    // Each writer always has a write under way; what counts is how often somebody is killed in the middle of one. The
    // writes in between, which take nearly all of the time, show no more by being many.
    for round in 0..8 {
        load.acknowledged(60, PATIENCE).await;
        let leader = cluster.leader().await.unwrap();
        let victim = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
        cluster.kill9(victim).unwrap();
        load.acknowledged(60, PATIENCE).await;
        cluster.restart(victim).await.unwrap();
    }
    let memories = load.stop().await;
    everybody_agrees(&mut cluster, &memories).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_all_three_at_once_loses_nothing() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let load = Load::start(&cluster.endpoints(), WRITERS);
    for _ in 0..4 {
        load.acknowledged(300, PATIENCE).await;
        for index in 0..3 {
            cluster.kill9(index).unwrap();
        }
        cluster.restart_all(&[0, 1, 2]).await.unwrap();
    }
    load.acknowledged(100, PATIENCE).await;
    let memories = load.stop().await;
    everybody_agrees(&mut cluster, &memories).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_a_cluster_of_one_loses_nothing() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let load = Load::start(&cluster.endpoints(), WRITERS);
    for _ in 0..8 {
        load.acknowledged(200, PATIENCE).await;
        cluster.kill9(0).unwrap();
        cluster.restart(0).await.unwrap();
    }
    load.acknowledged(100, PATIENCE).await;
    let memories = load.stop().await;
    everybody_agrees(&mut cluster, &memories).await;
}

/// Writes to the other members go on while the leader is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_hands_the_leadership_over() {
    let options = elected_only_after_patience();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let endpoints: Vec<String> =
        cluster.followers().await.unwrap().into_iter().map(|index| cluster.endpoint(index)).collect();
    let load = Load::start(&endpoints, 2);
    load.acknowledged(100, PATIENCE).await;

    let started = Instant::now();
    let terminated = async { (cluster.terminate(leader).await.unwrap(), started.elapsed()) };
    let goes_on = async {
        load.acknowledged(100, PATIENCE).await;
        started.elapsed()
    };
    let ((status, stopped), written) = tokio::join!(terminated, goes_on);
    println!("it stopped after {stopped:?} with {status}; 100 more writes took {written:?}");
    // etcd ends itself with the signal once more.
    assert!(status.success() || cluster.flavor() == Flavor::Etcd, "it ended with {status}");

    cluster.restart(leader).await.unwrap();
    let memories = load.stop().await;
    everybody_agrees(&mut cluster, &memories).await;
}

/// A leader that was paused for longer than an election must neither answer a read from its old state nor end a
/// lease that its successor keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_answers_nothing_stale_and_ends_no_lease() {
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let paused = cluster.leader().await.unwrap();
    let others = cluster.followers().await.unwrap();
    let old_leader = cluster.client(paused);
    old_leader.put("register", "before").await.unwrap();
    let lease = old_leader.lease_grant(0, 3).await.unwrap().id;
    let attach = barque_proto::etcdserverpb::PutRequest {
        key: "leased".into(),
        value: "kept".into(),
        lease,
        ..Default::default()
    };
    old_leader.kv.clone().put(attach).await.unwrap();

    cluster.pause(paused).unwrap();
    let pause = Instant::now();
    // Reads that wait in the paused leader's sockets are the first that it sees when it goes on.
    let waiting = [Client::to(&cluster.endpoint(paused)), old_leader.clone()]
        .map(|client| tokio::spawn(async move { client.get("register").await }));

    let survivor = cluster.client(cluster.leader_among(&others).await.unwrap());
    let written =
        eventually("a write through the new leader", PATIENCE, || survivor.put("register", "after"));
    written.await.unwrap();
    // Keep the lease through the new leader for longer than it would last for the old one.
    while pause.elapsed() < Duration::from_secs(4) {
        assert!(survivor.lease_keep_alive(lease).await.unwrap().ttl > 0, "the lease is gone");
        sleep(Duration::from_millis(500)).await;
    }

    cluster.resume(paused).unwrap();
    for read in waiting {
        if let Ok(Ok(value)) = timeout(PATIENCE, read).await.unwrap().map(|answer| answer.map_err(drop)) {
            assert_eq!(value.as_deref(), Some(&b"after"[..]), "a stale read from the paused leader");
        }
    }
    cluster.ready(paused).await.unwrap();
    assert_eq!(old_leader.get("register").await.unwrap().as_deref(), Some(&b"after"[..]));
    for _ in 0..4 {
        assert!(survivor.lease_keep_alive(lease).await.unwrap().ttl > 0, "the old leader ended the lease");
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(survivor.get("leased").await.unwrap().as_deref(), Some(&b"kept"[..]));
}

/// What one client of the member that falls behind was told.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Acknowledged>,
    unanswered: Vec<String>,
}

/// Writes one value after the other through one member, each once, until `enough` were acknowledged after the
/// signal. It waits for as long as the member lets it.
async fn write_patiently(
    client: Client,
    writer: usize,
    mut signal: watch::Receiver<bool>,
    enough: usize,
) -> Told {
    let mut told = Told::default();
    let mut since = 0;
    for number in 0.. {
        let (key, value) = (format!("{PREFIX}behind/{writer}"), format!("behind-{writer}-{number}"));
        match client.put(key.clone(), value.clone()).await {
            Ok(answer) => {
                let revision = answer.header.unwrap().revision;
                told.acknowledged.push(Acknowledged { key: key.into(), value: value.into(), revision });
                since += usize::from(*signal.borrow_and_update());
            }
            Err(status) => told.unanswered.push(status.message().to_owned()),
        }
        if since >= enough {
            break;
        }
    }
    told
}

/// A leader without a majority, whose clients wait for one, stops as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_that_are_told_to_stop_stops() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let load = Load::start(&cluster.endpoints(), WRITERS);
    for _ in 0..5 {
        load.acknowledged(100, PATIENCE).await;
        let leader = cluster.leader().await.unwrap();
        for index in [(leader + 1) % 3, (leader + 2) % 3, leader] {
            let status = cluster.terminate(index).await.unwrap();
            assert!(status.success() || cluster.flavor() == Flavor::Etcd, "it ended with {status}");
        }
        cluster.restart_all(&[0, 1, 2]).await.unwrap();
    }
    load.acknowledged(100, PATIENCE).await;
    let memories = load.stop().await;
    everybody_agrees(&mut cluster, &memories).await;
}

/// Members that a silent leader keeps waiting for longer than a test does: a write that is acknowledged after the
/// leader's end shows that the others did not have to wait for that.
fn elected_only_after_patience() -> Options {
    let timeout_ms = u64::try_from(PATIENCE.as_millis()).unwrap() * 3 / 2;
    Options::default().flag("--election-timeout", timeout_ms)
}

/// The others notice by its closed port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_missed_before_the_election_timeout() {
    if !Flavor::under_test().is_barque() {
        println!("skipped: etcd waits for the election timeout");
        return;
    }
    let options = elected_only_after_patience();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    for round in 0..8 {
        let leader = cluster.leader().await.unwrap();
        let follower = cluster.client((leader + 1) % 3);
        cluster.kill9(leader).unwrap();
        let key = format!("round/{round}");
        let written =
            eventually("a write after the leader's end", PATIENCE, || follower.put(key.clone(), "v"));
        written.await.unwrap();
        cluster.restart(leader).await.unwrap();
    }
}

/// A member is paused with writes of its clients on their way to the leader, and gets a snapshot that contains
/// them: it can neither tell their clients that they were done nor do them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_on_their_way_of_a_member_that_gets_a_snapshot_are_done_once() {
    if !Flavor::under_test().is_barque() {
        println!("skipped: etcd keeps 5000 entries for followers, however large they are");
        return;
    }
    // Clients wait for 5 s and two election timeouts: longer than the pause.
    let options = Options::default()
        .flag("--heartbeat-interval", 500)
        .flag("--election-timeout", 10_000)
        .flag("--snapshot-count", 100);
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let behind = (leader + 1) % 3;
    let signal = watch::Sender::new(false);
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        writers.spawn(write_patiently(cluster.client(behind), writer, signal.subscribe(), 20));
    }
    let through_leader = cluster.client(leader);
    let begun = eventually("writes through the member", PATIENCE, || async {
        let found =
            through_leader.get(format!("{PREFIX}behind/3")).await.map_err(|status| status.to_string())?;
        found.map(drop).ok_or_else(|| "none yet".to_owned())
    });
    begun.await.unwrap();
    cluster.pause(behind).unwrap();

    // Megabytes, of which the leader keeps a fraction in its log.
    let mut load = JoinSet::new();
    for writer in 0..8 {
        let client = cluster.client(leader);
        load.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..50 {
                let key = Bytes::from(format!("{PREFIX}{writer}/{}", number % 5));
                let value = Bytes::from(format!("{writer}-{number}-{}", "y".repeat(32 << 10)));
                let answer = client.put(key.clone(), value.clone()).await.unwrap();
                acknowledged.push(Acknowledged { key, value, revision: answer.header.unwrap().revision });
            }
            acknowledged
        });
    }
    let mut memories = Memories::default();
    while let Some(writes) = load.join_next().await {
        memories.acknowledged.extend(writes.unwrap());
    }
    // Entries that are on their way to a member stay in the leader's log, until the leader gives the member up.
    let given_up = || cluster.log(leader).matches("ReplicationCore recv RPCError").count();
    let before = given_up();
    let gone = eventually("the leader gives the member up", PATIENCE, || async {
        if given_up() > before { Ok(()) } else { Err("it still sends") }
    });
    gone.await.unwrap();
    signal.send_replace(true);
    cluster.resume(behind).unwrap();
    let mut unanswered = Vec::new();
    while let Some(told) = writers.join_next().await {
        let told = told.unwrap();
        memories.acknowledged.extend(told.acknowledged);
        unanswered.extend(told.unanswered);
    }
    let metrics = http_get(cluster.client_port(behind), "/metrics").await.unwrap().body;
    let received = metrics
        .lines()
        .any(|line| line.starts_with("etcd_network_snapshot_receive_success") && !line.ends_with(" 0"));
    assert!(received, "it caught up, but not by a snapshot");
    println!("unanswered: {unanswered:?}");
    assert!(!unanswered.is_empty(), "no write was on its way");
    for error in &unanswered {
        assert_eq!(error, "etcdserver: request timed out, possibly due to connection lost");
    }
    everybody_agrees(&mut cluster, &memories).await;
}
