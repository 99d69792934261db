//! Tokens by which pods speak to the API servers: asked for by the node for its pods, kept until they are due, and asked for again
//! in time. Must never give one pod the token of another, or write one down elsewhere than in the pod's volume.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::clock::{Clock, after, between, sooner};
use crate::containers::{name, namespace};
use crate::pods::spec;

/// How long a token is good for, unless the pod says it.
const LIFE: i64 = 3600;
/// The longest that one is kept.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Tokens of many pods are not due at once.
const JITTER: Duration = Duration::from_secs(10);
/// How soon one that could not be renewed is asked for again.
const RETRY: Duration = Duration::from_secs(30);

/// Which token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    pod: String,
    audience: String,
    seconds: i64,
}

/// A token.
#[derive(Clone)]
struct Token {
    value: String,
    expires: Timestamp,
    due: Timestamp,
}

/// When a token is asked for again: after four fifths of its life, or after a day, and somewhat sooner.
#[must_use]
fn due(issued: Timestamp, expires: Timestamp, jitter: Duration) -> Timestamp {
    let life = between(issued, expires);
    let kept = (life / 5 * 4).min(LONGEST);
    after(issued, kept.saturating_sub(jitter))
}

/// The tokens of the node's pods.
pub(super) struct Tokens {
    client: Client,
    clock: Clock,
    known: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    pub(super) fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, known: Mutex::default() }
    }

    fn key(pod: &Pod, projection: &ServiceAccountTokenProjection) -> Key {
        Key {
            pod: spec::uid(pod).to_owned(),
            audience: projection.audience.clone().unwrap_or_default(),
            seconds: projection.expiration_seconds.unwrap_or(LIFE),
        }
    }

    /// The token for a projection.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn get(
        &self,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        Ok(self.find(pod, Self::key(pod, projection)).await?.value)
    }

    /// The token for an audience, with its end.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn of_audience(
        &self,
        pod: &Pod,
        audience: &str,
        seconds: Option<i64>,
    ) -> Result<(String, Timestamp), String> {
        let key = Key {
            pod: spec::uid(pod).to_owned(),
            audience: audience.to_owned(),
            seconds: seconds.unwrap_or(LIFE),
        };
        let token = self.find(pod, key).await?;
        Ok((token.value, token.expires))
    }

    /// One that is due is kept when there is no newer one, as long as it is good.
    async fn find(&self, pod: &Pod, key: Key) -> Result<Token, String> {
        let now = self.clock.now();
        let known = self.known.lock().get(&key).cloned();
        if let Some(token) = known.as_ref().filter(|token| now < token.due) {
            return Ok(token.clone());
        }
        match self.request(pod, &key).await {
            Ok(token) => {
                self.known.lock().insert(key, token.clone());
                Ok(token)
            }
            Err(why) => match known.filter(|token| now < token.expires) {
                Some(mut token) => {
                    tracing::warn!(pod = spec::title(pod), why, "a token could not be renewed");
                    token.due = after(now, RETRY);
                    self.known.lock().insert(key, token.clone());
                    Ok(token)
                }
                None => Err(format!("failed to fetch token: {why}")),
            },
        }
    }

    async fn request(&self, pod: &Pod, key: &Key) -> Result<Token, String> {
        let account = spec::spec(pod).and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|account| !account.is_empty()).unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![key.audience.clone()].into_iter().filter(|it| !it.is_empty()).collect()),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(name(pod).to_owned()),
                    uid: Some(key.pod.clone()),
                }),
                expiration_seconds: Some(key.seconds),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace(pod));
        let issued = self.clock.now();
        let answer = api.create_token_request(account, &PostParams::default(), &request).await;
        let status = answer.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let value = status.token.filter(|token| !token.is_empty()).ok_or("the answer has no token")?;
        let asked = after(issued, Duration::from_secs(key.seconds.max(0).unsigned_abs()));
        let expires = status.expiration_timestamp.map_or(asked, |time| time.0);
        let jitter = JITTER.mul_f64(rand::random());
        Ok(Token { value, expires, due: due(issued, expires, jitter) })
    }

    /// When the first token of a pod is due; nothing when it has none.
    pub(super) fn next(&self, pod: &str) -> Option<Timestamp> {
        let known = self.known.lock();
        let of_pod = known.iter().filter(|(key, _)| key.pod == pod);
        of_pod.map(|(_, token)| token.due).fold(None, |next, due| sooner(next, Some(due)))
    }

    /// The tokens of a pod are not needed any more.
    pub(super) fn forget(&self, pod: &str) {
        self.known.lock().retain(|key, _| key.pod != pod);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_token_is_due_after_four_fifths_of_its_life_or_a_day() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert_eq!(due(at(0), at(3600), Duration::ZERO), at(2880));
        assert_eq!(due(at(0), at(3600), Duration::from_secs(10)), at(2870));
        assert_eq!(due(at(0), at(30 * 86_400), Duration::ZERO), at(86_400));
        assert_eq!(due(at(5), at(5), Duration::from_secs(10)), at(5));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_bound_to_their_pod_kept_and_renewed_in_time() {
        let (asked, refuse) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let clock = Clock::of_tokio(Timestamp::from_second(1_000_000).unwrap());
        let (count, refusing, server_clock) = (asked.clone(), refuse.clone(), clock.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (count, refusing, clock) = (count.clone(), refusing.clone(), server_clock.clone());
            Box::pin(async move {
                let (head, body) = request.into_parts();
                assert_eq!(head.uri.path(), "/api/v1/namespaces/ns/serviceaccounts/sa/token");
                let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap();
                assert_eq!(
                    body["spec"],
                    json!({"audiences": ["vault"], "expirationSeconds": 1000,
                        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}})
                );
                if refusing.load(Ordering::Relaxed) {
                    let status = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no"});
                    let response = Response::builder().status(403);
                    return Ok::<_, kube::Error>(
                        response.body(Body::from(status.to_string().into_bytes())).unwrap(),
                    );
                }
                let number = count.fetch_add(1, Ordering::Relaxed);
                let mut answer = body;
                let expires = after(clock.now(), Duration::from_secs(1000)).to_string();
                answer["status"] = json!({"token": format!("t{number}"), "expirationTimestamp": expires});
                answer["metadata"] = json!({});
                Ok(Response::new(Body::from(answer.to_string().into_bytes())))
            })
        });
        let tokens = Tokens::new(Client::new(service, "default"), clock.clone());
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"serviceAccountName": "sa", "containers": []}}))
            .unwrap();
        let projection: ServiceAccountTokenProjection =
            serde_json::from_value(json!({"audience": "vault", "expirationSeconds": 1000, "path": "token"}))
                .unwrap();
        let get = || tokens.get(&pod, &projection);
        assert_eq!(tokens.next("u"), None);
        assert_eq!(get().await.as_deref(), Ok("t0"));
        assert_eq!(get().await.as_deref(), Ok("t0"), "kept");
        let due = tokens.next("u").unwrap();
        let life = between(clock.now(), due).as_secs();
        assert!((789..=800).contains(&life), "{life}");
        tokio::time::advance(Duration::from_secs(801)).await;
        refuse.store(true, Ordering::Relaxed);
        assert_eq!(get().await.as_deref(), Ok("t0"), "still good");
        assert!(tokens.next("u").unwrap() > clock.now());
        tokio::time::advance(RETRY).await;
        refuse.store(false, Ordering::Relaxed);
        assert_eq!(get().await.as_deref(), Ok("t1"));
        tokens.forget("u");
        assert_eq!(tokens.next("u"), None);
        refuse.store(true, Ordering::Relaxed);
        assert!(get().await.unwrap_err().starts_with("failed to fetch token: "));
    }
}
