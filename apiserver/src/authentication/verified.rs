//! Whose chains of certificates were verified before, so that a request on a connection that goes on does not cost a
//! signature's verification again. Must never tell a user outside of the time in which all certificates of the chain are valid.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authorization::User;

/// Chains that are remembered; with one more, all are forgotten.
const CHAINS_MAX: usize = 4096;

/// A chain, told apart from others by all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChainId([u8; 32]);

impl ChainId {
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Self {
        let mut digest = Sha256::new();
        for certificate in chain {
            digest.update(certificate.len().to_le_bytes());
            digest.update(certificate);
        }
        Self(digest.finalize().into())
    }
}

/// Chains with their users, and the seconds of Unix time in which they are.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashMap<ChainId, (User, RangeInclusive<i64>)>>);

impl Verified {
    /// Whose chain it is, if that was verified before and time changes nothing of it.
    pub(super) fn user(&self, chain: ChainId, now_s: i64) -> Option<User> {
        let known = self.0.lock();
        let (user, valid) = known.get(&chain)?;
        valid.contains(&now_s).then(|| user.clone())
    }

    /// A chain was verified.
    pub(super) fn enter(&self, chain: ChainId, user: &User, valid: RangeInclusive<i64>) {
        let mut known = self.0.lock();
        if known.len() >= CHAINS_MAX {
            known.clear();
        }
        known.insert(chain, (user.clone(), valid));
    }
}

/// The seconds of Unix time in which all certificates of a chain are valid; nothing when one cannot be read.
pub(super) fn validity(chain: &[CertificateDer<'_>]) -> Option<RangeInclusive<i64>> {
    let (mut from, mut until) = (i64::MIN, i64::MAX);
    for certificate in chain {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let validity = certificate.validity();
        from = from.max(validity.not_before.timestamp());
        until = until.min(validity.not_after.timestamp());
    }
    Some(from..=until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ChainId {
        ChainId::of(&[vec![number].into()])
    }

    fn user(name: &str) -> User {
        User { name: name.to_owned(), ..User::default() }
    }

    #[test]
    fn a_chain_is_known_while_it_is_valid() {
        let verified = Verified::default();
        assert_eq!(verified.user(id(1), 10), None);
        verified.enter(id(1), &user("eva"), 10..=20);
        for (now, known) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(verified.user(id(1), now), known.then(|| user("eva")), "{now}");
        }
        assert_eq!(verified.user(id(2), 10), None, "another one");
    }

    #[test]
    fn chains_with_other_borders_are_others() {
        let one = ChainId::of(&[vec![1, 2].into(), vec![3].into()]);
        assert_ne!(one, ChainId::of(&[vec![1].into(), vec![2, 3].into()]));
        assert_ne!(one, ChainId::of(&[vec![1, 2, 3].into()]));
    }

    #[test]
    fn what_is_remembered_does_not_grow_for_ever() {
        let verified = Verified::default();
        for number in 0..=CHAINS_MAX {
            verified.enter(ChainId::of(&[number.to_le_bytes().to_vec().into()]), &user("a"), 0..=1);
        }
        assert_eq!(verified.0.lock().len(), 1);
    }
}
