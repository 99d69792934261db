//! Certificates as they are made: what stands in them, and for how long they are good. A decision; time and the serial number are
//! handed in. The rules are those of the API; nothing but names and the key is taken from the request.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::authority::Authority;
use super::der::{self, OCTET_STRING, SEQUENCE, explicit, implicit, sequence, tagged};
use super::request::Request;

/// Certificates are good from a little before they are made, for clocks differ.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Those that are good for less than this end as late as was asked for.
const SHORT: Duration = Duration::from_secs(8 * 3600);
/// None is asked to be good for less.
const SHORTEST: Duration = Duration::from_secs(600);

const USAGES: [(&str, u16); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// In the order in which they stand in certificates.
const PURPOSES: [(&[&str], &[u32]); 12] = [
    (&["any"], &[2, 5, 29, 37, 0]),
    (&["server auth"], &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    (&["client auth"], &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    (&["code signing"], &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    (&["email protection", "s/mime"], &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    (&["ipsec end system"], &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    (&["ipsec tunnel"], &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    (&["ipsec user"], &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    (&["timestamping"], &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    (&["ocsp signing"], &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    (&["microsoft sgc"], &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    (&["netscape sgc"], &[2, 16, 840, 1, 113_730, 4, 1]),
];

/// For how long a certificate is good: what was asked for, within limits.
pub(super) fn lifetime(asked_seconds: Option<i32>, longest: Duration) -> Duration {
    let Some(seconds) = asked_seconds else { return longest };
    let asked = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    if asked > longest { longest } else { asked.max(SHORTEST) }
}

fn validity(
    now: Timestamp,
    lifetime: Duration,
    signer_ends: Timestamp,
) -> Result<(Timestamp, Timestamp), String> {
    let from = now.checked_sub(BACKDATE).unwrap_or(Timestamp::MIN);
    let until = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    let until = if lifetime < SHORT { until } else { until.checked_sub(BACKDATE).unwrap_or(until) };
    if from >= signer_ends {
        return Err(format!("the signer has expired: NotAfter={signer_ends}"));
    }
    if now >= signer_ends {
        return Err(format!(
            "refusing to sign a certificate that expired in the past: NotAfter={signer_ends}"
        ));
    }
    Ok((from, until.min(signer_ends)))
}

fn extension(id: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let name = der::oid(id);
    let flag: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence([name.as_slice(), flag, &tagged(OCTET_STRING, value)])
}

fn extensions(authority: &Authority, request: &Request, usages: &[String]) -> Result<Vec<u8>, String> {
    let mut flags = 0u16;
    let mut unknown = Vec::new();
    for usage in usages {
        if let Some((_, bit)) = USAGES.iter().find(|(name, _)| name == usage) {
            flags |= 1 << bit;
        } else if !PURPOSES.iter().any(|(names, _)| names.contains(&usage.as_str())) {
            unknown.push(format!("{usage:?}"));
        }
    }
    if !unknown.is_empty() {
        return Err(format!("unrecognized usage values: [{}]", unknown.join(" ")));
    }
    let said = |names: &[&str]| usages.iter().any(|usage| names.contains(&usage.as_str()));
    let purposes: Vec<u8> =
        PURPOSES.iter().filter(|(names, _)| said(names)).flat_map(|(_, id)| der::oid(id)).collect();
    let mut all = Vec::new();
    if flags != 0 {
        all.extend(extension(&[2, 5, 29, 15], true, &der::named_bits(flags)));
    }
    if !purposes.is_empty() {
        all.extend(extension(&[2, 5, 29, 37], false, &tagged(SEQUENCE, &purposes)));
    }
    // It is no authority itself.
    all.extend(extension(&[2, 5, 29, 19], true, &tagged(SEQUENCE, &[])));
    if let Some(id) = &authority.key_id {
        all.extend(extension(&[2, 5, 29, 35], false, &tagged(SEQUENCE, &tagged(implicit(0), id))));
    }
    let text = |number: u8, names: &[String]| -> Vec<u8> {
        names.iter().flat_map(|name| tagged(implicit(number), name.as_bytes())).collect()
    };
    let mut names = text(2, &request.dns);
    names.extend(text(1, &request.emails));
    names.extend(request.addresses.iter().flat_map(|bytes| tagged(implicit(7), bytes)));
    names.extend(text(6, &request.uris));
    if !names.is_empty() {
        // Without a subject, the names are all that there is.
        let critical = request.subject == [SEQUENCE, 0];
        all.extend(extension(&[2, 5, 29, 17], critical, &tagged(SEQUENCE, &names)));
    }
    Ok(tagged(SEQUENCE, &all))
}

/// The certificate that a request gets, in DER.
pub(super) fn issue(
    authority: &Authority,
    request: &Request,
    usages: &[String],
    lifetime: Duration,
    serial: [u8; 16],
    now: Timestamp,
) -> Result<Vec<u8>, String> {
    if !request.is_signed {
        return Err("unable to verify certificate request signature".to_owned());
    }
    let (from, until) = validity(now, lifetime, authority.not_after)?;
    let algorithm = authority.algorithm()?;
    let validity = sequence([der::time(from).as_slice(), &der::time(until)]);
    let body = sequence([
        // The third version, counted from zero.
        tagged(explicit(0), &der::unsigned(&[2])).as_slice(),
        &der::unsigned(&serial),
        algorithm,
        &authority.subject,
        &validity,
        &request.subject,
        &request.public_key,
        &tagged(explicit(3), &extensions(authority, request, usages)?),
    ]);
    let signature = authority.sign(&body)?;
    Ok(sequence([body.as_slice(), algorithm, &der::bits(&signature)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn how_long_certificates_are_good() {
        let year = Duration::from_secs(365 * 24 * 3600);
        assert_eq!(lifetime(None, year), year);
        assert_eq!(lifetime(Some(3600), year).as_secs(), 3600);
        assert_eq!(lifetime(Some(1), year), SHORTEST);
        assert_eq!(lifetime(Some(i32::MAX), year), year);
    }

    #[test]
    fn validity_begins_earlier_and_ends_with_the_signer() {
        let now = at("2026-01-01T12:00:00Z");
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let check = |life: Duration, ends: &str, expected: Option<(&str, &str)>| {
            let got = validity(now, life, at(ends)).ok();
            assert_eq!(got, expected.map(|(from, until)| (at(from), at(until))));
        };
        let from = "2026-01-01T11:55:00Z";
        check(hours(1), "2027-01-01T00:00:00Z", Some((from, "2026-01-01T13:00:00Z")));
        check(hours(24), "2027-01-01T00:00:00Z", Some((from, "2026-01-02T11:55:00Z")));
        check(hours(24), "2026-01-02T00:00:00Z", Some((from, "2026-01-02T00:00:00Z")));
        check(hours(24), "2026-01-01T12:00:00Z", None);
        check(hours(24), "2020-01-01T12:00:00Z", None);
    }
}
