//! When a schedule is due, in its time zone: at each instant at which clocks there show one of its minutes. So what falls into the
//! hour that is left out in spring is not done, and what falls into the hour that comes twice in autumn is done twice, as upstream
//! does. Must never ask what time it is.

use std::time::Duration;

use barque_api::time::GoDuration;
use chrono::{
    DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Timelike as _, Utc,
};
use chrono_tz::Tz;
use k8s_openapi::jiff::Timestamp;

use super::fields::Fields;

/// Names of common schedules.
const NAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// What is not due in so many years never is.
const YEARS_MAX: i32 = 5;

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Schedule {
    /// At these minutes.
    Fields(Box<Fields>, Tz),
    /// So long after the time before.
    Every(Duration),
}

impl Schedule {
    /// Reads it; a time zone in the text goes before the other.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let (zone, text) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            Some(zoned) => {
                let (name, text) = zoned.split_once(' ').unwrap_or((zoned, ""));
                let zone = zone_of(name)
                    .ok_or_else(|| format!("provided bad location {name}: unknown time zone {name}"))?;
                (zone, text.trim())
            }
            None => (zone, text.trim()),
        };
        if let Some(interval) = text.strip_prefix("@every ") {
            let interval = GoDuration::parse(interval)
                .map_err(|why| format!("failed to parse duration {text}: {why}"))?;
            let seconds = u64::try_from(interval.nanos() / 1_000_000_000).unwrap_or_default();
            return Ok(Self::Every(Duration::from_secs(seconds.max(1))));
        }
        let fields = match NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, fields)) => fields,
            None if text.starts_with('@') => return Err(format!("unrecognized descriptor: {text}")),
            None => text,
        };
        Ok(Self::Fields(Box::new(Fields::parse(fields)?), zone))
    }

    /// The first time after this at which it is due; nothing when it never is.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => {
                Timestamp::from_second(after.as_second()).ok()?.checked_add(*interval).ok()
            }
            Self::Fields(fields, zone) => {
                let next = next_of(fields, *zone, DateTime::from_timestamp(after.as_second(), 0)?)?;
                Timestamp::from_second(next.timestamp()).ok()
            }
        }
    }
}

/// The time zone of this name; that of the process is UTC.
pub(super) fn zone_of(name: &str) -> Option<Tz> {
    if ["", "UTC", "Local"].contains(&name) { Some(Tz::UTC) } else { name.parse().ok() }
}

/// As RFC 3339 has it, in this time zone.
pub(super) fn told(time: Timestamp, zone: Tz) -> Option<String> {
    let time = DateTime::from_timestamp(time.as_second(), 0)?.with_timezone(&zone);
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// As RFC 1123 has it, in UTC.
pub(super) fn told_with_weekday(time: Timestamp) -> Option<String> {
    Some(DateTime::from_timestamp(time.as_second(), 0)?.format("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

fn next_of(fields: &Fields, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let last_year = after.with_timezone(&zone).year() + YEARS_MAX;
    // The next whole minute on clocks there.
    let seconds = i64::from(after.with_timezone(&zone).second());
    let mut time = after + TimeDelta::seconds(60 - seconds);
    loop {
        let local = time.with_timezone(&zone);
        if local.year() > last_year {
            return None;
        }
        let date = local.date_naive();
        if !fields.has_month(local.month()) {
            let month = date.with_day(1)?.checked_add_months(Months::new(1))?;
            time = beginning(month, zone)?;
        } else if !fields.has_day(local.day(), local.weekday().num_days_from_sunday()) {
            time = beginning(date.checked_add_days(Days::new(1))?, zone)?;
        } else if !fields.has_hour(local.hour()) {
            time += TimeDelta::minutes(60 - i64::from(local.minute()));
        } else if !fields.has_minute(local.minute()) {
            time += TimeDelta::minutes(1);
        } else {
            return Some(time);
        }
    }
}

/// When a day begins, or the next one if clocks leave it out.
fn beginning(date: NaiveDate, zone: Tz) -> Option<DateTime<Utc>> {
    let midnight = date.and_time(NaiveTime::MIN);
    let candidates = (0..=96).map(|quarters| midnight + TimeDelta::minutes(15 * quarters));
    let mut there = candidates.filter_map(|local| zone.from_local_datetime(&local).earliest());
    there.next().map(|local| local.with_timezone(&Utc))
}
