//! ServiceAccount: every pod runs as an account that there is, with its token mounted and its secrets for images. Must never
//! change the pod of a node itself (a mirror pod), only refuse it.

use std::time::Duration;

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::names::generated_name;
use barque_api::status::Status;
use serde_json::{Value, json};

use super::pod::{CONTAINERS, is_mirror, list, projects, refers_to_secrets, text};
use super::{Admission, Attributes, Operation};
use crate::registry::collections::parse;
use crate::storage::Storage;
use crate::watch_cache::event::Kind;
use crate::watch_cache::query::WatchQuery;
use crate::watch_cache::registry::Selection;
use crate::watch_cache::watcher::Told;

/// The account of pods that name none.
const DEFAULT: &str = "default";
/// How long a pod waits for the default account of a namespace that is new.
const DEFAULT_COMES_WITHIN: Duration = Duration::from_millis(1350);
/// Where containers find their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the volume with the token is called, before a generated end.
const VOLUME: &str = "kube-api-access-";
/// For how long a token is asked for: an hour and a little, which tells tokens that nobody asked for from others.
const TOKEN_SECONDS: i64 = 3607;
/// An account with this annotation lends its secrets only.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

impl<S: Storage> Admission<S> {
    /// Gives a new pod its account.
    pub(super) async fn give_account(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create || !attributes.is_plainly("", "pods") {
            return Ok(());
        }
        if is_mirror(object) {
            return check_mirror(object).map_err(|why| attributes.forbidden(why));
        }
        name_account(object);
        let account = self.account(attributes, object).await?;
        equip(object, &account, rand::random());
        check_secrets(object, &account).map_err(|why| attributes.forbidden(why))
    }

    /// Whether the account of a pod is there, and lends it what it uses.
    pub(super) async fn check_account(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        if !attributes.is_about("", "pods") {
            return Ok(());
        }
        let check: fn(&Value, &Value) -> Result<(), String> =
            match (attributes.operation, attributes.subresource) {
                (Operation::Create, "") if is_mirror(object) => {
                    return check_mirror(object).map_err(|why| attributes.forbidden(why));
                }
                (Operation::Create, "") => check_secrets,
                (Operation::Update, "ephemeralcontainers") => check_added_secrets,
                _ => return Ok(()),
            };
        if text(object, "/spec/serviceAccountName").is_empty() {
            let (namespace, name) = (attributes.namespace, attributes.name);
            return Err(
                attributes.forbidden(format!("no service account specified for pod {namespace}/{name}"))
            );
        }
        let account = self.account(attributes, object).await?;
        check(object, &account).map_err(|why| attributes.forbidden(why))
    }

    async fn account(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
        let (namespace, name) = (attributes.namespace, text(pod, "/spec/serviceAccountName"));
        let mut found = self.found("", "serviceaccounts", namespace, name).await;
        if found == Ok(None) && name == DEFAULT {
            found = self.await_default_account(namespace).await;
        }
        let missing = || Status::not_found(&GroupResource::new("", "serviceaccount"), name);
        found.and_then(|account| account.ok_or_else(missing)).map_err(|status| {
            attributes.forbidden(format!("error looking up service account {namespace}/{name}: {status}"))
        })
    }

    /// The account that every namespace gets soon after it is made; nothing when it does not come.
    async fn await_default_account(&self, namespace: &str) -> Result<Option<Value>, Status> {
        let accounts = GroupResource::new("", "serviceaccounts");
        let Some(collection) = self.collections.collection(&accounts) else { return Ok(None) };
        let prefix = collection.keys.object(namespace, DEFAULT);
        let selection = Selection { prefix, single: true, ..Selection::default() };
        let query = WatchQuery {
            send_initial_events: Some(true),
            resource_version_match: "NotOlderThan".to_owned(),
            bookmarks: true,
            ..WatchQuery::default()
        };
        let comes = async {
            let mut watcher = collection.cache.watch(&query, &selection, None).await?;
            loop {
                match watcher.next().await {
                    Some(Told::Object { kind, object, .. }) if kind != Kind::Deleted => {
                        return parse(&object).map(Some);
                    }
                    Some(Told::Error(status)) => return Err(status),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        };
        tokio::time::timeout(DEFAULT_COMES_WITHIN, comes).await.unwrap_or(Ok(None))
    }
}

fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if refers_to_secrets(pod) {
        return Err("a mirror pod may not reference secrets");
    }
    let token = |source: &Value| source.get("serviceAccountToken").is_some_and(Value::is_object);
    if list(pod, "/spec/volumes").iter().any(|volume| projects(volume, token)) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Names the account, in the old field too: they are one.
fn name_account(pod: &mut Value) {
    let mut name = text(pod, "/spec/serviceAccountName");
    if name.is_empty() {
        name = text(pod, "/spec/serviceAccount");
    }
    let name = if name.is_empty() { DEFAULT } else { name }.to_owned();
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("serviceAccountName".to_owned(), name.clone().into());
        spec.insert("serviceAccount".to_owned(), name.into());
    }
}

/// Mounts the token, and puts in the secrets for images if the pod names none.
fn equip(pod: &mut Value, account: &Value, chance: u64) {
    let wanted = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_bool);
    let mounts = wanted(pod, "/spec/automountServiceAccountToken")
        .or_else(|| wanted(account, "/automountServiceAccountToken"))
        .unwrap_or(true);
    if mounts {
        mount_token(pod, chance);
    }
    let own = list(account, "/imagePullSecrets");
    if list(pod, "/spec/imagePullSecrets").is_empty()
        && !own.is_empty()
        && let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut)
    {
        let secrets: Vec<Value> = own.iter().map(|secret| json!({"name": text(secret, "/name")})).collect();
        spec.insert("imagePullSecrets".to_owned(), secrets.into());
    }
}

fn mount_token(pod: &mut Value, chance: u64) {
    let there = list(pod, "/spec/volumes").iter().map(|volume| text(volume, "/name"));
    let there = there.into_iter().find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let name = there.clone().unwrap_or_else(|| generated_name(VOLUME, chance));
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let containers = pod.pointer_mut(&format!("/spec/{field}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if list(container, "/volumeMounts").iter().any(|mount| text(mount, "/mountPath") == MOUNT_PATH) {
                continue;
            }
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            mounted |= push(container, "volumeMounts", mount);
        }
    }
    if mounted
        && there.is_none()
        && let Some(spec) = pod.get_mut("spec")
    {
        push(spec, "volumes", json!({"name": name, "projected": token_source()}));
    }
}

/// Appends to the list in a field, which is made if there is none.
fn push(object: &mut Value, field: &str, item: Value) -> bool {
    let Some(fields) = object.as_object_mut() else { return false };
    let list = fields.entry(field).or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().is_some_and(|list| {
        list.push(item);
        true
    })
}

fn token_source() -> Value {
    json!({
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ],
    })
}

fn lends_only_its_own(account: &Value) -> bool {
    let value = Metadata::of(account).annotation(ENFORCE);
    value.is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].contains(&value))
}

fn names<'a>(account: &'a Value, field: &str) -> Vec<&'a str> {
    list(account, field).iter().map(|secret| text(secret, "/name")).collect()
}

/// Whether a new pod uses only what its account lends.
fn check_secrets(pod: &Value, account: &Value) -> Result<(), String> {
    if !lends_only_its_own(account) {
        return Ok(());
    }
    let lent = names(account, "/secrets");
    let who = Metadata::of(account).name();
    for volume in
        list(pod, "/spec/volumes").iter().filter(|volume| volume.get("secret").is_some_and(Value::is_object))
    {
        let secret = text(volume, "/secret/secretName");
        if !lent.contains(&secret) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {who} does not \
                 reference that secret"
            ));
        }
    }
    for (field, called) in &CONTAINERS[..2] {
        check_environment(pod, field, called, &lent, who)?;
    }
    let lent = names(account, "/imagePullSecrets");
    for (index, secret) in list(pod, "/spec/imagePullSecrets").iter().enumerate() {
        let secret = text(secret, "/name");
        if !lent.contains(&secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name=\"{secret}\" is not allowed because service account {who} does not \
                 reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// Whether containers that were added use only what the account lends.
fn check_added_secrets(pod: &Value, account: &Value) -> Result<(), String> {
    if !lends_only_its_own(account) {
        return Ok(());
    }
    let (field, called) = CONTAINERS[2];
    check_environment(pod, field, called, &names(account, "/secrets"), Metadata::of(account).name())
}

fn check_environment(pod: &Value, field: &str, called: &str, lent: &[&str], who: &str) -> Result<(), String> {
    let refused = |place: String, secret: &str| {
        Err(format!(
            "{place} referencing secret.secretName=\"{secret}\" is not allowed because service account {who} does not \
             reference that secret"
        ))
    };
    for container in list(pod, &format!("/spec/{field}")) {
        let name = text(container, "/name");
        for variable in list(container, "/env") {
            let secret = text(variable, "/valueFrom/secretKeyRef/name");
            if variable.pointer("/valueFrom/secretKeyRef").is_some_and(Value::is_object)
                && !lent.contains(&secret)
            {
                let place = format!("{called} {name} with envVar {}", text(variable, "/name"));
                return refused(place, secret);
            }
        }
        for from in list(container, "/envFrom") {
            let secret = text(from, "/secretRef/name");
            if from.get("secretRef").is_some_and(Value::is_object) && !lent.contains(&secret) {
                return refused(format!("{called} {name} with envFrom"), secret);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn account(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "a"}})
    }

    #[tokio::test]
    async fn a_pod_gets_the_default_account_with_its_token() {
        let mut default = account("default");
        default["imagePullSecrets"] = json!([{"name": "pull"}]);
        let cluster = Cluster::with(&[default]).await;
        let asked = Asked::pod();
        let mut pod = json!({"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}});
        cluster.admission.give_account(&asked.attributes(), &mut pod).await.unwrap();
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        let name = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
        assert_eq!(
            spec["volumes"][0]["projected"],
            json!({"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]})
        );
        let mount = json!([{"name": name, "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(cluster.admission.check_account(&asked.attributes(), &pod).await, Ok(()));
    }

    #[tokio::test]
    async fn an_account_must_be_there() {
        let cluster = Cluster::with(&[]).await;
        let mut pod = json!({"spec": {"serviceAccountName": "x", "containers": []}});
        let asked = Asked::pod();
        let status = cluster.admission.give_account(&asked.attributes(), &mut pod).await.unwrap_err();
        assert_eq!(
            (status.reason.code(), &*status.message),
            (
                403,
                r#"pods "p" is forbidden: error looking up service account a/x: serviceaccount "x" not found"#
            )
        );
    }

    #[tokio::test]
    async fn a_pod_waits_for_the_default_account_of_a_new_namespace() {
        let cluster = Cluster::with(&[]).await;
        let (asked, made) = (Asked::pod(), account("default"));
        let mut pod = json!({"spec": {"containers": []}});
        let attributes = asked.attributes();
        let (given, ()) =
            tokio::join!(cluster.admission.give_account(&attributes, &mut pod), cluster.put(&made));
        assert_eq!(given, Ok(()));
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
    }

    #[test]
    fn who_wants_no_token_gets_none() {
        let table = [
            (json!(null), json!(null), true),
            (json!(false), json!(null), false),
            (json!(null), json!(false), false),
            (json!(true), json!(false), true),
        ];
        for (of_pod, of_account, mounted) in table {
            let mut pod =
                json!({"spec": {"automountServiceAccountToken": of_pod, "containers": [{"name": "c"}]}});
            equip(&mut pod, &json!({"automountServiceAccountToken": of_account}), 1);
            assert_eq!(pod["spec"].get("volumes").is_some(), mounted, "{of_pod} {of_account}");
        }
        let own = json!([{"name": "mine", "mountPath": MOUNT_PATH}]);
        let mut pod = json!({"spec": {"containers": [{"name": "c", "volumeMounts": own}]}});
        equip(&mut pod, &json!({}), 1);
        assert_eq!(pod["spec"].get("volumes"), None);
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let table = [
            (json!({"serviceAccountName": "x"}), "a mirror pod may not reference service accounts"),
            (json!({"volumes": [{"secret": {"secretName": "s"}}]}), "a mirror pod may not reference secrets"),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                "a mirror pod may not use ServiceAccountToken volume projections",
            ),
        ];
        for (spec, why) in table {
            assert_eq!(check_mirror(&json!({"spec": spec})), Err(why));
        }
    }

    #[test]
    fn a_strict_account_lends_only_its_own_secrets() {
        let mut strict = account("s");
        strict["metadata"]["annotations"] = json!({ENFORCE: "true"});
        strict["secrets"] = json!([{"name": "own"}]);
        let table = [
            (
                json!({"volumes": [{"secret": {"secretName": "other"}}]}),
                "volume with secret.secretName=\"other\" is not allowed because service account s does not reference that secret",
            ),
            (
                json!({"containers": [{"name": "c", "env": [
                    {"name": "E", "valueFrom": {"secretKeyRef": {"name": "other"}}}]}]}),
                "container c with envVar E referencing secret.secretName=\"other\" is not allowed because service account s \
                 does not reference that secret",
            ),
            (
                json!({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]}),
                "init container i with envFrom referencing secret.secretName=\"other\" is not allowed because service \
                 account s does not reference that secret",
            ),
            (
                json!({"imagePullSecrets": [{"name": "other"}]}),
                "imagePullSecrets[0].name=\"other\" is not allowed because service account s does not reference that \
                 imagePullSecret",
            ),
        ];
        for (spec, why) in table {
            let pod = json!({"spec": spec});
            assert_eq!(check_secrets(&pod, &strict), Err(why.to_owned()));
            assert_eq!(check_secrets(&pod, &account("s")), Ok(()));
        }
        assert_eq!(
            check_secrets(&json!({"spec": {"volumes": [{"secret": {"secretName": "own"}}]}}), &strict),
            Ok(())
        );
    }
}
