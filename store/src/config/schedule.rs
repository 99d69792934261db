//! `--snapshot-schedule`: when something is due again. Times are UTC, in milliseconds since 1970.
//!
//! Five fields as cron has them, some names for common ones, or an interval. Pure: whoever asks hands in the time.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Datelike as _};

use super::go_duration::go_duration;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// The longest time between two 29ths of February, rounded up to years.
const LONGEST_WAIT_DAYS: i64 = 9 * 366;

/// Names for what many want.
const NAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// When something is due again and again. Shown as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Every(i64),
    Cron(Cron),
}

/// Sets of numbers, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of both kinds were chosen: either will do, as cron has it.
    either_day: bool,
}

/// One of the five fields.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Words for the numbers from `least` on.
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, words: &[] },
    Field { name: "hour", least: 0, most: 23, words: &[] },
    Field { name: "day", least: 1, most: 31, words: &[] },
    Field { name: "month", least: 1, most: 12, words: &MONTHS },
    // 7 is Sunday too.
    Field { name: "weekday", least: 0, most: 7, words: &WEEKDAYS },
];

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, as a part of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let rule = if let Some(interval) = text.strip_prefix("@every") {
            let interval =
                go_duration(interval.trim()).filter(|interval| *interval >= Duration::from_secs(1));
            let ms = interval.and_then(|interval| i64::try_from(interval.as_millis()).ok());
            let ms = ms.filter(|ms| *ms < LONGEST_WAIT_DAYS * DAY_MS);
            Rule::Every(ms.ok_or("@every needs a time of at least 1s, such as 6h")?)
        } else if text.starts_with('@') {
            let known = NAMES.iter().find(|(name, _)| *name == text);
            let (_, fields) = known.ok_or_else(|| format!("{text:?} is no name of a schedule"))?;
            Rule::Cron(Cron::parse(fields)?)
        } else {
            Rule::Cron(Cron::parse(text)?)
        };
        let schedule = Self { text: text.to_owned(), rule };
        if schedule.next_after(0).is_none() {
            return Err("there is no such day".to_owned());
        }
        Ok(schedule)
    }

    /// The first time after this one. `None` only beyond the end of calendars.
    #[must_use]
    pub fn next_after(&self, time_ms: i64) -> Option<i64> {
        match &self.rule {
            Rule::Every(interval_ms) => time_ms.checked_add(*interval_ms),
            Rule::Cron(cron) => cron.next_after(time_ms),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Cron {
    fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let Ok(fields) = <[&str; 5]>::try_from(fields.as_slice()) else {
            return Err(format!("it has {} fields instead of 5", fields.len()));
        };
        let mut sets = [0; 5];
        for ((set, field), text) in sets.iter_mut().zip(&FIELDS).zip(fields) {
            *set = field.parse(text)?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let either_day = !fields[2].starts_with('*') && !fields[4].starts_with('*');
        Ok(Self { minutes, hours, days, months, weekdays: weekdays | weekdays >> 7 & 1, either_day })
    }

    fn next_after(&self, time_ms: i64) -> Option<i64> {
        let from = time_ms.div_euclid(MINUTE_MS).checked_add(1)?.checked_mul(MINUTE_MS)?;
        let today = from.div_euclid(DAY_MS);
        for day in today..=today + LONGEST_WAIT_DAYS {
            let begin = day.checked_mul(DAY_MS)?;
            if self.is_on(begin)? {
                let earliest = u32::try_from((from - begin).max(0) / MINUTE_MS).ok()?;
                if let Some(minute) = self.minute_from(earliest) {
                    return begin.checked_add(i64::from(minute) * MINUTE_MS);
                }
            }
        }
        None
    }

    /// Whether the day that begins then is one of them.
    fn is_on(&self, begin_ms: i64) -> Option<bool> {
        let date = DateTime::from_timestamp_millis(begin_ms)?.date_naive();
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().num_days_from_sunday());
        let on = if self.either_day { day || weekday } else { day && weekday };
        Some(on && has(self.months, date.month()))
    }

    /// The first minute of a day, from one on.
    fn minute_from(&self, earliest: u32) -> Option<u32> {
        (earliest..24 * 60).find(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60))
    }
}

fn has(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    /// `*`, a number, a range, each with a step behind `/` if wanted.
    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step_by = match step {
            None => 1,
            Some(step) => step
                .parse::<usize>()
                .ok()
                .filter(|step| *step > 0)
                .ok_or_else(|| format!("the step {step:?} of the {} is no number above 0", self.name))?,
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => (self.number(range)?, self.most),
            None => (self.number(range)?, self.number(range)?),
        };
        if first > last {
            return Err(format!("the {} {range:?} ends before it begins", self.name));
        }
        Ok((first..=last).step_by(step_by).fold(0, |set, number| set | 1 << number))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let word = self.words.iter().zip(self.least..).find(|(word, _)| text.eq_ignore_ascii_case(word));
        let number = word.map(|(_, number)| number).or_else(|| text.parse().ok());
        let number = number.filter(|number| (self.least..=self.most).contains(number));
        number.ok_or_else(|| {
            format!("the {} {text:?} is no number from {} to {}", self.name, self.least, self.most)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: &str) -> i64 {
        time.parse::<DateTime<chrono::Utc>>().unwrap().timestamp_millis()
    }

    #[test]
    fn what_is_due_next() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-03-04T05:06:07Z", "2026-03-04T05:07:00Z"),
            ("* * * * *", "2026-03-04T05:06:00Z", "2026-03-04T05:07:00Z"),
            ("*/15 * * * *", "2026-03-04T05:46:00Z", "2026-03-04T06:00:00Z"),
            ("5/20 * * * *", "2026-03-04T05:26:00Z", "2026-03-04T05:45:00Z"),
            ("30 2 * * *", "2026-03-04T02:30:00Z", "2026-03-05T02:30:00Z"),
            ("30 2 * * *", "2026-12-31T03:00:00Z", "2027-01-01T02:30:00Z"),
            ("0 0-4/2,22 * * *", "2026-03-04T04:00:00Z", "2026-03-04T22:00:00Z"),
            ("0 0 31 * *", "2026-02-01T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 29 feb *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            // A Wednesday.
            ("0 12 * * mon-fri", "2026-03-06T12:00:00Z", "2026-03-09T12:00:00Z"),
            ("0 12 * * 0", "2026-03-04T05:06:07Z", "2026-03-08T12:00:00Z"),
            ("0 12 * * 7", "2026-03-04T05:06:07Z", "2026-03-08T12:00:00Z"),
            // Either the 10th or a Friday; both when one of them is open.
            ("0 0 10 * fri", "2026-03-04T00:00:00Z", "2026-03-06T00:00:00Z"),
            ("0 0 10 * fri", "2026-03-06T00:00:00Z", "2026-03-10T00:00:00Z"),
            ("0 0 */10 * fri", "2026-03-04T00:00:00Z", "2026-05-01T00:00:00Z"),
            ("@hourly", "2026-03-04T05:06:07Z", "2026-03-04T06:00:00Z"),
            ("@daily", "2026-03-04T05:06:07Z", "2026-03-05T00:00:00Z"),
            ("@weekly", "2026-03-04T05:06:07Z", "2026-03-08T00:00:00Z"),
            ("@yearly", "2026-03-04T05:06:07Z", "2027-01-01T00:00:00Z"),
            ("@every 6h", "2026-03-04T05:06:07Z", "2026-03-04T11:06:07Z"),
            ("@every 1m30s", "2026-03-04T05:06:07Z", "2026-03-04T05:07:37Z"),
        ] {
            let parsed = Schedule::parse(schedule).unwrap();
            assert_eq!(parsed.next_after(ms(after)), Some(ms(expected)), "{schedule} after {after}");
            assert_eq!(parsed.to_string(), schedule);
        }
    }

    #[test]
    fn what_is_no_schedule() {
        for (text, why) in [
            ("", "it has 0 fields instead of 5"),
            ("* * * *", "it has 4 fields instead of 5"),
            ("0 * * * * *", "it has 6 fields instead of 5"),
            ("60 * * * *", "the minute \"60\" is no number from 0 to 59"),
            ("* * 0 * *", "the day \"0\" is no number from 1 to 31"),
            ("* * * foo *", "the month \"foo\" is no number from 1 to 12"),
            ("*/0 * * * *", "the step \"0\" of the minute is no number above 0"),
            ("* 5-3 * * *", "the hour \"5-3\" ends before it begins"),
            ("1,,2 * * * *", "the minute \"\" is no number from 0 to 59"),
            ("0 0 31 4 *", "there is no such day"),
            ("@often", "\"@often\" is no name of a schedule"),
            ("@every", "@every needs a time of at least 1s, such as 6h"),
            ("@every 10ms", "@every needs a time of at least 1s, such as 6h"),
            ("@every 99999999h", "@every needs a time of at least 1s, such as 6h"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        for text in ["@every 6h", "0 0 29 2 *"] {
            let _ = Schedule::parse(text).unwrap().next_after(i64::MAX);
            let _ = Schedule::parse(text).unwrap().next_after(i64::MIN);
        }
    }
}
