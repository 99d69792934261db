//! Who asks: by a client certificate, by a bearer token, or nobody in particular. Must never decide what they may.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::expiring::Expiring;
use super::reviews::{ReviewError, Reviews, User};

/// How long it is known whose a token is.
const KNOWN: Duration = Duration::from_secs(120);
/// How long it is known that a token is nobody's.
const UNKNOWN: Duration = Duration::from_secs(10);
/// Tokens that are known.
const TOKENS: usize = 4096;
/// Questions to API servers at once.
const QUESTIONS: usize = 32;
/// A longer token is none.
const MOST_BYTES: usize = 64 << 10;

/// See the module's description.
pub(crate) struct Authentication {
    reviews: Option<Arc<dyn Reviews>>,
    anonymous: bool,
    /// By their hash, so that no token stays in memory.
    tokens: Expiring<[u8; 32], Option<User>>,
    questions: Semaphore,
}

impl Authentication {
    /// `reviews` is who knows tokens; nothing when tokens are not taken.
    pub(crate) fn new(reviews: Option<Arc<dyn Reviews>>, anonymous: bool) -> Self {
        Self { reviews, anonymous, tokens: Expiring::new(TOKENS), questions: Semaphore::new(QUESTIONS) }
    }

    /// Who asks; nothing for who proves to be nobody.
    pub(crate) async fn user(
        &self,
        certified: Option<&User>,
        headers: &HeaderMap,
    ) -> Result<Option<User>, ReviewError> {
        if let Some(user) = certified {
            return Ok(Some(with_group(user.clone())));
        }
        match (bearer(headers), &self.reviews) {
            (Some(token), Some(reviews)) => Ok(self.of_token(token, &**reviews).await?.map(with_group)),
            (Some(_), None) => Ok(None),
            (None, _) => Ok(self.anonymous.then(|| User {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
                ..User::default()
            })),
        }
    }

    async fn of_token(&self, token: &str, reviews: &dyn Reviews) -> Result<Option<User>, ReviewError> {
        if token.len() > MOST_BYTES {
            return Ok(None);
        }
        let hash = Sha256::digest(token).into();
        if let Some(known) = self.tokens.get(&hash) {
            return Ok(known);
        }
        let _seat = self.questions.acquire().await.map_err(|error| ReviewError(error.to_string()))?;
        // Somebody may have asked meanwhile.
        if let Some(known) = self.tokens.get(&hash) {
            return Ok(known);
        }
        let user = reviews.token(token.to_owned()).await?;
        self.tokens.keep(hash, user.clone(), if user.is_some() { KNOWN } else { UNKNOWN });
        Ok(user)
    }
}

fn with_group(mut user: User) -> User {
    const GROUP: &str = "system:authenticated";
    if user.name != "system:anonymous" && !user.groups.iter().any(|group| group == GROUP) {
        user.groups.push(GROUP.to_owned());
    }
    user
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whom a verified certificate names: the common name is the user, organizations are groups.
pub(crate) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|one| one.as_str().ok().map(str::to_owned)).collect();
    (!name.is_empty()).then_some(User { name, groups, ..User::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bearer_tokens_are_read() {
        let token = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, http::HeaderValue::from_static(value));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(token("bearer  abc "), Some("abc".to_owned()));
        for other in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
