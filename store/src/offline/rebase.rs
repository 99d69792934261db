//! What becomes of a state when another cluster goes on with it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::error::OfflineError;
use crate::command::auth::TokenKey;
use crate::ids::{LeaseId, Revision};
use crate::record::{Fields, Record};
use crate::stored::{StateMeta, StoredAuth, StoredVersion};

/// The revision of a restored state and its compact revision. With a bump clients see that it is no continuation
/// of what they knew: no revision means two things, and watches from before get "compacted".
pub(super) fn revisions(
    restored: Revision,
    compact: Revision,
    bump: u64,
    mark_compacted: bool,
) -> Result<(Revision, Revision), OfflineError> {
    let revision = restored.0.checked_add_unsigned(bump).filter(|revision| *revision < i64::MAX);
    let revision = Revision(revision.ok_or(OfflineError::Bump { revision: restored, bump })?);
    Ok((revision, if mark_compacted { revision } else { compact }))
}

/// The leases of a restored state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    /// As a state keeps them; each has its full time again.
    pub(super) granted: Vec<(LeaseId, i64, i64)>,
    /// Ended after the revision that is restored; they are granted again.
    pub(super) revived: Vec<LeaseId>,
    /// Nobody knows their time any more; their keys hang on no lease from now on.
    pub(super) unknown: BTreeSet<LeaseId>,
}

/// The state's leases, and those that live keys name though the state does not have them: the state is of a
/// later revision than the keys when a revision in the middle is restored.
pub(super) fn leases(
    of_state: &[(LeaseId, i64, i64)],
    named: &BTreeSet<LeaseId>,
    earlier: &BTreeMap<LeaseId, i64>,
) -> Leases {
    let mut granted: BTreeMap<LeaseId, i64> = of_state.iter().map(|&(id, ttl_s, _)| (id, ttl_s)).collect();
    let mut leases = Leases::default();
    for id in named {
        if granted.contains_key(id) {
            continue;
        }
        match earlier.get(id) {
            Some(ttl_s) => {
                granted.insert(*id, *ttl_s);
                leases.revived.push(*id);
            }
            None => {
                leases.unknown.insert(*id);
            }
        }
    }
    leases.granted = granted.into_iter().map(|(id, ttl_s)| (id, ttl_s, 0)).collect();
    leases
}

/// A live version without its lease, when that is one of `unknown`.
pub(super) fn without_unknown_lease(version: StoredVersion, unknown: &BTreeSet<LeaseId>) -> StoredVersion {
    let fields = version.record.fields();
    if version.tombstone || !fields.lease.is_some_and(|lease| unknown.contains(&lease)) {
        return version;
    }
    let record = Record::new(&Fields { lease: None, ..fields });
    StoredVersion { record, ..version }
}

/// Users and roles under another key, so that no token of the old cluster opens the new one: what a token
/// names may be somebody else here.
pub(super) fn auth(auth: &Arc<StoredAuth>, origin: &[u8; 32]) -> Arc<StoredAuth> {
    let Some(key) = &auth.token_key else { return Arc::clone(auth) };
    let mut hash = Sha256::new();
    hash.update(b"token key of a restored cluster");
    hash.update(key.0);
    hash.update(origin);
    Arc::new(StoredAuth { token_key: Some(TokenKey(hash.finalize().into())), ..(**auth).clone() })
}

/// The state's meta for members that are all new: nobody has published anything, nobody was removed, no alarm.
pub(super) fn meta(
    of_files: &StateMeta,
    restored: Revision,
    (revision, compact_revision): (Revision, Revision),
    leases: &Leases,
    membership: Vec<u8>,
    origin: &[u8; 32],
) -> StateMeta {
    let mut timeline = (*of_files.timeline).clone();
    timeline.end_at(restored);
    StateMeta {
        applied_term: FIRST_POSITION.0,
        applied_index: FIRST_POSITION.1,
        membership,
        revision,
        compact_revision,
        leases: leases.granted.clone(),
        alarms: Vec::new(),
        members: Vec::new(),
        removed: Vec::new(),
        auth: auth(&of_files.auth, origin),
        timeline: Arc::new(timeline),
    }
}

/// Term and index of the entry that the first snapshot of a cluster stands for. No leader was ever elected, and the
/// log goes on behind it.
pub(super) const FIRST_POSITION: (u64, u64) = (0, 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SubRevision;
    use crate::snapshot::testing::state;

    #[test]
    fn revisions_never_go_back() {
        let made = |bump, mark| revisions(Revision(7), Revision(3), bump, mark).unwrap();
        assert_eq!(made(0, false), (Revision(7), Revision(3)));
        assert_eq!(made(0, true), (Revision(7), Revision(7)));
        assert_eq!(made(1000, true), (Revision(1007), Revision(1007)));
        assert_eq!(made(1000, false), (Revision(1007), Revision(3)));
        for bump in [i64::MAX as u64, u64::MAX] {
            assert!(revisions(Revision(7), Revision(3), bump, true).is_err());
        }
    }

    #[test]
    fn a_lease_that_live_keys_need_is_granted_again_or_let_go() {
        let id = LeaseId;
        let of_state = [(id(1), 60, 5), (id(2), 10, 0)];
        let named = BTreeSet::from([id(1), id(3), id(4)]);
        let earlier = BTreeMap::from([(id(3), 30), (id(5), 99)]);
        let leases = leases(&of_state, &named, &earlier);
        assert_eq!(leases.granted, [(id(1), 60, 0), (id(2), 10, 0), (id(3), 30, 0)]);
        assert_eq!(leases.revived, [id(3)]);
        assert_eq!(leases.unknown, BTreeSet::from([id(4)]));

        let fields = Fields {
            key: b"k",
            create_revision: Revision(2),
            mod_revision: Revision(5),
            version: 2,
            value: b"v",
            lease: Some(id(4)),
        };
        let at = SubRevision { main: Revision(5), sub: 1 };
        let version = StoredVersion { at, record: Record::new(&fields), tombstone: false };
        let freed = without_unknown_lease(version.clone(), &leases.unknown);
        assert_eq!(freed.record.fields(), Fields { lease: None, ..fields });
        assert_eq!(without_unknown_lease(version.clone(), &BTreeSet::from([id(1)])), version);
    }

    #[test]
    fn tokens_end_and_what_members_said_of_themselves_is_forgotten() {
        let mut of_files = state(9);
        let key = |byte| StoredAuth { token_key: Some(TokenKey([byte; 32])), ..StoredAuth::default() };
        of_files.auth = Arc::new(key(1));
        let made = |origin: u8| {
            let revisions = (Revision(1010), Revision(1010));
            meta(&of_files, Revision(3), revisions, &Leases::default(), vec![9], &[origin; 32])
        };
        let restored = made(1);
        assert_eq!((restored.applied_term, restored.applied_index), FIRST_POSITION);
        assert!(restored.members.is_empty() && restored.removed.is_empty() && restored.alarms.is_empty());
        assert_eq!(restored.timeline.last().unwrap().revision, Revision(3));
        assert_ne!(restored.auth, of_files.auth);
        assert_eq!(made(1), restored, "all members have the same");
        assert_ne!(made(2).auth, restored.auth);
        let none = Arc::<StoredAuth>::default();
        assert_eq!(auth(&none, &[1; 32]), none);
    }
}
