//! Users by tokens of service accounts: JSON Web Tokens that this cluster signed, for accounts, pods, secrets and nodes that are
//! still the same. Must never accept a token without a signature, or with the algorithm of another key.

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use barque_api::time::Time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::CREDENTIAL_ID;
use super::bootstrap_token::same;
use super::keys::{PublicKey, SigningKey};
use crate::authorization::User;
use crate::registry::collections::Collections;
use crate::storage::Storage;

/// What is deleted counts for so long, so that what it belongs to can end in peace.
const DELETION_LEEWAY_SECONDS: i64 = 60;
/// The issuer of tokens that stand in secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Longer ones are none.
const TOKEN_BYTES_MAX: usize = 32 << 10;

/// The keys, and what tokens are for.
#[derive(Clone)]
pub struct ServiceAccounts {
    /// `--service-account-issuer`: the first is that of new tokens.
    pub issuers: Vec<String>,
    /// `--api-audiences`
    pub audiences: Vec<String>,
    /// Keys whose tokens count.
    pub keys: Vec<PublicKey>,
    /// The key of new tokens; without it none are made.
    pub signing: Option<SigningKey>,
    /// The longest life of new tokens, in seconds; nothing for any.
    pub max_seconds: Option<i64>,
}

/// What a token says, its signature checked.
struct Claims(Value);

impl Claims {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn audiences(&self) -> Vec<&str> {
        match &self.0["aud"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn is_current(&self, now: Time) -> bool {
        let number = |name: &str| self.0[name].as_f64();
        let now = now.unix() as f64;
        number("exp").is_none_or(|end| now < end) && number("nbf").is_none_or(|begin| now >= begin)
    }
}

impl ServiceAccounts {
    /// A signed token.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String, Status> {
        let key = self.signing.as_ref().ok_or_else(|| {
            Status::internal("tokens cannot be signed: --service-account-signing-key-file is not set")
        })?;
        let header = json!({"alg": key.public.algorithm.name(), "kid": key.public.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = key.sign(message.as_bytes()).map_err(Status::internal)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token says, if one of the keys signed it.
    fn verified(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let header = read(header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let (algorithm, id) = (header["alg"].as_str()?, header["kid"].as_str());
        let signed = self.keys.iter().any(|key| {
            key.algorithm.name() == algorithm
                && id.is_none_or(|id| id == key.id)
                && key.verifies(message.as_bytes(), &signature)
        });
        if signed { read(payload).map(Claims) } else { None }
    }

    /// Whose token this is, and for which of the audiences it is good; nothing for one that is not good.
    ///
    /// # Errors
    /// When what it depends on cannot be looked up.
    pub async fn user<S: Storage>(
        &self,
        token: &str,
        audiences: &[String],
        collections: &Collections<S>,
        now: Time,
    ) -> Result<Option<(User, Vec<String>)>, Status> {
        let Some(claims) = self.verified(token) else { return Ok(None) };
        if !claims.is_current(now) {
            return Ok(None);
        }
        let look = Look { collections, now };
        let issuer = claims.text("/iss");
        if issuer == LEGACY_ISSUER {
            let good: Vec<String> =
                audiences.iter().filter(|one| self.audiences.contains(one)).cloned().collect();
            let user = if good.is_empty() { None } else { legacy(token, &claims, &look).await? };
            return Ok(user.map(|user| (user, good)));
        }
        if !self.issuers.iter().any(|known| known == issuer) {
            return Ok(None);
        }
        let named = claims.audiences();
        let good: Vec<String> =
            audiences.iter().filter(|one| named.contains(&one.as_str())).cloned().collect();
        if good.is_empty() {
            return Ok(None);
        }
        Ok(bound(&claims, &look).await?.map(|user| (user, good)))
    }

    /// `/openid/v1/jwks`
    #[must_use]
    pub fn key_set(&self) -> Value {
        json!({"keys": self.keys.iter().map(PublicKey::to_jwk).collect::<Vec<_>>()})
    }

    /// `/.well-known/openid-configuration`; nothing while the issuer is no address that others could ask.
    #[must_use]
    pub fn discovery(&self, key_set_uri: &str) -> Option<Value> {
        let issuer = self.issuers.first().filter(|issuer| issuer.starts_with("https://"))?;
        let mut algorithms: Vec<&str> = self.keys.iter().map(|key| key.algorithm.name()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        Some(json!({
            "issuer": issuer,
            "jwks_uri": key_set_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        }))
    }
}

/// Where what tokens depend on is looked up.
struct Look<'a, S: Storage> {
    collections: &'a Collections<S>,
    now: Time,
}

impl<S: Storage> Look<'_, S> {
    /// The object, if it is the one with this uid and is not long deleted.
    async fn living(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<Option<Value>, Status> {
        let resource = GroupResource::new("", resource);
        let mut object = self.collections.object(&resource, namespace, name).await?;
        if object.as_ref().is_none_or(|object| Metadata::of(object).uid() != uid) {
            // The cache may be behind whoever got the token.
            object = self.collections.newest_object(&resource, namespace, name).await?;
        }
        Ok(object.filter(|object| {
            let metadata = Metadata::of(object);
            let gone = metadata
                .deletion_time()
                .is_some_and(|time| self.now.unix() > time.unix() + DELETION_LEEWAY_SECONDS);
            metadata.uid() == uid && !gone
        }))
    }
}

/// The user of a token that this server made.
async fn bound<S: Storage>(claims: &Claims, look: &Look<'_, S>) -> Result<Option<User>, Status> {
    let own = |path: &str| claims.text(&format!("/kubernetes.io/{path}"));
    let namespace = own("namespace");
    let (name, uid) = (own("serviceaccount/name"), own("serviceaccount/uid"));
    if namespace.is_empty() || name.is_empty() || uid.is_empty() {
        return Ok(None);
    }
    if claims.text("/sub") != account_name(namespace, name) {
        return Ok(None);
    }
    if look.living("serviceaccounts", namespace, name, uid).await?.is_none() {
        return Ok(None);
    }
    let mut user = account(namespace, name, uid);
    let mut tell = |key: &str, value: &str| {
        user.extra.insert(key.to_owned(), vec![value.to_owned()]);
    };
    let id = claims.text("/jti");
    if !id.is_empty() {
        tell(CREDENTIAL_ID, &format!("JTI={id}"));
    }
    let (secret, secret_uid) = (own("secret/name"), own("secret/uid"));
    if !secret.is_empty() && look.living("secrets", namespace, secret, secret_uid).await?.is_none() {
        return Ok(None);
    }
    let (pod, pod_uid) = (own("pod/name"), own("pod/uid"));
    let (node, node_uid) = (own("node/name"), own("node/uid"));
    if pod.is_empty() {
        // One for a node alone ends with it; a pod's node is only told.
        if !node.is_empty() && look.living("nodes", "", node, node_uid).await?.is_none() {
            return Ok(None);
        }
    } else {
        if look.living("pods", namespace, pod, pod_uid).await?.is_none() {
            return Ok(None);
        }
        tell("authentication.kubernetes.io/pod-name", pod);
        tell("authentication.kubernetes.io/pod-uid", pod_uid);
    }
    if !node.is_empty() {
        tell("authentication.kubernetes.io/node-name", node);
        if !node_uid.is_empty() {
            tell("authentication.kubernetes.io/node-uid", node_uid);
        }
    }
    Ok(Some(user))
}

/// The user of a token that stands in a secret.
async fn legacy<S: Storage>(
    token: &str,
    claims: &Claims,
    look: &Look<'_, S>,
) -> Result<Option<User>, Status> {
    let own =
        |name: &str| claims.0[format!("kubernetes.io/serviceaccount/{name}")].as_str().unwrap_or_default();
    let (namespace, secret) = (own("namespace"), own("secret.name"));
    let (name, uid) = (own("service-account.name"), own("service-account.uid"));
    if [namespace, secret, name, uid].contains(&"") || claims.text("/sub") != account_name(namespace, name) {
        return Ok(None);
    }
    let secrets = GroupResource::new("", "secrets");
    let found = look.collections.object(&secrets, namespace, secret).await?;
    let stands = found
        .filter(|found| !Metadata::of(found).is_deleting())
        .and_then(|found| {
            let encoded = found.pointer("/data/token")?.as_str()?.to_owned();
            base64::engine::general_purpose::STANDARD.decode(encoded).ok()
        })
        .is_some_and(|stored| same(&stored, token.as_bytes()));
    if !stands || look.living("serviceaccounts", namespace, name, uid).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(account(namespace, name, uid)))
}

/// The user that a service account is.
#[must_use]
pub fn account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

fn account(namespace: &str, name: &str, uid: &str) -> User {
    User {
        name: account_name(namespace, name),
        uid: uid.to_owned(),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..User::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::keys::tests::pair;
    use super::*;

    pub(crate) fn accounts() -> ServiceAccounts {
        let key = pair();
        ServiceAccounts {
            issuers: vec!["https://issuer".into()],
            audiences: vec!["https://issuer".into()],
            keys: vec![key.public.clone()],
            signing: Some(key),
            max_seconds: None,
        }
    }

    #[test]
    fn a_token_counts_with_its_keys_signature_alone() {
        let (accounts, others) = (accounts(), accounts());
        let claims = json!({"iss": "https://issuer", "aud": ["a"]});
        let token = accounts.sign(&claims).unwrap();
        assert_eq!(accounts.verified(&token).unwrap().0, claims);
        let parts: Vec<&str> = token.split('.').collect();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let other = encode(json!({"iss": "https://issuer", "aud": ["b"]}));
        let none = encode(json!({"alg": "none"}));
        let symmetric = encode(json!({"alg": "HS256"}));
        let rsa = encode(json!({"alg": "RS256"}));
        let forged = [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{symmetric}.{}.{}", parts[1], parts[2]),
            format!("{rsa}.{}.{}", parts[1], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            "x".repeat(TOKEN_BYTES_MAX + 1),
            "..".to_owned(),
        ];
        for token in forged {
            assert!(accounts.verified(&token).is_none(), "{token:.80}");
        }
        assert!(others.verified(&token).is_none(), "of another cluster");
    }

    #[test]
    fn a_token_has_its_time() {
        let claims = Claims(json!({"nbf": 100, "exp": 200}));
        let current = |at| claims.is_current(Time::of_unix(at));
        assert_eq!([99, 100, 199, 200].map(current), [false, true, true, false]);
    }

    #[test]
    fn keys_are_published_without_their_secrets() {
        let accounts = accounts();
        let told = accounts.key_set();
        assert_eq!(told["keys"][0]["alg"], "ES256");
        assert!(told["keys"][0].get("d").is_none());
        let document = accounts.discovery("https://issuer/openid/v1/jwks").unwrap();
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
        let unnamed = ServiceAccounts { issuers: vec!["local".into()], ..accounts };
        assert_eq!(unnamed.discovery("x"), None);
    }
}
