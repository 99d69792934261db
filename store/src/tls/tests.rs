use std::fs;

use super::test_certificates::Authority;
use super::*;

const NOW: std::ops::Range<i32> = 2020..2090;

fn error(authority: &Authority, change: impl FnOnce(&mut TlsFiles)) -> String {
    let mut files = authority.files("a");
    change(&mut files);
    match ServerTls::load(&files) {
        Ok(_) => "no error".into(),
        // Temporary directories have other names each time.
        Err(error) => error.to_string().replace(&authority.path("").display().to_string(), ""),
    }
}

#[test]
fn each_unusable_file_is_named_with_what_is_wrong() {
    let authority = Authority::new();
    authority.issue("a", NOW);
    authority.issue("b", NOW);
    authority.issue("old", 2010..2011);
    authority.issue("new", 2089..2090);
    let file = |name: &str, text: &str| {
        fs::write(authority.path(name), text).unwrap();
        Some(authority.path(name))
    };
    let empty = file("empty", "nothing\n");
    let broken = file("broken", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n");
    let no_x509 = file("no-x509", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let b_key = Some(authority.path("b.key"));
    let (old, new) = (authority.files("old"), authority.files("new"));

    assert_eq!(error(&authority, |_| ()), "no error");
    assert_eq!(
        error(&authority, |f| f.cert_file = Some("/nowhere/x.pem".into())),
        "/nowhere/x.pem cannot be read"
    );
    assert_eq!(error(&authority, |f| f.cert_file.clone_from(&empty)), "empty has no certificate in it");
    assert_eq!(error(&authority, |f| f.key_file.clone_from(&empty)), "empty has no private key in it");
    assert_eq!(error(&authority, |f| f.trusted_ca_file.clone_from(&empty)), "empty has no certificate in it");
    assert!(error(&authority, |f| f.cert_file = broken).starts_with("broken is not a PEM file: "));
    assert!(
        error(&authority, |f| f.cert_file = no_x509)
            .starts_with("no-x509 has a certificate that cannot be used: ")
    );
    assert_eq!(
        error(&authority, |f| f.key_file = b_key),
        "the key in b.key does not belong to the certificate in a.pem"
    );
    let expired = error(&authority, |f| *f = old);
    assert!(
        expired.starts_with("the certificate in old.pem expired ") && expired.ends_with(" s ago"),
        "{expired}"
    );
    let early = error(&authority, |f| *f = new);
    assert!(early.starts_with("the certificate in new.pem becomes valid in "), "{early}");
    assert_eq!(
        error(&authority, |f| (f.cert_file, f.key_file) = (None, None)),
        "a server needs a certificate and its key"
    );
}

#[test]
fn a_self_signed_certificate_is_as_good_as_any() {
    let authority = Authority::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(authority.path("a.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(authority.path("a.key"), key.serialize_pem()).unwrap();
    assert_eq!(error(&authority, |_| ()), "no error");
}

#[test]
fn files_that_do_not_change_are_not_made_anew() {
    let authority = Authority::new();
    authority.issue("a", NOW);
    let tls = ServerTls::load(&authority.files("a")).unwrap();
    let first = tls.current();
    assert!(Arc::ptr_eq(&first, &tls.current()));
    // Touched with equal contents, as a sync of a mounted secret does.
    let same = fs::read(authority.path("a.pem")).unwrap();
    fs::write(authority.path("a.pem"), same).unwrap();
    assert!(Arc::ptr_eq(&first, &tls.current()));
}

#[test]
fn unusable_changes_keep_the_old_and_usable_ones_replace_it() {
    let authority = Authority::new();
    authority.issue("a", NOW);
    let tls = ServerTls::load(&authority.files("a")).unwrap();
    let first = tls.current();

    fs::write(authority.path("a.pem"), "half a cert").unwrap();
    assert!(Arc::ptr_eq(&first, &tls.current()), "broken");
    fs::remove_file(authority.path("a.pem")).unwrap();
    assert!(Arc::ptr_eq(&first, &tls.current()), "gone");
    authority.issue("a", 2010..2011);
    assert!(Arc::ptr_eq(&first, &tls.current()), "expired");

    authority.issue("a", NOW);
    let second = tls.current();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &tls.current()));

    // Another authority's certificate beside the first: both are trusted from now on.
    let other = fs::read_to_string(Authority::new().path("ca.pem")).unwrap();
    let both = fs::read_to_string(authority.path("ca.pem")).unwrap() + &other;
    fs::write(authority.path("ca.pem"), both).unwrap();
    assert!(!Arc::ptr_eq(&second, &tls.current()));
}
