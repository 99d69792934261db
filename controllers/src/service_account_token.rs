//! Secrets that somebody made to hold a token of a service account get it, with the certificates and the namespace; without
//! their account they go. Must never make such a secret, or change a token that is there.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::Api as Collection;
use kube::api::PostParams;
use serde_json::json;

use crate::act::{Api as _, KubeApi, MANAGER, failure};
use crate::cache::Caches;
use crate::controller::{Walker, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Failure, ObjectId, Propagation, Verdict};
use crate::reconcile::Next;
use crate::root_certificates::RootCa;
use crate::signing_key::{KeyError, SigningKey};

const TYPE: &str = "kubernetes.io/service-account-token";
/// Of all secrets, those of this type are watched.
const SELECTED: &str = "type=kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const ISSUER: &str = "kubernetes/serviceaccount";

/// The controller of these secrets.
pub(crate) struct ServiceAccountTokens {
    key: SigningKey,
    certificates: Option<RootCa>,
}

impl ServiceAccountTokens {
    /// Tokens are signed with this key, and these certificates given along.
    pub(crate) fn new(key: SigningKey, certificates: Option<RootCa>) -> Self {
        Self { key, certificates }
    }
}

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE)
}

fn account_name(secret: &Secret) -> &str {
    secret.annotation(ACCOUNT_NAME).unwrap_or_default()
}

/// Whether an account is the one that a secret names.
fn is_named(account: &ServiceAccount, secret: &Secret) -> bool {
    let uid = secret.annotation(ACCOUNT_UID).unwrap_or_default();
    account.key().name == account_name(secret) && (uid.is_empty() || uid == account.uid())
}

impl Walker for ServiceAccountTokens {
    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped_of::<Secret>(SELECTED, |change, _| {
            change.new.iter().filter(|secret| is_token(secret)).map(|secret| secret.key()).collect()
        });
        watches.mapped::<ServiceAccount>(|change, caches| {
            let account = change.latest();
            let secrets = caches.of::<Secret>().in_namespace(&account.key().namespace);
            let of_account = |secret: &&Arc<Secret>| is_token(secret) && is_named(account, secret);
            secrets.iter().filter(of_account).map(|secret| secret.key()).collect()
        });
        watches.all(|caches| {
            let all = caches.of::<Secret>().all();
            all.iter().filter(|secret| is_token(secret)).map(|secret| secret.key()).collect()
        });
    }

    async fn pass(&self, key: &Key, caches: &Caches, api: &KubeApi, _: Timestamp) -> Next {
        let secret = caches.of::<Secret>().get(key).filter(|secret| is_token(secret));
        let Some(secret) = secret.filter(|secret| !account_name(secret).is_empty()) else {
            return Next::Settled(None);
        };
        match self.tend(&secret, caches, api).await {
            Ok(()) => Next::Settled(None),
            Err(message) => {
                tracing::warn!(%key, message, "a secret with a token is not as it should be");
                Next::Retry(None)
            }
        }
    }
}

impl ServiceAccountTokens {
    async fn tend(&self, secret: &Secret, caches: &Caches, api: &KubeApi) -> Result<(), String> {
        let place = Key::new(&secret.key().namespace, account_name(secret));
        let known = caches.of::<ServiceAccount>().get(&place).filter(|account| is_named(account, secret));
        let account = match known {
            Some(account) => account,
            // The account may be newer than its watch.
            None => match look_up(api, &place).await?.filter(|account| is_named(account, secret)) {
                Some(account) => Arc::new(account),
                None => return delete(secret, api).await,
            },
        };
        let filled = self.filled(secret, &account).map_err(|error| error.to_string())?;
        let Some(filled) = filled else { return Ok(()) };
        let secrets = Collection::<Secret>::namespaced(api.client().clone(), &place.namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match secrets.replace(&secret.key().name, &params, &filled).await {
            Ok(_) => Ok(()),
            Err(error) => match failure(&error) {
                // What is different now comes by the watch.
                Failure { verdict: Verdict::Gone | Verdict::Outdated, .. } => Ok(()),
                Failure { message, .. } => Err(message),
            },
        }
    }

    /// The secret with what it lacks; nothing when it lacks nothing.
    fn filled(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Secret>, KeyError> {
        let mut after = secret.clone();
        let data = after.data.get_or_insert_default();
        let lacks = |data: &std::collections::BTreeMap<String, ByteString>, name: &str| {
            data.get(name).is_none_or(|value| value.0.is_empty())
        };
        let mut changed = false;
        if let Some(certificates) = self.certificates.as_ref().map(RootCa::current)
            && data.get("ca.crt").is_none_or(|value| value.0 != certificates.as_bytes())
        {
            data.insert("ca.crt".to_owned(), ByteString(certificates.into_bytes()));
            changed = true;
        }
        if lacks(data, "namespace") {
            data.insert("namespace".to_owned(), ByteString(secret.key().namespace.into_bytes()));
            changed = true;
        }
        if lacks(data, "token") {
            let token = self.key.token(&claims(secret, account))?;
            data.insert("token".to_owned(), ByteString(token.into_bytes()));
            changed = true;
        }
        let annotations = after.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT_NAME.to_owned(), account.key().name);
        annotations.insert(ACCOUNT_UID.to_owned(), account.uid().to_owned());
        Ok(changed.then_some(after))
    }
}

/// What such a token says: it never ends, and is good as long as secret and account are there.
fn claims(secret: &Secret, account: &ServiceAccount) -> serde_json::Value {
    let Key { namespace, name } = account.key();
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret.key().name,
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
    })
}

async fn look_up(api: &KubeApi, account: &Key) -> Result<Option<ServiceAccount>, String> {
    let accounts = Collection::<ServiceAccount>::namespaced(api.client().clone(), &account.namespace);
    accounts.get_opt(&account.name).await.map_err(|error| failure(&error).message)
}

async fn delete(secret: &Secret, api: &KubeApi) -> Result<(), String> {
    let delete = Action::Delete {
        object: ObjectId::of(secret),
        propagation: Propagation::Default,
        grace_seconds: None,
        unchanged: false,
    };
    match api.perform(&delete).await {
        Ok(_) | Err(Failure { verdict: Verdict::Gone | Verdict::Outdated, .. }) => Ok(()),
        Err(Failure { message, .. }) => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;

    use super::*;

    fn secret(uid: &str, data: &[(&str, &str)]) -> Secret {
        let data =
            data.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec())));
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "s", "annotations": {ACCOUNT_NAME: "robot", ACCOUNT_UID: uid}},
            "type": TYPE,
        }))
        .unwrap();
        secret.data = Some(data.collect());
        secret
    }

    fn account() -> ServiceAccount {
        serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "robot", "uid": "u"}})).unwrap()
    }

    #[test]
    fn a_secret_gets_what_it_lacks_and_keeps_what_it_has() {
        let key = SigningKey::of_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let tokens = ServiceAccountTokens::new(key.clone(), Some(RootCa::fixed("ca".into())));
        let text = |secret: &Secret, name: &str| {
            String::from_utf8(secret.data.as_ref().unwrap()[name].0.clone()).unwrap()
        };
        let filled = tokens.filled(&secret("", &[("other", "x")]), &account()).unwrap().unwrap();
        assert_eq!((text(&filled, "ca.crt"), text(&filled, "namespace")), ("ca".into(), "ns".into()));
        assert_eq!((text(&filled, "other"), filled.annotation(ACCOUNT_UID)), ("x".into(), Some("u")));
        let token = text(&filled, "token");
        let said = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let expected = json!({
            "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:robot",
            "kubernetes.io/serviceaccount/namespace": "ns", "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": "u",
        });
        assert_eq!(serde_json::from_slice::<Value>(&said).unwrap(), expected);
        assert_eq!(tokens.filled(&filled, &account()).unwrap(), None);
        let other = ServiceAccountTokens::new(key, Some(RootCa::fixed("newer".into())));
        let renewed = other.filled(&filled, &account()).unwrap().unwrap();
        assert_eq!((text(&renewed, "ca.crt"), text(&renewed, "token")), ("newer".into(), token));
    }

    #[test]
    fn a_secret_names_an_account_by_its_uid_too_once_it_knows_it() {
        let named = |uid: &str| is_named(&account(), &secret(uid, &[]));
        assert!(named("") && named("u") && !named("other"));
    }
}
