//! Which time of a schedule is to be acted on, and when the next one is. A decision; time is handed in.

use std::time::Duration;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::jiff::Timestamp;

use super::schedule::Schedule;

/// So many times may be missed without a warning.
const MISSED_MAX: i64 = 100;
/// Timers are late by so much, so that a clock that goes slow is past the time too.
const LATE: Duration = Duration::from_millis(100);

/// The times of a schedule since it was last acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// From when on times count.
    since: Timestamp,
    /// The newest time; nothing when there is none yet.
    pub(super) newest: Option<Timestamp>,
    /// About how many there are.
    missed: i64,
}

impl Due {
    /// Whether so many were missed that a clock may be wrong.
    pub(super) fn are_many(&self) -> bool {
        self.missed > MISSED_MAX
    }
}

/// The times since the last one, or since the CronJob was made; those before its deadline left out if wanted.
///
/// # Errors
/// When there are no such times.
pub(super) fn due(
    cron_job: &CronJob,
    schedule: &Schedule,
    with_deadline: bool,
    now: Timestamp,
) -> Result<Due, &'static str> {
    let last = cron_job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
    let since = last.or(cron_job.metadata.creation_timestamp.as_ref()).map_or(now, |time| time.0);
    let deadline = cron_job.spec.starting_deadline_seconds;
    let earliest = deadline
        .filter(|_| with_deadline)
        .and_then(|seconds| now.checked_sub(Duration::from_secs(u64::try_from(seconds).ok()?)).ok());
    let since = earliest.map_or(since, |earliest| since.max(earliest));
    let never = "time difference between two schedules is less than 1 second";
    let first = schedule.next(since).ok_or(never)?;
    if now < first {
        return Ok(Due { since, newest: None, missed: 0 });
    }
    let second = schedule.next(first).ok_or(never)?;
    if now < second {
        return Ok(Due { since, newest: Some(first), missed: 1 });
    }
    let between = second.as_second() - first.as_second();
    let missed = (now.as_second() - first.as_second()) / between + 1;
    // From shortly before now: who was away for years does not go through all of them.
    let mut newest = None;
    let mut back = 2;
    while newest.is_none() && back <= 2 * missed + 2 {
        let from = (now.as_second() - back * between).max(since.as_second());
        let mut time = Timestamp::from_second(from).ok().and_then(|from| schedule.next(from));
        if let Schedule::Every(_) = schedule {
            time = Timestamp::from_second(first.as_second() + (missed - 1) * between).ok();
        }
        while let Some(one) = time.filter(|time| *time <= now) {
            newest = Some(one);
            time = schedule.next(one);
        }
        back *= 2;
    }
    Ok(Due { since, newest: newest.or(Some(second)), missed })
}

/// How long until the next time.
pub(super) fn until_next(cron_job: &CronJob, schedule: &Schedule, now: Timestamp) -> Option<Duration> {
    let from = match due(cron_job, schedule, false, now) {
        Ok(due) => due.newest.unwrap_or(due.since),
        Err(_) => now,
    };
    let next = schedule.next(from)?;
    Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + LATE)
}
