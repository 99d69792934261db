//! The authorities that are exchanged, and which of them count in a phase. Values: must never read a file.

use std::time::SystemTime;

use barque_api::certificate_bundle::joined;
use serde::{Deserialize, Serialize};

use super::phase::Phase;
use crate::authority::{Authority, AuthorityError, Pair, Pin};
use crate::leaf::Signer;
use crate::pki::{Authorities, Certificates, SecretText};

/// Why a master cannot have what it should.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// It has others.
    #[error(
        "this master signs with an authority that is neither the old nor the new one of the rotation; it must join anew"
    )]
    Stranger,
    /// One of them cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// What a rotation is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// What was trusted before.
    pub old: Certificates,
    /// The new authorities.
    pub new: NewAuthorities,
    /// The certificates of the new ones, signed by the old ones.
    pub cross: Certificates,
}

/// Authorities to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAuthorities {
    cluster: Pair,
    store: Pair,
    front_proxy: Pair,
}

/// What a master should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who is trusted, and who signs.
    pub authorities: Authorities,
    /// What follows leaves.
    pub cross: Certificates,
}

impl Material {
    /// New authorities for those that there are.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn create(old: &Authorities, now: SystemTime) -> Result<Self, AuthorityError> {
        // Certificates are told apart by the name of who signed them, which has the second in which it was made.
        let mut at = now;
        let new = loop {
            let new = Authorities::create(at)?;
            let name =
                |of: &Authorities| crate::leaf::facts(&of.cluster.certificate).map(|facts| facts.subject);
            if name(&new)? != name(old)? {
                break new;
            }
            at += std::time::Duration::from_secs(1);
        };
        let cross = |signer: Signer| Authority::load(old.of(signer).clone())?.cross_sign(new.of(signer), now);
        let cross = Certificates {
            cluster: cross(Signer::Cluster)?,
            store: cross(Signer::Store)?,
            front_proxy: cross(Signer::FrontProxy)?,
        };
        let old = Certificates {
            cluster: old.cluster.certificate.clone(),
            store: old.store.certificate.clone(),
            front_proxy: old.front_proxy.certificate.clone(),
        };
        let new = NewAuthorities { cluster: new.cluster, store: new.store, front_proxy: new.front_proxy };
        Ok(Self { old, new, cross })
    }

    fn new_one(&self, signer: Signer) -> &Pair {
        match signer {
            Signer::Cluster => &self.new.cluster,
            Signer::Store => &self.new.store,
            Signer::FrontProxy => &self.new.front_proxy,
        }
    }

    /// What tells a new authority from all others.
    #[must_use]
    pub fn pin(&self, signer: Signer) -> Option<Pin> {
        Pin::all(&self.new_one(signer).certificate).first().copied()
    }

    /// Whom everybody trusts in a phase, who signs first.
    #[must_use]
    pub fn trusted(&self, signer: Signer, phase: Phase) -> String {
        let (old, new) = (self.old.of(signer), self.new_one(signer).certificate.as_str());
        match phase {
            Phase::Trust => joined(&[old, new]),
            Phase::Sign | Phase::Renew => joined(&[new, old]),
            Phase::Finished => joined(&[new]),
        }
    }

    /// What a master has in a phase that has these now. Never goes back: one that is ahead stays there.
    ///
    /// # Errors
    /// When it has none of either.
    pub fn wanted(&self, phase: Phase, now: &Authorities) -> Result<Wanted, MaterialError> {
        let signs = Pin::all(&now.cluster.certificate).first().copied();
        let is_new = signs == self.pin(Signer::Cluster);
        let is_old = signs.is_some_and(|pin| Pin::all(&self.old.cluster).contains(&pin));
        if !is_new && !is_old {
            return Err(MaterialError::Stranger);
        }
        let phase = if is_new { phase.max(Phase::Sign) } else { phase };
        let pair = |signer: Signer| {
            let key = if phase == Phase::Trust { &now.of(signer).key } else { &self.new_one(signer).key };
            Pair { certificate: self.trusted(signer, phase), key: key.clone() }
        };
        let authorities = Authorities {
            cluster: pair(Signer::Cluster),
            store: pair(Signer::Store),
            front_proxy: pair(Signer::FrontProxy),
            token_key: SecretText(now.token_key.0.clone()),
        };
        let cross = match phase {
            Phase::Trust | Phase::Finished => Certificates::default(),
            Phase::Sign | Phase::Renew => self.cross.clone(),
        };
        Ok(Wanted { authorities, cross })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_trusts_and_signs_as_it_says_from_wherever_a_master_is() {
        let now = SystemTime::now();
        let before = Authorities::create(now).unwrap();
        let material = Material::create(&before, now).unwrap();
        let old = Pin::all(&before.cluster.certificate)[0];
        let new = material.pin(Signer::Cluster).unwrap();
        assert_ne!(old, new);
        let trusted = |wanted: &Wanted| Pin::all(&wanted.authorities.cluster.certificate);
        let table = [
            (Phase::Trust, vec![old, new], false),
            (Phase::Sign, vec![new, old], true),
            (Phase::Renew, vec![new, old], true),
            (Phase::Finished, vec![new], false),
        ];
        // From the start, and from each phase before: nothing but the phase counts.
        for (number, (phase, trusts, has_cross)) in table.iter().enumerate() {
            let mut starts = vec![before.clone()];
            starts.extend(
                table[..=number]
                    .iter()
                    .map(|(from, ..)| material.wanted(*from, &before).unwrap().authorities),
            );
            for start in starts {
                let wanted = material.wanted(*phase, &start).unwrap();
                assert_eq!(&trusted(&wanted), trusts, "{phase:?}");
                assert_eq!(!wanted.cross.cluster.is_empty(), *has_cross, "{phase:?}");
                for signer in [Signer::Cluster, Signer::Store, Signer::FrontProxy] {
                    // Each can sign: the key is that of the first.
                    Authority::load(wanted.authorities.of(signer).clone()).unwrap();
                }
                assert_eq!(wanted.authorities.token_key, before.token_key);
            }
        }
        // One that signs with the new one does not go back to the old one's key, which it has no more.
        let ahead = material.wanted(Phase::Sign, &before).unwrap();
        assert_eq!(material.wanted(Phase::Trust, &ahead.authorities).unwrap(), ahead);
        let stranger = Material::create(&before, now).unwrap();
        let elsewhere = stranger.wanted(Phase::Finished, &before).unwrap();
        assert!(matches!(
            material.wanted(Phase::Trust, &elsewhere.authorities),
            Err(MaterialError::Stranger)
        ));
    }
}
