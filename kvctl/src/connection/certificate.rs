//! When a certificate ends. Nothing else of it is read here, and nothing is verified: rustls does that.

/// Tags of DER (X.690) that lie on the way to the time.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of an X.509 certificate (RFC 5280, 4.1), in seconds since 1970. `None` if it is no such certificate.
pub(super) fn ends_s(der: &[u8]) -> Option<i64> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut fields, _) = expect(SEQUENCE, certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = expect(SEQUENCE, fields)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, time, _) = element(not_after)?;
    let time = str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let number = |text: &str| text.parse::<i64>().ok();
    let (year, rest) = match tag {
        UTC_TIME => {
            let year = number(time.get(..2)?)?;
            // Two digits stand for 1950 to 2049.
            (if year < 50 { 2000 + year } else { 1900 + year }, time.get(2..)?)
        }
        GENERALIZED_TIME => (number(time.get(..4)?)?, time.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2).and_then(number);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (digits, tail) = rest.split_at_checked(usize::from(first & 0x7f))?;
        rest = tail;
        digits
            .iter()
            .try_fold(0_usize, |sum, &digit| sum.checked_mul(256)?.checked_add(usize::from(digit)))?
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Days of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outline of a certificate: what is not read is empty.
    fn certificate(versioned: bool, time_tag: u8, not_after: &str) -> Vec<u8> {
        fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
            let length = u8::try_from(content.len()).unwrap();
            let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
            [&head, content].concat()
        }
        let not_before = wrap(UTC_TIME, b"250101000000Z");
        let validity = wrap(SEQUENCE, &[not_before, wrap(time_tag, not_after.as_bytes())].concat());
        let version = if versioned { wrap(VERSION, &wrap(2, &[2])) } else { Vec::new() };
        let filler = wrap(SEQUENCE, &[0; 60]);
        let fields =
            [version, wrap(2, &[1, 2, 3]), wrap(SEQUENCE, &[]), filler, validity, wrap(SEQUENCE, &[])];
        wrap(SEQUENCE, &wrap(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn the_end_is_found_in_both_notations() {
        assert_eq!(ends_s(&certificate(true, UTC_TIME, "700101000001Z")), Some(1));
        assert_eq!(ends_s(&certificate(false, UTC_TIME, "491231235959Z")), Some(2_524_607_999));
        assert_eq!(ends_s(&certificate(true, GENERALIZED_TIME, "20240229120000Z")), Some(1_709_208_000));
        assert_eq!(ends_s(&certificate(true, GENERALIZED_TIME, "40960101000000Z")), Some(67_090_118_400));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = certificate(true, UTC_TIME, "260101000000Z");
        for length in 0..whole.len() {
            let _ = ends_s(&whole[..length]);
        }
        assert_eq!(ends_s(b""), None);
        assert_eq!(ends_s(&[SEQUENCE, 0xff]), None);
        assert_eq!(ends_s(&certificate(true, UTC_TIME, "26Z")), None);
        assert_eq!(ends_s(&certificate(true, 4, "260101000000Z")), None);
    }
}
