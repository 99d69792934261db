//! What an ID token says, and which user that is, as Kubernetes' OpenID Connect authenticator reads it. Pure. Must never make a
//! user of a token whose signature was not verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::authorization::User;

/// Longer tokens are none.
const TOKEN_BYTES_MAX: usize = 32 << 10;
/// Clocks may differ by so much about when a token begins to count.
const BEGIN_LEEWAY_S: f64 = 300.0;

/// Which tokens count, and how they name users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What `iss` must be.
    pub issuer: String,
    /// What must stand among `aud`.
    pub client_id: String,
    /// What tokens may be signed by.
    pub algorithms: Vec<String>,
    /// The claim that is the user's name.
    pub username_claim: String,
    /// What stands in front of names.
    pub username_prefix: String,
    /// The claim that has the user's groups; empty for none.
    pub groups_claim: String,
    /// What stands in front of groups.
    pub groups_prefix: String,
    /// Claims with the texts that they must be.
    pub required_claims: Vec<(String, String)>,
}

/// A token in its parts, of which nothing is verified.
#[derive(Debug)]
pub struct Token<'a> {
    /// What is signed.
    pub message: &'a [u8],
    /// How.
    pub algorithm: String,
    /// By which key; empty if that is not told.
    pub key_id: String,
    /// The signature.
    pub signature: Vec<u8>,
    /// What it says.
    pub claims: Claims,
}

/// The payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl<'a> Token<'a> {
    /// Of the compact form of RFC 7515; nothing for what is no token with claims.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let read = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let claims = Claims(read(payload)?);
        let header = read(header)?;
        let word = |field: &str| header.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            message: message.as_bytes(),
            algorithm: word("alg"),
            key_id: word("kid"),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            claims,
        })
    }
}

impl Claims {
    /// Who made the token, as it says itself.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    fn text(&self, claim: &str) -> Result<&str, String> {
        match self.0.get(claim) {
            None => Err("claim not present".to_owned()),
            Some(value) => value.as_str().ok_or_else(|| "it is no text".to_owned()),
        }
    }

    /// One text, or several.
    fn texts(&self, claim: &str) -> Result<Vec<String>, String> {
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(Value::Array(several)) => {
                let texts = several.iter().map(|one| one.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or_else(|| "it is no list of texts".to_owned())
            }
            Some(_) => Err("it is neither a text nor a list of texts".to_owned()),
        }
    }
}

impl Rules {
    /// Whether a token can count at all: what it is signed by, whom it is for, and its time.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, token: &Token<'_>, now_s: i64) -> Result<(), String> {
        if !self.algorithms.contains(&token.algorithm) {
            let (got, allowed) = (&token.algorithm, self.algorithms.join(","));
            return Err(format!("oidc: verify token: it is signed by {got:?}, expected one of {allowed}"));
        }
        let claims = &token.claims;
        let audiences = claims.texts("aud").map_err(|why| format!("oidc: verify token: aud: {why}"))?;
        if !audiences.contains(&self.client_id) {
            let expected = &self.client_id;
            return Err(format!("oidc: verify token: expected audience in [{expected:?}] got {audiences:?}"));
        }
        let number = |claim: &str| claims.0.get(claim).and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "seconds of these centuries are told exactly")]
        let now_s = now_s as f64;
        if number("exp").is_none_or(|end| end <= now_s) {
            return Err("oidc: verify token: token is expired".to_owned());
        }
        if number("nbf").is_some_and(|begin| begin > now_s + BEGIN_LEEWAY_S) {
            return Err("oidc: verify token: current time is before the nbf (not before) time".to_owned());
        }
        Ok(())
    }

    /// The user of a token whose signature was verified.
    ///
    /// # Errors
    /// Which claim is not as it must be.
    pub fn user(&self, claims: &Claims) -> Result<User, String> {
        let claim = &self.username_claim;
        let name =
            claims.text(claim).map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
        if claim == "email"
            && let Some(verified) = claims.0.get("email_verified")
        {
            match verified.as_bool() {
                Some(true) => {}
                Some(false) => return Err("oidc: email not verified".to_owned()),
                None => {
                    return Err("oidc: parse 'email_verified' claim: it is neither true nor false".to_owned());
                }
            }
        }
        let name = format!("{}{name}", self.username_prefix);
        if name.is_empty() {
            return Err(format!("oidc: username claim {claim:?} is empty"));
        }
        let groups = match self.groups_claim.as_str() {
            "" => Vec::new(),
            claim => {
                claims.texts(claim).map_err(|why| format!("oidc: parse groups claim {claim:?}: {why}"))?
            }
        };
        let groups = groups.into_iter().map(|group| format!("{}{group}", self.groups_prefix)).collect();
        for (claim, wanted) in &self.required_claims {
            if !claims.0.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let got = claims.text(claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if got != wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {got}, want = {wanted}"
                ));
            }
        }
        Ok(User { name, groups, ..User::default() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        Rules {
            issuer: "https://issuer".into(),
            client_id: "cluster".into(),
            algorithms: vec!["RS256".into()],
            username_claim: "sub".into(),
            username_prefix: "https://issuer#".into(),
            groups_claim: "groups".into(),
            groups_prefix: "oidc:".into(),
            required_claims: Vec::new(),
        }
    }

    fn claims(value: Value) -> Claims {
        Claims(value.as_object().unwrap().clone())
    }

    fn token(algorithm: &str, value: Value) -> Token<'static> {
        Token {
            message: b"",
            algorithm: algorithm.into(),
            key_id: String::new(),
            signature: Vec::new(),
            claims: claims(value),
        }
    }

    #[test]
    fn a_token_counts_for_its_audience_in_its_time() {
        let table: [(&str, Value, Option<&str>); 10] = [
            ("RS256", json!({"aud": "cluster", "exp": 101}), None),
            ("RS256", json!({"aud": ["other", "cluster"], "exp": 100.5, "nbf": 400}), None),
            ("ES256", json!({"aud": "cluster", "exp": 101}), Some("it is signed by \"ES256\"")),
            ("none", json!({"aud": "cluster", "exp": 101}), Some("it is signed by \"none\"")),
            ("RS256", json!({"exp": 101}), Some("expected audience in [\"cluster\"] got []")),
            (
                "RS256",
                json!({"aud": ["a"], "exp": 101}),
                Some("expected audience in [\"cluster\"] got [\"a\"]"),
            ),
            ("RS256", json!({"aud": 1, "exp": 101}), Some("aud: it is neither a text nor a list of texts")),
            ("RS256", json!({"aud": "cluster", "exp": 100}), Some("token is expired")),
            ("RS256", json!({"aud": "cluster"}), Some("token is expired")),
            (
                "RS256",
                json!({"aud": "cluster", "exp": 999, "nbf": 401}),
                Some("current time is before the nbf"),
            ),
        ];
        for (algorithm, value, expected) in table {
            let checked = rules().check(&token(algorithm, value.clone()), 100);
            match (&checked, expected) {
                (Ok(()), None) => {}
                (Err(why), Some(part)) if why.contains(part) => {}
                _ => panic!("{value}: {checked:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn users_are_named_by_claims_and_prefixes() {
        let plain = Rules { username_prefix: String::new(), ..rules() };
        let mail = Rules { username_claim: "email".into(), ..plain.clone() };
        let bare = Rules { groups_claim: String::new(), ..rules() };
        let strict = Rules { required_claims: vec![("hd".into(), "example.com".into())], ..rules() };
        type Expected<'a> = Result<(&'a str, &'a [&'a str]), &'a str>;
        let table: [(&Rules, Value, Expected<'_>); 17] = [
            (
                &rules(),
                json!({"sub": "eva", "groups": ["a", "b"]}),
                Ok(("https://issuer#eva", &["oidc:a", "oidc:b"])),
            ),
            (&rules(), json!({"sub": "eva", "groups": "a"}), Ok(("https://issuer#eva", &["oidc:a"]))),
            (&rules(), json!({"sub": "eva", "groups": null}), Ok(("https://issuer#eva", &[]))),
            (&rules(), json!({"sub": "eva"}), Ok(("https://issuer#eva", &[]))),
            (&bare, json!({"sub": "eva", "groups": 7}), Ok(("https://issuer#eva", &[]))),
            (
                &rules(),
                json!({"sub": "eva", "groups": 7}),
                Err("oidc: parse groups claim \"groups\": it is neither"),
            ),
            (
                &rules(),
                json!({"sub": "eva", "groups": ["a", 1]}),
                Err("oidc: parse groups claim \"groups\": it is no"),
            ),
            (&rules(), json!({"name": "eva"}), Err("oidc: parse username claims \"sub\": claim not present")),
            (&rules(), json!({"sub": 7}), Err("oidc: parse username claims \"sub\": it is no text")),
            (&plain, json!({"sub": ""}), Err("oidc: username claim \"sub\" is empty")),
            (&mail, json!({"email": "eva@example.com"}), Ok(("eva@example.com", &[]))),
            (
                &mail,
                json!({"email": "eva@example.com", "email_verified": true}),
                Ok(("eva@example.com", &[])),
            ),
            (
                &mail,
                json!({"email": "eva@example.com", "email_verified": false}),
                Err("oidc: email not verified"),
            ),
            (
                &mail,
                json!({"email": "e", "email_verified": "yes"}),
                Err("oidc: parse 'email_verified' claim"),
            ),
            (&strict, json!({"sub": "eva", "hd": "example.com"}), Ok(("https://issuer#eva", &[]))),
            (&strict, json!({"sub": "eva"}), Err("oidc: required claim hd not present in ID token")),
            (
                &strict,
                json!({"sub": "eva", "hd": "x"}),
                Err("oidc: required claim hd value does not match. Got = x"),
            ),
        ];
        for (rules, value, expected) in table {
            let got = rules.user(&claims(value.clone()));
            match (&got, expected) {
                (Ok(user), Ok((name, groups))) if user.name == name && user.groups == groups => {}
                (Err(why), Err(part)) if why.starts_with(part) => {}
                _ => panic!("{value}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "a.b", "a.b.c", "e30.e30", "e30.W10.e30"] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        assert!(Token::parse(&format!("e30.e30.{}", "A".repeat(TOKEN_BYTES_MAX))).is_none());
        assert_eq!(Token::parse("e30.e30.").unwrap().claims.issuer(), "");
    }
}
