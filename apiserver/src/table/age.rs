//! How long something lasts, as short as people read it: two units at most. Must never read a clock.

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A duration in seconds as Kubernetes' columns show it: `53s`, `4m20s`, `3h`, `5d12h`, `2y30d`.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    // The first value that a form does not fit, the greater unit, and the smaller one if it is shown.
    let forms: [(i64, i64, Option<i64>); 8] = [
        (2 * MINUTE, 1, None),
        (10 * MINUTE, MINUTE, Some(1)),
        (3 * HOUR, MINUTE, None),
        (8 * HOUR, HOUR, Some(MINUTE)),
        (2 * DAY, HOUR, None),
        (8 * DAY, DAY, Some(HOUR)),
        (2 * YEAR, DAY, None),
        (8 * YEAR, YEAR, Some(DAY)),
    ];
    match seconds {
        ..=-2 => return "<invalid>".to_owned(),
        -1 => return "0s".to_owned(),
        _ => {}
    }
    let (unit, smaller) = forms
        .into_iter()
        .find(|(end, ..)| seconds < *end)
        .map_or((YEAR, None), |(_, unit, smaller)| (unit, smaller));
    let mut text = format!("{}{}", seconds / unit, letter(unit));
    if let Some(smaller) = smaller {
        let rest = seconds % unit / smaller;
        if rest > 0 {
            text.push_str(&format!("{rest}{}", letter(smaller)));
        }
    }
    text
}

const fn letter(unit: i64) -> char {
    match unit {
        1 => 's',
        MINUTE => 'm',
        HOUR => 'h',
        DAY => 'd',
        _ => 'y',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kubernetes() {
        let table = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (9 * MINUTE + 59, "9m59s"),
            (10 * MINUTE + 30, "10m"),
            (179 * MINUTE, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 5 * MINUTE, "3h5m"),
            (8 * HOUR + 5 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 3 * HOUR, "2d3h"),
            (8 * DAY + 3 * HOUR, "8d"),
            (729 * DAY, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + 30 * DAY, "2y30d"),
            (8 * YEAR + 30 * DAY, "8y"),
        ];
        for (seconds, text) in table {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
