//! The flags of an OpenID Connect issuer, read into whom it makes known. Must never ask it.

use std::path::PathBuf;

use super::{ConfigError, read_text};
use crate::authentication::oidc::Issuer;
use crate::authentication::oidc::claims::Rules;
use crate::authentication::oidc::jwk::ALGORITHMS;
use crate::authentication::oidc::roots::{self, Roots};

/// The flags, as they came.
#[derive(Clone, Debug, Default)]
pub struct OidcFlags {
    /// `--oidc-issuer-url`
    pub issuer_url: Option<String>,
    /// `--oidc-client-id`
    pub client_id: Option<String>,
    /// `--oidc-ca-file`
    pub ca_file: Option<PathBuf>,
    /// `--oidc-username-claim`
    pub username_claim: String,
    /// `--oidc-username-prefix`
    pub username_prefix: String,
    /// `--oidc-groups-claim`
    pub groups_claim: String,
    /// `--oidc-groups-prefix`
    pub groups_prefix: String,
    /// `--oidc-signing-algs`
    pub signing_algs: Vec<String>,
    /// `--oidc-required-claim`
    pub required_claims: Vec<String>,
}

impl OidcFlags {
    /// The issuer, if there is one. It is none of those of service accounts.
    pub(super) fn read(&self, service_accounts: &[String]) -> Result<Option<Issuer>, ConfigError> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let (issuer, client_id) = match (given(&self.issuer_url), given(&self.client_id)) {
            (None, None) if self.names_no_more() => return Ok(None),
            (Some(issuer), Some(client_id)) => (issuer, client_id),
            _ => return Err(ConfigError::HalfIssuer),
        };
        let rules = self.rules(issuer, client_id, service_accounts)?;
        Ok(Some(Issuer::new(rules, self.roots()?)))
    }

    fn names_no_more(&self) -> bool {
        self.ca_file.is_none()
            && [&self.username_prefix, &self.groups_claim, &self.groups_prefix]
                .iter()
                .all(|one| one.is_empty())
            && self.required_claims.is_empty()
    }

    fn rules(
        &self,
        issuer: String,
        client_id: String,
        service_accounts: &[String],
    ) -> Result<Rules, ConfigError> {
        let wrong = |flag, value: &str, why| ConfigError::Value { flag, value: value.to_owned(), why };
        const ISSUER: &str = "oidc-issuer-url";
        let is_plain = !issuer.contains(['?', '#', '@']) && issuer.parse::<http::Uri>().is_ok();
        if !issuer.starts_with("https://") || !is_plain {
            return Err(wrong(ISSUER, &issuer, "it must be https://host[/path]"));
        }
        if service_accounts.contains(&issuer) {
            return Err(wrong(ISSUER, &issuer, "it must not be a --service-account-issuer"));
        }
        for algorithm in &self.signing_algs {
            if !ALGORITHMS.contains(&algorithm.as_str()) {
                const WHY: &str = "it must be of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384";
                return Err(wrong("oidc-signing-algs", algorithm, WHY));
            }
        }
        if self.signing_algs.is_empty() {
            return Err(wrong("oidc-signing-algs", "", "it must name an algorithm, such as RS256"));
        }
        let mut required_claims = Vec::new();
        for claim in &self.required_claims {
            let pair = claim.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, text) =
                pair.ok_or_else(|| wrong("oidc-required-claim", claim, "it must read claim=value"))?;
            required_claims.push((name.to_owned(), text.to_owned()));
        }
        if self.username_claim.is_empty() {
            return Err(wrong("oidc-username-claim", "", "it must name a claim, such as sub"));
        }
        let username_prefix = match self.username_prefix.as_str() {
            "-" => String::new(),
            // Names of several issuers are not mixed up; addresses of mail are nobody else's.
            "" if self.username_claim != "email" => format!("{issuer}#"),
            prefix => prefix.to_owned(),
        };
        Ok(Rules {
            issuer,
            client_id,
            algorithms: self.signing_algs.clone(),
            username_claim: self.username_claim.clone(),
            username_prefix,
            groups_claim: self.groups_claim.clone(),
            groups_prefix: self.groups_prefix.clone(),
            required_claims,
        })
    }

    /// Whose certificate the issuer may show.
    fn roots(&self) -> Result<Roots, ConfigError> {
        const FLAG: &str = "oidc-ca-file";
        let Some(file) = &self.ca_file else { return Ok(roots::of_machine()) };
        let pem = read_text(FLAG, Some(file))?;
        roots::of_pem(&pem).map_err(|why| ConfigError::File { flag: FLAG, file: file.clone(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> OidcFlags {
        OidcFlags {
            issuer_url: Some("https://issuer.example.com/realm".into()),
            client_id: Some("cluster".into()),
            username_claim: "sub".into(),
            signing_algs: vec!["RS256".into()],
            ..OidcFlags::default()
        }
    }

    #[test]
    fn names_have_the_issuer_in_front_unless_another_prefix_is_given() {
        let prefix = |claim: &str, prefix: &str| {
            let flags = OidcFlags { username_claim: claim.into(), username_prefix: prefix.into(), ..flags() };
            flags.read(&[]).unwrap().unwrap().rules().username_prefix.clone()
        };
        let table = [
            ("sub", "", "https://issuer.example.com/realm#"),
            ("sub", "-", ""),
            ("sub", "oidc:", "oidc:"),
            ("email", "", ""),
            ("email", "-", ""),
            ("email", "oidc:", "oidc:"),
        ];
        for (claim, given, expected) in table {
            assert_eq!(prefix(claim, given), expected, "{claim} {given}");
        }
        let nothing = OidcFlags { issuer_url: None, client_id: None, ..flags() };
        assert!(nothing.read(&[]).unwrap().is_none());
        let required = OidcFlags { required_claims: vec!["hd=a=b".into()], ..flags() };
        let required = required.read(&[]).unwrap().unwrap().rules().required_claims.clone();
        assert_eq!(required, [("hd".to_owned(), "a=b".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_flag() {
        let both = "--oidc-issuer-url and --oidc-client-id must be given together, when any --oidc- flag is";
        let url = |url: &str| OidcFlags { issuer_url: Some(url.into()), ..flags() };
        let table = [
            (OidcFlags { client_id: None, ..flags() }, both),
            (OidcFlags { issuer_url: Some(String::new()), ..flags() }, both),
            (OidcFlags { issuer_url: None, client_id: None, groups_claim: "g".into(), ..flags() }, both),
            (url("http://a"), "--oidc-issuer-url=\"http://a\": it must be https://host[/path]"),
            (url("https://a?b"), "--oidc-issuer-url=\"https://a?b\": it must be https://host[/path]"),
            (
                url("https://own"),
                "--oidc-issuer-url=\"https://own\": it must not be a --service-account-issuer",
            ),
            (
                OidcFlags { signing_algs: vec!["ES512".into()], ..flags() },
                "--oidc-signing-algs=\"ES512\": it must be of RS256,",
            ),
            (
                OidcFlags { required_claims: vec!["a".into()], ..flags() },
                "--oidc-required-claim=\"a\": it must read claim=value",
            ),
            (
                OidcFlags { ca_file: Some("/nowhere".into()), ..flags() },
                "--oidc-ca-file=/nowhere: No such file",
            ),
            (
                OidcFlags { ca_file: Some("/dev/null".into()), ..flags() },
                "--oidc-ca-file=/dev/null: it has no",
            ),
        ];
        for (flags, told) in table {
            let error = flags.read(&["https://own".to_owned()]).err().unwrap().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
