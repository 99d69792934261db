//! The same words to `etcdctl` and to `kvctl`, each on a store of its own with the same history: the same output and
//! the same exit code, on real etcd and on Barque.
//!
//! Debian's etcdctl is 3.4 and `kvctl` follows 3.6, so some things are not in the script or are taken out:
//! names in the JSON of transactions (`ResponsePut`, now `response_put`), columns of `endpoint status`, the exit code
//! of a command that `lock` runs (1, now its own), `--hex` with fields (which 3.4 ignores), and what an unreachable endpoint does (a timeout and code 1 there).

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::etcdctl::{Etcdctl, Printed};
use serde_json::Value;

/// Arguments and standard input.
const SCRIPT: &[(&[&str], &str)] = &[
    // Keys.
    (&["put", "foo", "bar"], ""),
    (&["put", "foo1", "bar1"], ""),
    (&["put", "foo2"], "from standard input"),
    (&["put", "foo3"], ""),
    (&["put"], ""),
    (&["put", "foo", "bar2", "--prev-kv"], ""),
    (&["put", "foo", "--ignore-value"], ""),
    (&["put", "foo", "x", "--ignore-value"], ""),
    (&["put", "nothing-here", "--ignore-value"], ""),
    (&["put", "foo", "bar", "--lease=123456789"], ""),
    (&["put", "foo", "bar", "--lease=xyz"], ""),
    (&["put", "dash", "--", "-1"], ""),
    (&["put", "", "x"], ""),
    (&["put", "json", "<a>&\"\u{2028}é", "-w", "json"], ""),
    (&["put", "json", "new", "--prev-kv", "-w", "json"], ""),
    (&["put", "json", "newer", "--prev-kv", "-w", "fields"], ""),
    (&["get", "json", "-w", "table"], ""),
    (&["get", "foo"], ""),
    (&["get", "foo", "-w", "json"], ""),
    (&["get", "foo", "-w", "fields"], ""),
    (&["get", "foo", "-w", "protobuf", "--print-value-only"], ""),
    (&["get", "foo", "-w", "xml"], ""),
    (&["get", "foo", "--hex"], ""),
    (&["get", "foo", "foo2"], ""),
    (&["get", "--prefix", "foo", "-w", "json"], ""),
    (&["get", "--prefix", "", "--keys-only"], ""),
    (&["get", "--prefix", "foo", "--limit=2", "-w", "json"], ""),
    (&["get", "--prefix", "foo", "--sort-by=modify", "--order=descend"], ""),
    (&["get", "--prefix", "foo", "--sort-by=VALUE", "--order=ASCEND", "--print-value-only"], ""),
    (&["get", "--prefix", "foo", "--sort-by=create"], ""),
    (&["get", "--prefix", "foo", "--sort-by=version", "--order=descend", "--keys-only"], ""),
    (&["get", "--prefix", "foo", "--sort-by=size"], ""),
    (&["get", "--prefix", "foo", "--order=up"], ""),
    (&["get", "--prefix", "--from-key", "foo"], ""),
    (&["get", "--from-key", "foo1"], ""),
    (&["get", "foo", "--consistency=s"], ""),
    (&["get", "foo", "--consistency=x"], ""),
    (&["get", "--prefix=true", "foo", "--keys-only=false", "--limit", "1"], ""),
    (&["get", "--prefix", "foo", "--rev=2", "-w", "json"], ""),
    (&["get", "foo", "--rev=100000"], ""),
    (&["get", ""], ""),
    (&["get"], ""),
    (&["get", "foo", "--no-such-flag"], ""),
    (&["get", "foo", "--limit=x"], ""),
    (&["no-such-command"], ""),
    (&["get", "absent"], ""),
    // Transactions.
    (&["txn", "-w", "json"], "mod(\"foo\") > \"0\"\n\nput txn \"yes\"\nget foo\n\nput txn \"no\"\n\n"),
    (&["txn", "-w", "fields"], "mod(\"foo\") > \"0\"\n\nput txn \"yes\"\nget foo\n\nput txn \"no\"\n\n"),
    (&["txn", "-i"], "create(\"foo\") = \"0\"\n\nput txn \"yes\"\n\nput txn \"no more\"\nget txn\n\n"),
    (
        &["txn"],
        "value(\"foo\") = \"other\"\nversion(\"foo\") > \"0\"\n\nput txn \"yes\"\n\nget txn\ndel foo1 --prev-kv\n\n",
    ),
    (&["txn"], "\n\nput twice \"1\"\nput twice \"2\"\n\n\n"),
    (&["txn"], "\n\nfetch foo\n\n\n"),
    (&["txn"], "mod(foo) > 0\n\n\n\n"),
    (&["txn"], "mod(\"foo\") > \"0\"\n"),
    (&["txn", "extra"], ""),
    (&["txn"], "\nput \"a key\" \"a\\nb\"\nget \"a key\"\n\n\n"),
    // Deletions.
    (&["del"], ""),
    (&["del", "foo2", "--prev-kv"], ""),
    (&["del", "foo2"], ""),
    (&["del", "--prefix", "--from-key", "foo2"], ""),
    (&["put", "p/1", "1"], ""),
    (&["put", "p/2", "2"], ""),
    (&["put", "p/3", "3"], ""),
    (&["del", "--prefix", "p/", "--prev-kv", "-w", "json"], ""),
    (&["put", "q", "3"], ""),
    (&["del", "q", "-w", "fields", "--prev-kv"], ""),
    // Compaction.
    (&["compaction", "5"], ""),
    (&["compact", "5"], ""),
    (&["compaction", "99999"], ""),
    (&["compaction"], ""),
    (&["get", "foo", "--rev=3"], ""),
    // Leases; their ids are chosen by the server.
    (&["lease", "list"], ""),
    (&["lease", "list", "-w", "json"], ""),
    (&["lease", "timetolive", "abc123"], ""),
    (&["lease", "timetolive", "abc123", "-w", "json"], ""),
    (&["lease", "revoke", "abc123"], ""),
    (&["lease", "revoke", "xyz"], ""),
    (&["lease", "keep-alive", "abc123", "--once"], ""),
    (&["lease", "grant"], ""),
    (&["lease", "grant", "x"], ""),
    (&["lease"], ""),
    // Watches that end by themselves.
    (&["watch", "foo", "--rev=1"], ""),
    (&["watch", "foo", "--rev=1", "-w", "json"], ""),
    (&["watch"], ""),
    (&["watch", "a", "b", "--prefix"], ""),
    (&["watch", "-i"], ""),
    (&["watch", "foo", "--"], ""),
    // The cluster.
    (&["alarm", "list"], ""),
    (&["alarm", "list", "-w", "json"], ""),
    (&["alarm", "disarm"], ""),
    (&["alarm", "disarm", "-w", "json"], ""),
    (&["member", "list", "-w", "json"], ""),
    (&["member", "remove", "abc"], ""),
    (&["member", "remove"], ""),
    (&["member", "remove", "xyz"], ""),
    (&["member", "add", "m4"], ""),
    (&["member", "update", "abc", "--peer-urls=http://127.0.0.1:1"], ""),
    (&["member", "promote", "abc"], ""),
    (&["move-leader", "xyz"], ""),
    (&["move-leader"], ""),
    (&["lock"], ""),
    (&["elect"], ""),
    (&["elect", "e"], ""),
    (&["elect", "-l", "e", "p"], ""),
    (&["lock", "l", "echo", "held"], ""),
];

/// Runs the script on stores of `flavor`.
async fn side_by_side(flavor: Flavor) {
    let start = || Cluster::start(flavor, 1, Options::default().fast_elections());
    let (theirs, ours) = tokio::join!(start(), start());
    let (theirs, ours) = (theirs.unwrap(), ours.unwrap());
    let etcdctl = Etcdctl::to(&theirs.endpoints());
    let kvctl = Etcdctl::kvctl(&ours.endpoints());
    let mut wrong = Vec::new();
    for (arguments, input) in SCRIPT {
        let (expected, printed) = tokio::join!(
            etcdctl.run_with(arguments, input, PATIENCE),
            kvctl.run_with(arguments, input, PATIENCE)
        );
        if let Err(why) = compare(arguments, &expected, &printed) {
            wrong.push(format!("{arguments:?}: {why}\n  etcdctl: {expected:?}\n  kvctl:   {printed:?}"));
        }
    }
    assert!(wrong.is_empty(), "on {flavor:?}:\n{}", wrong.join("\n"));
}

fn compare(arguments: &[&str], expected: &Printed, printed: &Printed) -> Result<(), String> {
    if expected.code != printed.code {
        return Err(format!("exit codes {} and {}", expected.code, printed.code));
    }
    // A usage error is told in own words, and the help is an own text.
    if expected.code != 0 && expected.out.contains("USAGE:") || arguments == ["lease"] {
        return Ok(());
    }
    let (expected_out, printed_out) =
        (as_of_3_6(arguments, &expected.out), as_of_3_6(arguments, &printed.out));
    if expected_out != printed_out {
        return Err(format!("output:\n    {expected_out}\n    {printed_out}"));
    }
    // A server's error is its own text; what `kvctl` adds comes after it.
    let server_error = expected.err.lines().last().and_then(|line| line.split_once("etcdserver: "));
    match server_error {
        Some((_, text)) if !printed.err.contains(text.trim_end_matches(')')) => {
            Err(format!("the error is not {text}"))
        }
        _ if expected.code != 0 && printed.err.is_empty() => Err("nothing on standard error".into()),
        _ => Ok(()),
    }
}

/// Output without what belongs to one cluster only, and as etcdctl 3.6 would write it.
fn as_of_3_6(arguments: &[&str], out: &str) -> String {
    let mut out = out.to_owned();
    for (then, now) in [("Range", "range"), ("Put", "put"), ("DeleteRange", "delete_range")] {
        out = out.replace(&format!("\"Response{then}\""), &format!("\"response_{now}\""));
    }
    if arguments.contains(&"json")
        && let Ok(mut value) = serde_json::from_str::<Value>(&out)
    {
        let keys = key_order(&out);
        strip(&mut value);
        // Names and their order, and the values.
        return format!("{keys:?} {value}");
    }
    let own = |line: &&str| {
        !["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""].iter().any(|own| line.starts_with(own))
    };
    out.lines().filter(own).collect::<Vec<_>>().join("\n")
}

/// Removes ids, and renames what 3.4 called otherwise.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for own in ["cluster_id", "member_id", "raft_term", "ID", "clientURLs", "peerURLs"] {
                fields.remove(own);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// All names of a document in their order.
fn key_order(text: &str) -> Vec<String> {
    text.split('"')
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| pair[1].starts_with(':'))
        .map(|pair| pair[0].to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kvctl_prints_what_etcdctl_prints_on_etcd() {
    side_by_side(Flavor::Etcd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kvctl_prints_what_etcdctl_prints_on_barque() {
    side_by_side(Flavor::Barque).await;
}
