//! A machine becomes a master: it gets the cluster's authorities and settings from a master that is there. Its place among the
//! members of the store is `membership`'s. Must never write anything down.

use http::Uri;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use crate::discovery::{DiscoveryError, contact};
use crate::objects::AUTHORITIES;
use crate::pki::Authorities;
use crate::sealed::{self, SealedError};
use crate::settings::ClusterSettings;
use crate::token::Token;

/// Why it does not become one.
#[derive(Debug, thiserror::Error)]
pub enum MasterJoinError {
    /// The first words.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The token is for nodes, or was revoked.
    #[error(
        "--token is not one for masters, or is not good any more; the file `token` in a master's data directory has one, and \
         `barque token create --master` prints another"
    )]
    NotForMasters,
    /// The authorities.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

/// What a new master knows then.
#[derive(Debug)]
pub struct Joined {
    /// The cluster's authorities.
    pub authorities: Authorities,
    /// What is the same for all of the cluster.
    pub settings: ClusterSettings,
    /// The URLs of the masters' API servers.
    pub masters: Vec<Uri>,
}

/// Asks a master.
///
/// # Errors
/// When it cannot be reached, is of another cluster, or does not take the token.
pub async fn join(url: &Uri, token: &Token) -> Result<Joined, MasterJoinError> {
    const WHAT: &str = "the cluster's authorities";
    let contact = contact(url, token).await?;
    let secrets: Api<Secret> = Api::namespaced(contact.client.clone(), "kube-system");
    let secret = secrets.get(AUTHORITIES).await.map_err(|error| match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => MasterJoinError::NotForMasters,
        error => contact.asked(WHAT, error).into(),
    })?;
    let sealed = secret.data.as_ref().and_then(|data| data.get(&token.credential.id));
    let sealed = sealed.ok_or(MasterJoinError::NotForMasters)?;
    let text = std::str::from_utf8(&sealed.0).map_err(|error| contact.wrong(WHAT, error))?;
    Ok(Joined {
        authorities: sealed::open(text, &token.credential)?,
        settings: contact.settings().await?,
        masters: contact.masters().await?,
    })
}
