//! Points in time and times between them. Must never know what time it is, nor any time zone but by its distance.

use super::machine::EvalError;
use super::value::Val;

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// Between the years 1 and 9999.
pub(super) fn in_range(nanos: i128) -> Option<i128> {
    (-62_135_596_800 * SECOND..253_402_300_800 * SECOND).contains(&nanos).then_some(nanos)
}

/// Days since 1970 of a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the day that is there only sometimes.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `2024-01-31`, as its midnight.
pub(super) fn parse_date(text: &str) -> Option<i128> {
    let mut parts = text.splitn(3, '-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let days = days_of(year, month, day);
    (text.len() == 10 && date_of(days) == (year, month, day)).then(|| i128::from(days) * DAY)
}

/// `2024-01-31T10:00:00.5+01:00`
pub(super) fn parse_timestamp(text: &str) -> Option<i128> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't'])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let mut parts = clock.splitn(3, ':').map(digits);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|one: char| !one.is_ascii_digit())?),
        None => ("0", rest),
    };
    let fraction = digits(&format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)))?;
    let ahead = offset_seconds(zone)?;
    let seconds = hour * 3600 + minute * 60 + second - ahead;
    in_range(parse_date(date)? + i128::from(seconds) * SECOND + i128::from(fraction))
}

/// `Z`, `+01:00`
fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z" | "UTC") {
        return Some(0);
    }
    let sign = match zone.chars().next()? {
        '-' => -1,
        _ => 1,
    };
    let (hours, minutes) = zone.strip_prefix(['+', '-']).unwrap_or(zone).split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn fraction_text(nanos: i128) -> String {
    let text = format!(".{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// As RFC 3339 writes it.
pub(super) fn timestamp_text(nanos: i128) -> String {
    let days = i64::try_from(nanos.div_euclid(DAY)).unwrap_or_default();
    let (year, month, day) = date_of(days);
    let of_day = nanos.rem_euclid(DAY);
    let seconds = of_day / SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = fraction_text(of_day % SECOND);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// In seconds: `90s`, `1.5s`.
pub(super) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = i128::from(nanos).abs();
    format!("{sign}{}{}s", nanos / SECOND, fraction_text(nanos % SECOND))
}

/// Functions of a point in time, in UTC or another zone.
pub(super) fn of_timestamp<'a>(name: &str, nanos: i128, args: &[Val<'a>]) -> Result<Val<'a>, EvalError> {
    let ahead = match args {
        [] => 0,
        [Val::Text(zone)] => {
            offset_seconds(zone).ok_or_else(|| EvalError::other(format!("unknown time zone {zone}")))?
        }
        _ => return Err(EvalError::NoSuchOverload),
    };
    let nanos = nanos + i128::from(ahead) * SECOND;
    let days = i64::try_from(nanos.div_euclid(DAY)).unwrap_or_default();
    let (year, month, day) = date_of(days);
    let of_day = i64::try_from(nanos.rem_euclid(DAY)).unwrap_or_default();
    let seconds = of_day / 1_000_000_000;
    Ok(Val::Int(match name {
        "getFullYear" => year,
        "getMonth" => month - 1,
        "getDate" => day,
        "getDayOfMonth" => day - 1,
        "getDayOfWeek" => (days + 4).rem_euclid(7),
        "getDayOfYear" => days - days_of(year, 1, 1),
        "getHours" => seconds / 3600,
        "getMinutes" => seconds / 60 % 60,
        "getSeconds" => seconds % 60,
        "getMilliseconds" => of_day / 1_000_000 % 1000,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}

/// Functions of a time between two points.
pub(super) fn of_duration<'a>(name: &str, nanos: i64) -> Result<Val<'a>, EvalError> {
    Ok(Val::Int(match name {
        "getHours" => nanos / 3_600_000_000_000,
        "getMinutes" => nanos / 60_000_000_000,
        "getSeconds" => nanos / 1_000_000_000,
        "getMilliseconds" => nanos / 1_000_000 % 1000,
        _ => return Err(EvalError::NoSuchOverload),
    }))
}
