//! The flags that say how users are known, read into keys, authorities and tokens.

use std::path::PathBuf;

use super::oidc::OidcFlags;
use super::{ConfigError, read_text, time};
use crate::authentication::Settings;
use crate::authentication::certificate::Authorities;
use crate::authentication::front_proxy::FrontProxy;
use crate::authentication::keys::{SigningKey, public_keys};
use crate::authentication::service_account::ServiceAccounts;
use crate::authentication::static_tokens::StaticTokens;
use crate::bootstrap::{AuthenticationConfig, RequestHeader};
use crate::ui;

/// The flags, as they came.
#[derive(Clone, Debug, Default)]
pub struct AuthenticationFlags {
    /// `--client-ca-file`
    pub client_ca_file: Option<PathBuf>,
    /// `--requestheader-client-ca-file`
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// `--requestheader-allowed-names`
    pub requestheader_allowed_names: Vec<String>,
    /// `--requestheader-username-headers`
    pub requestheader_username_headers: Vec<String>,
    /// `--requestheader-uid-headers`
    pub requestheader_uid_headers: Vec<String>,
    /// `--requestheader-group-headers`
    pub requestheader_group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// `--service-account-key-file`
    pub service_account_key_file: Vec<PathBuf>,
    /// `--service-account-signing-key-file`
    pub service_account_signing_key_file: Option<PathBuf>,
    /// `--service-account-issuer`
    pub service_account_issuer: Vec<String>,
    /// `--service-account-max-token-expiration`
    pub service_account_max_token_expiration: Option<String>,
    /// `--api-audiences`
    pub api_audiences: Vec<String>,
    /// `--oidc-...`
    pub oidc: OidcFlags,
    /// `--token-auth-file`
    pub token_auth_file: Option<PathBuf>,
    /// `--enable-bootstrap-token-auth`
    pub enable_bootstrap_token_auth: bool,
    /// `--anonymous-auth`
    pub anonymous_auth: bool,
}

/// What everybody may ask without saying who they are: whether the server is well, and which one it is.
/// By the last, machines that join find out whom to believe, if a role of the cluster lets them.
const ANONYMOUS_PATHS: [&str; 5] =
    ["/healthz", "/livez", "/readyz", "/version", "/api/v1/namespaces/kube-public/configmaps/cluster-info"];

impl AuthenticationFlags {
    /// What users are known by, and what others that extend the API are told of it.
    pub(super) fn read(&self) -> Result<(Settings, AuthenticationConfig), ConfigError> {
        let client_ca = read_text("client-ca-file", self.client_ca_file.as_deref())?;
        let proxy_ca =
            read_text("requestheader-client-ca-file", self.requestheader_client_ca_file.as_deref())?;
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        const PROXY: &str = "requestheader-client-ca-file";
        let signers = authorities(PROXY, &self.requestheader_client_ca_file)?;
        let front_proxy = signers.map(|authorities| FrontProxy {
            authorities,
            allowed_names: self.requestheader_allowed_names.clone(),
            username_headers: lower(&self.requestheader_username_headers),
            uid_headers: lower(&self.requestheader_uid_headers),
            group_headers: lower(&self.requestheader_group_headers),
            extra_headers_prefix: lower(&self.requestheader_extra_headers_prefix),
        });
        let request_header = front_proxy.as_ref().map(|proxy| RequestHeader {
            client_ca: proxy_ca.clone(),
            allowed_names: proxy.allowed_names.clone(),
            username_headers: self.requestheader_username_headers.clone(),
            uid_headers: self.requestheader_uid_headers.clone(),
            group_headers: self.requestheader_group_headers.clone(),
            extra_prefixes: self.requestheader_extra_headers_prefix.clone(),
        });
        let static_tokens = match &self.token_auth_file {
            None => StaticTokens::default(),
            Some(file) => {
                let text = read_text("token-auth-file", Some(file))?;
                StaticTokens::of_csv(&text).map_err(|why| wrong("token-auth-file", file, why))?
            }
        };
        let for_everybody = |paths: &[&str]| match self.anonymous_auth {
            true => paths.iter().map(|path| (*path).to_owned()).collect(),
            false => Vec::new(),
        };
        let settings = Settings {
            client_ca: authorities("client-ca-file", &self.client_ca_file)?,
            front_proxy,
            service_accounts: self.service_accounts()?,
            oidc: self.oidc.read(&self.service_account_issuer)?,
            static_tokens,
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            anonymous_paths: for_everybody(&ANONYMOUS_PATHS),
            anonymous_pages: for_everybody(&ui::PAGES),
        };
        Ok((settings, AuthenticationConfig { client_ca, request_header }))
    }

    fn service_accounts(&self) -> Result<Option<ServiceAccounts>, ConfigError> {
        const SIGNING: &str = "service-account-signing-key-file";
        let signing = match &self.service_account_signing_key_file {
            None => None,
            Some(file) => {
                let pem = read_text(SIGNING, Some(file))?;
                Some(SigningKey::of_pem(&pem).map_err(|why| wrong(SIGNING, file, why))?)
            }
        };
        let mut keys = Vec::new();
        for file in &self.service_account_key_file {
            const KEY: &str = "service-account-key-file";
            let pem = read_text(KEY, Some(file))?;
            keys.extend(public_keys(&pem).map_err(|why| wrong(KEY, file, why))?);
        }
        if let Some(signing) = &signing
            && !keys.contains(&signing.public)
        {
            keys.push(signing.public.clone());
        }
        if keys.is_empty() {
            return Ok(None);
        }
        if self.service_account_issuer.is_empty() {
            return Err(ConfigError::NoIssuer);
        }
        let issuers = self.service_account_issuer.clone();
        let audiences =
            if self.api_audiences.is_empty() { issuers.clone() } else { self.api_audiences.clone() };
        let max_seconds = match &self.service_account_max_token_expiration {
            None => None,
            Some(text) => {
                let longest = time("service-account-max-token-expiration", text)?;
                Some(i64::try_from(longest.as_secs()).unwrap_or(i64::MAX))
            }
        };
        Ok(Some(ServiceAccounts { issuers, audiences, keys, signing, max_seconds }))
    }
}

fn wrong(flag: &'static str, file: &std::path::Path, why: String) -> ConfigError {
    ConfigError::File { flag, file: file.to_owned(), why }
}

fn authorities(flag: &'static str, file: &Option<PathBuf>) -> Result<Option<Authorities>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    Authorities::of_file(file).map(Some).map_err(|why| wrong(flag, file, why))
}
