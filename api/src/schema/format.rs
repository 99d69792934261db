//! Formats of strings (`date-time`, `uuid`, `cidr`) as Kubernetes checks them. What is not known is not checked. Must never
//! look at anything but the text.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::pattern::compile;

/// Whether a text has this format; everything has a format that is not known.
#[must_use]
pub(crate) fn fits(format: &str, text: &str) -> bool {
    match &*format.replace('-', "") {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "uri" => is_request_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$", text),
        "uuid3" => matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$", text),
        "uuid4" => {
            matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$", text)
        }
        "uuid5" => {
            matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$", text)
        }
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text),
        "hexcolor" => matches("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", text),
        "rgbcolor" => matches(
            r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
            text,
        ),
        "byte" => is_base64(text),
        "date" => is_date(text),
        "duration" => duration_nanos(text).is_some(),
        "datetime" => is_date_time(text),
        "k8sshortname" => text.len() <= 63 && matches("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", text),
        "k8slongname" => {
            text.len() <= 253
                && matches(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", text)
        }
        _ => true,
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    compile(pattern).is_ok_and(|compiled| compiled.is_match(text))
}

fn is_request_uri(text: &str) -> bool {
    // A path, or a scheme with something behind it; no spaces or control characters.
    let clean = !text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    let scheme = || matches("^[a-zA-Z][a-zA-Z0-9+.-]*:.", text);
    clean && (text.starts_with('/') || scheme())
}

fn is_email(text: &str) -> bool {
    let address = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| matches(r"^[^\s()<>\[\]:;@\\,.\x22]+(\.[^\s()<>\[\]:;@\\,.\x22]+)*$", text);
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (atom(local) || quoted) && (atom(domain) || matches(r"^\[[^\[\]\\]+\]$", domain))
}

fn is_hostname(text: &str) -> bool {
    const HOSTNAME: &str = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    text.len() <= 255 && text.split('.').all(|label| label.len() <= 63) && matches(HOSTNAME, text)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let bits = match (address.parse::<Ipv4Addr>().is_ok(), address.parse::<Ipv6Addr>().is_ok()) {
        (true, _) => 32,
        (_, true) => 128,
        _ => return false,
    };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    digits && length.parse::<u32>().is_ok_and(|length| length <= bits)
}

fn is_mac(text: &str) -> bool {
    let pairs = |separator| {
        let parts: Vec<&str> = text.split(separator).collect();
        let pair = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(pair)
    };
    let fours = || {
        let parts: Vec<&str> = text.split('.').collect();
        let four = |part: &&str| part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        matches!(parts.len(), 3 | 4 | 10) && parts.iter().all(four)
    };
    pairs(':') || pairs('-') || fours()
}

fn digits_of(text: &str) -> Vec<u32> {
    text.chars().filter_map(|one| one.to_digit(10)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let plain: String = text.chars().filter(|one| !matches!(one, ' ' | '-')).collect();
    if !matches("^[0-9]{9}[0-9X]$", &plain) {
        return false;
    }
    let value = |one: char| if one == 'X' { 10 } else { one.to_digit(10).unwrap_or(0) };
    plain.chars().zip(1..).map(|(one, place)| value(one) * place).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let plain: String = text.chars().filter(|one| !matches!(one, ' ' | '-')).collect();
    if !matches("^[0-9]{13}$", &plain) {
        return false;
    }
    let weighted = digits_of(&plain).into_iter().zip([1, 3].into_iter().cycle());
    weighted.map(|(digit, weight)| digit * weight).sum::<u32>() % 10 == 0
}

fn is_credit_card(text: &str) -> bool {
    const CARD: &str = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$";
    let plain: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |(digit, second): (u32, bool)| match (second, digit * 2) {
        (false, _) => digit,
        (true, double) => double / 10 + double % 10,
    };
    let checked = digits_of(&plain).into_iter().rev().zip([false, true].into_iter().cycle()).map(doubled);
    matches(CARD, &plain) && checked.sum::<u32>() % 10 == 0
}

fn is_base64(text: &str) -> bool {
    // Go reads over the ends of lines, and people fold long values.
    let text: String = text.chars().filter(|one| !matches!(one, '\n' | '\r')).collect();
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len().is_multiple_of(4) && padding <= 2 && body.bytes().all(alphabet)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        let part = text.get(range)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u32>().ok())?
    };
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

fn is_date_time(text: &str) -> bool {
    text.split_once(['t', 'T']).is_some_and(|(date, time)| is_date(date) && is_time(time))
}

/// Hour, minute, second, perhaps a fraction behind whatever sign, and a zone. By hand: every object has such times.
fn is_time(text: &str) -> bool {
    let Some((clock, rest)) = text.split_at_checked(8) else { return false };
    let fraction = rest.strip_prefix(|sign: char| sign != '\n');
    let behind_fraction = fraction.map(|digits| digits.trim_start_matches(|one: char| one.is_ascii_digit()));
    let has_digits = fraction.is_some_and(|digits| digits.starts_with(|one: char| one.is_ascii_digit()));
    is_clock(clock.as_bytes()) && (is_zone(rest) || has_digits && behind_fraction.is_some_and(is_zone))
}

fn is_clock(text: &[u8]) -> bool {
    let [h, hh, b':', m, mm, b':', s, ss] = text else { return false };
    let hour = matches!((h, hh), (b'0' | b'1', b'0'..=b'9') | (b'2', b'0'..=b'3'));
    let sixty = |tens: &u8, ones: &u8| matches!((tens, ones), (b'0'..=b'5', b'0'..=b'9'));
    hour && sixty(m, mm) && sixty(s, ss)
}

fn is_zone(text: &str) -> bool {
    match text.as_bytes() {
        [b'z' | b'Z'] => true,
        [b'+' | b'-', h, hh, b':', m, mm] => [h, hh, m, mm].into_iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// How long a duration is that Go reads (`1h30m`), or one in words (`3 days`), in nanoseconds.
#[must_use]
pub(crate) fn duration_nanos(text: &str) -> Option<i64> {
    go_duration_nanos(text).or_else(|| duration_in_words(text))
}

/// How long a duration is as Go writes it: `1h30m`, `-1.5s`, `0`.
#[must_use]
pub(crate) fn go_duration_nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(number);
        let unit = behind.find(|one: char| one.is_ascii_digit() || one == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let places = u32::try_from(fraction.len()).ok()?;
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let scaled = part.checked_mul(unit)? / 10i128.checked_pow(places)?;
        total = total.checked_add(whole.checked_mul(unit)?.checked_add(scaled)?)?;
        rest = behind;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn duration_in_words(text: &str) -> Option<i64> {
    let units: [(&[&str], i64); 8] = [
        (&["ns", "nano"], 1),
        (&["us", "µs", "micro"], 1_000),
        (&["ms", "milli"], 1_000_000),
        (&["s", "sec"], 1_000_000_000),
        (&["m", "min"], 60_000_000_000),
        (&["h", "hr", "hour"], 3_600_000_000_000),
        (&["d", "day"], 86_400_000_000_000),
        (&["w", "wk", "week"], 604_800_000_000_000),
    ];
    let parts = compile(r"(\d+)\s*([A-Za-zµ]+)").ok()?;
    let mut total = None;
    for found in parts.captures_iter(text) {
        let count: i64 = found[1].parse().ok()?;
        let unit = found[2].to_lowercase();
        let fits = |names: &[&str]| {
            names.contains(&&*unit) || names.last().is_some_and(|last| unit.starts_with(last))
        };
        if let Some((_, nanos)) = units.iter().find(|(names, _)| fits(names)) {
            total = Some(total.unwrap_or(0i64).checked_add(count.checked_mul(*nanos)?)?);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn times_are_those_of_the_pattern(
            text in "([0-2][0-9]:[0-6][0-9]:[0-6][0-9]|.{0,8})([.,+ä\n]?[0-9]{0,3})([zZ]|[+-][0-9]{2}:?[0-9]{2}|)",
        ) {
            const TIME: &str =
                r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](.[0-9]+)?(z|Z|([+-][0-9]{2}:[0-9]{2}))$";
            proptest::prop_assert_eq!(is_time(&text), matches(TIME, &text));
        }
    }

    #[test]
    fn formats_are_told_apart() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &["2024-02-29T10:00:00Z", "2024-01-01t00:00:00.123+02:00"],
                &["2023-02-29T10:00:00Z", "2024-01-01", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00"],
            ),
            ("date", &["2024-12-31"], &["2024-13-01", "24-1-1"]),
            ("duration", &["1h30m", "-1.5s", "0", "3 days", "22 ns"], &["", "x", "1y"]),
            ("ipv4", &["10.0.0.1"], &["10.0.0", "::1", "010.0.0.1"]),
            ("ipv6", &["::1", "fe80::1"], &["10.0.0.1", "g::"]),
            ("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8"]),
            ("mac", &["00:00:5e:00:53:01", "0000.5e00.5301"], &["00:00", "zz:00:5e:00:53:01"]),
            ("uuid", &["11111111-2222-3333-4444-555555555555"], &["1"]),
            ("uuid4", &["11111111-2222-4333-8444-555555555555"], &["11111111-2222-3333-8444-555555555555"]),
            ("byte", &["", "YQ==", "YWI=", "YW\nI=\n"], &["YQ=", "Y?=="]),
            ("hostname", &["example.com", "a"], &["-a", "a_b", "a..b"]),
            ("email", &["a@b.c", "A <a@b.c>"], &["a", "@b"]),
            ("uri", &["http://a/b?c", "/a"], &["a b", "a", ""]),
            ("isbn", &["0321751043", "978-0321751041"], &["0321751044"]),
            ("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112"]),
            ("hexcolor", &["#FFFFFF", "abc"], &["#12345"]),
            ("k8s-short-name", &["a-b"], &["a.b", "A"]),
            ("k8s-long-name", &["a-b.c"], &["a..b"]),
            ("something-else", &["anything"], &[]),
        ];
        for (format, yes, no) in table {
            yes.iter().for_each(|text| assert!(fits(format, text), "{format} {text}"));
            no.iter().for_each(|text| assert!(!fits(format, text), "{format} {text}"));
        }
    }

    #[test]
    fn durations_are_counted_in_nanoseconds() {
        for (text, nanos) in [
            ("1h30m", 5_400_000_000_000),
            ("-1.5s", -1_500_000_000),
            ("1us", 1_000),
            ("0", 0),
            (".5s", 500_000_000),
            ("2 weeks", 1_209_600_000_000_000),
        ] {
            assert_eq!(duration_nanos(text), Some(nanos), "{text}");
        }
        for text in ["", "-", "1", "s", "1.2.3s", "9999999999h"] {
            assert_eq!(go_duration_nanos(text), None, "{text}");
        }
    }
}
