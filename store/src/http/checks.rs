//! `/livez` and `/readyz`: named checks, together or each at its own path.

use std::fmt::Write;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::health::{alarm_name, read};
use super::{HealthSource, PLAIN, Query, Shared, not_sniffed, refusal, with_type};
use crate::command::AlarmKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run<H: HealthSource>(self, shared: &Shared<H>) -> Result<(), String> {
        let source = &shared.source;
        match self {
            Self::DataCorruption if source.alarms().contains(&AlarmKind::Corrupt) => {
                Err(format!("alarm activated: {}", alarm_name(AlarmKind::Corrupt)))
            }
            Self::NonLearner if source.is_learner() => Err("not supported for learner".into()),
            Self::DataCorruption | Self::NonLearner => Ok(()),
            Self::SerializableRead => read(source, true, shared.request_timeout).await,
            Self::LinearizableRead => read(source, false, shared.request_timeout).await,
        }
    }
}

/// What one path checks.
pub(super) struct Checks {
    kind: &'static str,
    all: &'static [Check],
    /// The path names one check; then nothing can be excluded.
    single: bool,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// The checks of a path, if it has any.
pub(super) fn find(path: &str) -> Option<Checks> {
    for (kind, all) in [("livez", LIVEZ), ("readyz", READYZ)] {
        let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(kind)) else { continue };
        if rest.is_empty() {
            return Some(Checks { kind, all, single: false });
        }
        let at = all.iter().position(|check| rest.strip_prefix('/') == Some(check.name()))?;
        return Some(Checks { kind, all: &all[at..=at], single: true });
    }
    None
}

pub(super) async fn answer<H: HealthSource>(
    shared: &Shared<H>,
    checks: &Checks,
    query: &Query,
) -> Response<Full<Bytes>> {
    let mut reason = String::new();
    let mut all_good = true;
    for check in checks.all {
        let name = check.name();
        if !checks.single && query.all("exclude").any(|excluded| excluded == name) {
            continue;
        }
        let result = check.run(shared).await;
        shared.metrics.server.health_checked(checks.kind, name, result.is_ok());
        all_good &= result.is_ok();
        // Writing to a String cannot fail.
        let _ = match result {
            Ok(()) => writeln!(reason, "[+]{name} ok"),
            Err(error) => writeln!(reason, "[-]{name} failed: {error}"),
        };
    }
    if !all_good {
        tracing::error!("/{} failed: {}", checks.kind, reason.trim_end().replace('\n', ", "));
        return refusal(StatusCode::SERVICE_UNAVAILABLE, &reason);
    }
    if !query.has("verbose") {
        reason.clear();
    }
    let mut response = with_type(format!("{reason}ok\n"), PLAIN);
    not_sniffed(&mut response);
    response
}
