//! A real etcd becomes Barque by way of files: every version, lease, user and role is found again.

use std::fs;
use std::path::Path;

use barque_proto::authpb::Permission;
use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::client::{Client, with_token};
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};

use super::{everything, json, kvctl, restore_each, save, text};

const KEYS: usize = 3000;

fn put(key: String, value: Vec<u8>, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() };
    pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
}

fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    pb::DeleteRangeRequest { key, range_end, ..Default::default() }
}

async fn txn(client: &Client, success: Vec<pb::RequestOp>) {
    client.txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap();
}

/// Thousands of keys, large values, deletions before and after the compaction, leases. Answers the compact revision.
async fn fill(client: &Client) -> i64 {
    for (id, ttl_s) in [(77, 5000), (78, 6000)] {
        client.lease_grant(id, ttl_s).await.unwrap();
    }
    for from in (0..KEYS).step_by(100) {
        let puts = (from..from + 100).map(|n| put(format!("key/{n:05}"), format!("value {n}").into(), 0));
        txn(client, puts.collect()).await;
    }
    for round in 0..3_u8 {
        txn(client, vec![put(format!("large/{round}"), vec![round; 300_000], 0)]).await;
        txn(client, (0..60).map(|n| put(format!("key/{n:05}"), vec![round; 40], 77)).collect()).await;
        client.kv.clone().delete_range(delete("key/00010", "key/00020")).await.unwrap();
    }
    client.kv.clone().delete_range(delete("key/01000", "key/01100")).await.unwrap();
    let compacted = client.revision().await.unwrap();
    let compaction = pb::CompactionRequest { revision: compacted, physical: true };
    client.kv.clone().compact(compaction).await.unwrap();
    txn(client, (0..60).map(|n| put(format!("key/{n:05}"), b"again".to_vec(), 78)).collect()).await;
    client.kv.clone().delete_range(delete("key/00040", "key/00050")).await.unwrap();
    txn(client, vec![put("large/1".to_owned(), vec![9; 700_000], 0), put("last".to_owned(), vec![], 0)])
        .await;
    compacted
}

fn permission(perm_type: i32, key: &'static str, range_end: &'static str) -> Permission {
    Permission { perm_type, key: key.into(), range_end: range_end.into() }
}

async fn add_users(client: &Client) {
    let mut auth = client.auth.clone();
    for (name, password, no_password) in
        [("root", "secret", false), ("reader", "correct-horse", false), ("cert", "", true)]
    {
        let (name, password) = (name.to_owned(), password.to_owned());
        let options = Some(barque_proto::authpb::UserAddOptions { no_password });
        auth.user_add(pb::AuthUserAddRequest { name, password, options, ..Default::default() })
            .await
            .unwrap();
    }
    for name in ["reads", "root"] {
        auth.role_add(pb::AuthRoleAddRequest { name: name.to_owned() }).await.unwrap();
    }
    for allowed in [permission(0, "key/", "key0"), permission(2, "own", ""), permission(1, "z", "\0")] {
        let grant = pb::AuthRoleGrantPermissionRequest { name: "reads".to_owned(), perm: Some(allowed) };
        auth.role_grant_permission(grant).await.unwrap();
    }
    for (user, role) in [("root", "root"), ("reader", "reads")] {
        let grant = pb::AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() };
        auth.user_grant_role(grant).await.unwrap();
    }
}

/// All that is told of leases, users and roles.
async fn leases_and_users(client: &Client) -> Vec<String> {
    let mut told = Vec::new();
    let leases = client.lease.clone().lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    let mut ids: Vec<_> = leases.leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    for id in ids {
        let mut lease = client.lease_time_to_live(id, true).await.unwrap();
        lease.keys.sort();
        told.push(format!("{id} {} {:?}", lease.granted_ttl, lease.keys));
    }
    let mut auth = client.auth.clone();
    for name in auth.user_list(pb::AuthUserListRequest {}).await.unwrap().into_inner().users {
        let user = auth.user_get(pb::AuthUserGetRequest { name: name.clone() }).await.unwrap().into_inner();
        told.push(format!("{name} {:?}", user.roles));
    }
    for role in auth.role_list(pb::AuthRoleListRequest {}).await.unwrap().into_inner().roles {
        // The role `root` may do everything: etcd 3.6 and Barque answer that, 3.4 answers what was granted to it.
        if role == "root" {
            continue;
        }
        let perms =
            auth.role_get(pb::AuthRoleGetRequest { role: role.clone() }).await.unwrap().into_inner().perm;
        told.push(format!("{role} {perms:?}"));
    }
    told
}

async fn restored(file: &Path) -> Cluster {
    let mut cluster = Cluster::prepare(Flavor::Barque, 1, Options::default().fast_elections()).unwrap();
    restore_each(&cluster, file, &["--bump-revision=0", "--mark-compacted=false"]).await;
    cluster.restart(0).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_is_imported_with_its_history_leases_and_users() {
    let etcd = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let source = etcd.client(0);
    let compacted = fill(&source).await;
    add_users(&source).await;
    let now = source.revision().await.unwrap();
    let saved = save(&etcd, "of-etcd").await;
    let file = etcd.scratch().join("imported");
    let told =
        json(&kvctl().run(&["snapshot", "import", text(&saved), text(&file), "-w", "json"]).await.ok());
    assert_eq!((&told["revision"], &told["compactRevision"]), (&now.into(), &compacted.into()), "{told}");
    assert_eq!(
        (&told["leases"], &told["users"], &told["roles"]),
        (&2.into(), &3.into(), &2.into()),
        "{told}"
    );
    assert!(!file.with_extension("part").exists());

    let barque = restored(&file).await;
    let client = barque.client(0);
    for revision in compacted..=now {
        assert!(everything(&client, revision).await == everything(&source, revision).await, "at {revision}");
    }
    assert_eq!(told["keys"], everything(&source, 0).await.len());
    assert_eq!(client.revision().await.unwrap(), now);
    let early = pb::RangeRequest { key: "a".into(), revision: compacted - 1, ..Default::default() };
    assert!(client.range(early).await.unwrap_err().message().contains("compacted"));
    assert_eq!(leases_and_users(&client).await, leases_and_users(&source).await);

    // It was off. With it on, the passwords of etcd are good, and a changed one is as well.
    let mut auth = client.auth.clone();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    for (name, wrong) in [("reader", "secret"), ("cert", ""), ("root", "")] {
        let refused = client.log_in(name, wrong).await.unwrap_err();
        assert!(refused.message().contains("invalid user ID or password"), "{refused:?}");
    }
    let reader = client.log_in("reader", "correct-horse").await.unwrap();
    let get = |key: &'static str| pb::RangeRequest { key: key.into(), ..Default::default() };
    let mut kv = client.kv.clone();
    assert_eq!(kv.range(with_token(get("key/00000"), Some(&reader))).await.unwrap().into_inner().count, 1);
    let denied = kv.range(with_token(get("last"), Some(&reader))).await.unwrap_err();
    assert!(denied.message().contains("permission denied"), "{denied:?}");
    let open_ended = pb::PutRequest { key: "zzz".into(), ..Default::default() };
    kv.put(with_token(open_ended, Some(&reader))).await.unwrap();
    let root = client.log_in("root", "secret").await.unwrap();
    let change = pb::AuthUserChangePasswordRequest {
        name: "reader".to_owned(),
        password: "new".to_owned(),
        ..Default::default()
    };
    auth.user_change_password(with_token(change, Some(&root))).await.unwrap();
    assert!(client.log_in("reader", "correct-horse").await.is_err());
    client.log_in("reader", "new").await.unwrap();

    // Nothing is overwritten, and what is no snapshot of etcd is told.
    let again = kvctl().run(&["snapshot", "import", text(&saved), text(&file)]).await;
    assert!(again.code == 128 && again.err.contains("nothing is overwritten"), "{again:?}");
    let ours = kvctl().run(&["snapshot", "import", text(&file), text(&etcd.scratch().join("x"))]).await;
    assert!(ours.code == 1 && ours.err.contains("is a snapshot of Barque already"), "{ours:?}");
    let cut = etcd.scratch().join("cut");
    let bytes = fs::read(&saved).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 4096]).unwrap();
    let refused = kvctl().run(&["snapshot", "import", text(&cut), text(&etcd.scratch().join("x"))]).await;
    assert!(refused.code == 1 && refused.err.contains("does not fit its digest"), "{refused:?}");
}

/// The database of a stopped member, with rights asked for: they are asked for from the first moment on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_a_stopped_member_is_imported_with_its_rights() {
    let mut etcd = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let source = etcd.client(0);
    source.put("key/1", "v").await.unwrap();
    add_users(&source).await;
    source.auth.clone().auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    etcd.terminate(0).await.unwrap();
    let database = etcd.data_dir(0).join("member/snap/db");
    let file = etcd.scratch().join("imported");
    let refused = kvctl().run(&["snapshot", "import", text(&database), text(&file)]).await;
    assert!(refused.code == 1 && refused.err.contains("--skip-hash-check"), "{refused:?}");
    let told =
        kvctl().run(&["snapshot", "import", text(&database), text(&file), "--skip-hash-check"]).await.ok();
    assert!(told.contains("auth is on"), "{told}");

    let barque = restored(&file).await;
    let client = barque.client(0);
    let get = || pb::RangeRequest { key: "key/1".into(), ..Default::default() };
    assert!(client.range(get()).await.unwrap_err().message().contains("user name is empty"));
    let reader = client.log_in("reader", "correct-horse").await.unwrap();
    let answer = client.kv.clone().range(with_token(get(), Some(&reader))).await.unwrap().into_inner();
    assert_eq!(answer.kvs[0].value, "v");
}
