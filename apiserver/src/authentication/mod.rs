//! Who a request comes from: certificates, tokens, a proxy in front, or nobody. What it is not sure of it refuses. Must never
//! decide what somebody may do; that is authorization.

pub mod bootstrap_token;
pub mod certificate;
pub mod front_proxy;
pub mod impersonation;
pub mod keys;
pub mod oidc;
pub mod reviews;
pub mod service_account;
pub mod static_tokens;
pub mod token_request;
mod verified;

use std::sync::Arc;

use barque_api::status::{Reason, Status};
use barque_api::time::Time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use rustls::pki_types::CertificateDer;

use self::certificate::Authorities;
use self::front_proxy::FrontProxy;
use self::oidc::Issuer;
use self::service_account::ServiceAccounts;
use self::static_tokens::StaticTokens;
use crate::authorization::User;
use crate::registry::collections::Collections;
use crate::storage::Storage;

/// The group of everybody who said who he is.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Where a user's extra says by which credential they are known.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// What in front of a WebSocket's subprotocols is a token: browsers cannot set headers.
pub const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// How users are known.
#[derive(Clone, Default)]
pub struct Settings {
    /// Who signs clients' certificates.
    pub client_ca: Option<Authorities>,
    /// A proxy that says who asks.
    pub front_proxy: Option<FrontProxy>,
    /// Tokens of service accounts.
    pub service_accounts: Option<ServiceAccounts>,
    /// An OpenID Connect issuer whose ID tokens count.
    pub oidc: Option<Issuer>,
    /// Tokens from a file.
    pub static_tokens: StaticTokens,
    /// Whether bootstrap tokens count.
    pub bootstrap_tokens: bool,
    /// Paths that can be asked for without saying who one is, with what is below them.
    pub anonymous_paths: Vec<String>,
    /// The same without what is below them.
    pub anonymous_pages: Vec<String>,
}

/// What a request says about who it comes from.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// What the client showed, its own first.
    pub certificates: &'a [CertificateDer<'static>],
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The path that is asked for.
    pub path: &'a str,
}

impl Credentials<'_> {
    /// Whether anything is shown at all.
    #[must_use]
    pub fn are_shown(&self) -> bool {
        !self.certificates.is_empty() || token_of(self.headers).is_some()
    }
}

/// Finds out who asks. Cloning copies pointers.
pub struct Authenticator<S: Storage> {
    settings: Arc<Settings>,
    collections: Collections<S>,
}

impl<S: Storage> Clone for Authenticator<S> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), collections: self.collections.clone() }
    }
}

impl<S: Storage> Authenticator<S> {
    /// With these settings, over these objects.
    #[must_use]
    pub fn new(settings: Settings, collections: Collections<S>) -> Self {
        Self { settings: Arc::new(settings), collections }
    }

    /// How users are known.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where what tokens depend on is looked up.
    #[must_use]
    pub const fn collections(&self) -> &Collections<S> {
        &self.collections
    }

    /// Who asks.
    ///
    /// # Errors
    /// 401 for credentials that are wrong, and for none where there must be some.
    pub async fn authenticate(&self, credentials: &Credentials<'_>, now: Time) -> Result<User, Status> {
        if let Some(proxy) = &self.settings.front_proxy
            && let Some(user) = proxy.user(credentials.certificates, credentials.headers, now)
        {
            return Ok(authenticated(user));
        }
        if let (Some(authorities), [_, ..]) = (&self.settings.client_ca, credentials.certificates) {
            match authorities.user(credentials.certificates, now) {
                Ok(user) => return Ok(authenticated(user)),
                Err(why) => {
                    tracing::debug!("a client's certificate is not accepted: {why}");
                    if token_of(credentials.headers).is_none() {
                        return Err(unauthorized());
                    }
                }
            }
        }
        if let Some(token) = token_of(credentials.headers) {
            return match self.user_of_token(&token, now).await? {
                Some((user, _)) => Ok(authenticated(user)),
                None => Err(unauthorized()),
            };
        }
        let pages = &self.settings.anonymous_pages;
        if self.settings.anonymous_paths.iter().any(|path| is_below(credentials.path, path))
            || pages.iter().any(|page| page == credentials.path)
        {
            let groups = vec![UNAUTHENTICATED.to_owned()];
            return Ok(User { name: ANONYMOUS.to_owned(), groups, ..User::default() });
        }
        Err(unauthorized())
    }

    /// Whose token this is, and for which audiences it is good among those of this server; nothing for one that is not good.
    ///
    /// # Errors
    /// When what the token depends on cannot be looked up.
    pub async fn user_of_token(&self, token: &str, now: Time) -> Result<Option<(User, Vec<String>)>, Status> {
        self.user_of_token_for(token, &[], now).await
    }

    /// The same for other audiences than this server's, unless there are none.
    ///
    /// # Errors
    /// When what the token depends on cannot be looked up.
    pub async fn user_of_token_for(
        &self,
        token: &str,
        audiences: &[String],
        now: Time,
    ) -> Result<Option<(User, Vec<String>)>, Status> {
        let own =
            self.settings.service_accounts.as_ref().map(|one| one.audiences.clone()).unwrap_or_default();
        // Tokens without audiences are for this server.
        let for_us = audiences.is_empty() || audiences.iter().any(|audience| own.contains(audience));
        let shared = |user| {
            let wanted = |one: &&String| audiences.is_empty() || audiences.contains(one);
            Some((user, own.iter().filter(wanted).cloned().collect()))
        };
        if for_us {
            if let Some(user) = self.settings.static_tokens.user(token) {
                return Ok(shared(user));
            }
            if self.settings.bootstrap_tokens
                && let Some(user) = bootstrap_token::user(token, &self.collections, now).await?
            {
                return Ok(shared(user));
            }
        }
        if let Some(accounts) = &self.settings.service_accounts {
            let wanted = if audiences.is_empty() { &own } else { audiences };
            let found = accounts.user(token, wanted, &self.collections, now).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        // It may have to ask somebody else, so it comes last.
        if let Some(issuer) = self.settings.oidc.as_ref().filter(|_| for_us) {
            match issuer.user(token, now).await {
                Ok(user) => return Ok(user.and_then(shared)),
                Err(why) => tracing::debug!("an ID token is not accepted: {why}"),
            }
        }
        Ok(None)
    }
}

/// Nobody, or nobody who is known.
#[must_use]
pub fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn authenticated(mut user: User) -> User {
    let known = [AUTHENTICATED, UNAUTHENTICATED];
    if !user.groups.iter().any(|group| known.contains(&group.as_str())) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// The path itself, or one below it.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The bearer token of a request.
fn token_of(headers: &HeaderMap) -> Option<String> {
    if let Some(header) = headers.get(AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    protocols.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).find_map(
        |one| {
            let encoded = one.trim().strip_prefix(WEBSOCKET_TOKEN)?;
            let bytes = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
            String::from_utf8(bytes).ok().filter(|token| !token.is_empty())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_in_a_header_or_among_subprotocols() {
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            token_of(&headers)
        };
        assert_eq!(of("authorization", "Bearer abc"), Some("abc".into()));
        assert_eq!(of("authorization", "bearer  abc "), Some("abc".into()));
        assert_eq!(of("authorization", "Basic abc"), None);
        assert_eq!(of("authorization", "Bearer "), None);
        let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(of("sec-websocket-protocol", protocols), Some("abc".into()));
        assert_eq!(token_of(&HeaderMap::new()), None);
    }

    #[test]
    fn paths_below_a_path_belong_to_it() {
        assert!(is_below("/livez", "/livez") && is_below("/livez/etcd", "/livez"));
        assert!(!is_below("/livezz", "/livez") && !is_below("/api", "/livez"));
    }
}
