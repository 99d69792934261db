//! Measures what is judged elsewhere. Looks only; must never decide what is good.

pub(super) mod api;
pub(super) mod disk;
pub(super) mod path;
pub(super) mod store;

use super::judge::certificates::CertificateSeen;
use crate::leaf::{self, Signer};
use crate::pki::Pki;

/// The authorities and certificates of this master.
pub(super) fn certificates(pki: &Pki) -> Vec<CertificateSeen> {
    let authorities =
        [Signer::Cluster, Signer::Store, Signer::FrontProxy].map(|it| (pki.authority_name(it), true));
    let leaves = leaf::ALL.iter().map(|(name, ..)| (*name, false));
    authorities
        .into_iter()
        .chain(leaves)
        .map(|(name, is_authority)| CertificateSeen {
            name: name.to_owned(),
            is_authority,
            facts: pki.facts(name).map_err(|error| error.to_string()),
        })
        .collect()
}
