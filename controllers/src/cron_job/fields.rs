//! The five fields of a schedule as sets of numbers. Must never know the time.

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Minutes, hours, days and months at which something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: Numbers,
    hours: Numbers,
    days: Numbers,
    months: Numbers,
    weekdays: Numbers,
}

/// Numbers below 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Numbers {
    bits: u64,
    /// Whether it was written as `*` or `?`, without a step.
    any: bool,
}

impl Numbers {
    fn has(self, number: u32) -> bool {
        self.bits >> number & 1 == 1
    }
}

impl Fields {
    /// Reads `minute hour day month weekday`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            let told = fields.join(" ");
            return Err(format!("expected exactly 5 fields, found {}: [{told}]", fields.len()));
        };
        Ok(Self {
            minutes: numbers(minutes, (0, 59), &[])?,
            hours: numbers(hours, (0, 23), &[])?,
            days: numbers(days, (1, 31), &[])?,
            months: numbers(months, (1, 12), &MONTHS)?,
            weekdays: numbers(weekdays, (0, 6), &WEEKDAYS)?,
        })
    }

    pub(super) fn has_month(&self, month: u32) -> bool {
        self.months.has(month)
    }

    /// Whether a day fits; where both kinds of days are told, one of them is enough. Weekdays count from Sunday, 0.
    pub(super) fn has_day(&self, day: u32, weekday: u32) -> bool {
        let (day, weekday) = (self.days.has(day), self.weekdays.has(weekday));
        if self.days.any || self.weekdays.any { day && weekday } else { day || weekday }
    }

    pub(super) fn has_hour(&self, hour: u32) -> bool {
        self.hours.has(hour)
    }

    pub(super) fn has_minute(&self, minute: u32) -> bool {
        self.minutes.has(minute)
    }
}

fn numbers(text: &str, bounds: (u32, u32), words: &[&str]) -> Result<Numbers, String> {
    let mut all = Numbers::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let one = part_of(part, bounds, words)?;
        all = Numbers { bits: all.bits | one.bits, any: all.any || one.any };
    }
    Ok(all)
}

/// `*`, `?`, a number or a range, each with a step behind `/` if wanted.
fn part_of(part: &str, (least, most): (u32, u32), words: &[&str]) -> Result<Numbers, String> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(number(step, 0, &[])?)),
        None => (part, None),
    };
    let any = range == "*" || range == "?";
    let (first, last) = match range.split_once('-') {
        _ if any => (least, most),
        Some((first, last)) => (number(first, least, words)?, number(last, least, words)?),
        None => {
            let first = number(range, least, words)?;
            // A step from a number on goes to the end.
            (first, if step.is_some() { most } else { first })
        }
    };
    let step = step.unwrap_or(1);
    if first < least || last > most || first > last || step == 0 {
        return Err(format!("not within {least}-{most}: {part}"));
    }
    let bits = (first..=last).step_by(step as usize).fold(0, |bits, number| bits | 1 << number);
    // Every second day is not any day.
    Ok(Numbers { bits, any: any && step == 1 })
}

fn number(text: &str, least: u32, words: &[&str]) -> Result<u32, String> {
    match (least..).zip(words).find(|(_, word)| text.eq_ignore_ascii_case(word)) {
        Some((number, _)) => Ok(number),
        None => text.parse().map_err(|_| format!("failed to parse int from {text}")),
    }
}
