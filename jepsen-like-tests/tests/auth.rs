//! Users, roles and rights on a cluster of three, as administrators and clients meet them.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::certificates::Authority;
use jepsen_like_tests::client::{Client, with_token};
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, TlsFiles, http_get};
use jepsen_like_tests::etcdctl::Etcdctl;
use tokio::task::JoinSet;
use tonic::{Code, Status};

const PASSWORD: &str = "correct-horse-battery";

fn user(name: &str, password: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest { name: name.to_owned(), password: password.to_owned(), ..Default::default() }
}

/// `root` and `reader`, who may read what begins with `r/`; rights are asked for from then on. Answers the
/// token of `root`.
async fn guard(client: &Client) -> String {
    let mut auth = client.auth.clone();
    auth.user_add(user("root", PASSWORD)).await.unwrap();
    auth.user_add(user("reader", PASSWORD)).await.unwrap();
    let grant = |user: &str, role: &str| pb::AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    };
    auth.role_add(pb::AuthRoleAddRequest { name: "reads".to_owned() }).await.unwrap();
    let permission =
        barque_proto::authpb::Permission { perm_type: 0, key: "r/".into(), range_end: "r0".into() };
    let allow = pb::AuthRoleGrantPermissionRequest { name: "reads".to_owned(), perm: Some(permission) };
    auth.role_grant_permission(allow).await.unwrap();
    auth.user_grant_role(grant("reader", "reads")).await.unwrap();
    auth.user_grant_role(grant("root", "root")).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    client.log_in("root", PASSWORD).await.unwrap()
}

async fn get(client: &Client, key: &'static str, token: Option<&str>) -> Result<i64, Status> {
    let request = pb::RangeRequest { key: key.into(), ..Default::default() };
    Ok(client.kv.clone().range(with_token(request, token)).await?.into_inner().count)
}

async fn put(client: &Client, key: String, value: String, token: &str) -> Result<(), Status> {
    let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    client.kv.clone().put(with_token(request, Some(token))).await.map(|_| ())
}

fn told<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn denied() -> (Code, String) {
    (Code::PermissionDenied, "etcdserver: permission denied".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_manages_users_and_is_held_to_their_rights() {
    let cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let open = Etcdctl::to(&cluster.endpoints());
    assert!(open.run(&["put", "a/1", "one"]).await.ok().contains("OK"));
    assert_eq!(open.run(&["user", "add", &format!("root:{PASSWORD}")]).await.ok(), "User root created\n");
    assert_eq!(open.run(&["user", "add", "alice:wonderland"]).await.ok(), "User alice created\n");
    assert_eq!(open.run(&["role", "add", "writes"]).await.ok(), "Role writes created\n");
    let granted = open.run(&["role", "grant-permission", "writes", "readwrite", "a/", "--prefix"]).await.ok();
    assert_eq!(granted, "Role writes updated\n");
    assert!(
        open.run(&["user", "grant-role", "alice", "writes"]).await.ok().contains("granted to user alice")
    );
    assert_eq!(open.run(&["auth", "enable"]).await.ok(), "Authentication Enabled\n");

    for index in 0..3 {
        let here = Etcdctl::to(&[cluster.endpoint(index)]);
        let root = here.clone().flag(&format!("--user=root:{PASSWORD}"));
        let alice = here.clone().flag("--user=alice:wonderland");
        let wrong = here.clone().flag("--user=alice:guess").run(&["get", "a/1"]).await;
        assert!(wrong.code != 0 && wrong.err.contains("invalid user ID or password"), "{wrong:?}");
        let nobody = here.run(&["get", "a/1"]).await;
        assert!(nobody.code != 0 && nobody.err.contains("user name is empty"), "{nobody:?}");

        assert_eq!(alice.run(&["get", "a/1", "--print-value-only"]).await.ok(), "one\n");
        assert!(alice.run(&["put", "a/2", "two"]).await.ok().contains("OK"));
        for refused in [
            &["get", "b"][..],
            &["put", "b", "x"],
            &["get", "a/1", "--from-key"],
            &["del", "--prefix", "a"],
            &["elect", "b/election", "me"],
            &["user", "list"],
            &["role", "add", "mine"],
            &["auth", "disable"],
            &["member", "remove", "1"],
            &["compaction", "2"],
            &["defrag"],
            &["snapshot", "save", cluster.scratch().join("no").to_str().unwrap()],
        ] {
            let printed = alice.run(refused).await;
            let text = format!("{}{}", printed.out, printed.err);
            assert!(printed.code != 0 && text.contains("permission denied"), "{refused:?}: {printed:?}");
        }
        let own = alice.run(&["user", "get", "alice"]).await.ok();
        assert!(own.contains("User: alice") && own.contains("writes"), "{own}");
        assert_eq!(root.run(&["user", "list"]).await.ok(), "alice\nroot\n");
        let role = root.run(&["role", "get", "writes"]).await.ok();
        assert!(role.contains("[a/, a0) (prefix a/)"), "{role}");

        // No right to read the key that it asks for is as good as an answer.
        let health = alice.run(&["endpoint", "health"]).await;
        assert!(health.code == 0 && health.err.contains("is healthy"), "{health:?}");
        let status = alice.run(&["endpoint", "status"]).await;
        assert!(status.code == 0, "{status:?}");

        // From a revision on: it may begin after the lock is taken.
        let told: serde_json::Value =
            serde_json::from_str(&alice.run(&["get", "a/2", "-w", "json"]).await.ok()).unwrap();
        let from = format!("--rev={}", told["header"]["revision"].as_i64().unwrap() + 1);
        let mut watch = alice.open(&["watch", "a/", "--prefix", &from]);
        let mut lock = alice.open(&["lock", "a/lock"]);
        let held = lock.lines(1).await.pop().unwrap();
        assert!(held.starts_with("a/lock/"), "{held}");
        assert_eq!(watch.lines(2).await[1], held);
        lock.interrupt().await;
        assert_eq!(watch.lines(1).await, [""]);
        drop(watch);
    }

    let root = open.clone().flag(&format!("--user=root:{PASSWORD}"));
    let alice = open.clone().flag("--user=alice:wonderland");
    assert!(root.run(&["user", "revoke-role", "alice", "writes"]).await.ok().contains("revoked"));
    assert!(alice.run(&["get", "a/1"]).await.err.contains("permission denied"));
    let file = cluster.scratch().join("saved");
    let one = Etcdctl::to(&[cluster.endpoint(0)]).flag(&format!("--user=root:{PASSWORD}"));
    one.run(&["snapshot", "save", file.to_str().unwrap()]).await.ok();
    assert!(root.run(&["user", "delete", "root"]).await.err.contains("invalid auth management"));
    assert_eq!(root.run(&["auth", "disable"]).await.ok(), "Authentication Disabled\n");
    assert_eq!(open.run(&["get", "a/1", "--print-value-only"]).await.ok(), "one\n");
}

/// In etcd a token is worth something only as long as the member that keeps it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_on_every_member_and_after_restarts() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd's simple tokens end with the process");
        return;
    }
    let mut cluster =
        Cluster::start(Flavor::under_test(), 3, Options::default().fast_elections()).await.unwrap();
    // Asked before: afterwards a member's status needs a token too.
    let leader = cluster.leader().await.unwrap();
    guard(&cluster.client(0)).await;
    let token = cluster.client(0).log_in("reader", PASSWORD).await.unwrap();
    let good_everywhere = async |cluster: &Cluster, members: &[usize]| {
        for &index in members {
            let client = cluster.client(index);
            assert_eq!(get(&client, "r/1", Some(&token)).await.unwrap(), 0, "m{}", index + 1);
            assert_eq!(told(get(&client, "q", Some(&token)).await), denied());
            assert_eq!(told(get(&client, "r/1", Some("other.1")).await).0, Code::Unauthenticated);
            assert_eq!(told(get(&client, "r/1", None).await).1, "etcdserver: user name is empty");
        }
    };
    good_everywhere(&cluster, &[0, 1, 2]).await;

    cluster.kill9(leader).unwrap();
    let others: Vec<_> = (0..3).filter(|&index| index != leader).collect();
    good_everywhere(&cluster, &others).await;
    cluster.restart(leader).await.unwrap();

    for index in 0..3 {
        cluster.kill9(index).unwrap();
    }
    cluster.restart_all(&[0, 1, 2]).await.unwrap();
    good_everywhere(&cluster, &[0, 1, 2]).await;

    // A new password ends the tokens of the old one, on every member.
    let root = cluster.client(1).log_in("root", PASSWORD).await.unwrap();
    let change = pb::AuthUserChangePasswordRequest {
        name: "reader".to_owned(),
        password: "another".to_owned(),
        ..Default::default()
    };
    cluster.client(1).auth.user_change_password(with_token(change, Some(&root))).await.unwrap();
    for index in 0..3 {
        let client = cluster.client(index);
        assert_eq!(told(get(&client, "r/1", Some(&token)).await).0, Code::Unauthenticated);
        let refused = told(client.log_in("reader", PASSWORD).await);
        assert_eq!(refused.1, "etcdserver: authentication failed, invalid user ID or password");
        client.log_in("reader", "another").await.unwrap();
    }
}

/// A member that learns of users from a snapshot alone holds everybody to their rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_rights_come_with_a_snapshot() {
    let options = Options::default().flag("--snapshot-count", 100);
    let mut cluster = Cluster::start(Flavor::under_test(), 3, options).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let behind = (leader + 1) % 3;
    cluster.kill9(behind).unwrap();
    let root = guard(&cluster.client(leader)).await;
    let token = cluster.client(leader).log_in("reader", PASSWORD).await.unwrap();

    // More than the 5000 entries that are kept for followers that are a little behind.
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let (client, root) = (cluster.client(leader), root.clone());
        writers.spawn(async move {
            for number in 0..400 {
                put(&client, format!("while-away/{writer}/{}", number % 50), "y".repeat(2048), &root)
                    .await
                    .unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    cluster.restart(behind).await.unwrap();
    let client = cluster.client(behind);
    if cluster.flavor().is_barque() {
        assert_eq!(get(&client, "r/1", Some(&token)).await.unwrap(), 0);
        assert_eq!(told(get(&client, "q", Some(&token)).await), denied());
        let metrics = http_get(cluster.client_port(behind), "/metrics").await.unwrap().body;
        assert!(metrics.contains("etcd_debugging_auth_revision 7"), "users are not those of the others");
    }
    client.log_in("reader", PASSWORD).await.unwrap();
    assert_eq!(told(get(&client, "r/1", None).await).1, "etcdserver: user name is empty");
    // And once more, from what it wrote itself.
    cluster.kill9(behind).unwrap();
    cluster.restart(behind).await.unwrap();
    let token = cluster.client(behind).log_in("reader", PASSWORD).await.unwrap();
    assert_eq!(told(get(&cluster.client(behind), "q", Some(&token)).await), denied());
}

/// A watch that has begun goes on when its right is revoked, as in etcd; the next one is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_are_those_of_the_moment() {
    let cluster = Cluster::start(Flavor::under_test(), 1, Options::default().fast_elections()).await.unwrap();
    let client = cluster.client(0);
    let root = guard(&client).await;
    let token = client.log_in("reader", PASSWORD).await.unwrap();
    let create = || pb::WatchCreateRequest { key: "r/".into(), range_end: "r0".into(), ..Default::default() };
    let mut watch = client.watch_as(create(), Some(&token)).await.unwrap();
    assert!(watch.next(Duration::from_secs(5)).await.unwrap().created);

    let revoke = pb::AuthUserRevokeRoleRequest { name: "reader".to_owned(), role: "reads".to_owned() };
    client.auth.clone().user_revoke_role(with_token(revoke, Some(&root))).await.unwrap();
    assert_eq!(told(get(&client, "r/1", Some(&token)).await), denied());
    put(&client, "r/1".to_owned(), "seen".to_owned(), &root).await.unwrap();
    assert_eq!(watch.next(Duration::from_secs(5)).await.unwrap().events.len(), 1);
    watch.create(create()).await.unwrap();
    let refused = watch.next(Duration::from_secs(5)).await.unwrap();
    assert!(refused.created && refused.canceled && refused.watch_id == -1, "{refused:?}");
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(refused.cancel_reason, reason);
}

/// Neither a log at its most talkative nor the metrics tell a password, a hash or a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_stay_out_of_logs_and_metrics() {
    if Flavor::under_test() == Flavor::Etcd {
        println!("skipped: etcd has its own flags and hashes");
        return;
    }
    let options = Options::default().fast_elections().flag("--log-level", "trace");
    let mut cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);
    let token = guard(&client).await;
    client.log_in("root", "a-wrong-password").await.unwrap_err();
    put(&client, "k".to_owned(), "v".to_owned(), &token).await.unwrap();
    get(&client, "k", Some("a-wrong-token.1")).await.unwrap_err();
    let metrics = http_get(cluster.client_port(0), "/metrics").await.unwrap().body;
    cluster.terminate(0).await.unwrap();
    cluster.restart(0).await.unwrap();
    let log = cluster.log(0);
    assert!(log.contains("a login failed"), "the log tells nothing at all");
    for secret in [PASSWORD, "a-wrong-password", "argon2", &token, "a-wrong-token.1"] {
        let found = log.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret}");
        assert!(!metrics.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_in_a_certificate_is_that_of_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let [member, root, reader, stranger] =
        ["member", "root", "reader", "stranger"].map(|name| authority.sign(name));
    let files = TlsFiles {
        authority: authority.certificate.clone(),
        certificate: member.certificate.clone(),
        key: member.key.clone(),
    };
    let cluster = Cluster::start(Flavor::under_test(), 3, Options::default().tls(files)).await.unwrap();
    let all = Etcdctl::to(&cluster.endpoints()).authority(&authority.certificate);
    let by = |files: &jepsen_like_tests::certificates::CertificateFiles| {
        all.clone().certificate(&files.certificate, &files.key)
    };
    let (root, reader, stranger) = (by(&root), by(&reader), by(&stranger));
    stranger.run(&["user", "add", "root", "--no-password"]).await.ok();
    stranger.run(&["user", "add", &format!("reader:{PASSWORD}")]).await.ok();
    stranger.run(&["role", "add", "reads"]).await.ok();
    stranger.run(&["role", "grant-permission", "reads", "read", "r"]).await.ok();
    stranger.run(&["user", "grant-role", "reader", "reads"]).await.ok();
    stranger.run(&["user", "grant-role", "root", "root"]).await.ok();
    stranger.run(&["auth", "enable"]).await.ok();

    root.run(&["put", "r", "value"]).await.ok();
    assert_eq!(root.run(&["user", "list"]).await.ok(), "reader\nroot\n");
    assert_eq!(reader.run(&["get", "r", "--print-value-only"]).await.ok(), "value\n");
    for (etcdctl, command) in
        [(&reader, &["put", "r", "x"][..]), (&reader, &["user", "list"][..]), (&stranger, &["get", "r"][..])]
    {
        let printed = etcdctl.run(command).await;
        assert!(printed.code != 0 && printed.err.contains("permission denied"), "{command:?}: {printed:?}");
    }
    // A token counts before a certificate.
    let both = root.clone().flag(&format!("--user=reader:{PASSWORD}"));
    assert!(both.run(&["put", "r", "x"]).await.err.contains("permission denied"));
    // Who is known by a certificate alone has no password to log in with.
    let wrong = stranger.clone().flag(&format!("--user=root:{PASSWORD}")).run(&["get", "r"]).await;
    assert!(wrong.code != 0 && !wrong.out.contains("value"), "{wrong:?}");
}
