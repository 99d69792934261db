//! The screen of `kvctl status`, made of what the members answered. Pure.

use std::fmt;

use barque_proto::etcdserverpb as pb;
use serde::Serialize;

use super::metrics;
use crate::output::{grid, size};

/// Warn of certificates that end within this time.
const CERTIFICATE_WARNING_S: i64 = 30 * 86_400;

/// Warn of a quota of which more is used, in percent.
const QUOTA_WARNING_PERCENT: i64 = 80;

/// What one member answered.
#[derive(Clone, Debug)]
pub(super) struct MemberLine {
    id: u64,
    name: String,
    endpoint: String,
    is_learner: bool,
    pub(super) status: Option<pb::StatusResponse>,
    pub(super) metrics: Option<Metrics>,
    pub(super) certificate_ends_s: Option<i64>,
    /// Why there is no status.
    pub(super) trouble: Option<String>,
}

impl MemberLine {
    pub(super) fn new(member: &pb::Member) -> Self {
        Self {
            id: member.id,
            name: member.name.clone(),
            endpoint: member.client_ur_ls.join(","),
            is_learner: member.is_learner,
            status: None,
            metrics: None,
            certificate_ends_s: None,
            trouble: member.client_ur_ls.is_empty().then(|| "never started".to_owned()),
        }
    }
}

/// What the page of metrics is read for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Metrics {
    sync_p99_s: Option<f64>,
    watchers: Option<f64>,
    /// The quota counts what is in use; etcd's counts the file.
    quota_counts_in_use: bool,
}

impl Metrics {
    pub(super) fn read(page: &str) -> Self {
        Self {
            sync_p99_s: metrics::quantile(page, "etcd_disk_wal_fsync_duration_seconds", 0.99),
            watchers: metrics::sum(page, "etcd_debugging_mvcc_watcher_total"),
            quota_counts_in_use: metrics::sum(page, "barque_quota_warning").is_some(),
        }
    }
}

/// The whole screen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Screen {
    cluster_id: String,
    /// The newest revision that a member has.
    revision: i64,
    leader: Option<String>,
    voters: usize,
    quorum: usize,
    answering: usize,
    pub(super) healthy: bool,
    members: Vec<Row>,
    alarms: Vec<String>,
    /// What to look at.
    warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    id: String,
    endpoint: String,
    role: &'static str,
    version: String,
    revision: Option<i64>,
    /// Entries that the leader has applied and this member has not.
    applied_lag: Option<u64>,
    size_bytes: Option<i64>,
    in_use_bytes: Option<i64>,
    /// What of the quota is used, in percent; only when there is one, and the server tells it.
    quota_used_percent: Option<i64>,
    sync_p99_ms: Option<f64>,
    watchers: Option<f64>,
    certificate_days_left: Option<i64>,
}

impl Screen {
    pub(super) fn new(
        cluster_id: u64,
        lines: Vec<MemberLine>,
        alarms: &[pb::AlarmMember],
        now_s: i64,
    ) -> Self {
        let leader_id = lines
            .iter()
            .filter_map(|line| line.status.as_ref())
            .map(|status| status.leader)
            .find(|id| *id != 0);
        let leader = leader_id.and_then(|id| lines.iter().find(|line| line.id == id));
        let leader_applied =
            leader.and_then(|line| line.status.as_ref()).map(|status| status.raft_applied_index);
        let name = |id: u64| {
            let line = lines.iter().find(|line| line.id == id && !line.name.is_empty());
            line.map_or_else(|| format!("{id:x}"), |line| line.name.clone())
        };
        let voters = lines.iter().filter(|line| !line.is_learner).count();
        let answering = lines.iter().filter(|line| !line.is_learner && line.status.is_some()).count();
        let quorum = voters / 2 + 1;
        let alarms: Vec<String> = alarms
            .iter()
            .map(|alarm| format!("{} on {}", alarm.alarm().as_str_name(), name(alarm.member_id)))
            .collect();
        let mut warnings = Vec::new();
        for line in &lines {
            let who = if line.name.is_empty() { format!("{:x}", line.id) } else { line.name.clone() };
            if let Some(trouble) = &line.trouble {
                warnings.push(format!("{who}: {trouble}"));
            }
            for error in line.status.iter().flat_map(|status| &status.errors) {
                warnings.push(format!("{who}: {error}"));
            }
            if let Some(percent) = quota_used_percent(line).filter(|percent| *percent > QUOTA_WARNING_PERCENT)
            {
                let quota = line.status.as_ref().map_or(0, |status| status.db_size_quota);
                let quota = size::humanize(quota.try_into().unwrap_or(0));
                warnings.push(format!(
                    "{who}: {percent} % of its quota of {quota} are used; writes are refused when it is full"
                ));
            }
            match line.certificate_ends_s.map(|end| end - now_s) {
                Some(left) if left <= 0 => warnings.push(format!("{who}: its certificate has expired")),
                Some(left) if left < CERTIFICATE_WARNING_S => {
                    warnings.push(format!("{who}: its certificate ends in {} days", left / 86_400));
                }
                _ => {}
            }
        }
        if leader.is_none() {
            warnings
                .push("there is no leader: writes are refused until most members reach each other".into());
        }
        Self {
            cluster_id: format!("{cluster_id:x}"),
            revision: lines.iter().filter_map(revision).max().unwrap_or(0),
            leader: leader.map(|line| name(line.id)),
            voters,
            quorum,
            answering,
            healthy: answering == voters
                && leader.is_some()
                && alarms.is_empty()
                && lines.iter().all(|line| line.trouble.is_none()),
            members: lines.iter().map(|line| row(line, leader_id, leader_applied, now_s)).collect(),
            alarms,
            warnings,
        }
    }
}

fn revision(line: &MemberLine) -> Option<i64> {
    line.status.as_ref().and_then(|status| status.header).map(|header| header.revision)
}

fn row(line: &MemberLine, leader: Option<u64>, leader_applied: Option<u64>, now_s: i64) -> Row {
    let status = line.status.as_ref();
    let role = match status {
        None => "down",
        Some(_) if line.is_learner => "learner",
        Some(_) if leader == Some(line.id) => "leader",
        Some(_) => "follower",
    };
    let lag = |status: &pb::StatusResponse| {
        leader_applied.map(|leader| leader.saturating_sub(status.raft_applied_index))
    };
    Row {
        name: line.name.clone(),
        id: format!("{:x}", line.id),
        endpoint: line.endpoint.clone(),
        role,
        version: status.map(|status| status.version.clone()).unwrap_or_default(),
        revision: revision(line),
        applied_lag: status.and_then(lag),
        size_bytes: status.map(|status| status.db_size),
        in_use_bytes: status.map(|status| status.db_size_in_use),
        quota_used_percent: quota_used_percent(line),
        sync_p99_ms: line.metrics.and_then(|metrics| metrics.sync_p99_s).map(|seconds| seconds * 1e3),
        watchers: line.metrics.and_then(|metrics| metrics.watchers),
        certificate_days_left: line.certificate_ends_s.map(|end| (end - now_s) / 86_400),
    }
}

/// What of a member's quota is used, in percent.
fn quota_used_percent(line: &MemberLine) -> Option<i64> {
    let status = line.status.as_ref().filter(|status| status.db_size_quota > 0)?;
    let counts_in_use = line.metrics.is_some_and(|metrics| metrics.quota_counts_in_use);
    let used = if counts_in_use { status.db_size_in_use } else { status.db_size };
    i64::try_from(i128::from(used) * 100 / i128::from(status.db_size_quota)).ok()
}

const HEADER: &[&str] = &[
    "name",
    "id",
    "role",
    "version",
    "revision",
    "lag",
    "size",
    "in use",
    "sync p99",
    "watchers",
    "certificate",
];

impl fmt::Display for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.healthy { "healthy" } else { "needs attention" };
        writeln!(
            f,
            "cluster {}: {state}; {} of {} voters answer, quorum {}; leader {}; revision {}",
            self.cluster_id,
            self.answering,
            self.voters,
            self.quorum,
            self.leader.as_deref().unwrap_or("none"),
            self.revision
        )?;
        let rows: Vec<Vec<String>> = self.members.iter().map(Row::cells).collect();
        f.write_str(&grid::draw(HEADER, &rows))?;
        writeln!(
            f,
            "alarms: {}",
            if self.alarms.is_empty() { "none".to_owned() } else { self.alarms.join(", ") }
        )?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "! {warning}"))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
            value.map_or_else(|| "-".to_owned(), show)
        }
        let bytes = |bytes: i64| size::humanize(bytes.try_into().unwrap_or(0));
        vec![
            self.name.clone(),
            self.id.clone(),
            self.role.to_owned(),
            self.version.clone(),
            or_dash(self.revision, |revision| revision.to_string()),
            or_dash(self.applied_lag, |lag| lag.to_string()),
            or_dash(self.size_bytes, bytes),
            or_dash(self.in_use_bytes, bytes),
            or_dash(self.sync_p99_ms, |ms| {
                if ms.is_finite() { format!("<= {ms} ms") } else { "very long".into() }
            }),
            or_dash(self.watchers, |watchers| watchers.to_string()),
            or_dash(self.certificate_days_left, |days| format!("{days} days left")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64, leader: u64, applied: u64) -> MemberLine {
        let member = pb::Member {
            id,
            name: format!("m{id}"),
            client_ur_ls: vec![format!("http://m{id}:2379")],
            ..Default::default()
        };
        let mut line = MemberLine::new(&member);
        line.status = Some(pb::StatusResponse {
            header: Some(pb::ResponseHeader {
                revision: 40 + i64::try_from(id).unwrap(),
                ..Default::default()
            }),
            version: "3.6.5".into(),
            db_size: 20_480,
            db_size_in_use: 9,
            leader,
            raft_applied_index: applied,
            ..Default::default()
        });
        line.metrics =
            Some(Metrics { sync_p99_s: Some(0.004), watchers: Some(3.0), quota_counts_in_use: true });
        line
    }

    #[test]
    fn a_whole_cluster_is_healthy_and_tells_lags() {
        let lines = vec![line(1, 1, 100), line(2, 1, 97), line(3, 1, 100)];
        let screen = Screen::new(0xabc, lines, &[], 0);
        assert!(screen.healthy, "{screen}");
        let text = screen.to_string();
        assert!(
            text.starts_with(
                "cluster abc: healthy; 3 of 3 voters answer, quorum 2; leader m1; revision 43\n"
            )
        );
        assert!(text.contains("| follower |"), "{text}");
        assert!(text.contains("|  20 kB |") || text.contains("| 20 kB |"), "{text}");
        assert_eq!(screen.members[1].applied_lag, Some(3));
        assert_eq!(screen.members[0].sync_p99_ms, Some(4.0));
    }

    #[test]
    fn whatever_needs_attention_is_said() {
        let mut down = line(2, 1, 0);
        down.status = None;
        down.trouble = Some("cannot connect".into());
        let mut ending = line(3, 1, 100);
        ending.certificate_ends_s = Some(86_400 * 5);
        let alarm = pb::AlarmMember { member_id: 3, alarm: pb::AlarmType::Nospace.into() };
        let screen = Screen::new(1, vec![line(1, 1, 100), down, ending], &[alarm], 0);
        assert!(!screen.healthy);
        assert_eq!(screen.alarms, ["NOSPACE on m3"]);
        assert_eq!(screen.warnings, ["m2: cannot connect", "m3: its certificate ends in 5 days"]);
        assert_eq!(screen.members[1].role, "down");
    }

    #[test]
    fn a_quota_that_comes_near_is_said() {
        let with = |db_size, in_use, quota, counts_in_use| {
            let mut line = line(1, 1, 100);
            let status = line.status.as_mut().unwrap();
            (status.db_size, status.db_size_in_use, status.db_size_quota) = (db_size, in_use, quota);
            line.metrics.as_mut().unwrap().quota_counts_in_use = counts_in_use;
            let screen = Screen::new(1, vec![line], &[], 0);
            (screen.members[0].quota_used_percent, screen.warnings)
        };
        let said = |percent| {
            vec![format!(
                "m1: {percent} % of its quota of 1.0 kB are used; writes are refused when it is full"
            )]
        };
        assert_eq!(with(900, 800, 1000, true), (Some(80), vec![]));
        assert_eq!(with(900, 810, 1000, true), (Some(81), said(81)));
        assert_eq!(with(900, 100, 1000, false), (Some(90), said(90)));
        assert_eq!(with(i64::MAX, 1, 0, true), (None, vec![]), "not told");
        assert_eq!(with(1, 1, -1, true), (None, vec![]), "no quota");
    }
}
