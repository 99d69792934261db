//! What a new token of a service account says (`authentication.k8s.io/v1` TokenRequest): for whom, for how long, and what it
//! ends with. Pure; the id of the token is handed in.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::{GroupResource, GroupVersionKind};
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::{Value, json};

use super::service_account::{ServiceAccounts, account_name};

const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;

/// What a token is bound to.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// The collection.
    pub resource: &'static str,
    /// Its name.
    pub name: String,
    /// It must be this one; empty for any.
    pub uid: String,
}

/// What a request wants the token bound to; nothing for the account alone.
///
/// # Errors
/// For kinds that a token cannot be bound to.
pub fn bound_to(request: &Value) -> Result<Option<Bound>, Status> {
    let Some(reference) = request.pointer("/spec/boundObjectRef").filter(|one| one.is_object()) else {
        return Ok(None);
    };
    let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
    let resource = match (text("apiVersion").as_str(), text("kind").as_str()) {
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Node") => "nodes",
        (version, kind) => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount to object of type {version}, Kind={kind}"
            )));
        }
    };
    Ok(Some(Bound { kind: text("kind"), resource, name: text("name"), uid: text("uid") }))
}

/// The token's claims, and when it ends. `object` is what it is bound to, `node` that of a bound pod.
///
/// # Errors
/// What is wrong with the request, or that the bound object is another one.
pub fn claims(
    accounts: &ServiceAccounts,
    request: &Value,
    account: &Value,
    object: Option<(&Bound, &Value)>,
    node: Option<&Value>,
    id: &str,
    now: Time,
) -> Result<(Value, Time), Status> {
    let spec = &request["spec"];
    let mut seconds = spec["expirationSeconds"].as_i64().unwrap_or(SECONDS_DEFAULT);
    let path = FieldPath::of("spec.expirationSeconds");
    let mut errors = Vec::new();
    if seconds < SECONDS_MIN {
        errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > SECONDS_MAX {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    let owner = Metadata::of(account);
    if !errors.is_empty() {
        let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
        return Err(Status::invalid(&kind, owner.name(), &errors));
    }
    seconds = accounts.max_seconds.map_or(seconds, |most| seconds.min(most));
    let mut audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if audiences.is_empty() {
        audiences.clone_from(&accounts.audiences);
    }
    let reference = |object: &Value| {
        let metadata = Metadata::of(object);
        json!({"name": metadata.name(), "uid": metadata.uid()})
    };
    let mut own = json!({"namespace": owner.namespace(), "serviceaccount": reference(account)});
    if let Some((bound, object)) = object {
        let uid = Metadata::of(object).uid();
        if !bound.uid.is_empty() && bound.uid != uid {
            return Err(Status::conflict(
                &GroupResource::new("", bound.resource),
                &bound.name,
                format!(
                    "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                    bound.uid
                ),
            ));
        }
        if bound.kind == "Pod" {
            let used = object.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
            if used != owner.name() {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    owner.name()
                )));
            }
            let assigned = object.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
            if let Some(node) = node {
                own["node"] = reference(node);
            } else if !assigned.is_empty() {
                own["node"] = json!({"name": assigned});
            }
        }
        own[bound.kind.to_lowercase()] = reference(object);
    }
    let end = now.plus_seconds(seconds);
    let claims = json!({
        "aud": audiences,
        "exp": end.unix(),
        "iat": now.unix(),
        "iss": accounts.issuers.first(),
        "jti": id,
        "kubernetes.io": own,
        "nbf": now.unix(),
        "sub": account_name(owner.namespace(), owner.name()),
    });
    Ok((claims, end))
}

#[cfg(test)]
mod tests {
    use super::super::service_account::tests::accounts;
    use super::*;

    fn account() -> Value {
        json!({"metadata": {"name": "robot", "namespace": "a", "uid": "1"}})
    }

    #[test]
    fn a_token_says_whose_it_is_and_what_it_ends_with() {
        let request = json!({"spec": {"audiences": ["x"], "expirationSeconds": 700,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "2"}}});
        let bound = bound_to(&request).unwrap().unwrap();
        let pod = json!({"metadata": {"name": "p", "uid": "2"},
            "spec": {"serviceAccountName": "robot", "nodeName": "n"}});
        let now = Time::of_unix(1000);
        let (claims, end) =
            claims(&accounts(), &request, &account(), Some((&bound, &pod)), None, "id", now).unwrap();
        assert_eq!(end.unix(), 1700);
        assert_eq!(claims["sub"], "system:serviceaccount:a:robot");
        assert_eq!(
            claims["kubernetes.io"],
            json!({"namespace": "a", "serviceaccount": {"name": "robot", "uid": "1"},
                "pod": {"name": "p", "uid": "2"}, "node": {"name": "n"}})
        );
    }

    #[test]
    fn requests_that_cannot_be_granted_are_refused() {
        let now = Time::of_unix(0);
        let ask = |request: Value, pod: Option<Value>| {
            let bound = bound_to(&request)?;
            let pair = bound.as_ref().zip(pod.as_ref());
            claims(&accounts(), &request, &account(), pair, None, "id", now)
        };
        let code = |request: Value, pod: Option<Value>| ask(request, pod).unwrap_err().reason.code();
        assert_eq!(code(json!({"spec": {"expirationSeconds": 5}}), None), 422);
        assert_eq!(code(json!({"spec": {"expirationSeconds": 1_i64 << 33}}), None), 422);
        let bound = |kind: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": "p", "uid": uid}}});
        assert_eq!(code(bound("ConfigMap", ""), None), 400);
        let pod = |account: &str| json!({"metadata": {"name": "p", "uid": "2"}, "spec": {"serviceAccountName": account}});
        assert_eq!(code(bound("Pod", "3"), Some(pod("robot"))), 409);
        assert_eq!(code(bound("Pod", ""), Some(pod("other"))), 400);
        let (claims, end) = ask(json!({"spec": {}}), None).unwrap();
        assert_eq!((end.unix(), &claims["aud"]), (3600, &json!(["https://issuer"])));
    }
}
