//! The flags of `barque apiserver` that say whose OpenID Connect tokens count: kube-apiserver's names.

use std::path::PathBuf;

use barque_apiserver::config::OidcFlags;
use clap::Args;

/// An OpenID Connect issuer.
#[derive(Debug, Args)]
pub(crate) struct OidcArgs {
    /// The address of an OpenID Connect issuer whose ID tokens make users known, https; what they say in `iss`.
    #[arg(long, env = "BARQUE_APISERVER_OIDC_ISSUER_URL", value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// The name of this cluster at the issuer; it must stand in `aud`.
    #[arg(long, env = "BARQUE_APISERVER_OIDC_CLIENT_ID", value_name = "NAME")]
    oidc_client_id: Option<String>,
    /// Authorities of the issuer's certificate, PEM [default: those of this machine].
    #[arg(long, env = "BARQUE_APISERVER_OIDC_CA_FILE", value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, env = "BARQUE_APISERVER_OIDC_USERNAME_CLAIM", default_value = "sub", value_name = "CLAIM")]
    oidc_username_claim: String,
    /// What stands in front of names; - for nothing [default: the issuer's address and #; nothing for the claim email].
    #[arg(
        long,
        env = "BARQUE_APISERVER_OIDC_USERNAME_PREFIX",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_name = "TEXT"
    )]
    oidc_username_prefix: String,
    /// The claim that has the user's groups: one, or a list [default: none].
    #[arg(
        long,
        env = "BARQUE_APISERVER_OIDC_GROUPS_CLAIM",
        default_value = "",
        hide_default_value = true,
        value_name = "CLAIM"
    )]
    oidc_groups_claim: String,
    /// What stands in front of groups.
    #[arg(
        long,
        env = "BARQUE_APISERVER_OIDC_GROUPS_PREFIX",
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    oidc_groups_prefix: String,
    /// What tokens may be signed by: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384.
    #[arg(
        long,
        env = "BARQUE_APISERVER_OIDC_SIGNING_ALGS",
        default_value = "RS256",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    oidc_signing_algs: Vec<String>,
    /// A claim that tokens must have, with its value; may be given several times.
    #[arg(
        long,
        env = "BARQUE_APISERVER_OIDC_REQUIRED_CLAIM",
        value_name = "CLAIM=VALUE",
        value_delimiter = ','
    )]
    oidc_required_claim: Vec<String>,
}

impl OidcArgs {
    /// For the server.
    pub(crate) fn into_flags(self) -> OidcFlags {
        OidcFlags {
            issuer_url: self.oidc_issuer_url,
            client_id: self.oidc_client_id,
            ca_file: self.oidc_ca_file,
            username_claim: self.oidc_username_claim,
            username_prefix: self.oidc_username_prefix,
            groups_claim: self.oidc_groups_claim,
            groups_prefix: self.oidc_groups_prefix,
            signing_algs: self.oidc_signing_algs,
            required_claims: self.oidc_required_claim,
        }
    }
}
