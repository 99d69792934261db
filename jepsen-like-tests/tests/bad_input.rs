//! Input that is wrong: too large, not the protocol at all, flags and certificates that do not fit. The answer is
//! clear and the store goes on.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::sync::Arc;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use jepsen_like_tests::certificates::{Authority, CertificateFiles};
use jepsen_like_tests::cluster::{Cluster, Flavor, Options, TlsFiles, http_get};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::etcdctl::Etcdctl;
use rand::Rng;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The same refusals as etcd's, with etcd's texts, at the limits that the flags set.
#[tokio::test]
async fn requests_beyond_the_limits_are_refused_like_etcd_does() {
    let options = || {
        let options = Options::default().fast_elections();
        options.flag("--max-request-bytes", 20_000).flag("--max-txn-ops", 3)
    };
    let etcd = Cluster::start(Flavor::Etcd, 1, options()).await.unwrap();
    let cluster = Cluster::start(Flavor::under_test(), 1, options()).await.unwrap();
    let clients = [etcd.client(0), cluster.client(0)];

    for length in [100, 19_000, 20_000, 21_000, 400_000] {
        let mut answers = Vec::new();
        for client in &clients {
            let answer = client.put("large", "x".repeat(length)).await;
            answers.push(answer.map(|_| ()).map_err(|status| (status.code(), status.message().to_owned())));
        }
        assert_eq!(answers[0], answers[1], "left is etcd; a value of {length} bytes");
    }
    // Beyond what gRPC itself takes; the text is that of the gRPC library.
    let mut codes = Vec::new();
    for client in &clients {
        codes.push(client.put("large", "x".repeat(3 << 20)).await.unwrap_err().code());
    }
    assert_eq!(codes[0], codes[1], "left is etcd; a value of 3 MiB");

    for ops in [3, 4] {
        let get = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
                key: "k".into(),
                ..Default::default()
            })),
        };
        let mut answers = Vec::new();
        for client in &clients {
            let txn = pb::TxnRequest { success: vec![get.clone(); ops], ..Default::default() };
            let answer = client.txn(txn).await;
            answers.push(answer.map(|_| ()).map_err(|status| (status.code(), status.message().to_owned())));
        }
        assert_eq!(answers[0], answers[1], "left is etcd; {ops} operations");
    }
}

/// Beyond the quota writes are refused with etcd's text, reads and deletions go on.
#[tokio::test]
async fn writes_beyond_the_quota_are_refused() {
    let options = Options::default().fast_elections().flag("--quota-backend-bytes", 8 << 20);
    let cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);
    let mut written = 0;
    let refusal = loop {
        assert!(written < 64, "16 MiB were written with a quota of 8 MiB");
        match client.put(format!("quota/{written}"), "q".repeat(256 << 10)).await {
            Ok(_) => written += 1,
            Err(status) => break status,
        }
    };
    assert!(written > 10, "only {written} writes of 256 KiB with a quota of 8 MiB");
    assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
    assert_eq!(refusal.message(), "etcdserver: mvcc: database space exceeded");
    assert!(client.get("quota/0").await.unwrap().is_some());
    let everything =
        pb::DeleteRangeRequest { key: "quota/".into(), range_end: "quota0".into(), ..Default::default() };
    let deleted = client.kv.clone().delete_range(everything).await.unwrap().into_inner();
    assert_eq!(deleted.deleted, written);
    let revision = deleted.header.unwrap().revision;
    let compact = pb::CompactionRequest { revision, physical: true };
    client.kv.clone().compact(compact).await.unwrap();
    if cluster.flavor().is_barque() {
        // There is room again, and no alarm to disarm by hand.
        let written = eventually("a write after the compaction", PATIENCE, || client.put("again", "x"));
        written.await.unwrap();
    }
}

/// Bytes that are no request, on both ports; the same process serves on.
#[tokio::test]
async fn garbage_on_the_ports_changes_nothing() {
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await.unwrap();
    let mut random = vec![0; 64 << 10];
    rand::rng().fill(&mut random[..]);
    let frame = |length: [u8; 3], kind: u8, stream: u8| {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(length);
        bytes.extend([kind, 0xff, 0, 0, 0, stream]);
        bytes.extend([0xa5; 300]);
        bytes
    };
    let garbage: [Vec<u8>; 8] = [
        random,
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /etcdserverpb.KV/Put HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        // The start of a TLS handshake.
        vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        PREFACE.to_vec(),
        // A frame of 16 MiB, one of an unknown kind, headers that are no headers.
        frame([0xff, 0xff, 0xff], 0, 1),
        frame([0, 1, 0], 0x77, 0),
        frame([0, 0, 200], 1, 1),
    ];
    let before: Vec<_> = (0..3).map(|index| cluster.process_id(index)).collect();
    let mut open = Vec::new();
    for index in 0..3 {
        for port in [cluster.client_port(index), cluster.peer_port(index)] {
            for bytes in &garbage {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // It may hang up while we still speak.
                drop(stream.write_all(bytes).await);
                open.push(stream);
            }
        }
    }
    for (index, process) in before.into_iter().enumerate() {
        let client = cluster.client(index);
        client.put("still", "here").await.unwrap();
        assert_eq!(client.get("still").await.unwrap().as_deref(), Some(&b"here"[..]));
        assert!(cluster.ended(index, Duration::ZERO).await.unwrap().is_none());
        assert_eq!(cluster.process_id(index), process);
    }
}

/// A flag and its value; `None` leaves the flag out.
type Change = (&'static str, Option<&'static str>);

/// Changes to a proper start, and what the message must name.
const WRONG_FLAGS: &[(&[Change], &str)] = &[
    (&[("--bogus", Some("1"))], "bogus"),
    (&[("--election-timeout", Some("100")), ("--heartbeat-interval", Some("100"))], "election-timeout"),
    (&[("--quota-backend-bytes", Some("much"))], "quota-backend-bytes"),
    (
        &[("--auto-compaction-mode", Some("sometimes")), ("--auto-compaction-retention", Some("1"))],
        "sometimes",
    ),
    (&[("--advertise-client-urls", None)], "advertise-client-urls"),
    (&[("--listen-peer-urls", Some("nonsense"))], "listen-peer-urls"),
    (&[("--initial-cluster-state", Some("perhaps"))], "initial-cluster-state"),
    (&[("--initial-cluster", Some("other=http://127.0.0.1:1"))], "m1"),
    (&[("--initial-cluster", Some("m1=http://127.0.0.1:1"))], "initial-advertise-peer-urls"),
    (&[("--cert-file", Some("/nowhere/server.crt"))], "key"),
];

#[tokio::test]
async fn wrong_flags_stop_the_start_and_are_named() {
    for (changes, named) in WRONG_FLAGS {
        let mut cluster = Cluster::prepare(Flavor::under_test(), 1, Options::default()).unwrap();
        let mut flags = cluster.flags(0);
        for (flag, value) in *changes {
            match value {
                Some(value) => flags.insert((*flag).to_owned(), (*value).to_owned()),
                None => flags.remove(*flag),
            };
            if *flag == "--cert-file" {
                let https = cluster.endpoint(0).replace("http:", "https:");
                flags.insert("--listen-client-urls".to_owned(), https);
            }
        }
        cluster.spawn_with(0, &flags).unwrap();
        let ended = cluster.ended(0, Duration::from_secs(10)).await.unwrap();
        let status = ended.unwrap_or_else(|| panic!("{changes:?} is accepted"));
        assert!(!status.success(), "{changes:?}: {status}");
        let log = cluster.log(0).to_lowercase();
        assert!(log.contains(named), "{changes:?}: the message does not name `{named}`");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let mut cluster = Cluster::prepare(Flavor::under_test(), 1, Options::default()).unwrap();
    let port = cluster.client_port(0);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    cluster.spawn(0).unwrap();
    let status = cluster.ended(0, Duration::from_secs(10)).await.unwrap().expect("it cannot run");
    assert!(!status.success());
    let log = cluster.log(0);
    assert!(log.to_lowercase().contains("address already in use") && log.contains(&port.to_string()));
}

/// A third member of another cluster, by its token or by its list of members, stays outside; the two go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_another_cluster_are_not_talked_to() {
    let options = Options::default().fast_elections();
    let mut cluster = Cluster::prepare(Flavor::under_test(), 3, options).unwrap();
    cluster.restart_all(&[0, 1]).await.unwrap();
    let own = cluster.flags(2);
    let mut without_m1 = own["--initial-cluster"].split(',').filter(|member| !member.starts_with("m1="));
    let fewer = without_m1.by_ref().collect::<Vec<_>>().join(",");
    let wrong = [("--initial-cluster-token", "another-token".to_owned()), ("--initial-cluster", fewer)];
    for (flag, value) in wrong {
        let mut flags = own.clone();
        flags.insert(flag.to_owned(), value);
        cluster.spawn_with(2, &flags).unwrap();
        let said = cluster.ended(2, Duration::from_secs(4)).await.unwrap();
        assert!(!said.is_some_and(|status| status.success()), "{flag}: it ended as if all were well");
        let health = timeout(Duration::from_secs(1), http_get(cluster.client_port(2), "/health")).await;
        assert!(!matches!(health, Ok(Ok(answer)) if answer.status == 200), "{flag}: it calls itself healthy");
        let log = cluster.log(2).to_lowercase();
        assert!(
            log.contains("mismatch") || log.contains("another cluster"),
            "{flag}: its log does not say why"
        );
        cluster.client(0).put("two", "are enough").await.unwrap();
        cluster.kill9(2).unwrap();
        if cluster.data_dir(2).exists() {
            cluster.wipe(2).unwrap();
        }
    }
}

/// Certificates are required and checked on both ports, and new files are used without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_serves_only_clients_with_certificates_and_reloads_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let stranger = Authority::new(dir.path(), "stranger");
    let member = authority.sign("member");
    let client = authority.sign("client");
    let unknown = stranger.sign("unknown");
    let files = TlsFiles {
        authority: authority.certificate.clone(),
        certificate: member.certificate.clone(),
        key: member.key.clone(),
    };
    let cluster = Cluster::start(Flavor::under_test(), 3, Options::default().tls(files)).await.unwrap();

    let endpoints = cluster.endpoints();
    let bare = Etcdctl::to(&endpoints).flag("--command-timeout=3s").flag("--dial-timeout=3s");
    let trusting = bare.clone().authority(&authority.certificate);
    let known = trusting.clone().certificate(&client.certificate, &client.key);
    known.run(&["put", "over", "tls"]).await.ok();
    for endpoint in &endpoints {
        let one = Etcdctl::to(std::slice::from_ref(endpoint)).authority(&authority.certificate);
        let one = one.certificate(&client.certificate, &client.key);
        assert_eq!(one.run(&["get", "over", "--print-value-only"]).await.ok(), "tls\n");
    }

    let refused = [
        ("no certificate", trusting.clone()),
        ("a stranger's certificate", trusting.clone().certificate(&unknown.certificate, &unknown.key)),
        ("another authority", bare.clone().authority(&stranger.certificate)),
        ("no TLS", Etcdctl::to(&[endpoints[0].replace("https", "http")]).flag("--command-timeout=3s")),
    ];
    for (how, etcdctl) in refused {
        let answer = etcdctl.run(&["get", "over"]).await;
        assert!(answer.code != 0 && answer.out.is_empty(), "served with {how}: {answer:?}");
    }
    // A peer must show a certificate too.
    let peer = handshake(cluster.peer_port(0), &authority, None).await;
    assert!(peer.is_err(), "the peer port served somebody without a certificate");

    // New files under the old names: new connections see the new certificate, the process is the same.
    let port = cluster.client_port(0);
    let before = handshake(port, &authority, Some(&client)).await.unwrap();
    let process = cluster.process_id(0);
    let renewed = authority.sign("member");
    let expected = CertificateDer::from_pem_file(&renewed.certificate).unwrap();
    assert!(before != expected);
    let reloaded = eventually("the new certificate", PATIENCE, || async {
        match handshake(port, &authority, Some(&client)).await {
            Ok(shown) if shown == expected => Ok(()),
            Ok(_) => Err("still the old certificate".to_owned()),
            Err(why) => Err(why.to_string()),
        }
    });
    reloaded.await.unwrap();
    assert_eq!(cluster.process_id(0), process);
    assert_eq!(known.run(&["get", "over", "--print-value-only"]).await.ok(), "tls\n");
}

/// Connects, waits for what the server says of our certificate, and returns the server's.
async fn handshake(
    port: u16,
    authority: &Authority,
    client: Option<&CertificateFiles>,
) -> std::io::Result<CertificateDer<'static>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots);
    let mut config = match client {
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    // With TLS 1.3 a refusal comes after our side of the handshake is done: instead of the server's settings.
    stream.write_all(PREFACE).await?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    let mut first = [0; 9];
    stream.read_exact(&mut first).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    Ok(shown.expect("a server shows a certificate").clone().into_owned())
}
