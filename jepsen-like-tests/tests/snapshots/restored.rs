//! Restored clusters hold exactly what was saved, tell old clients that they are others, and live on.

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::client::with_token;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::etcdctl::Etcdctl;
use jepsen_like_tests::load::Load;

use super::{everything, json, kvctl, restore_each, save, text};

/// `--bump-revision` when it is not given.
const BUMP: i64 = 1_000_000_000;

/// Saved under writes, restored to new addresses with one command: every key with every field, leases, users; a
/// watch like an informer's from before is told to begin anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_are_restored_from_a_snapshot_under_load() {
    let cluster = Cluster::start(Flavor::Barque, 3, Options::default().fast_elections()).await.unwrap();
    let client = cluster.client(0);
    let old = Etcdctl::to(&cluster.endpoints());
    client.lease_grant(77, 5000).await.unwrap();
    let put = pb::PutRequest { key: "leased".into(), value: "v".into(), lease: 77, ..Default::default() };
    client.kv.clone().put(put).await.unwrap();
    for words in [&["role", "add", "r"][..], &["user", "add", "u:secret"], &["user", "grant-role", "u", "r"]]
    {
        old.run(words).await.ok();
    }
    let load = Load::start(&cluster.endpoints(), 3);
    load.acknowledged(200, PATIENCE).await;
    let (file, ()) = tokio::join!(save(&cluster, "saved"), load.acknowledged(200, PATIENCE));
    load.stop().await;
    let status = json(&kvctl().run(&["snapshot", "status", text(&file), "-w", "json"]).await.ok());
    let saved = status["revision"].as_i64().unwrap();
    assert!(saved < client.revision().await.unwrap(), "it was saved while clients wrote");
    assert_eq!(status["users"], 1);
    let verified = kvctl().run(&["snapshot", "verify", text(&file)]).await.ok();
    assert!(verified.contains("sound: every byte"), "{verified}");
    // The hash of the file is what members tell.
    assert_eq!(status["hash"], client.hash_kv(saved).await.unwrap().hash);

    let place = tempfile::tempdir().unwrap();
    let all = place.path().join("all");
    let options = (0..3)
        .fold(Options::default().fast_elections(), |options, index| options.data_root(index, all.clone()));
    let mut restored = Cluster::prepare(Flavor::Barque, 3, options).unwrap();
    let flags = restored.flags(0);
    let words = [
        "snapshot",
        "restore",
        text(&file),
        "--all",
        text(&all),
        "--initial-cluster",
        &flags["--initial-cluster"],
        "--initial-cluster-token",
        &flags["--initial-cluster-token"],
    ];
    let told = kvctl().run(&words).await.ok();
    assert!(told.contains(&format!("restored revision {saved} from ")), "{told}");
    restored.restart_all(&[0, 1, 2]).await.unwrap();

    let expected = everything(&client, saved).await;
    assert!(expected.len() > 20);
    for index in 0..3 {
        assert!(everything(&restored.client(index), 0).await == expected, "keys of {}", restored.name(index));
    }
    let client = restored.client(0);
    let lease = client.lease_time_to_live(77, true).await.unwrap();
    assert_eq!((lease.granted_ttl, lease.keys), (5000, vec!["leased".into()]));
    assert!(lease.ttl > 4900, "{}", lease.ttl);
    let new = Etcdctl::to(&restored.endpoints());
    assert_eq!(new.run(&["user", "list"]).await.ok(), "u\n");
    assert!(new.run(&["user", "get", "u"]).await.ok().contains("Roles: r"));

    let informer = pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: saved + 1,
        ..Default::default()
    };
    let mut watch = restored.client(1).watch(informer).await.unwrap();
    assert!(watch.next(PATIENCE).await.unwrap().created);
    let ended = watch.next(PATIENCE).await.unwrap();
    assert_eq!((ended.canceled, ended.compact_revision), (true, saved + BUMP));
    let before = pb::RangeRequest { key: "leased".into(), revision: saved, ..Default::default() };
    assert!(client.range(before).await.unwrap_err().message().contains("has been compacted"));
    let put = restored.client(2).put("new", "v").await.unwrap();
    assert_eq!(put.header.unwrap().revision, saved + BUMP + 1);
    let mut hashes = Vec::new();
    for index in 0..3 {
        let client = restored.client(index);
        client.revision().await.unwrap();
        let hash = client.hash_kv(saved + BUMP + 1).await.unwrap();
        hashes.push((hash.hash, hash.compact_revision));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

/// A revision in the middle, with its past, in a cluster of one that is then killed and grows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_alone_is_restored_at_a_revision_and_lives_on() {
    let options = || Options::default().fast_elections().flag("--snapshot-count", 50);
    let cluster = Cluster::start(Flavor::Barque, 1, options()).await.unwrap();
    let client = cluster.client(0);
    let mut wanted = 0;
    for round in 0..40 {
        let put = client.put(format!("k{}", round % 7), format!("{round}")).await.unwrap();
        if round == 20 {
            wanted = put.header.unwrap().revision;
        }
        if round % 5 == 4 {
            let key = format!("k{}", (round + 3) % 7);
            client
                .kv
                .clone()
                .delete_range(pb::DeleteRangeRequest { key: key.into(), ..Default::default() })
                .await
                .unwrap();
        }
    }
    let file = save(&cluster, "saved").await;
    let mut restored = Cluster::prepare(Flavor::Barque, 1, options()).unwrap();
    let revision = format!("--to-revision={wanted}");
    restore_each(&restored, &file, &[&revision, "--bump-revision=0", "--mark-compacted=false"]).await;
    restored.restart(0).await.unwrap();
    let alone = restored.client(0);
    assert_eq!(alone.revision().await.unwrap(), wanted);
    for revision in [0, 2, wanted / 2, wanted] {
        let old = if revision == 0 { wanted } else { revision };
        assert_eq!(everything(&alone, revision).await, everything(&client, old).await, "at {revision}");
    }

    for round in 0..100 {
        alone.put(format!("after/{round}"), "v").await.unwrap();
    }
    let expected = everything(&alone, 0).await;
    restored.kill9(0).unwrap();
    restored.restart(0).await.unwrap();
    assert!(everything(&restored.client(0), 0).await == expected, "after kill -9");
    let added = restored.add_member().await.unwrap();
    assert!(everything(&restored.client(added), 0).await == expected, "on the member that was added");
    let metrics =
        jepsen_like_tests::cluster::http_get(restored.client_port(added), "/metrics").await.unwrap();
    let received = metrics
        .body
        .lines()
        .any(|line| line.starts_with("etcd_network_snapshot_receive_success") && !line.ends_with(" 0"));
    assert!(received, "it was added, but not by a snapshot");
}

/// Rights are asked for as before, with the same passwords; no token of the old cluster is good in the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_keep_their_passwords_and_tokens_end() {
    let cluster = Cluster::start(Flavor::Barque, 1, Options::default().fast_elections()).await.unwrap();
    let open = Etcdctl::to(&cluster.endpoints());
    open.run(&["put", "k", "v"]).await.ok();
    for words in
        [&["user", "add", "root:secret"][..], &["user", "grant-role", "root", "root"], &["auth", "enable"]]
    {
        open.run(words).await.ok();
    }
    let file = cluster.scratch().join("saved");
    Etcdctl::to(&cluster.endpoints())
        .flag("--user=root:secret")
        .run(&["snapshot", "save", text(&file)])
        .await
        .ok();
    let token = cluster.client(0).log_in("root", "secret").await.unwrap();
    let mut restored = Cluster::prepare(Flavor::Barque, 1, Options::default().fast_elections()).unwrap();
    restore_each(&restored, &file, &[]).await;
    restored.restart(0).await.unwrap();

    let get = || pb::RangeRequest { key: "k".into(), ..Default::default() };
    let old = cluster.client(0).kv.range(with_token(get(), Some(&token))).await;
    assert_eq!(old.unwrap().into_inner().kvs.len(), 1);
    let refused = restored.client(0).kv.range(with_token(get(), Some(&token))).await.unwrap_err();
    assert!(refused.message().contains("invalid auth token"), "{refused:?}");
    assert!(restored.client(0).range(get()).await.unwrap_err().message().contains("user name is empty"));
    let root = Etcdctl::to(&restored.endpoints()).flag("--user=root:secret");
    assert_eq!(root.run(&["get", "k", "--print-value-only"]).await.ok(), "v\n");
}
