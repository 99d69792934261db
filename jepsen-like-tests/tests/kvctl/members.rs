//! Changes of membership: forecasts, refusals, and the replacement of a dead member.

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::etcdctl::Etcdctl;

use super::json;

async fn id(kvctl: &Etcdctl, name: &str) -> String {
    let list = json(&kvctl.run(&["member", "list", "-w", "json"]).await.ok());
    let members = list["members"].as_array().unwrap();
    let member = members.iter().find(|member| member["name"] == name).unwrap();
    format!("{:x}", member["ID"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsafe_changes_are_refused_with_the_reason() {
    let mut cluster =
        Cluster::start(Flavor::under_test(), 3, Options::default().fast_elections()).await.unwrap();
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    let (living, dead) = (cluster.leader().await.unwrap(), cluster.followers().await.unwrap()[0]);
    let living_id = id(&kvctl, cluster.name(living)).await;
    let dead_id = id(&kvctl, cluster.name(dead)).await;
    let safe = kvctl.run(&["member", "remove", &living_id, "--dry-run"]).await.ok();
    assert!(safe.contains("before: 3 voters, quorum 2, 3 answer") && safe.contains("safe"), "{safe}");

    cluster.kill9(dead).unwrap();
    let refused = kvctl.run(&["member", "remove", &living_id]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("1 of 2 voters would answer, and the quorum is 2"), "{refused:?}");
    let forecast = kvctl.run(&["member", "remove", &living_id, "--dry-run", "-w", "json"]).await;
    assert_eq!(forecast.code, 1, "{forecast:?}");
    assert_eq!(json(&forecast.out)["after"]["quorum"], 2);
    let voter = kvctl.run(&["member", "add", "m4", "--peer-urls=http://127.0.0.1:1"]).await;
    assert!(voter.code == 1 && voter.err.contains("--learner"), "{voter:?}");
    let still = json(&kvctl.run(&["member", "list", "-w", "json"]).await.ok());
    assert_eq!(still["members"].as_array().unwrap().len(), 3);

    let planned = kvctl.run(&["member", "remove", &dead_id, "--dry-run"]).await.ok();
    assert!(planned.contains("after:  2 voters, quorum 2, 2 answer"), "{planned}");
    let removed = kvctl.run(&["member", "remove", &dead_id]).await.ok();
    assert!(removed.starts_with(&format!("Member {dead_id:>16} removed from cluster ")), "{removed}");

    let peer = format!("http://127.0.0.1:{}", cluster.peer_port(dead));
    // "unhealthy cluster" until the others have been connected for some seconds.
    let urls = format!("--peer-urls={peer}");
    let add = ["member", "add", "m4", "--learner", &urls];
    let added = eventually("the learner", PATIENCE, || async {
        let printed = kvctl.run(&add).await;
        if printed.code == 0 { Ok(printed.out) } else { Err(printed.err) }
    });
    let added = added.await.unwrap();
    assert!(added.contains(" added as learner to cluster "), "{added}");
    assert!(
        added.contains("\nETCD_NAME=\"m4\"\n") && added.contains("\nBARQUE_STORE_INITIAL_CLUSTER=\""),
        "{added}"
    );
    let new_id = added.split_whitespace().nth(1).unwrap();
    let promoted = kvctl.run(&["member", "promote", new_id]).await;
    assert!(promoted.code == 1 && promoted.err.contains("does not answer"), "{promoted:?}");
    let moved = kvctl.run(&["member", "update", new_id, "--peer-urls=http://127.0.0.1:2"]).await.ok();
    assert!(moved.contains(" updated in cluster "), "{moved}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_member_is_replaced() {
    for flavor in [Flavor::Barque, Flavor::Etcd] {
        let mut cluster = Cluster::start(flavor, 3, Options::default().fast_elections()).await.unwrap();
        let kvctl = Etcdctl::kvctl(&cluster.endpoints());
        kvctl.run(&["put", "k", "v"]).await.ok();
        let dead = cluster.followers().await.unwrap()[0];
        let name = cluster.name(dead).to_owned();
        let peer = format!("http://127.0.0.1:{}", cluster.peer_port(dead));
        let urls = format!("--peer-urls={peer}");
        let alive = kvctl.run(&["member", "replace", &name, "new", &urls]).await;
        assert!(alive.code == 1 && alive.err.contains("is alive"), "{alive:?}");
        cluster.kill9(dead).unwrap();
        let planned = kvctl.run(&["member", "replace", &name, "new", &urls, "--dry-run"]).await.ok();
        assert!(planned.contains("safe"), "{planned}");

        let mut replacing = kvctl.open(&["member", "replace", &name, "new", &urls]);
        let mut flags = cluster.flags(dead);
        let mut waiting = false;
        while let Some(line) = replacing.line(PATIENCE).await {
            if let Some(list) = line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
                flags.insert("--initial-cluster".into(), list.trim_matches('"').to_owned());
            }
            if line.starts_with("waiting: ") && !waiting {
                waiting = true;
                cluster.wipe(dead).unwrap();
                flags.insert("--name".into(), "new".into());
                flags.insert("--initial-cluster-state".into(), "existing".into());
                cluster.spawn_with(dead, &flags).unwrap();
            }
            if line.ends_with("the replacement is done") {
                break;
            }
        }
        assert_eq!(replacing.ended().await, 0, "{flavor:?}");
        cluster.ready(dead).await.unwrap();
        let list = kvctl.run(&["member", "list"]).await.ok();
        assert!(list.lines().count() == 3 && list.contains(", new, ") && !list.contains(", true"), "{list}");
        let new = Etcdctl::kvctl(&[cluster.endpoint(dead)]);
        assert_eq!(new.run(&["get", "k"]).await.ok(), "k\nv\n");
    }
}
