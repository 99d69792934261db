//! Jobs that are made again and again (`batch/v1` CronJob).

use barque_api::names;
use chrono_tz::Tz;
use serde_json::Value;

use super::Change;
use super::cron_schedule::parse_schedule;
use super::job::check_job_spec;
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::same::same;

/// The most bytes of a name: those of a job without the time that is put behind it.
const NAME_LIMIT: usize = names::MAX_DNS_LABEL - 11;

/// The whole object.
pub(super) fn check_cron_job(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.field("spec");
    let (new, old) = (&spec.new, spec.old.as_ref());
    let schedule = new.text("schedule");
    if schedule.is_empty() {
        findings.required(&new.at("schedule"), "");
    } else {
        check_schedule(new, old, findings);
    }
    findings.nonnegative(new, &["startingDeadlineSeconds"]);
    if old.is_none_or(|old| !same(old.get("timeZone"), new.get("timeZone"))) {
        check_time_zone(new, findings);
    }
    findings.word(new, "concurrencyPolicy", &["Allow", "Forbid", "Replace"]);
    check_job_template(&new.child("jobTemplate").child("spec"), findings);
    findings.nonnegative(new, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"]);
    let metadata = change.new.child("metadata");
    if change.old.is_none() && metadata.text("name").len() > NAME_LIMIT {
        let name = metadata.text("name");
        findings.invalid(&metadata.at("name"), name, names::max_length(NAME_LIMIT));
    }
}

fn check_schedule(new: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    let (schedule, at) = (new.text("schedule"), new.at("schedule"));
    if let Err(why) = parse_schedule(schedule) {
        findings.invalid(&at, schedule, why);
    }
    let had_zone = old.is_some_and(|old| old.text("schedule").contains("TZ"));
    if schedule.contains("TZ") && !had_zone {
        findings.invalid(&at, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if schedule.contains("TZ") && new.has("timeZone") {
        findings.invalid(&at, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
    }
}

fn check_time_zone(spec: &Part<'_>, findings: &mut Findings) {
    if !spec.has("timeZone") {
        return;
    }
    let (zone, at) = (spec.text("timeZone"), spec.at("timeZone"));
    if zone.is_empty() {
        findings.invalid(&at, zone, "timeZone must be nil or non-empty string");
        return;
    }
    if !zone.split('/').all(is_part_of_zone) {
        findings.invalid(&at, zone, format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        findings.invalid(&at, zone, detail);
    }
    if zone != "Local" && zone.parse::<Tz>().is_err() {
        findings.invalid(&at, zone, format!("unknown time zone {zone}"));
    }
}

fn is_part_of_zone(part: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    (1..=14).contains(&part.len())
        && part.bytes().all(right)
        && part != "."
        && part != ".."
        && !part.starts_with('-')
}

/// The jobs that are made: their selectors are generated.
fn check_job_template(spec: &Part<'_>, findings: &mut Findings) {
    check_job_spec(spec, findings);
    if let Some(selector) = spec.given("selector") {
        findings.invalid(&selector.path, selector.value.clone(), "`selector` will be auto-generated");
    }
    if spec.flag("manualSelector") {
        findings.not_supported(&spec.at("manualSelector"), Value::Bool(true), &["nil", "false"]);
    }
}
