//! Clusters that lost their quorum for good go on with what one member has, and nothing acknowledged is missing.

use std::fs;

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::etcdctl::Etcdctl;
use jepsen_like_tests::load::{Load, check, history};

use super::{everything, json, kvctl, text};

/// One is lost, and later another: the last one has what the two acknowledged together. It goes on alone, under the
/// same load; the others are refused and come back as new members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_goes_on_with_every_acknowledged_write() {
    let options = Options::default().fast_elections().flag("--snapshot-count", 100);
    let mut cluster = Cluster::start(Flavor::Barque, 3, options).await.unwrap();
    let load = Load::start(&cluster.endpoints(), 4);
    load.acknowledged(300, PATIENCE).await;
    let leader = cluster.leader().await.unwrap();
    let (first, last) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill9(first).unwrap();
    // From here on each of the two others must have a write before it is acknowledged.
    load.acknowledged(300, PATIENCE).await;
    let dir = cluster.data_dir(last).to_owned();
    let running = kvctl().run(&["recover", "--data-dir", text(&dir), "--yes"]).await;
    assert!(running.code == 1 && running.err.contains("another process is running"), "{running:?}");
    cluster.kill9(leader).unwrap();
    cluster.kill9(last).unwrap();

    let refused = kvctl().run(&["recover", "--data-dir", text(&dir)]).await;
    assert!(refused.code == 128 && refused.err.contains("only member of a new cluster"), "{refused:?}");
    let looked = kvctl().run(&["recover", "--data-dir", text(&dir), "--dry-run", "-w", "json"]).await.ok();
    let found = &json(&looked)["directories"][0];
    assert_eq!(found["name"], cluster.name(last));
    assert_eq!(found["members"].as_array().unwrap().len(), 3);
    assert!(!dir.join("before-recovery-1").exists());
    let told = kvctl().run(&["recover", "--data-dir", text(&dir), "--yes"]).await.ok();
    assert!(
        told.contains("only member of the new cluster") && told.contains("wipe the other members"),
        "{told}"
    );
    assert!(fs::read_dir(dir.join("before-recovery-1/wal")).unwrap().count() > 0);

    cluster.restart(last).await.unwrap();
    load.acknowledged(200, PATIENCE).await;
    let memories = load.stop().await;
    let client = cluster.client(last);
    check(&memories, &history(&client).await);

    for old in [first, leader] {
        cluster.spawn(old).unwrap();
        let ended = cluster.ended(old, PATIENCE).await.unwrap().expect("it is refused");
        assert_eq!(ended.code(), Some(1));
        assert!(cluster.log(old).contains("cluster ID mismatch"), "{}", cluster.log(old));
    }
    let members = Etcdctl::kvctl(&[cluster.endpoint(last)]).run(&["member", "list", "-w", "json"]).await.ok();
    assert_eq!(json(&members)["members"].as_array().unwrap().len(), 1);
    let added = cluster.add_member().await.unwrap();
    assert!(everything(&cluster.client(added), 0).await == everything(&client, 0).await);
    cluster.kill9(last).unwrap();
    cluster.restart(last).await.unwrap();
    cluster.client(last).put("after", "v").await.unwrap();
}

/// Of the directories that are left, the one that knows most is taken: any two of three have every acknowledged write
/// in one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_that_knows_most_is_found() {
    let mut cluster = Cluster::start(Flavor::Barque, 3, Options::default().fast_elections()).await.unwrap();
    let load = Load::start(&cluster.endpoints(), 4);
    load.acknowledged(300, PATIENCE).await;
    for index in 0..3 {
        cluster.kill9(index).unwrap();
    }
    let lost = cluster.data_dir(2).to_owned();
    fs::write(lost.join("identity"), "damaged").unwrap();
    let mut words = vec!["recover", "--yes", "-w", "json"];
    let dirs: Vec<_> = (0..3).map(|index| cluster.data_dir(index).to_owned()).collect();
    for dir in &dirs {
        words.extend(["--data-dir", text(dir)]);
    }
    let told = json(&kvctl().run(&words).await.ok());
    let found = told["directories"].as_array().unwrap();
    assert!(found[2]["error"].as_str().unwrap().contains("identity file is damaged"), "{told}");
    let place = |at: usize| (found[at]["lastTerm"].as_u64(), found[at]["lastIndex"].as_u64());
    let chosen = usize::from(place(1) > place(0));
    assert_eq!(told["chosen"].as_str(), Some(text(&dirs[chosen])));
    cluster.restart(chosen).await.unwrap();
    load.acknowledged(100, PATIENCE).await;
    let memories = load.stop().await;
    check(&memories, &history(&cluster.client(chosen)).await);
}
