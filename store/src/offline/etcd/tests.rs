//! Whole files: imported, and what is refused.

use std::fs;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::super::bbolt::testing::{PAGE, bucket_at, file, inline, leaf};
use super::keys::tests::entry;
use super::*;
use crate::ids::Revision;
use crate::snapshot::{SnapshotReader, verify};

/// Two keys, one of them deleted; a lease; an alarm; compacted to 3, but nothing swept.
fn database() -> Vec<u8> {
    let versions =
        [entry(2, 0, "a", 2, 1), entry(3, 0, "a", 2, 2), entry(3, 1, "b", 3, 1), entry(4, 0, "b", 0, 0)];
    let versions: Vec<_> = versions.iter().map(|(key, value)| (&key[..], &value[..], false)).collect();
    let lease = leasepb::Lease { id: 77, ttl: 60, remaining_ttl: 20 }.encode_to_vec();
    let alarm = pb::AlarmMember { member_id: 0xab, alarm: 1 }.encode_to_vec();
    let compacted = entry(3, 0, "", 1, 1).0;
    let buckets = [
        ("alarm", inline(&[(&alarm, b"", false)])),
        ("key", bucket_at(4)),
        ("lease", inline(&[(&77_i64.to_be_bytes(), &lease, false)])),
        ("meta", inline(&[(b"scheduledCompactRev", &compacted, false)])),
    ];
    let buckets: Vec<_> = buckets.iter().map(|(name, value)| (name.as_bytes(), &value[..], true)).collect();
    file(3, &[leaf(3, &buckets), leaf(4, &versions)])
}

fn with_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn to(&self) -> PathBuf {
        self.0.path().join("barque")
    }

    fn import(&self, bytes: &[u8], skip_hash_check: bool) -> Result<Imported, ImportError> {
        let from = self.0.path().join("etcd");
        fs::write(&from, bytes).unwrap();
        import(&Request { from, to: self.to(), skip_hash_check }, &mut |_| {})
    }

    fn refusal(&self, bytes: &[u8], skip_hash_check: bool) -> String {
        let error = self.import(bytes, skip_hash_check).unwrap_err().to_string();
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 1, "only the source is there: {error}");
        error
    }
}

#[test]
fn everything_arrives() {
    let place = Place::new();
    let imported = place.import(&with_digest(database()), false).unwrap();
    let expected = Imported {
        revision: 4,
        compact_revision: 3,
        keys: 1,
        versions: 3,
        versions_compacted: 1,
        leases: 1,
        users: 0,
        roles: 0,
        auth_enabled: false,
        alarms: vec!["NOSPACE of member ab".to_owned()],
        digest_compared: true,
        size_bytes: fs::metadata(place.to()).unwrap().len(),
    };
    assert_eq!(imported, expected);
    let state = verify(&place.to()).unwrap().manifest.state;
    assert_eq!((state.revision, state.compact_revision), (Revision(4), Revision(3)));
    assert_eq!(state.leases, [(LeaseId(77), 60, 20)]);
    let versions: Vec<_> = SnapshotReader::open(&place.to()).unwrap().collect::<Result<_, _>>().unwrap();
    let told: Vec<_> =
        versions.iter().map(|v| (v.at.main.0, v.at.sub, v.record.key(), v.tombstone)).collect();
    assert_eq!(told, [(3, 0, &b"a"[..], false), (3, 1, b"b", false), (4, 0, b"b", true)]);
    assert!(!part_of(&place.to()).exists());

    let bare = Place::new();
    let imported = bare.import(&database(), true).unwrap();
    assert!(!imported.digest_compared && imported.versions == 3);
}

#[test]
fn nothing_is_overwritten() {
    let place = Place::new();
    fs::write(place.to(), "mine").unwrap();
    let error = place.import(&with_digest(database()), false).unwrap_err().to_string();
    assert!(error.contains("exists, and nothing is overwritten"), "{error}");
    assert_eq!(fs::read(place.to()).unwrap(), b"mine");
    // Also when it came meanwhile.
    let part = part_of(&place.to());
    fs::write(&part, "new").unwrap();
    assert!(matches!(publish(&part, &place.to()), Err(ImportError::Exists { .. })));
    assert_eq!(fs::read(place.to()).unwrap(), b"mine");
}

#[test]
fn other_files_are_refused_in_a_sentence() {
    let place = Place::new();
    let whole = with_digest(database());
    let mut damaged = whole.clone();
    damaged[4 * PAGE + 40] ^= 1;
    for (bytes, skip, sentence) in [
        (&b""[..], false, "is no snapshot of etcd (it is empty)"),
        (b"apiVersion: v1\n", false, "(it looks like text)"),
        (&[0; 700], false, "it is no bbolt database"),
        (b"BRQSNAP\0\x01\0\0\0", false, "is a snapshot of Barque already"),
        (&database(), false, "has no digest behind it"),
        (&whole[..whole.len() - 100], false, "does not fit its digest"),
        (&whole[..whole.len() - PAGE], false, "does not fit its digest"),
        (&damaged, false, "does not fit its digest"),
        (&damaged, true, "is damaged"),
        (&whole[..whole.len() - PAGE], true, "which was perhaps cut off"),
    ] {
        let error = place.refusal(bytes, skip);
        assert!(error.contains(sentence), "{error}");
    }
}

#[test]
fn every_cut_and_every_damaged_byte_is_found_by_the_digest() {
    let place = Place::new();
    let whole = with_digest(database());
    for at in (0..whole.len()).step_by(97) {
        place.refusal(&whole[..at], false);
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        place.refusal(&damaged, false);
    }
}
