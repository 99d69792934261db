//! Clusters that grow, shrink and replace members under load: nothing acknowledged is lost, nothing goes back.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::load::{Load, check, history};

const WRITERS: usize = 4;
/// Writes that must be acknowledged at each size.
const WRITES: u64 = 300;

/// Spreads the load over all members that run, lets it write, and compares what they hold.
async fn members_agree(cluster: &mut Cluster, load: &Load, expected: usize) {
    let running = cluster.running();
    assert_eq!(running.len(), expected, "members that run");
    let endpoints: Vec<String> = running.iter().map(|&index| cluster.endpoint(index)).collect();
    load.spread_over(&endpoints);
    load.acknowledged(WRITES, PATIENCE).await;
    let revision = cluster.client(running[0]).revision().await.unwrap();
    let mut hashes = Vec::new();
    for &index in &running {
        let client = cluster.client(index);
        // A linearizable read makes the member catch up.
        client.revision().await.unwrap();
        hashes.push(client.hash_kv(revision).await.unwrap().hash);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "hashes at revision {revision}: {hashes:?}");
    let request = pb::MemberListRequest { linearizable: true };
    let list = cluster.client(running[0]).cluster.clone().member_list(request).await.unwrap();
    assert_eq!(list.get_ref().members.len(), expected, "{list:?}");
}

/// Waits until every member has a vote: one that was added gets it as soon as it has caught up.
async fn all_vote(cluster: &mut Cluster) {
    let clients: Vec<_> = cluster.running().into_iter().map(|index| cluster.client(index)).collect();
    let votes = eventually("votes for all", PATIENCE, || async {
        for client in &clients {
            let status = client.status().await.map_err(|status| status.message().to_owned())?;
            if status.is_learner {
                return Err(format!("{:?} has none", status.header));
            }
        }
        Ok(())
    });
    votes.await.unwrap();
}

async fn grow_to(cluster: &mut Cluster, load: &Load, size: usize) {
    while cluster.running().len() < size {
        cluster.add_member().await.unwrap();
        all_vote(cluster).await;
    }
    members_agree(cluster, load, size).await;
}

/// A member that was removed ends by itself and says why.
async fn ends_as_removed(cluster: &mut Cluster, index: usize) {
    let ended = cluster.ended(index, PATIENCE).await.unwrap();
    let log = cluster.log(index);
    assert!(ended.is_some_and(|status| !status.success()), "{ended:?}\n{log}");
    assert!(log.contains("was removed from the cluster"), "{log}");
}

/// Removes the leader first, then others.
async fn shrink_to(cluster: &mut Cluster, load: &Load, size: usize) {
    let mut leaving = cluster.leader().await.unwrap();
    while cluster.running().len() > size {
        let through = *cluster.running().iter().find(|&&index| index != leaving).unwrap();
        let id = cluster.member_id(leaving).await.unwrap();
        cluster.remove_member(id, through).await.unwrap();
        ends_as_removed(cluster, leaving).await;
        leaving = cluster.running()[0];
    }
    members_agree(cluster, load, size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_one_to_five_and_back_under_load_loses_nothing() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let load = Load::start(&cluster.endpoints(), WRITERS);
    members_agree(&mut cluster, &load, 1).await;
    grow_to(&mut cluster, &load, 3).await;
    grow_to(&mut cluster, &load, 5).await;
    shrink_to(&mut cluster, &load, 3).await;
    shrink_to(&mut cluster, &load, 1).await;
    let memories = load.stop().await;
    let last = cluster.running()[0];
    let history = history(&cluster.client(last)).await;
    check(&memories, &history);
    println!(
        "{} writes were acknowledged, {} are in the history",
        memories.acknowledged.len(),
        history.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_is_replaced_under_load() {
    for leads in [false, true] {
        let options = Options::default().fast_elections();
        let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
        let load = Load::start(&cluster.endpoints(), WRITERS);
        load.acknowledged(WRITES, PATIENCE).await;
        let leader = cluster.leader().await.unwrap();
        let dead = if leads { leader } else { (leader + 1) % 3 };
        let dead_id = cluster.member_id(dead).await.unwrap();
        cluster.kill9(dead).unwrap();
        let through = cluster.leader().await.unwrap();
        cluster.remove_member(dead_id, through).await.unwrap();
        cluster.add_member().await.unwrap();
        all_vote(&mut cluster).await;
        members_agree(&mut cluster, &load, 3).await;
        let memories = load.stop().await;
        for index in cluster.running() {
            check(&memories, &history(&cluster.client(index)).await);
        }
    }
}

/// It never sees the entry that removes it: whoever removed it does not send to it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_removed_while_they_hang_end_by_themselves() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let learner = cluster.add_learner().await.unwrap();
    let voter = cluster.followers().await.unwrap()[0];
    let leader = cluster.leader().await.unwrap();
    for hanging in [voter, learner] {
        let id = cluster.member_id(hanging).await.unwrap();
        cluster.pause(hanging).unwrap();
        cluster.remove_member(id, leader).await.unwrap();
        cluster.resume(hanging).unwrap();
        ends_as_removed(&mut cluster, hanging).await;
    }
    cluster.client(leader).put("a", "1").await.unwrap();
}

/// It greets the member that took the other's place by the name of the one that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_while_another_was_replaced_at_its_address_comes_back() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::start(Flavor::under_test(), 5, options).await.unwrap();
    let (replaced, away) = (3, 4);
    cluster.client(0).put("a", "1").await.unwrap();
    let id = cluster.member_id(replaced).await.unwrap();
    cluster.kill9(away).unwrap();
    cluster.kill9(replaced).unwrap();
    let through = cluster.leader_among(&[0, 1, 2]).await.unwrap();
    cluster.remove_member(id, through).await.unwrap();
    cluster.wipe(replaced).unwrap();
    let mut flags = cluster.flags(replaced);
    let url = flags["--initial-advertise-peer-urls"].clone();
    let client = cluster.client(through);
    let added = eventually("a new member", PATIENCE, || async {
        client.member_add(&url, false).await.map_err(|status| status.message().to_owned())
    });
    added.await.unwrap();
    flags.insert("--initial-cluster-state".to_owned(), "existing".to_owned());
    cluster.spawn_with(replaced, &flags).unwrap();
    cluster.ready(replaced).await.unwrap();
    cluster.restart(away).await.unwrap();
    all_vote(&mut cluster).await;
    for index in cluster.running() {
        cluster.client(index).put("a", "2").await.unwrap();
    }
}
