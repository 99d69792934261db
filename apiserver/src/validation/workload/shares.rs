//! Numbers of pods, or shares of them, such as `3` and `25%`.

use barque_api::int_or_string::IntOrString;
use barque_api::names;

use crate::validation::findings::{Findings, NEGATIVE};
use crate::validation::part::Part;

/// A number that is not below 0, or a share; `at_most_all` when no more than all can be meant.
pub(super) fn check_share(part: &Part<'_>, field: &str, at_most_all: bool, findings: &mut Findings) {
    let at = part.at(field);
    match IntOrString::of_value(part.get(field)) {
        Some(IntOrString::Text(text)) => {
            findings.each(&at, &text, names::percent(&text));
            if at_most_all && percent(&text).is_some_and(|percent| percent > 100) {
                findings.invalid(&at, text, "must not be greater than 100%");
            }
        }
        Some(IntOrString::Int(number)) if number < 0 => findings.invalid(&at, number, NEGATIVE),
        _ => {}
    }
}

/// Whether it is 0, or a share of nothing.
pub(super) fn is_nothing(part: &Part<'_>, field: &str) -> bool {
    match IntOrString::of_value(part.get(field)) {
        Some(IntOrString::Text(text)) => percent(&text).unwrap_or_default() == 0,
        Some(IntOrString::Int(number)) => number == 0,
        None => true,
    }
}

fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%').filter(|digits| names::percent(&format!("{digits}%")).is_empty())?;
    // What does not fit is more than all.
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::json;

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn shares_and_what_is_wrong_with_them() {
        let percent = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                       regex used for validation is '[0-9]+%')";
        let table = [
            (json!(3), String::new(), false),
            (json!(0), String::new(), true),
            (json!("0%"), String::new(), true),
            (json!("25%"), String::new(), false),
            (json!(-1), "s.n: Invalid value: -1: must be greater than or equal to 0".to_owned(), false),
            (json!("x"), format!("s.n: Invalid value: \"x\": {percent}"), true),
            (json!("101%"), "s.n: Invalid value: \"101%\": must not be greater than 100%".to_owned(), false),
        ];
        for (share, expected, nothing) in table {
            let value = json!({"n": share});
            let part = Part::new(&value, FieldPath::of("s"));
            let found = told(|findings| check_share(&part, "n", true, findings));
            assert_eq!(found.concat(), expected);
            assert_eq!(is_nothing(&part, "n"), nothing, "{share}");
        }
    }
}
