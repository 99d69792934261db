//! Users by ID tokens of an OpenID Connect issuer (`--oidc-*`), as Kubernetes knows them. The issuer is asked for its keys when
//! the first of its tokens comes, and again when a token names a key that is not known. Must never let an issuer that does not
//! answer stand in the way of users who are known otherwise, nor ask it as often as clients like.

pub mod claims;
mod fetch;
pub mod jwk;
mod pace;
pub mod roots;

use std::sync::Arc;

use arc_swap::ArcSwap;
use barque_api::time::Time;
use rustls::RootCertStore;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::claims::{Rules, Token};
use self::jwk::Jwk;
use self::pace::Pace;
use crate::authorization::User;

/// What is known of an issuer's keys.
#[derive(Default)]
struct Known {
    keys: Vec<Jwk>,
    /// How often it was asked.
    attempt: u64,
    /// Why the last time brought nothing.
    failure: Option<String>,
}

/// Who is asking the issuer.
struct Asking {
    pace: Pace,
    /// Where its keys are; nothing until it said so.
    keys_url: Option<String>,
}

struct Inner {
    rules: Rules,
    roots: Arc<RootCertStore>,
    known: ArcSwap<Known>,
    /// One asks at a time; others wait for what it brings.
    asking: Mutex<Asking>,
}

/// An issuer whose users are known here. Cloning copies a pointer.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

impl Issuer {
    /// An issuer that has not been asked yet; its certificate must be of these authorities.
    #[must_use]
    pub fn new(rules: Rules, roots: RootCertStore) -> Self {
        Self(Arc::new(Inner {
            rules,
            roots: Arc::new(roots),
            known: ArcSwap::default(),
            asking: Mutex::new(Asking { pace: Pace::new(Instant::now()), keys_url: None }),
        }))
    }

    /// Which tokens count, and how they name users.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// Whose token this is; nothing for one of somebody else.
    ///
    /// # Errors
    /// Why a token of this issuer does not count.
    pub async fn user(&self, token: &str, now: Time) -> Result<Option<User>, String> {
        let rules = &self.0.rules;
        let Some(token) = Token::parse(token).filter(|token| token.claims.issuer() == rules.issuer) else {
            return Ok(None);
        };
        rules.check(&token, now.unix())?;
        let known = self.0.known.load_full();
        let verified = match verify(&known.keys, &token) {
            Verified::ByNobody => verify(&self.newer_keys(&known).await?.keys, &token),
            verified => verified,
        };
        match verified {
            Verified::Yes => rules.user(&token.claims).map(Some),
            Verified::No | Verified::ByNobody => {
                Err("oidc: verify token: failed to verify id token signature".to_owned())
            }
        }
    }

    /// What the issuer tells after it was asked so often as is `known`.
    async fn newer_keys(&self, known: &Known) -> Result<Arc<Known>, String> {
        let mut asking = self.0.asking.lock().await;
        let mut newest = self.0.known.load_full();
        if newest.attempt == known.attempt {
            if !asking.pace.take(Instant::now()) {
                return Err(
                    "oidc: verify token: its key is not known, and keys were asked for too often".to_owned()
                );
            }
            let asked = self.ask(&mut asking.keys_url).await;
            let attempt = newest.attempt + 1;
            newest = Arc::new(match asked {
                Ok(keys) => Known { keys, attempt, failure: None },
                Err(why) => {
                    tracing::warn!("an OpenID Connect issuer's keys cannot be read: {why}");
                    // What it signed before still counts.
                    Known { keys: newest.keys.clone(), attempt, failure: Some(why) }
                }
            });
            self.0.known.store(Arc::clone(&newest));
        }
        match &newest.failure {
            None => Ok(newest),
            Some(why) => Err(format!("oidc: fetching keys {why}")),
        }
    }

    async fn ask(&self, keys_url: &mut Option<String>) -> Result<Vec<Jwk>, String> {
        let url = match keys_url {
            Some(url) => url.clone(),
            None => {
                let issuer = &self.0.rules.issuer;
                let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
                let url = keys_url_of(&fetch::document(&url, Arc::clone(&self.0.roots)).await?, issuer)?;
                keys_url.insert(url).clone()
            }
        };
        let set = fetch::document(&url, Arc::clone(&self.0.roots)).await;
        let keys = set.and_then(|set| jwk::key_set(&set).map_err(|why| format!("Get {url:?}: {why}")));
        if keys.is_err() {
            // It may have moved them.
            *keys_url = None;
        }
        keys
    }
}

/// Where the keys are, as the issuer says it.
fn keys_url_of(discovery: &Value, issuer: &str) -> Result<String, String> {
    let text = |field: &str| discovery.get(field).and_then(Value::as_str).unwrap_or_default();
    let told = text("issuer");
    if told != issuer {
        return Err(format!(
            "issuer did not match the issuer returned by provider, expected {issuer:?} got {told:?}"
        ));
    }
    match text("jwks_uri") {
        "" => Err("the issuer does not say where its keys are: jwks_uri is missing".to_owned()),
        url => Ok(url.to_owned()),
    }
}

/// What became of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verified {
    Yes,
    /// It is not that of the key that it names.
    No,
    /// The key that signed it is not known.
    ByNobody,
}

fn verify(keys: &[Jwk], token: &Token<'_>) -> Verified {
    let mut named = keys.iter().filter(|key| token.key_id.is_empty() || key.id == token.key_id).peekable();
    if named.peek().is_none() {
        return Verified::ByNobody;
    }
    if named.any(|key| key.verifies(&token.algorithm, token.message, &token.signature)) {
        return Verified::Yes;
    }
    // One that names no key may be of a new one.
    if token.key_id.is_empty() { Verified::ByNobody } else { Verified::No }
}

#[cfg(test)]
pub(crate) mod tests;
