//! Wrong addresses, certificates, tokens and passwords: one sentence each that says what to do.

use jepsen_like_tests::certificates::Authority;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, TlsFiles};
use jepsen_like_tests::etcdctl::{Etcdctl, Printed, json};

/// One line on standard error, with these words, and the code.
fn told(printed: &Printed, code: i32, words: &[&str]) {
    assert_eq!(printed.code, code, "{printed:?}");
    assert_eq!(printed.err.lines().count(), 1, "{printed:?}");
    assert_eq!(printed.out, "", "{printed:?}");
    for word in words {
        assert!(printed.err.contains(word), "{word:?} is not in {printed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_addresses_are_told() {
    let to = |endpoint: &str| Etcdctl::kvctl(&[endpoint.to_owned()]);
    told(&to("127.0.0.1:1").run(&["get", "k"]).await, 2, &["cannot connect to 127.0.0.1:1", "--endpoints"]);
    told(&to("nobody.invalid:1").run(&["get", "k"]).await, 2, &["cannot connect to nobody.invalid:1"]);
    told(&to("127.0.0.1").run(&["get", "k"]).await, 128, &["not host:port"]);
    told(&to("unix://x:1").run(&["get", "k"]).await, 128, &["http://"]);
    // Both are named.
    let two = Etcdctl::kvctl(&["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]);
    told(&two.run(&["get", "k"]).await, 2, &["127.0.0.1:1", "127.0.0.1:2"]);
    // A listener that never answers: the dial timeout is for TCP, the command timeout for the answer.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = to(&silent.local_addr().unwrap().to_string());
    let late = silent.run(&["get", "k", "--command-timeout=300ms"]).await;
    told(&late, 1, &["gave no answer within 300ms", "--command-timeout"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_certificates_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let stranger = Authority::new(dir.path(), "stranger");
    let member = authority.sign("member");
    let client = authority.sign("client");
    let foreign = stranger.sign("foreign");
    let files = TlsFiles {
        authority: authority.certificate.clone(),
        certificate: member.certificate,
        key: member.key,
    };
    for flavor in [Flavor::Barque, Flavor::Etcd] {
        let cluster =
            Cluster::start(flavor, 1, Options::default().fast_elections().tls(files.clone())).await.unwrap();
        let kvctl = || Etcdctl::kvctl(&cluster.endpoints());
        let good = kvctl().authority(&authority.certificate).certificate(&client.certificate, &client.key);
        good.run(&["put", "k", "v"]).await.ok();
        assert_eq!(good.run(&["get", "k"]).await.ok(), "k\nv\n");
        let status = json(&good.run(&["status", "-w", "json"]).await.ok());
        assert!(status["members"][0]["certificate_days_left"].is_number(), "{status}");

        let distrusting =
            kvctl().authority(&stranger.certificate).certificate(&client.certificate, &client.key);
        told(
            &distrusting.run(&["get", "k"]).await,
            2,
            &["the certificate of https://127.0.0.1:", "--cacert"],
        );
        told(&kvctl().run(&["get", "k"]).await, 2, &["is refused", "--cacert"]);
        let anonymous = kvctl().authority(&authority.certificate);
        told(&anonymous.run(&["get", "k"]).await, 2, &["--cert and --key that its authority has signed"]);
        let unknown =
            kvctl().authority(&authority.certificate).certificate(&foreign.certificate, &foreign.key);
        told(&unknown.run(&["get", "k"]).await, 2, &["--cert and --key that its authority has signed"]);
        let careless =
            kvctl().flag("--insecure-skip-tls-verify").certificate(&client.certificate, &client.key);
        assert_eq!(careless.run(&["get", "k"]).await.ok(), "k\nv\n");
        let plain = Etcdctl::kvctl(&[format!("http://127.0.0.1:{}", cluster.client_port(0))]);
        told(&plain.run(&["get", "k"]).await, 2, &["closed the connection", "https://"]);
        let lost =
            kvctl().authority(&authority.certificate).certificate(&client.certificate, "/nowhere".as_ref());
        told(&lost.run(&["get", "k"]).await, 128, &["--key /nowhere"]);
        let keyless = kvctl()
            .authority(&authority.certificate)
            .flag(&format!("--cert={}", client.certificate.display()));
        told(&keyless.run(&["get", "k"]).await, 128, &["--key"]);
        let garbage = kvctl().authority(&client.key);
        told(&garbage.run(&["get", "k"]).await, 128, &["--cacert", "no certificate"]);
    }
    let plain = Cluster::start(Flavor::Barque, 1, Options::default().fast_elections()).await.unwrap();
    let tls = Etcdctl::kvctl(&[format!("https://127.0.0.1:{}", plain.client_port(0))]);
    told(&tls.run(&["get", "k"]).await, 2, &["does not speak TLS", "http://"]);
}
