//! Every word that can be wrong, and the sentence that says so.

use std::time::Duration;

use super::*;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// Three plain members, this is `a`.
fn three() -> MemberConfig {
    MemberConfig {
        name: "a".into(),
        listen_client_urls: strings(&["http://127.0.0.1:2379"]),
        advertise_client_urls: Some(strings(&["http://10.0.0.1:2379"])),
        listen_peer_urls: strings(&["http://0.0.0.0:2380"]),
        initial_advertise_peer_urls: strings(&["http://10.0.0.1:2380"]),
        initial_cluster: Some(
            "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380".to_string(),
        ),
        ..MemberConfig::default()
    }
}

fn error(change: impl FnOnce(&mut MemberConfig)) -> String {
    let mut config = three();
    change(&mut config);
    match config.validate().and_then(|config| config.bootstrap()) {
        Ok(_) => "no error".into(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_defaults_are_a_cluster_of_one() {
    let config = MemberConfig::default().validate().unwrap();
    assert_eq!(config.data_dir, PathBuf::from("default.barque"));
    assert_eq!(config.listen_client_urls[0].bind_address().unwrap().to_string(), "127.0.0.1:2379");
    assert_eq!(config.advertise_client_urls, config.listen_client_urls);
    assert_eq!(config.quota_bytes, Some(2 << 30));
    assert_eq!(config.auto_compaction, AutoCompaction::Periodic(Duration::from_secs(3600)));
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
    assert_eq!(config.auth_token_ttl, Duration::from_secs(300));
    let no_time = MemberConfig { auth_token_ttl_s: 0, ..MemberConfig::default() }.validate().unwrap();
    assert_eq!(no_time.auth_token_ttl, Duration::from_secs(300));
    assert_eq!(config.warnings, Vec::<String>::new());
    let bootstrap = config.bootstrap().unwrap();
    assert_eq!(bootstrap.members.len(), 1);
    assert_eq!(bootstrap.members[0].0, bootstrap.member);
}

#[test]
fn members_of_one_cluster_agree_on_ids_in_whatever_order_it_is_written() {
    let a = three().validate().unwrap().bootstrap().unwrap();
    let b = MemberConfig {
        name: "b".into(),
        initial_advertise_peer_urls: strings(&["http://10.0.0.2:2380"]),
        initial_cluster: Some(
            "c=http://10.0.0.3:2380, a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,".to_string(),
        ),
        ..three()
    };
    let b = b.validate().unwrap().bootstrap().unwrap();
    assert_eq!(a.cluster, b.cluster);
    assert_eq!(a.members, b.members);
    assert_ne!(a.member, b.member);
    let other = MemberConfig { initial_cluster_token: "x".into(), ..three() };
    assert_ne!(other.validate().unwrap().bootstrap().unwrap().cluster, a.cluster);
}

#[test]
fn a_member_may_have_several_urls() {
    let mut config = three();
    config.initial_advertise_peer_urls = strings(&["http://10.0.0.1:2380", "http://10.0.0.1:12380"]);
    config.initial_cluster =
        Some("a=http://10.0.0.1:12380,a=http://10.0.0.1:2380,b=http://[::1]:2380".into());
    let config = config.validate().unwrap();
    assert_eq!(config.bootstrap().unwrap().members.len(), 2);
    assert_eq!(config.initial_cluster[1].peer_urls[0].to_string(), "http://[::1]:2380");
}

#[test]
fn an_outdated_initial_cluster_is_an_error_only_for_an_empty_directory() {
    let config = MemberConfig { initial_cluster: Some("z=http://10.0.0.9:2380".into()), ..three() };
    let config = config.validate().unwrap();
    assert!(config.bootstrap().is_err());
}

#[test]
fn every_mistake_is_answered_by_a_sentence() {
    let file = || Some(PathBuf::from("x.pem"));
    let table: Vec<(String, &str)> = vec![
        (
            error(|c| c.name = "a=b".into()),
            "--name=\"a=b\" must not be empty and must not contain '=' or ','",
        ),
        (
            error(|c| c.listen_client_urls = vec![]),
            "--listen-client-urls needs at least one URL, such as http://localhost:2379",
        ),
        (
            error(|c| c.listen_client_urls = strings(&["127.0.0.1:2379"])),
            "--listen-client-urls=127.0.0.1:2379: the URL must begin with http:// or https://",
        ),
        (
            error(|c| c.listen_client_urls = strings(&["http://127.0.0.1"])),
            "--listen-client-urls=http://127.0.0.1: the URL must have the form scheme://host:port",
        ),
        (
            error(|c| c.listen_client_urls = strings(&["http://127.0.0.1:99999"])),
            "--listen-client-urls=http://127.0.0.1:99999: the URL must have the form scheme://host:port",
        ),
        (
            error(|c| c.listen_client_urls = strings(&["http://:2379"])),
            "--listen-client-urls=http://:2379: the URL must have the form scheme://host:port",
        ),
        (
            error(|c| c.listen_client_urls = strings(&["http://127.0.0.1:2379/"])),
            "--listen-client-urls=http://127.0.0.1:2379/: the URL must end after the port, without a path",
        ),
        (
            error(|c| c.listen_peer_urls = strings(&["http://node1:2380"])),
            "--listen-peer-urls=http://node1:2380: the host must be an IP address or localhost, because it is bound; \
             0.0.0.0 is all addresses",
        ),
        (
            error(|c| c.listen_metrics_urls = strings(&["http://localhost:2379"])),
            "--listen-metrics-urls=http://localhost:2379: --listen-client-urls already listens there; give each its \
             own port",
        ),
        (
            error(|c| c.advertise_client_urls = None),
            "--advertise-client-urls is required when --listen-client-urls is set: name the URLs by which clients \
             reach this member",
        ),
        (
            error(|c| c.advertise_client_urls = Some(strings(&["http://0.0.0.0:2379"]))),
            "--advertise-client-urls=http://0.0.0.0:2379: the host must be one that others reach, not the wildcard \
             address",
        ),
        (
            error(|c| c.initial_advertise_peer_urls = strings(&["http://10.0.0.1:0"])),
            "--initial-advertise-peer-urls=http://10.0.0.1:0: the port must not be 0: others connect to it",
        ),
        (
            error(|c| c.listen_client_urls = strings(&["https://127.0.0.1:2379"])),
            "--listen-client-urls=https://127.0.0.1:2379 is https: --cert-file and --key-file must name the \
             certificate and its key",
        ),
        (
            error(|c| c.listen_peer_urls = strings(&["https://127.0.0.1:2380"])),
            "--listen-peer-urls=https://127.0.0.1:2380 is https: --peer-cert-file and --peer-key-file must name the \
             certificate and its key",
        ),
        (
            error(|c| c.client_tls.cert_file = file()),
            "--cert-file is set and --key-file is not: both are needed",
        ),
        (
            error(|c| c.peer_tls.key_file = file()),
            "--peer-key-file is set and --peer-cert-file is not: both are needed",
        ),
        (
            error(|c| c.client_tls.client_cert_auth = true),
            "--client-cert-auth needs --trusted-ca-file: the authorities whose certificates are accepted",
        ),
        (
            error(|c| {
                c.initial_cluster = Some("a=http://10.0.0.1:2380,b=https://10.0.0.2:2380".into());
            }),
            "--initial-cluster: https://10.0.0.2:2380 is https: --peer-trusted-ca-file must name the authorities of \
             the members' certificates",
        ),
        (
            error(|c| c.initial_cluster = Some("a=http://10.0.0.1:2380,10.0.0.2".into())),
            "--initial-cluster: \"10.0.0.2\" must read name=url, such as a=http://10.0.0.1:2380",
        ),
        (
            error(|c| c.initial_cluster = Some("a=http://10.0.0.1:2380,b=http://10.0.0.1:2380".into())),
            "--initial-cluster: http://10.0.0.1:2380 occurs twice: each URL belongs to one member",
        ),
        (
            error(|c| c.initial_cluster = Some("a=10.0.0.1:2380".into())),
            "--initial-cluster=10.0.0.1:2380: the URL must begin with http:// or https://",
        ),
        (
            error(|c| c.name = "d".into()),
            "--initial-cluster does not name this member: it must contain d=http://10.0.0.1:2380 (--name is \"d\")",
        ),
        (
            error(|c| c.initial_advertise_peer_urls = strings(&["http://10.0.0.7:2380"])),
            "--initial-cluster has http://10.0.0.1:2380 for a and --initial-advertise-peer-urls has \
             http://10.0.0.7:2380: they must be equal",
        ),
        (
            error(|c| c.initial_cluster_state = "old".into()),
            "--initial-cluster-state=\"old\" must be new or existing",
        ),
        (error(|c| c.heartbeat_interval_ms = 0), "--heartbeat-interval=0 must be at least 1 (ms)"),
        (error(|c| c.election_timeout_ms = 50_001), "--election-timeout=50001 must be at most 50000 (ms)"),
        (
            error(|c| c.election_timeout_ms = 499),
            "--election-timeout=499 (ms) must be at least 5 times --heartbeat-interval=100 (ms), that is 500 or more",
        ),
        (error(|c| c.max_request_bytes = 0), "--max-request-bytes=0 must be from 1 to 536870912 (bytes)"),
        (error(|c| c.max_txn_ops = 0), "--max-txn-ops=0 must be at least 1"),
        (
            error(|c| c.auth_token = "jwt,sign-method=RS256".into()),
            "--auth-token=\"jwt,sign-method=RS256\" must be simple, the default: tokens that every member knows, \
             also after a restart; tokens of other kinds, such as jwt, are not supported",
        ),
        (error(|c| c.snapshot_count = 0), "--snapshot-count=0 must be at least 1"),
        (
            error(|c| c.snapshot_retention = 0),
            "--snapshot-retention=0 must be at least 1: the last good snapshot is never removed",
        ),
        (
            error(|c| c.snapshot_schedule = "61 * * * *".into()),
            "--snapshot-schedule=\"61 * * * *\": the minute \"61\" is no number from 0 to 59; write five fields as in \
             cron (minute, hour, day, month, weekday; UTC), a name such as @hourly or @daily, or an interval such as \
             \"@every 6h\"",
        ),
        (
            error(|c| c.auto_compaction_mode = "sometimes".into()),
            "--auto-compaction-mode=\"sometimes\" must be periodic or revision",
        ),
        (
            error(|c| c.auto_compaction_retention = Some("1 day".into())),
            "--auto-compaction-retention=\"1 day\" must be a time such as 30m or 1h, a number of hours, or 0 for no \
             compaction",
        ),
        (
            error(|c| {
                c.auto_compaction_mode = "revision".into();
                c.auto_compaction_retention = Some("1h".into());
            }),
            "--auto-compaction-retention=\"1h\" must be a number of revisions such as 1000 with \
             --auto-compaction-mode=revision, or 0 for no compaction",
        ),
        (
            error(|c| c.corrupt_check_time = "often".into()),
            "--corrupt-check-time=\"often\" must be a time such as 30s or 5m, or 0 for no check",
        ),
        (error(|_| ()), "no error"),
        (error(|c| c.election_timeout_ms = 500), "no error"),
    ];
    for (got, expected) in table {
        assert_eq!(got, expected);
    }
}

#[test]
fn retention_is_read_by_mode() {
    let seconds = |s| AutoCompaction::Periodic(Duration::from_secs(s));
    for (mode, text, expected) in [
        ("periodic", None, seconds(3600)),
        ("periodic", Some("1"), seconds(3600)),
        ("periodic", Some("72"), seconds(72 * 3600)),
        ("periodic", Some("5m"), seconds(300)),
        ("periodic", Some("1h30m"), seconds(5400)),
        ("periodic", Some("1.5h"), seconds(5400)),
        ("periodic", Some("500ms"), AutoCompaction::Periodic(Duration::from_millis(500))),
        ("periodic", Some("0"), AutoCompaction::Off),
        ("periodic", Some("0s"), AutoCompaction::Off),
        ("revision", Some("1000"), AutoCompaction::Revision(1000)),
        ("revision", Some("0"), AutoCompaction::Off),
        ("revision", None, AutoCompaction::Off),
    ] {
        assert_eq!(retention::parse(mode, text), Ok(expected), "{mode} {text:?}");
    }
    for (mode, text) in
        [("periodic", "-1h"), ("periodic", "h"), ("periodic", "1x"), ("periodic", ""), ("revision", "-5")]
    {
        assert!(retention::parse(mode, Some(text)).is_err(), "{mode} {text:?}");
    }
}

#[test]
fn quotas_and_warnings() {
    let quota = |bytes| MemberConfig { quota_backend_bytes: bytes, ..three() }.validate().unwrap();
    assert_eq!(quota(-1).quota_bytes, None);
    assert_eq!(quota(5).quota_bytes, Some(5));
    assert_eq!(quota(8 << 30).warnings, Vec::<String>::new());
    assert_eq!(quota((8 << 30) + 1).warnings.len(), 1);
    let check = |text: &str| {
        MemberConfig { corrupt_check_time: text.into(), ..three() }.validate().unwrap().corrupt_check
    };
    assert_eq!(three().validate().unwrap().corrupt_check, Some(Duration::from_secs(300)));
    assert_eq!((check("0"), check("0s"), check("90s")), (None, None, Some(Duration::from_secs(90))));
    let off = MemberConfig { auto_compaction_retention: Some("0".into()), ..three() }.validate().unwrap();
    assert_eq!(off.warnings, ["automatic compaction is off: history grows until a client compacts it"]);
    let unsafe_config = MemberConfig { unsafe_no_fsync: true, ..three() }.validate().unwrap();
    assert!(unsafe_config.unsafe_no_fsync);
    assert!(unsafe_config.warnings[0].starts_with("--unsafe-no-fsync: "), "{:?}", unsafe_config.warnings);
}

#[test]
fn snapshots_are_taken_when_there_is_a_schedule() {
    let backups = |schedule: &str, dir: Option<&str>| {
        let config = MemberConfig {
            data_dir: Some("/data".into()),
            snapshot_schedule: schedule.into(),
            snapshot_dir: dir.map(Into::into),
            ..MemberConfig::default()
        };
        let config = config.validate().unwrap();
        (config.backups.map(|backups| (backups.retention, backups.dir)), config.warnings)
    };
    assert_eq!(backups("", None), (None, vec![]));
    assert_eq!(backups("@daily", None), (Some((5, "/data/backups".into())), vec![]));
    assert_eq!(backups("@daily", Some("/b")), (Some((5, "/b".into())), vec![]));
    let warning = "--snapshot-dir=/b is set without --snapshot-schedule: no snapshots are written there";
    assert_eq!(backups(" ", Some("/b")), (None, vec![warning.to_owned()]));
}
