//! Schedules of `CronJob`s: five fields as cron has them, some names for common ones, and intervals. Only whether they are
//! right, in the words of the library that Kubernetes reads them with. Must never say when something is due.

use barque_api::time::GoDuration;
use chrono_tz::Tz;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Bounds of a field, and words for its numbers from `least` on.
struct Field {
    least: u64,
    most: u64,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, words: &[] },
    Field { least: 0, most: 23, words: &[] },
    Field { least: 1, most: 31, words: &[] },
    Field { least: 1, most: 12, words: &MONTHS },
    Field { least: 0, most: 6, words: &WEEKDAYS },
];

/// Whether it is a schedule.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_schedule(text: &str) -> Result<(), String> {
    let mut rest = text;
    if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        let (zone, schedule) = zoned.split_once(' ').unwrap_or((zoned, ""));
        if !["", "UTC", "Local"].contains(&zone) && zone.parse::<Tz>().is_err() {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = schedule.trim();
    }
    if rest.starts_with('@') {
        return parse_name(rest);
    }
    let fields: Vec<_> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let told = fields.join(" ");
        return Err(format!("expected exactly 5 fields, found {}: [{told}]", fields.len()));
    }
    let mut checked = FIELDS.iter().zip(fields);
    checked.try_for_each(|(field, text)| {
        text.split(',').filter(|part| !part.is_empty()).try_for_each(|part| field.check(part))
    })
}

fn parse_name(text: &str) -> Result<(), String> {
    if NAMES.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(interval) => match GoDuration::parse(interval) {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("failed to parse duration {text}: {why}")),
        },
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

impl Field {
    /// `*`, `?`, a number or a range, each with a step behind `/` if wanted.
    fn check(&self, part: &str) -> Result<(), String> {
        let steps: Vec<_> = part.split('/').collect();
        let ends: Vec<_> = steps[0].split('-').collect();
        let single = ends.len() == 1;
        let (first, mut last) = if ends[0] == "*" || ends[0] == "?" {
            (self.least, self.most)
        } else {
            let first = self.number(ends[0])?;
            match ends.as_slice() {
                [_] => (first, first),
                [_, last] => (first, self.number(last)?),
                _ => return Err(format!("too many hyphens: {part}")),
            }
        };
        let step = match steps.as_slice() {
            [_] => 1,
            [_, step] => {
                if single {
                    last = self.most;
                }
                whole(step)?
            }
            _ => return Err(format!("too many slashes: {part}")),
        };
        if first < self.least {
            return Err(format!("beginning of range ({first}) below minimum ({}): {part}", self.least));
        }
        if last > self.most {
            return Err(format!("end of range ({last}) above maximum ({}): {part}", self.most));
        }
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        Ok(())
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        let word = self.words.iter().position(|word| text.eq_ignore_ascii_case(word));
        match word {
            Some(index) => Ok(self.least + index as u64),
            None => whole(text),
        }
    }
}

fn whole(text: &str) -> Result<u64, String> {
    let number: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    })?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_and_what_is_wrong_with_them() {
        let table = [
            ("*/5 * * * *", ""),
            ("0 0-4/2,22 1,15 jan-DEC mon", ""),
            ("0 0 ? * ?", ""),
            ("@hourly", ""),
            ("@every 1h30m", ""),
            ("TZ=Europe/Paris 0 0 * * *", ""),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("error", "expected exactly 5 fields, found 1: [error]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("@fortnightly", "unrecognized descriptor: @fortnightly"),
            ("CRON_TZ=Mars/Base * * * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
        ];
        for (text, expected) in table {
            assert_eq!(parse_schedule(text).err().unwrap_or_default(), expected, "{text}");
        }
    }
}
