//! The ConfigMap `cluster-info` in `kube-public` is signed with every token that may: who has one can then tell the cluster's
//! certificates from those of a stranger. A signature is a detached JSON web signature (RFC 7515, appendix F) by HMAC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use ring::hmac::{HMAC_SHA256, Key as HmacKey, sign};
use serde_json::json;

use super::{NAME_PREFIX, NAMESPACE, SELECTED, field, is_token, time_left};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};

const MAP_NAMESPACE: &str = "kube-public";
const MAP_NAME: &str = "cluster-info";
/// Of all maps, those with this name are watched.
const MAP_SELECTED: &str = "metadata.name=cluster-info";
/// What is signed.
const CONTENT: &str = "kubeconfig";
/// Where signatures stand; the token's id follows.
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

/// The controller that signs.
pub(crate) struct BootstrapSigner;

/// The map and all tokens.
pub(crate) struct View {
    map: Arc<ConfigMap>,
    tokens: Vec<Arc<Secret>>,
}

fn the_map() -> Key {
    Key::new(MAP_NAMESPACE, MAP_NAME)
}

impl Controller for BootstrapSigner {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped_of::<ConfigMap>(MAP_SELECTED, |change, _| {
            change.new.iter().map(|map| map.key()).filter(|key| *key == the_map()).collect()
        });
        watches.mapped_of::<Secret>(SELECTED, |change, _| {
            change.both().any(|secret| is_token(secret)).then(the_map).into_iter().collect()
        });
        watches.all(|_| vec![the_map()]);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let map = caches.of::<ConfigMap>().get(key)?;
        let mut tokens = caches.of::<Secret>().in_namespace(NAMESPACE);
        tokens.retain(|secret| is_token(secret));
        Some(View { map, tokens })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(content) = view.map.data.as_ref().and_then(|data| data.get(CONTENT)) else { return plan };
        let mut after = (*view.map).clone();
        let data = after.data.get_or_insert_default();
        data.retain(|name, _| !name.starts_with(SIGNATURE_PREFIX));
        for (id, secret) in good(&view.tokens, now) {
            data.insert(format!("{SIGNATURE_PREFIX}{id}"), signature(content, id, secret));
        }
        if let Some(update) = Action::update(&*view.map, &after) {
            plan.then(update.because("it is signed with the tokens that are good now"));
        }
        let ends = view.tokens.iter().filter_map(|token| time_left(token, now));
        let next = ends.filter(|left| *left > SignedDuration::ZERO).min();
        if let Some(Ok(next)) = next.map(Duration::try_from) {
            plan.look_again_after(next);
        }
        plan
    }
}

/// The tokens that sign, by their ids.
fn good(tokens: &[Arc<Secret>], now: Timestamp) -> BTreeMap<&str, &str> {
    let mut good = BTreeMap::new();
    for token in tokens {
        let named = token.metadata.name.as_deref().and_then(|name| name.strip_prefix(NAME_PREFIX));
        let (id, secret) = (field(token, "token-id"), field(token, "token-secret"));
        let well_named =
            id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if named == Some(id)
            && well_named
            && !secret.is_empty()
            && time_left(token, now).is_none_or(|left| left > SignedDuration::ZERO)
            && field(token, "usage-bootstrap-signing") == "true"
        {
            good.entry(id).or_insert(secret);
        }
    }
    good
}

fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let signed = sign(&HmacKey::new(HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signed))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::token;
    use super::*;

    /// What kubeadm makes of the same values.
    #[test]
    fn signatures_are_those_that_kubeadm_verifies() {
        let content = "Hello from the other side. I must have called a thousand times.";
        let check = |content: &str, secret: &str, expected: &str| {
            let header = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9";
            assert_eq!(signature(content, "joshua", secret), format!("{header}..{expected}"));
        };
        check(content, "my voice is my passcode", "VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8");
        check("", "my voice is my passcode", "7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk");
        check(content, "", "UfkqvDGiIFxrMnFseDj9LYJOLNrvjW8aHhF71mvvAs8");
    }

    fn planned(data: Value, tokens: &[Secret]) -> (Option<Value>, Option<u64>) {
        let map = json!({"metadata": {"name": MAP_NAME, "namespace": MAP_NAMESPACE}, "data": data});
        let map = Arc::new(serde_json::from_value(map).unwrap());
        let view = View { map, tokens: tokens.iter().cloned().map(Arc::new).collect() };
        let plan = BootstrapSigner.plan(&view, "2026-01-01T00:01:00Z".parse().unwrap());
        let patch = plan.actions().next().map(|planned| match &planned.action {
            Action::Update { patch, .. } => patch["data"].clone(),
            other => panic!("{other:?}"),
        });
        (patch, plan.requeue_after.map(|wait| wait.as_secs()))
    }

    #[test]
    fn tokens_that_may_sign_do_and_signatures_of_others_go() {
        let good = |id: &str, more: &[(&str, &str)]| {
            let mut fields = vec![
                ("token-id", id),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-signing", "true"),
            ];
            for change in more {
                fields.retain(|(name, _)| *name != change.0);
                fields.push(*change);
            }
            token(&format!("bootstrap-token-{id}"), &fields)
        };
        let signed = |id: &str| signature("k", id, "0123456789abcdef");
        let content = || json!({"kubeconfig": "k"});
        let one = json!({"jws-kubeconfig-abcdef": signed("abcdef")});
        assert_eq!(planned(content(), &[good("abcdef", &[])]), (Some(one.clone()), None));
        let later = good("abcdef", &[("expiration", "2026-01-01T00:02:00Z")]);
        assert_eq!(planned(content(), std::slice::from_ref(&later)), (Some(one), Some(60)));
        let done = json!({"kubeconfig": "k", "jws-kubeconfig-abcdef": signed("abcdef")});
        assert_eq!(planned(done.clone(), &[later]), (None, Some(60)));
        for bad in [
            good("abcdef", &[("expiration", "2026-01-01T00:00:00Z")]),
            good("abcdef", &[("usage-bootstrap-signing", "false")]),
            good("abcdef", &[("token-secret", "")]),
            good("abcdef", &[("token-id", "abcdeg")]),
            good("ABCDEF", &[]),
        ] {
            let gone = json!({"jws-kubeconfig-abcdef": null});
            assert_eq!(planned(done.clone(), std::slice::from_ref(&bad)).0, Some(gone), "{bad:?}");
            assert_eq!(planned(content(), &[bad]).0, None);
        }
        assert_eq!(planned(json!({}), &[good("abcdef", &[])]), (None, None));
    }
}
