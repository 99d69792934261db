//! A certificate that signs itself, for servers that were given none: made once, kept in `--cert-dir` as `apiserver.crt` and
//! `apiserver.key`. Must never replace one that is there.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use barque_store::config::TlsFiles;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};

/// How long the certificate is good.
const DAYS: i64 = 365;

/// Its files, made if they are not there. It names the addresses and the names by which the cluster knows its API.
///
/// # Errors
/// When they cannot be written, with a sentence that says why.
pub(super) fn self_signed(
    directory: &Path,
    addresses: &[IpAddr],
    hostname: Option<&str>,
) -> Result<TlsFiles, String> {
    let (cert, key) = (directory.join("apiserver.crt"), directory.join("apiserver.key"));
    if !cert.exists() || !key.exists() {
        fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        let pair = KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate =
            params(addresses, hostname)?.self_signed(&pair).map_err(|error| error.to_string())?;
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&key);
        file.and_then(|mut file| file.write_all(pair.serialize_pem().as_bytes()))
            .map_err(|error| error.to_string())?;
        fs::write(&cert, certificate.pem()).map_err(|error| error.to_string())?;
    }
    Ok(TlsFiles { cert_file: Some(cert), key_file: Some(key), ..TlsFiles::default() })
}

fn params(addresses: &[IpAddr], hostname: Option<&str>) -> Result<CertificateParams, String> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let hostname = hostname.filter(|name| name.parse::<IpAddr>().is_err());
    let names: Vec<String> = names.into_iter().chain(hostname).map(str::to_owned).collect();
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    let loopback = [IpAddr::from([127, 0, 0, 1])];
    for address in addresses.iter().chain(&loopback).filter(|address| !address.is_unspecified()) {
        let name = SanType::IpAddress(*address);
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    params.distinguished_name.push(DnType::CommonName, "barque-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or_default();
    let day = |days: i64| {
        let (year, month, day) = date(now + days * 86_400);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = day(-1);
    params.not_after = day(DAYS);
    Ok(params)
}

/// Year, month and day of a second since 1970.
fn date(seconds: i64) -> (i32, u8, u8) {
    let text = barque_api::time::Time::of_unix(seconds).to_string();
    let part = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|part| part.parse::<i32>().ok()).unwrap_or(1)
    };
    let small = |number: i32| u8::try_from(number).unwrap_or(1);
    (part(0..4), small(part(5..7)), small(part(8..10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_the_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("certs");
        let files = self_signed(&place, &["10.0.0.1".parse().unwrap()], Some("api.example.com")).unwrap();
        let (cert, key) = (files.cert_file.unwrap(), files.key_file.unwrap());
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&cert).unwrap();
        self_signed(&place, &[], None).unwrap();
        assert_eq!(fs::read(&cert).unwrap(), before);
        assert!(self_signed(Path::new("/dev/null/x"), &[], None).is_err());
        assert_eq!(date(1_800_000_000), (2027, 1, 15));
    }
}
