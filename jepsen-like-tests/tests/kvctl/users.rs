//! Users, roles and the two ways to be somebody, against etcd.

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::etcdctl::Etcdctl;

/// The same words to both tools, each on an etcd of its own. What is not the same everywhere stands below.
const SCRIPT: &[(&[&str], &str)] = &[
    (&["auth", "enable"], ""),
    (&["user", "list"], ""),
    (&["user", "add", "root:secret"], ""),
    (&["user", "add", "root:secret"], ""),
    (&["user", "add", "alice", "--interactive=false"], "wonder\n"),
    (&["user", "add", "bob", "--new-user-password=builder"], ""),
    (&["user", "add", "carol", "--no-password"], ""),
    (&["user", "add"], ""),
    (&["user", "list"], ""),
    (&["role", "add", "reader"], ""),
    (&["role", "add", "reader"], ""),
    (&["role", "grant-permission", "reader", "read", "a/", "--prefix"], ""),
    (&["role", "grant-permission", "reader", "readwrite", "b", "d"], ""),
    (&["role", "grant-permission", "reader", "write", "x", "--from-key"], ""),
    (&["role", "grant-permission", "reader", "read", "single"], ""),
    (&["role", "get", "reader"], ""),
    (&["role", "get", "reader", "-w", "fields"], ""),
    (&["role", "get", "nobody"], ""),
    (&["role", "list"], ""),
    (&["role", "revoke-permission", "reader", "b", "d"], ""),
    (&["role", "revoke-permission", "reader", "x", "--from-key"], ""),
    (&["role", "revoke-permission", "reader", "single"], ""),
    (&["role", "get", "reader"], ""),
    (&["user", "grant-role", "alice", "reader"], ""),
    (&["user", "grant-role", "alice", "nothing"], ""),
    (&["user", "get", "alice"], ""),
    (&["user", "get", "alice", "--detail"], ""),
    (&["user", "passwd", "alice", "--interactive=false"], "changed\n"),
    (&["user", "delete", "carol"], ""),
    (&["auth", "enable"], ""),
    (&["get", "a/1"], ""),
    (&["get", "a/1", "--user=alice:changed"], ""),
    (&["get", "z", "--user=alice:changed"], ""),
    (&["put", "a/1", "x", "--user=alice", "--password=changed"], ""),
    (&["put", "a/1", "x", "--user=root:secret"], ""),
    (&["get", "a/1", "--user", "alice:changed"], ""),
    (&["user", "list", "--user=alice:changed"], ""),
    (&["role", "list", "--user=root:secret"], ""),
    (&["user", "revoke-role", "alice", "reader", "--user=root:secret"], ""),
    (&["get", "a/1", "--user=alice:changed"], ""),
    (&["role", "delete", "reader", "--user=root:secret"], ""),
    (&["endpoint", "health", "--user=alice:wrong"], ""),
    (&["get", "a/1", "--user=alice:wrong"], ""),
    (&["auth", "disable"], ""),
    (&["auth", "disable", "--user=root:secret"], ""),
    (&["get", "a/1", "--user=root:whatever"], ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_are_administered_as_with_etcdctl() {
    let start = || Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections());
    let (theirs, ours) = tokio::join!(start(), start());
    let (theirs, ours) = (theirs.unwrap(), ours.unwrap());
    let (etcdctl, kvctl) = (Etcdctl::to(&theirs.endpoints()), Etcdctl::kvctl(&ours.endpoints()));
    let mut wrong = Vec::new();
    for (arguments, input) in SCRIPT {
        let patience = jepsen_like_tests::deadline::PATIENCE;
        let (expected, printed) = tokio::join!(
            etcdctl.run_with(arguments, input, patience),
            kvctl.run_with(arguments, input, patience)
        );
        let own = |text: &str| {
            let own = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];
            text.lines()
                .filter(|line| !own.iter().any(|own| line.starts_with(own)))
                .collect::<Vec<_>>()
                .join("\n")
        };
        // What was overcome on the way is logged by etcdctl too.
        let last = expected.err.lines().last().filter(|_| expected.code != 0);
        let error = last.and_then(|line| line.split_once("etcdserver: ")).map_or("", |(_, text)| text);
        // Health tells the time it took.
        let out_differs = own(&expected.out) != own(&printed.out) && arguments[0] != "endpoint";
        if expected.code != printed.code || out_differs || !printed.err.contains(error.trim_end_matches(')'))
        {
            wrong.push(format!("{arguments:?}\n  etcdctl: {expected:?}\n  kvctl:   {printed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_and_tokens_are_told_and_stale_tokens_renewed() {
    let cluster = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let kvctl = Etcdctl::kvctl(&cluster.endpoints());
    kvctl.run(&["user", "add", "root:secret"]).await.ok();
    kvctl.run(&["auth", "enable"]).await.ok();
    let wrong = kvctl.run(&["get", "k", "--user=root:wrong"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(
        wrong.err.contains("authentication failed") && wrong.err.contains("check --user and --password"),
        "{wrong:?}"
    );
    let token = kvctl.run(&["get", "k", "--auth-jwt-token=nonsense"]).await;
    assert!(
        token.code == 1 && token.err.contains("invalid auth token") && token.err.contains("--auth-jwt-token"),
        "{token:?}"
    );
    let nobody = kvctl.run(&["get", "k"]).await;
    assert!(nobody.code == 1 && nobody.err.contains("--user"), "{nobody:?}");

    // A mirror writes with one token, which is forgotten when users are disabled; it fetches another.
    let root = kvctl.clone().flag("--user=root:secret");
    let source = Cluster::start(Flavor::Etcd, 1, Options::default().fast_elections()).await.unwrap();
    let from = Etcdctl::kvctl(&source.endpoints());
    let mirror = from.open(&["make-mirror", &cluster.endpoint(0), "--dest-user=root:secret"]);
    let mut arrives = root.open(&["watch", "--prefix", "m/", "--rev=1"]);
    from.run(&["put", "m/1", "x"]).await.ok();
    assert_eq!(arrives.lines(3).await, ["PUT", "m/1", "x"]);
    root.run(&["auth", "disable"]).await.ok();
    root.run(&["auth", "enable"]).await.ok();
    from.run(&["put", "m/2", "y"]).await.ok();
    assert_eq!(arrives.lines(3).await, ["PUT", "m/2", "y"]);
    mirror.interrupt().await;
    arrives.interrupt().await;
}
