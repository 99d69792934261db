//! Tokens of a cluster: made, listed, revoked, over its API. Must never print the secret of one that is there already.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde_json::json;

use crate::discovery::told;
use crate::keep::{self, KeepError};
use crate::objects::{self, AUTHORITIES, Purpose};
use crate::pki::Authorities;
use crate::sealed::seal;
use crate::token::Credential;

/// Something about tokens failed.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be written.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The API server.
    #[error("{what}: {}", told(error))]
    Asked {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        error: Box<kube::Error>,
    },
    /// There is no such token.
    #[error("there is no token {0:?}; `barque token list` shows all")]
    Unknown(String),
}

fn asked(what: &'static str) -> impl FnOnce(kube::Error) -> TokensError {
    move |error| TokensError::Asked { what, error: Box::new(error) }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// What it lets a machine become: `master` or `node`; something else for tokens of others.
    pub purpose: String,
    /// When it is over; nothing when it never is.
    pub expires: Option<String>,
    /// What somebody said of it.
    pub description: String,
}

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), "kube-system")
}

/// Makes a token that is good for so long, or for ever. Masters also need the authorities, sealed with it.
///
/// # Errors
/// When the API server refuses.
pub async fn create(
    client: &Client,
    authorities: &Authorities,
    purpose: Purpose,
    life: Option<Duration>,
    description: &str,
) -> Result<Credential, TokensError> {
    let credential = Credential::random();
    if purpose == Purpose::Master {
        let entry = json!({"stringData": {credential.id.clone(): seal(authorities, &credential)}});
        let patched = secrets(client).patch(AUTHORITIES, &PatchParams::default(), &Patch::Merge(entry)).await;
        patched.map_err(asked("the sealed authorities cannot be written"))?;
    }
    let expires = life.map(|life| SystemTime::now() + life);
    keep::create(client, &[objects::bootstrap_token(&credential, purpose, expires, description)]).await?;
    Ok(credential)
}

/// All tokens, by name.
///
/// # Errors
/// When they cannot be read.
pub async fn list(client: &Client) -> Result<Vec<Listed>, TokensError> {
    let of_type = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    let all = secrets(client).list(&of_type).await.map_err(asked("tokens cannot be read"))?;
    let mut listed: Vec<Listed> = all.iter().map(listed).collect();
    listed.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(listed)
}

fn listed(secret: &Secret) -> Listed {
    let field = |name: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).filter(|text| !text.is_empty())
    };
    let groups = field("auth-extra-groups").unwrap_or_default();
    let purpose = match groups.as_str() {
        objects::MASTERS => "master",
        objects::NODES => "node",
        other => other,
    };
    Listed {
        id: field("token-id").unwrap_or_else(|| secret.name_any()),
        purpose: purpose.to_owned(),
        expires: field("expiration"),
        description: field("description").unwrap_or_default(),
    }
}

/// How long a token is still good, for people.
#[must_use]
pub fn left(listed: &Listed, now: SystemTime) -> String {
    let Some(expires) = &listed.expires else { return "never".to_owned() };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    match expires.parse::<Timestamp>() {
        Ok(at) => match at.as_second().saturating_sub_unsigned(now) {
            ..=0 => "over".to_owned(),
            seconds if seconds < 3600 => format!("in {} min", seconds / 60 + 1),
            seconds if seconds < 48 * 3600 => format!("in {} h", seconds / 3600),
            seconds => format!("in {} d", seconds / 86_400),
        },
        Err(_) => expires.clone(),
    }
}

/// Lets no machine join with it any more. Machines that have joined stay.
///
/// # Errors
/// When there is none of this name, or the API server refuses.
pub async fn revoke(client: &Client, id: &str) -> Result<(), TokensError> {
    let deleted = secrets(client).delete(&format!("bootstrap-token-{id}"), &DeleteParams::default()).await;
    match deleted {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(TokensError::Unknown(id.to_owned()));
        }
        Err(error) => return Err(asked("the token cannot be deleted")(error)),
    }
    let gone = json!({"data": {id: null}});
    let patched = secrets(client).patch(AUTHORITIES, &PatchParams::default(), &Patch::Merge(gone)).await;
    patched.map(drop).map_err(asked("the authorities sealed with it cannot be taken away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_without_its_secret() {
        let credential = Credential::random();
        let made = objects::bootstrap_token(&credential, Purpose::Master, None, "for the third machine");
        let mut object = made.object;
        // As the API server keeps texts.
        let texts = object["stringData"].as_object().unwrap().clone();
        object["data"] = texts
            .into_iter()
            .map(|(name, text)| {
                use base64::Engine as _;
                let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap());
                (name, json!(encoded))
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        let listed = listed(&serde_json::from_value(object).unwrap());
        assert_eq!((listed.id.as_str(), listed.purpose.as_str()), (credential.id.as_str(), "master"));
        assert_eq!(left(&listed, SystemTime::now()), "never");
        assert!(!serde_json::to_string(&listed).unwrap().contains(credential.secret()));
    }

    #[test]
    fn the_time_that_is_left_is_rounded_for_people() {
        let at = |expires: &str| {
            let listed = Listed {
                id: String::new(),
                purpose: String::new(),
                expires: Some(expires.to_owned()),
                description: String::new(),
            };
            left(&listed, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(at("1970-01-01T00:00:00Z"), "over");
        assert_eq!(at("1970-01-01T00:10:30Z"), "in 11 min");
        assert_eq!(at("1970-01-02T00:00:00Z"), "in 24 h");
        assert_eq!(at("1970-01-08T00:00:00Z"), "in 7 d");
        assert_eq!(at("soon"), "soon");
    }
}
