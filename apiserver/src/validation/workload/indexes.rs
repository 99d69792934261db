//! Numbers of the pods of a job as text: `0,3-5,7`.

/// How many there are. Each is below `completions`, in growing order.
///
/// # Errors
/// What is wrong with the text, in the words of Kubernetes.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let mut last: Option<i64> = None;
    let mut total = 0;
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval_of(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that is in both, if there is one; intervals that are none are left out.
pub(super) fn overlap(left: &str, right: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|interval| interval_of(interval, completions).ok()).collect()
    };
    let right = intervals(right);
    let meets = |(first, end): (i64, i64)| {
        let meeting = right.iter().find(|(other, other_end)| first <= *other_end && *other <= end);
        meeting.map(|(other, _)| first.max(*other))
    };
    intervals(left).into_iter().find_map(meets)
}

fn interval_of(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| -> Result<i64, String> {
        let index: i64 =
            text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if index >= completions { Err(format!("too large index: {text:?}")) } else { Ok(index) }
    };
    let parts: Vec<_> = interval.split('-').collect();
    match parts.as_slice() {
        [only] => index(only).map(|only| (only, only)),
        [first, end] => {
            let (first, end) = (index(first)?, index(end)?);
            if first >= end {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
            Ok((first, end))
        }
        _ => Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_how_many_indexes_they_tell() {
        let table = [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("0,3-5,7", Ok(5)),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("5-3", Err("non-increasing order, previous: 5, current: 3")),
            ("9", Err("too large index: \"9\"")),
            ("a", Err("cannot convert string to integer for index: \"a\"")),
            ("0,", Err("cannot convert string to integer for index: \"\"")),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                     separated by '-'",
                ),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(count_indexes(text, 9), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn where_two_texts_meet() {
        assert_eq!(overlap("0-2,5", "3,5-7", 9), Some(5));
        assert_eq!(overlap("0-4", "2", 9), Some(2));
        assert_eq!(overlap("0,2", "1,3", 9), None);
        assert_eq!(overlap("", "1", 9), None);
    }
}
