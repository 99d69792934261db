//! From words to a configuration that a member can run with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    AutoCompaction, ConfigError, DEFAULT_AUTH_TOKEN, DEFAULT_AUTH_TOKEN_TTL_S, DEFAULT_CLIENT_URL,
    DEFAULT_NAME, DEFAULT_PEER_URL, DEFAULT_QUOTA_BYTES, InitialMember, MAX_ELECTION_TIMEOUT_MS,
    MAX_REQUEST_BYTES, MemberConfig, QUOTA_WARNING_BYTES, REQUEST_WARNING_BYTES, Schedule, TlsFiles, Url,
    go_duration::go_duration, initial_cluster, retention,
};
use crate::identity;
use crate::ids::{ClusterId, MemberId};

/// Whether the member begins a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// All members of `--initial-cluster` start for the first time.
    New,
    /// The cluster is there and has added this member.
    Existing,
}

/// The snapshots that a member takes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backups {
    /// When.
    pub schedule: Schedule,
    /// How many good ones are kept; at least one.
    pub retention: u32,
    /// Where.
    pub dir: PathBuf,
}

/// A configuration that was checked. Comes only from [`MemberConfig::validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidConfig {
    /// The member's human name.
    pub name: String,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Where clients are listened to; each host can be bound.
    pub listen_client_urls: Vec<Url>,
    /// What clients are told.
    pub advertise_client_urls: Vec<Url>,
    /// Where members are listened to; each host can be bound.
    pub listen_peer_urls: Vec<Url>,
    /// What members are told, sorted.
    pub advertise_peer_urls: Vec<Url>,
    /// Where health and metrics are served besides the client URLs.
    pub listen_metrics_urls: Vec<Url>,
    /// The members the cluster begins with, sorted by name; at least one.
    pub initial_cluster: Vec<InitialMember>,
    /// New or existing.
    pub cluster_state: ClusterState,
    /// Keeps clusters with equal addresses apart.
    pub initial_cluster_token: String,
    /// Live bytes allowed; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// The longest request.
    pub max_request_bytes: usize,
    /// The most operations in one transaction.
    pub max_txn_ops: usize,
    /// How long a client's token is good after it was made or used last.
    pub auth_token_ttl: Duration,
    /// How much history is kept.
    pub auto_compaction: AutoCompaction,
    /// How often the members' data is compared; `None` is never.
    pub corrupt_check: Option<Duration>,
    /// Between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// Without a heartbeat for this long, a member stands for election.
    pub election_timeout: Duration,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Snapshots on a schedule; `None` is none.
    pub backups: Option<Backups>,
    /// The log is not synced.
    pub unsafe_no_fsync: bool,
    /// TLS towards clients.
    pub client_tls: TlsFiles,
    /// TLS towards members.
    pub peer_tls: TlsFiles,
    /// What an operator should know, in sentences; to be logged once.
    pub warnings: Vec<String>,
}

/// Who a member is that starts with an empty data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The cluster of `--initial-cluster`. A member that joins one takes the id of the cluster that it finds.
    pub cluster: ClusterId,
    /// This member's id in a new cluster. A member that joins one has the id that the cluster gave it.
    pub member: MemberId,
    /// All initial members with their ids in a new cluster, sorted by name.
    pub members: Vec<(MemberId, InitialMember)>,
}

const CLIENT_TLS: [&str; 4] = ["--cert-file", "--key-file", "--trusted-ca-file", "--client-cert-auth"];
const PEER_TLS: [&str; 4] =
    ["--peer-cert-file", "--peer-key-file", "--peer-trusted-ca-file", "--peer-client-cert-auth"];

impl MemberConfig {
    /// Checks every word by itself and against the others. What holds only for an empty data directory is
    /// checked by [`ValidConfig::bootstrap`].
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        let mut warnings = Vec::new();
        if self.name.is_empty() || self.name.contains(['=', ',']) {
            return Err(ConfigError::Name(self.name));
        }
        if self.name == DEFAULT_NAME && self.initial_cluster.is_some() {
            warnings.push(format!("--name is {DEFAULT_NAME:?}: give each member a name of its own"));
        }

        let listen_peer_urls = listened("--listen-peer-urls", &self.listen_peer_urls)?;
        let listen_client_urls = listened("--listen-client-urls", &self.listen_client_urls)?;
        let listen_metrics_urls = listened("--listen-metrics-urls", &self.listen_metrics_urls)?;
        some("--listen-peer-urls", &listen_peer_urls, DEFAULT_PEER_URL)?;
        some("--listen-client-urls", &listen_client_urls, DEFAULT_CLIENT_URL)?;
        distinct(&[
            ("--listen-client-urls", &listen_client_urls),
            ("--listen-peer-urls", &listen_peer_urls),
            ("--listen-metrics-urls", &listen_metrics_urls),
        ])?;

        let advertise_client_urls = match &self.advertise_client_urls {
            Some(urls) => all_advertised("--advertise-client-urls", urls)?,
            None if self.listen_client_urls == [DEFAULT_CLIENT_URL] => listen_client_urls.clone(),
            None => return Err(ConfigError::NoAdvertiseClientUrls),
        };
        some("--advertise-client-urls", &advertise_client_urls, DEFAULT_CLIENT_URL)?;
        let mut advertise_peer_urls =
            all_advertised("--initial-advertise-peer-urls", &self.initial_advertise_peer_urls)?;
        some("--initial-advertise-peer-urls", &advertise_peer_urls, DEFAULT_PEER_URL)?;
        advertise_peer_urls.sort();

        let initial_cluster = match self.initial_cluster.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => initial_cluster::parse(text)?,
            _ => vec![InitialMember { name: self.name.clone(), peer_urls: advertise_peer_urls.clone() }],
        };
        let cluster_state = match self.initial_cluster_state.as_str() {
            "new" => ClusterState::New,
            "existing" => ClusterState::Existing,
            _ => return Err(ConfigError::ClusterState(self.initial_cluster_state)),
        };

        check_files(&self.client_tls, CLIENT_TLS)?;
        check_files(&self.peer_tls, PEER_TLS)?;
        let metrics_and_client = [
            ("--listen-client-urls", listen_client_urls.as_slice()),
            ("--listen-metrics-urls", listen_metrics_urls.as_slice()),
        ];
        check_schemes(&self.client_tls, CLIENT_TLS, &metrics_and_client, &mut warnings)?;
        let peers = [("--listen-peer-urls", listen_peer_urls.as_slice())];
        check_schemes(&self.peer_tls, PEER_TLS, &peers, &mut warnings)?;
        if self.peer_tls.trusted_ca_file.is_none() {
            let mut others = initial_cluster.iter().filter(|member| member.name != self.name);
            if let Some(url) = others.find_map(|member| member.peer_urls.iter().find(|url| url.is_https())) {
                return Err(ConfigError::HttpsPeerWithoutCa { url: url.clone() });
            }
        }

        if self.heartbeat_interval_ms == 0 {
            return Err(number("--heartbeat-interval", 0, "at least 1 (ms)"));
        }
        if self.election_timeout_ms > MAX_ELECTION_TIMEOUT_MS {
            return Err(number("--election-timeout", self.election_timeout_ms, "at most 50000 (ms)"));
        }
        let least_ms = self.heartbeat_interval_ms.saturating_mul(5);
        if self.election_timeout_ms < least_ms {
            return Err(ConfigError::ElectionTooShort {
                election_ms: self.election_timeout_ms,
                heartbeat_ms: self.heartbeat_interval_ms,
                least_ms,
            });
        }

        if self.max_request_bytes == 0 || self.max_request_bytes > MAX_REQUEST_BYTES {
            return Err(number("--max-request-bytes", self.max_request_bytes, "from 1 to 536870912 (bytes)"));
        }
        if self.max_request_bytes > REQUEST_WARNING_BYTES {
            warnings.push(format!(
                "--max-request-bytes={} is above {REQUEST_WARNING_BYTES}: large requests delay all others",
                self.max_request_bytes
            ));
        }
        if self.max_txn_ops == 0 {
            return Err(number("--max-txn-ops", 0, "at least 1"));
        }
        if self.snapshot_count == 0 {
            return Err(number("--snapshot-count", 0, "at least 1"));
        }
        let quota_bytes = match u64::try_from(self.quota_backend_bytes) {
            Ok(0) => Some(DEFAULT_QUOTA_BYTES),
            Ok(bytes) => Some(bytes),
            Err(_) => None,
        };
        if let Some(bytes) = quota_bytes.filter(|bytes| *bytes > QUOTA_WARNING_BYTES) {
            warnings.push(format!(
                "--quota-backend-bytes={bytes} is above {QUOTA_WARNING_BYTES}: all keys are held in memory"
            ));
        }
        let corrupt_check = corrupt_check(&self.corrupt_check_time)?;
        if self.auth_token != DEFAULT_AUTH_TOKEN {
            return Err(ConfigError::AuthToken(self.auth_token));
        }
        let auth_token_ttl_s =
            if self.auth_token_ttl_s == 0 { DEFAULT_AUTH_TOKEN_TTL_S } else { self.auth_token_ttl_s };
        let data_dir = self.data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.barque", self.name)));
        let backups = backups(
            &self.snapshot_schedule,
            self.snapshot_retention,
            self.snapshot_dir,
            &data_dir,
            &mut warnings,
        )?;
        let auto_compaction =
            retention::parse(&self.auto_compaction_mode, self.auto_compaction_retention.as_deref())?;
        if auto_compaction == AutoCompaction::Off {
            warnings.push("automatic compaction is off: history grows until a client compacts it".into());
        }
        if self.unsafe_no_fsync {
            warnings.push(
                "--unsafe-no-fsync: the log is not synced; a power cut loses acknowledged writes, and may spoil this \
                 member's data and the cluster's"
                    .into(),
            );
        }

        Ok(ValidConfig {
            data_dir,
            name: self.name,
            listen_client_urls,
            advertise_client_urls,
            listen_peer_urls,
            advertise_peer_urls,
            listen_metrics_urls,
            initial_cluster,
            cluster_state,
            initial_cluster_token: self.initial_cluster_token,
            quota_bytes,
            max_request_bytes: usize::try_from(self.max_request_bytes).unwrap_or(usize::MAX),
            max_txn_ops: usize::try_from(self.max_txn_ops).unwrap_or(usize::MAX),
            auth_token_ttl: Duration::from_secs(auth_token_ttl_s),
            auto_compaction,
            corrupt_check,
            heartbeat_interval: Duration::from_millis(self.heartbeat_interval_ms),
            election_timeout: Duration::from_millis(self.election_timeout_ms),
            snapshot_count: self.snapshot_count,
            backups,
            unsafe_no_fsync: self.unsafe_no_fsync,
            client_tls: self.client_tls,
            peer_tls: self.peer_tls,
            warnings,
        })
    }
}

impl ValidConfig {
    /// How long a request may take before its client is told: 5 s and two elections, as in etcd.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The ids that follow from `--initial-cluster`. Only for an empty data directory: later the directory
    /// tells them, and `--initial-cluster` may be out of date, as in etcd.
    ///
    /// # Errors
    /// `--initial-cluster` does not name this member with exactly its advertised URLs.
    pub fn bootstrap(&self) -> Result<Bootstrap, ConfigError> {
        let Some(own) = self.initial_cluster.iter().find(|member| member.name == self.name) else {
            return Err(ConfigError::NotInInitialCluster {
                name: self.name.clone(),
                url: self.advertise_peer_urls.first().map(Url::to_string).unwrap_or_default(),
            });
        };
        if own.peer_urls != self.advertise_peer_urls {
            return Err(ConfigError::PeerUrlsDiffer {
                name: self.name.clone(),
                listed: comma_separated(&own.peer_urls),
                advertised: comma_separated(&self.advertise_peer_urls),
            });
        }
        let token = &self.initial_cluster_token;
        let all_urls = self.initial_cluster.iter().flat_map(|member| &member.peer_urls);
        Ok(Bootstrap {
            cluster: identity::cluster_id(all_urls.map(Url::to_string), token),
            member: identity::member_id(own.peer_urls.iter().map(Url::to_string), token, None),
            members: self
                .initial_cluster
                .iter()
                .map(|member| {
                    let urls = member.peer_urls.iter().map(Url::to_string);
                    (identity::member_id(urls, token, None), member.clone())
                })
                .collect(),
        })
    }
}

/// Which snapshots the member takes by itself; none without a schedule.
fn backups(
    schedule: &str,
    retention: u32,
    dir: Option<PathBuf>,
    data_dir: &Path,
    warnings: &mut Vec<String>,
) -> Result<Option<Backups>, ConfigError> {
    if retention == 0 {
        return Err(number("--snapshot-retention", 0, "at least 1: the last good snapshot is never removed"));
    }
    if schedule.trim().is_empty() {
        if let Some(dir) = dir {
            warnings.push(format!(
                "--snapshot-dir={} is set without --snapshot-schedule: no snapshots are written there",
                dir.display()
            ));
        }
        return Ok(None);
    }
    let schedule = Schedule::parse(schedule)
        .map_err(|why| ConfigError::SnapshotSchedule { text: schedule.to_owned(), why })?;
    Ok(Some(Backups { schedule, retention, dir: dir.unwrap_or_else(|| data_dir.join("backups")) }))
}

/// How often members are compared; `0` needs no unit.
fn corrupt_check(text: &str) -> Result<Option<Duration>, ConfigError> {
    let text = text.trim();
    let interval = if text == "0" { Some(Duration::ZERO) } else { go_duration(text) };
    let interval = interval.ok_or_else(|| ConfigError::CorruptCheckTime(text.into()))?;
    Ok((!interval.is_zero()).then_some(interval))
}

fn number(flag: &'static str, value: u64, right: &'static str) -> ConfigError {
    ConfigError::Number { flag, value, right }
}

fn comma_separated(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

fn some(flag: &'static str, urls: &[Url], example: &'static str) -> Result<(), ConfigError> {
    if urls.is_empty() { Err(ConfigError::NoUrl { flag, example }) } else { Ok(()) }
}

fn listened(flag: &'static str, texts: &[String]) -> Result<Vec<Url>, ConfigError> {
    let checked = |text: &String| {
        let url: Url = text.parse()?;
        url.bind_address()?;
        Ok(url)
    };
    let bound = |text: &String| {
        checked(text).map_err(|source| ConfigError::Url { flag, url: text.trim().into(), source })
    };
    texts.iter().map(bound).collect()
}

/// A URL that others connect to.
pub(super) fn advertised(flag: &'static str, text: &str) -> Result<Url, ConfigError> {
    let checked = || {
        let url: Url = text.parse()?;
        url.check_advertised()?;
        Ok(url)
    };
    checked().map_err(|source| ConfigError::Url { flag, url: text.trim().into(), source })
}

fn all_advertised(flag: &'static str, texts: &[String]) -> Result<Vec<Url>, ConfigError> {
    texts.iter().map(|text| advertised(flag, text)).collect()
}

fn distinct(lists: &[(&'static str, &[Url])]) -> Result<(), ConfigError> {
    let mut seen = std::collections::HashMap::new();
    for (flag, urls) in lists {
        for url in urls.iter().filter(|url| url.port != 0) {
            if let Some(other) = seen.insert((url.bind_address().ok(), url.port), *flag) {
                return Err(ConfigError::ListenTwice { flag, url: url.clone(), other });
            }
        }
    }
    Ok(())
}

fn check_files(
    files: &TlsFiles,
    [cert_flag, key_flag, ca_flag, auth_flag]: [&'static str; 4],
) -> Result<(), ConfigError> {
    match (&files.cert_file, &files.key_file) {
        (Some(_), None) => return Err(ConfigError::CertWithoutKey { cert_flag, key_flag }),
        (None, Some(_)) => return Err(ConfigError::KeyWithoutCert { cert_flag, key_flag }),
        _ => {}
    }
    if files.client_cert_auth && files.trusted_ca_file.is_none() {
        return Err(ConfigError::AuthWithoutCa { auth_flag, ca_flag });
    }
    Ok(())
}

fn check_schemes(
    files: &TlsFiles,
    [cert_flag, key_flag, ..]: [&'static str; 4],
    lists: &[(&'static str, &[Url])],
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (flag, urls) in lists {
        for url in *urls {
            match (url.is_https(), &files.cert_file) {
                (true, None) => {
                    return Err(ConfigError::HttpsWithoutCert {
                        flag,
                        url: url.clone(),
                        cert_flag,
                        key_flag,
                    });
                }
                // Metrics are often wanted in the clear beside an encrypted client port.
                (false, Some(_)) if *flag != "--listen-metrics-urls" => {
                    warnings.push(format!("{flag}={url} is http: {cert_flag} is not used there"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
