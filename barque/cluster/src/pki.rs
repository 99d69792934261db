//! A master's authorities, certificates and keys in its directory:
//!
//! ```text
//! ca.{crt,key}  store/ca.{crt,key}  front-proxy-ca.{crt,key}  sa.key      the same on all masters
//! ca-cross.crt  store/ca-cross.crt  front-proxy-ca-cross.crt              while authorities are exchanged
//! apiserver.{crt,key}  store/member.{crt,key}  ...                        this master's own
//! ```
//!
//! An authority's `.crt` has all that are trusted; the first is the one that signs, and `.key` is its. While they are replaced,
//! whoever reads them finds a key whose certificate is trusted. Must never lose an authority that signs.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use barque_api::certificate_bundle::{certificates, joined};
use serde::{Deserialize, Serialize};

use crate::authority::{self, Authority, AuthorityError, Pair, signer_first};
use crate::files::{self, FileError, Readers};
use crate::leaf::{self, Due, Facts, Leaf, Signer};

/// What is wrong with the directory.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in a file cannot be used.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The file, without its ending.
        path: PathBuf,
        /// Why.
        error: AuthorityError,
    },
    /// Some authorities are there and others are not.
    #[error(
        "{} is missing, and other authorities are there: put it back from another master or a backup; a new one would not be \
         trusted by anybody",
        .0.display()
    )]
    Missing(PathBuf),
}

/// The authorities of a cluster, and the key of its service accounts' tokens: who has them is the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// API servers, nodes, users.
    pub cluster: Pair,
    /// The store's members and clients.
    pub store: Pair,
    /// Proxies in front of servers of other groups.
    pub front_proxy: Pair,
    /// The private key that signs tokens of service accounts, PEM.
    pub token_key: SecretText,
}

/// A certificate, or several, for each authority: PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// For that of API servers, nodes and users.
    pub cluster: String,
    /// For the store's.
    pub store: String,
    /// For that of proxies.
    pub front_proxy: String,
}

impl Certificates {
    /// Those for one authority.
    #[must_use]
    pub fn of(&self, signer: Signer) -> &str {
        match signer {
            Signer::Cluster => &self.cluster,
            Signer::Store => &self.store,
            Signer::FrontProxy => &self.front_proxy,
        }
    }
}

/// A text that is not for the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretText(pub String);

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText")
    }
}

const CLUSTER: &str = "ca";
const STORE: &str = "store/ca";
const FRONT_PROXY: &str = "front-proxy-ca";
const TOKEN_KEY: &str = "sa.key";

impl Authorities {
    /// Those of a new cluster.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create(now: SystemTime) -> Result<Self, AuthorityError> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let create = |what: &str| {
            Authority::create(&format!("barque-{what}-ca@{since}"), now).map(|made| made.pair().clone())
        };
        Ok(Self {
            cluster: create("cluster")?,
            store: create("store")?,
            front_proxy: create("front-proxy")?,
            token_key: SecretText(authority::token_key()?),
        })
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, signer: Signer) -> &Pair {
        match signer {
            Signer::Cluster => &self.cluster,
            Signer::Store => &self.store,
            Signer::FrontProxy => &self.front_proxy,
        }
    }
}

/// The directory of a master's certificates.
#[derive(Clone, Debug)]
pub struct Pki(PathBuf);

impl Pki {
    /// In this directory, which need not be there yet.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// A certificate's file.
    #[must_use]
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.crt"))
    }

    /// A key's file.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// What an authority is called, as certificates are.
    #[must_use]
    pub fn authority_name(&self, signer: Signer) -> &'static str {
        match signer {
            Signer::Cluster => CLUSTER,
            Signer::Store => STORE,
            Signer::FrontProxy => FRONT_PROXY,
        }
    }

    /// The certificate of an authority.
    #[must_use]
    pub fn authority(&self, signer: Signer) -> PathBuf {
        self.certificate(self.authority_name(signer))
    }

    /// The key of an authority.
    #[must_use]
    pub fn authority_key(&self, signer: Signer) -> PathBuf {
        self.key(self.authority_name(signer))
    }

    /// The key of service accounts' tokens.
    #[must_use]
    pub fn token_key(&self) -> PathBuf {
        self.0.join(TOKEN_KEY)
    }

    /// The authorities, if this machine is a master already.
    ///
    /// # Errors
    /// When only some of them are there, or one cannot be used.
    pub fn authorities(&self) -> Result<Option<Authorities>, PkiError> {
        let [cluster, store, front_proxy] = [CLUSTER, STORE, FRONT_PROXY].map(|name| self.pair(name));
        let pairs = [(CLUSTER, cluster?), (STORE, store?), (FRONT_PROXY, front_proxy?)];
        let token_key = files::read(&self.token_key())?;
        if token_key.is_none() && pairs.iter().all(|(_, pair)| pair.is_none()) {
            return Ok(None);
        }
        let [cluster, store, front_proxy] = pairs.map(|(name, pair)| {
            let pair = pair.ok_or_else(|| PkiError::Missing(self.certificate(name)))?;
            signer_first(pair).map_err(|error| PkiError::Unusable { path: self.0.join(name), error })
        });
        let token_key = token_key.ok_or_else(|| PkiError::Missing(self.token_key()))?;
        Ok(Some(Authorities {
            cluster: cluster?,
            store: store?,
            front_proxy: front_proxy?,
            token_key: SecretText(token_key),
        }))
    }

    /// Writes authorities down, and what follows their leaves; the key of tokens last, so that half of them are noticed. Where
    /// there are others, what both trust is trusted before a key is another one, so that each state on the way can be gone on with.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, authorities: &Authorities, cross: &Certificates) -> Result<(), PkiError> {
        // That of the cluster last: who follows it finds the others.
        for signer in [Signer::Store, Signer::FrontProxy, Signer::Cluster] {
            let (name, pair) = (self.authority_name(signer), authorities.of(signer));
            match self.pair(name)? {
                Some(here) if here == *pair => {}
                Some(here) if here.key == pair.key => self.write_certificate(name, &pair.certificate)?,
                Some(here) => {
                    self.write_certificate(name, &joined(&[&here.certificate, &pair.certificate]))?;
                    self.write(name, pair)?;
                }
                None => self.write(name, pair)?,
            }
            let path = self.cross_certificate(signer);
            match cross.of(signer) {
                text if self.cross(signer)? == text => {}
                "" => std::fs::remove_file(&path).map_err(|error| FileError { path, error })?,
                text => files::write(&path, text.as_bytes(), Readers::All)?,
            }
        }
        if files::read(&self.token_key())?.as_ref() != Some(&authorities.token_key.0) {
            files::write(&self.token_key(), authorities.token_key.0.as_bytes(), Readers::Owner)?;
        }
        Ok(())
    }

    fn cross_certificate(&self, signer: Signer) -> PathBuf {
        self.certificate(&format!("{}-cross", self.authority_name(signer)))
    }

    /// [`Pki::cross`] of all authorities.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn crosses(&self) -> Result<Certificates, PkiError> {
        Ok(Certificates {
            cluster: self.cross(Signer::Cluster)?,
            store: self.cross(Signer::Store)?,
            front_proxy: self.cross(Signer::FrontProxy)?,
        })
    }

    /// What follows the leaves of an authority, so that who trusts only the one before it trusts them: PEM, mostly empty.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cross(&self, signer: Signer) -> Result<String, PkiError> {
        Ok(files::read(&self.cross_certificate(signer))?.unwrap_or_default())
    }

    /// What a certificate of this directory says; nothing when it or its key is not there, or is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn facts(&self, name: &str) -> Result<Option<Facts>, PkiError> {
        let pair = self.pair(name)?;
        Ok(pair.and_then(|pair| leaf::facts(&pair.certificate).ok()))
    }

    /// Makes the certificates that are due; which, and why.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a name cannot stand in a certificate.
    pub fn issue(
        &self,
        authorities: &Authorities,
        leaves: &[Leaf],
        now: SystemTime,
    ) -> Result<Vec<(&'static str, Due)>, PkiError> {
        let mut made = Vec::new();
        for leaf in leaves {
            let unusable = |error| PkiError::Unusable { path: self.0.join(leaf.name), error };
            let pair = authorities.of(leaf.signer);
            let issuer = leaf::facts(&pair.certificate).map_err(unusable)?.subject;
            let here = self.pair(leaf.name)?;
            let facts = here.as_ref().and_then(|pair| leaf::facts(&pair.certificate).ok());
            let follows =
                here.map(|pair| certificates(&pair.certificate).into_iter().skip(1).collect::<String>());
            let other_chain = || -> Result<Option<Due>, PkiError> {
                Ok((follows.as_ref() != Some(&self.cross(leaf.signer)?)).then_some(Due::OtherChain))
            };
            let Some(why) = (match leaf::due(&leaf.subject, facts.as_ref(), &issuer, now) {
                Some(why) => Some(why),
                None => other_chain()?,
            }) else {
                continue;
            };
            self.make(authorities, leaf, now)?;
            made.push((leaf.name, why));
        }
        Ok(made)
    }

    /// Makes a certificate, whether it is due or not.
    ///
    /// # Errors
    /// When it cannot be written, or a name cannot stand in it.
    pub fn make(&self, authorities: &Authorities, leaf: &Leaf, now: SystemTime) -> Result<(), PkiError> {
        let unusable = |error| PkiError::Unusable { path: self.0.join(leaf.name), error };
        let authority = Authority::load(authorities.of(leaf.signer).clone()).map_err(unusable)?;
        let mut pair = authority.issue(&leaf.subject, now).map_err(unusable)?;
        pair.certificate += &self.cross(leaf.signer)?;
        self.write(leaf.name, &pair)
    }

    fn pair(&self, name: &str) -> Result<Option<Pair>, PkiError> {
        let (certificate, key) = (files::read(&self.certificate(name))?, files::read(&self.key(name))?);
        Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
    }

    /// The key first: who reads a new certificate finds its key.
    fn write(&self, name: &str, pair: &Pair) -> Result<(), PkiError> {
        files::write(&self.key(name), pair.key.as_bytes(), Readers::Owner)?;
        self.write_certificate(name, &pair.certificate)
    }

    fn write_certificate(&self, name: &str, certificate: &str) -> Result<(), PkiError> {
        Ok(files::write(&self.certificate(name), certificate.as_bytes(), Readers::All)?)
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::LEAF_LIFE;
    use crate::leaf::{Master, leaves};

    #[test]
    fn a_directory_is_filled_once_and_renewed_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::at(directory.path().join("pki"));
        let now = SystemTime::now();
        assert_eq!(pki.authorities().unwrap(), None);
        let authorities = Authorities::create(now).unwrap();
        pki.keep(&authorities, &Certificates::default()).unwrap();
        assert_eq!(pki.authorities().unwrap().as_ref(), Some(&authorities));
        let all = leaves(&Master {
            name: "m".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            service_address: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".to_owned(),
            other_names: Vec::new(),
        });
        assert_eq!(pki.issue(&authorities, &all, now).unwrap().len(), all.len());
        assert_eq!(pki.issue(&authorities, &all, now).unwrap(), []);
        let later = pki.issue(&authorities, &all, now + LEAF_LIFE * 7 / 10).unwrap();
        assert!(later.iter().all(|(_, due)| *due == Due::Old) && later.len() == all.len(), "{later:?}");

        std::fs::remove_file(pki.authority_key(Signer::Store)).unwrap();
        let error = pki.authorities().unwrap_err().to_string();
        assert!(error.contains("store/ca.crt is missing"), "{error}");
    }
}
