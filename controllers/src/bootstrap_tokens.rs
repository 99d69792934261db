//! Tokens by which machines join: secrets in `kube-system`. Those that are over go, and what a machine must know before it trusts
//! anybody is signed with the others. Must never tell a token's secret.

mod cleaner;
mod signer;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::kind::Object as _;

pub(crate) use cleaner::TokenCleaner;
pub(crate) use signer::BootstrapSigner;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Of all secrets, those of this type are watched.
const SELECTED: &str = "type=bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";

/// Whether it is such a token.
fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE) && secret.key().namespace == NAMESPACE
}

/// A field; empty when it is not there, or no text.
fn field<'a>(secret: &'a Secret, name: &str) -> &'a str {
    let value = secret.data.as_ref().and_then(|data| data.get(name));
    value.and_then(|value| std::str::from_utf8(&value.0).ok()).unwrap_or_default()
}

/// How long a token is good; nothing for one that always is, zero for one that is not any more, or of which nobody knows.
fn time_left(secret: &Secret, now: Timestamp) -> Option<SignedDuration> {
    let text = field(secret, "expiration");
    if text.is_empty() {
        return None;
    }
    let left = text.parse::<Timestamp>().map(|end| end.duration_since(now)).unwrap_or_default();
    Some(left.max(SignedDuration::ZERO))
}

#[cfg(test)]
pub(super) fn token(name: &str, fields: &[(&str, &str)]) -> Secret {
    use k8s_openapi::ByteString;

    let data = fields.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec())));
    let mut secret = Secret { type_: Some(TYPE.to_owned()), data: Some(data.collect()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some(NAMESPACE.to_owned());
    secret.metadata.uid = Some(format!("uid-{name}"));
    secret
}
