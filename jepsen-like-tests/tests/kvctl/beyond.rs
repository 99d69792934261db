//! What etcdctl does not have: status, verify, history, diff, undelete; on Barque and on etcd.

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::etcdctl::Etcdctl;

use super::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_can_be_read_on_barque() {
    past(Flavor::Barque).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_can_be_read_on_etcd() {
    past(Flavor::Etcd).await;
}

async fn past(flavor: Flavor) {
    let cluster = Cluster::start(flavor, 1, Options::default().fast_elections()).await.unwrap();
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    let revision = |printed: String| json(&printed)["header"]["revision"].as_i64().unwrap();
    kvctl.run(&["put", "other", "x"]).await.ok();
    let first = revision(kvctl.run(&["put", "k", "one", "-w", "json"]).await.ok());
    let second = revision(kvctl.run(&["put", "k", "two", "-w", "json"]).await.ok());
    kvctl.run(&["put", "other", "y"]).await.ok();

    let history = json(&kvctl.run(&["history", "k", "-w", "json"]).await.ok());
    let revisions = |history: &serde_json::Value| -> Vec<i64> {
        history["versions"].as_array().unwrap().iter().map(|one| one["revision"].as_i64().unwrap()).collect()
    };
    assert_eq!(revisions(&history), [first, second]);
    let refused = kvctl.run(&["undelete", "k"]).await;
    assert!(refused.code == 1 && refused.err.contains("exists"), "{refused:?}");

    // Deleted: the last event of the key is the deletion.
    let deleted = revision(kvctl.run(&["del", "k", "-w", "json"]).await.ok());
    let history = json(&kvctl.run(&["history", "k", "-w", "json"]).await.ok());
    assert_eq!(revisions(&history), [first, second, deleted]);
    assert_eq!(history["versions"][2]["type"], "DELETE");
    assert_eq!(kvctl.run(&["history", "never"]).await.ok(), "\"never\": 0 versions since revision 1\n");

    let diff = kvctl.run(&["diff", &first.to_string(), &deleted.to_string(), "--values"]).await.ok();
    assert!(diff.starts_with("- \"k\""), "{diff}");
    assert!(diff.contains("~ \"other\""), "{diff}");
    assert!(
        diff.ends_with(&format!("0 added, 1 removed, 1 modified between {first} and {deleted}\n")),
        "{diff}"
    );
    let narrow = json(&kvctl.run(&["diff", &second.to_string(), "0", "--prefix=o", "-w", "json"]).await.ok());
    assert_eq!(narrow["changes"].as_array().unwrap().len(), 1, "{narrow}");

    // Back again, as it was last; then as it was first.
    let planned = kvctl.run(&["undelete", "k", "--dry-run"]).await.ok();
    assert!(planned.contains("would come back"), "{planned}");
    assert_eq!(kvctl.run(&["get", "k"]).await.ok(), "");
    kvctl.run(&["undelete", "k"]).await.ok();
    assert_eq!(kvctl.run(&["get", "k"]).await.ok(), "k\ntwo\n");
    kvctl.run(&["del", "k"]).await.ok();
    kvctl.run(&["undelete", "k", &format!("--rev={first}")]).await.ok();
    assert_eq!(kvctl.run(&["get", "k"]).await.ok(), "k\none\n");

    // What was compacted is gone, and said to be.
    kvctl.run(&["del", "k"]).await.ok();
    let last = revision(kvctl.run(&["put", "other", "z", "-w", "json"]).await.ok());
    kvctl.run(&["compaction", &last.to_string(), "--physical"]).await.ok();
    let gone = kvctl.run(&["undelete", "k"]).await;
    assert!(gone.code == 1 && gone.err.contains("nothing is known"), "{gone:?}");
    let history = json(&kvctl.run(&["history", "other", "-w", "json"]).await.ok());
    assert_eq!(history["since_revision"], last, "{history}");
    assert_eq!(revisions(&history), [last]);
    let refused = kvctl.run(&["diff", "1", "2"]).await;
    assert!(refused.code == 1 && refused.err.contains("compacted"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_verify_see_all_members() {
    for flavor in [Flavor::Barque, Flavor::Etcd] {
        let mut cluster = Cluster::start(flavor, 3, Options::default().fast_elections()).await.unwrap();
        let kvctl = Etcdctl::kvctl(&cluster.endpoints());
        for count in 0..5 {
            kvctl.run(&["put", "k", &count.to_string()]).await.ok();
        }
        let status = json(&kvctl.run(&["status", "-w", "json"]).await.ok());
        assert_eq!(
            (&status["healthy"], &status["answering"], &status["quorum"]),
            (&true.into(), &3.into(), &2.into()),
            "{status}"
        );
        assert_eq!(status["revision"], 6, "{status}");
        let members = status["members"].as_array().unwrap();
        assert!(
            members.iter().all(|member| member["sync_p99_ms"].is_number() && member["watchers"].is_number()),
            "{status}"
        );
        let screen = kvctl.run(&["status"]).await.ok();
        assert!(screen.contains(": healthy; 3 of 3 voters answer, quorum 2"), "{screen}");

        let verdict = json(&kvctl.run(&["verify", "-w", "json"]).await.ok());
        assert_eq!(verdict["verdict"], "equal", "{verdict}");
        let follower = cluster.followers().await.unwrap()[0];
        cluster.kill9(follower).unwrap();
        let incomplete = kvctl.run(&["verify"]).await;
        assert_eq!(incomplete.code, 1, "{incomplete:?}");
        assert!(incomplete.out.contains("INCOMPLETE"), "{incomplete:?}");
        let status = kvctl.run(&["status"]).await;
        assert_eq!(status.code, 1, "{status:?}");
        assert!(status.out.contains("needs attention; 2 of 3 voters answer"), "{status:?}");
    }
}
