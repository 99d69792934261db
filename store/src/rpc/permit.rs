//! Who calls, and whether they may. With Auth disabled a call pays a look at one flag.
//!
//! Reads are judged by the picture that they read. Writes are judged here so that what is certainly not allowed
//! never reaches the log, and once more when they are executed (`auth::check`), which is what counts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Extensions, Status};

use super::backend::{Applied, Backend, ReadView};
use super::passwords::Passwords;
use super::sessions::{Sessions, caller};
use crate::auth::token::ShownToken;
use crate::auth::{AuthState, Check, Rights};
use crate::command::Command;
use crate::command::auth::{AuthError, Caller};
use crate::error::StoreError;
use crate::tls::ClientName;

/// How clients of a member log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginSettings {
    /// How long a token is good after it was made or used last.
    pub token_ttl: Duration,
    /// Whether the name in a client's certificate is that of its user.
    pub client_cert_auth: bool,
}

/// The clients of one member that said who they are.
pub struct Logins {
    pub(super) sessions: Sessions,
    pub(super) passwords: Passwords,
    client_cert_auth: bool,
}

impl Logins {
    /// Nobody yet.
    #[must_use]
    pub fn new(settings: LoginSettings) -> Self {
        Self {
            sessions: Sessions::new(settings.token_ttl),
            passwords: Passwords::new(),
            client_cert_auth: settings.client_cert_auth,
        }
    }

    /// Who calls; `None` when the client says nothing of itself. A token counts before a certificate, also
    /// one that is worth nothing.
    pub(super) fn caller(
        &self,
        auth: &AuthState,
        credentials: &Credentials,
    ) -> Result<Option<Caller>, AuthError> {
        if credentials.token.is_some() {
            let shown = credentials.shown().ok_or(AuthError::InvalidToken)?;
            return Ok(Some(caller(self.sessions.user_of(auth, &shown)?, auth)));
        }
        let name = credentials.certificate.as_ref().filter(|_| self.client_cert_auth);
        Ok(name.map(|name| caller(name.as_str(), auth)))
    }
}

/// What a client says of itself with a call. Never printed.
#[derive(Clone, Default)]
pub struct Credentials {
    token: Option<MetadataValue<Ascii>>,
    certificate: Option<ClientName>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// From what came with a call.
    #[must_use]
    pub fn of(metadata: &MetadataMap, extensions: &Extensions) -> Self {
        let token = metadata.get("token").or_else(|| metadata.get("authorization")).cloned();
        // A gateway shows its own certificate for everybody behind it.
        let certificate =
            extensions.get::<ClientName>().filter(|_| !metadata.contains_key("grpcgateway-accept"));
        Self { token, certificate: certificate.cloned() }
    }

    fn shown(&self) -> Option<ShownToken> {
        let token = self.token.as_ref()?.as_bytes();
        ShownToken::parse(token.strip_prefix(b"Bearer ").unwrap_or(token))
    }

    /// Whether the client has a token of a state of users that `auth` is behind of.
    fn is_ahead_of(&self, auth: &AuthState) -> bool {
        self.shown().is_some_and(|shown| !auth.is_enabled() || shown.says().revision > auth.revision())
    }
}

/// As whom a client calls, as far as this member knows; `None` without a name or while rights are not asked for.
pub(super) fn user_of<B: Backend>(backend: &B, credentials: &Credentials) -> Option<Arc<str>> {
    if !backend.auth_enabled() {
        return None;
    }
    let caller = backend.logins().caller(backend.rights().auth(), credentials);
    caller.ok().flatten().map(|caller| caller.user.into())
}

/// The caller, if the check lets it.
pub(super) fn check_on(
    logins: &Logins,
    rights: &dyn Rights,
    credentials: &Credentials,
    check: impl FnOnce(Check<'_>) -> Result<(), AuthError>,
) -> Result<Caller, AuthError> {
    let caller = logins.caller(rights.auth(), credentials)?.ok_or(AuthError::UserEmpty)?;
    check(Check::new(rights, &caller))?;
    Ok(caller)
}

/// Checks a read against the picture that it reads.
#[inline]
pub(super) fn check_view<B: Backend>(
    backend: &B,
    view: &B::View,
    credentials: &Credentials,
    check: impl FnOnce(Check<'_>) -> Result<(), AuthError>,
) -> Result<(), StoreError> {
    match view.rights() {
        None => Ok(()),
        Some(rights) => {
            check_on(backend.logins(), rights, credentials, check)?;
            Ok(())
        }
    }
}

/// What this member knows now: the caller, or `None` while rights are not asked for.
fn look<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    check: impl FnOnce(Check<'_>) -> Result<(), AuthError>,
) -> Result<Option<Caller>, AuthError> {
    if !backend.auth_enabled() {
        return Ok(None);
    }
    let rights: Arc<dyn Rights> = backend.rights();
    if !rights.auth().is_enabled() {
        return Ok(None);
    }
    check_on(backend.logins(), &rights, credentials, check).map(Some)
}

/// Checks a call that changes something. Nobody is refused for what this member has not heard of yet.
pub(super) async fn permit<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    check: impl Fn(Check<'_>) -> Result<(), AuthError> + Send + Sync,
) -> Result<Option<Caller>, StoreError> {
    match look(backend, credentials, &check) {
        Ok(None) if credentials.token.is_none() => return Ok(None),
        Ok(Some(caller)) => return Ok(Some(caller)),
        Ok(None) | Err(_) => {}
    }
    Box::pin(backend.read_barrier()).await?;
    Ok(look(backend, credentials, check)?)
}

/// Checks a call that this member answers from what it has, also while it has no leader.
pub(super) async fn permit_here<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    check: impl Fn(Check<'_>) -> Result<(), AuthError> + Send + Sync,
) -> Result<(), StoreError> {
    match look(backend, credentials, &check) {
        Ok(_) => return Ok(()),
        Err(AuthError::InvalidToken) if credentials.is_ahead_of(backend.rights().auth()) => {}
        Err(error) => return Err(error.into()),
    }
    Box::pin(backend.read_barrier()).await?;
    look(backend, credentials, check)?;
    Ok(())
}

/// Waits, if the caller has a token that is newer than what this member knows of users.
pub(super) async fn catch_up<B: Backend>(backend: &B, credentials: &Credentials) -> Result<(), StoreError> {
    if backend.auth_enabled() && credentials.is_ahead_of(backend.rights().auth()) {
        Box::pin(backend.read_barrier()).await?;
    }
    Ok(())
}

/// Has a command executed in the caller's name.
#[inline]
pub(super) async fn propose<B: Backend>(
    backend: &B,
    credentials: &Credentials,
    command: Command,
) -> Result<Applied, StoreError> {
    let caller = permit(backend, credentials, |check| check.command(&command)).await?;
    backend.propose(command.by(caller)).await
}

/// For calls that need no right but to say who one is.
pub(super) fn anybody(_: Check<'_>) -> Result<(), AuthError> {
    Ok(())
}

/// For calls about the store as a whole.
pub(super) fn admin(check: Check<'_>) -> Result<(), AuthError> {
    check.admin()
}

/// Why a watch is refused, as etcd puts it into `cancel_reason`: the text of its client's error.
pub(super) fn watch_refusal(error: StoreError) -> String {
    let told = match &error {
        StoreError::Command(crate::command::CommandError::Auth(
            auth @ (AuthError::InvalidToken | AuthError::OldRevision | AuthError::UserEmpty),
        )) => *auth,
        _ => AuthError::PermissionDenied,
    };
    let status = Status::from(told);
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}
