//! The flags of `barque apiserver` that say how users are known: kube-apiserver's names.

use std::path::PathBuf;

use barque_apiserver::config::AuthenticationFlags;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::oidc_args::OidcArgs;

/// How users are known.
#[derive(Debug, Args)]
pub(crate) struct AuthenticationArgs {
    /// Authorities of clients' certificates, PEM: their common name is the user, their organizations are the groups.
    #[arg(long, env = "BARQUE_APISERVER_CLIENT_CA_FILE", value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Authorities of the certificates of proxies in front, PEM: what these say in headers is believed.
    #[arg(long, env = "BARQUE_APISERVER_REQUESTHEADER_CLIENT_CA_FILE", value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names that certificates of proxies may have [default: any].
    #[arg(
        long,
        env = "BARQUE_APISERVER_REQUESTHEADER_ALLOWED_NAMES",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    requestheader_allowed_names: Vec<String>,
    /// Headers in which proxies say the user's name.
    #[arg(
        long,
        env = "BARQUE_APISERVER_REQUESTHEADER_USERNAME_HEADERS",
        default_value = "X-Remote-User",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    requestheader_username_headers: Vec<String>,
    /// Headers in which proxies say the user's uid.
    #[arg(
        long,
        env = "BARQUE_APISERVER_REQUESTHEADER_UID_HEADERS",
        default_value = "X-Remote-Uid",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    requestheader_uid_headers: Vec<String>,
    /// Headers in which proxies say the user's groups.
    #[arg(
        long,
        env = "BARQUE_APISERVER_REQUESTHEADER_GROUP_HEADERS",
        default_value = "X-Remote-Group",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    requestheader_group_headers: Vec<String>,
    /// What headers begin with in which proxies say what else they know of the user.
    #[arg(
        long,
        env = "BARQUE_APISERVER_REQUESTHEADER_EXTRA_HEADERS_PREFIX",
        default_value = "X-Remote-Extra-",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Keys whose service-account tokens count, PEM; may be given several times [default: that of
    /// --service-account-signing-key-file].
    #[arg(
        long,
        env = "BARQUE_APISERVER_SERVICE_ACCOUNT_KEY_FILE",
        value_name = "FILE",
        value_delimiter = ','
    )]
    service_account_key_file: Vec<PathBuf>,
    /// The private key that signs new service-account tokens, PEM; the same on all servers of a cluster.
    #[arg(long, env = "BARQUE_APISERVER_SERVICE_ACCOUNT_SIGNING_KEY_FILE", value_name = "FILE")]
    service_account_signing_key_file: Option<PathBuf>,
    /// What service-account tokens say that made them; may be given several times, the first is that of new tokens.
    #[arg(long, env = "BARQUE_APISERVER_SERVICE_ACCOUNT_ISSUER", value_name = "URL", value_delimiter = ',')]
    service_account_issuer: Vec<String>,
    /// The longest that a service-account token is good [default: as long as is asked for].
    #[arg(long, env = "BARQUE_APISERVER_SERVICE_ACCOUNT_MAX_TOKEN_EXPIRATION", value_name = "TIME")]
    service_account_max_token_expiration: Option<String>,
    /// Whom tokens must be for to count here [default: --service-account-issuer].
    #[arg(long, env = "BARQUE_APISERVER_API_AUDIENCES", value_name = "NAMES", value_delimiter = ',')]
    api_audiences: Vec<String>,
    #[command(flatten)]
    oidc: OidcArgs,
    /// Lines of token, user, uid and, in quotes, groups with commas between.
    #[arg(long, env = "BARQUE_APISERVER_TOKEN_AUTH_FILE", value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    /// Whether secrets of type bootstrap.kubernetes.io/token let nodes join.
    #[arg(long, env = "BARQUE_APISERVER_ENABLE_BOOTSTRAP_TOKEN_AUTH", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", action = ArgAction::Set,
          value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    enable_bootstrap_token_auth: bool,
    /// Whether health, version and, if a role says so, kube-public/cluster-info can be asked for by anybody.
    #[arg(long, env = "BARQUE_APISERVER_ANONYMOUS_AUTH", num_args = 0..=1, require_equals = true,
          default_value = "true", default_missing_value = "true", action = ArgAction::Set,
          value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    anonymous_auth: bool,
}

impl AuthenticationArgs {
    /// For the server.
    pub(crate) fn into_flags(self) -> AuthenticationFlags {
        AuthenticationFlags {
            client_ca_file: self.client_ca_file,
            requestheader_client_ca_file: self.requestheader_client_ca_file,
            requestheader_allowed_names: self.requestheader_allowed_names,
            requestheader_username_headers: self.requestheader_username_headers,
            requestheader_uid_headers: self.requestheader_uid_headers,
            requestheader_group_headers: self.requestheader_group_headers,
            requestheader_extra_headers_prefix: self.requestheader_extra_headers_prefix,
            service_account_key_file: self.service_account_key_file,
            service_account_signing_key_file: self.service_account_signing_key_file,
            service_account_issuer: self.service_account_issuer,
            service_account_max_token_expiration: self.service_account_max_token_expiration,
            api_audiences: self.api_audiences,
            oidc: self.oidc.into_flags(),
            token_auth_file: self.token_auth_file,
            enable_bootstrap_token_auth: self.enable_bootstrap_token_auth,
            anonymous_auth: self.anonymous_auth,
        }
    }
}
