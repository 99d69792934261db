//! What stands in volumes that are made of objects: config maps, secrets, fields of the pod, tokens. A decision; objects and tokens
//! are handed in.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    ServiceAccountTokenProjection,
};

use crate::containers::{NodeFacts, fields};

/// The mode of files that nobody gives another.
const MODE: i32 = 0o644;
/// The mode of tokens that belong to a user or a group.
const TOKEN_MODE: u32 = 0o600;
/// The longest path within a volume.
const LONGEST_PATH: usize = 4096;
/// The longest name of a file.
const LONGEST_NAME: usize = 255;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What stands in it.
    pub content: Vec<u8>,
    /// Who may do what with it.
    pub mode: u32,
    /// Whose it is; nothing is root's.
    pub user: Option<u32>,
}

/// The files of a volume by their paths in it.
pub type Payload = BTreeMap<PathBuf, File>;

/// The files of an object's keys: all of them, or those that are chosen.
fn of_keys<'a>(
    what: &str,
    keys: BTreeMap<&'a str, &'a [u8]>,
    items: Option<&Vec<KeyToPath>>,
    optional: bool,
    mode: i32,
    user: Option<i64>,
) -> Result<Payload, String> {
    let file = |content: &[u8], mode: i32, user: Option<i64>| File {
        content: content.to_owned(),
        mode: mode.unsigned_abs() & 0o7777,
        user: user.and_then(|user| u32::try_from(user).ok()),
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(keys.into_iter().map(|(key, content)| (key.into(), file(content, mode, user))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match keys.get(item.key.as_str()) {
            Some(content) => {
                let file = file(content, item.mode.unwrap_or(mode), item.user.or(user));
                payload.insert(item.path.clone().into(), file);
            }
            None if optional => {}
            None => return Err(format!("references non-existent {what} key: {}", item.key)),
        }
    }
    Ok(payload)
}

/// How files are made unless they say otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Keys and where they go; nothing is all.
    pub items: Option<&'a Vec<KeyToPath>>,
    /// What is missing is left out.
    pub optional: bool,
    /// The mode.
    pub mode: Option<i32>,
    /// The owner.
    pub user: Option<i64>,
}

/// The files of a config map; one that is not there and need not be has none.
///
/// # Errors
/// When it or a key is missing, in the kubelet's words.
pub fn config_map(name: &str, map: Option<&ConfigMap>, choice: Choice<'_>) -> Result<Payload, String> {
    let Some(map) = map else {
        return if choice.optional {
            Ok(Payload::new())
        } else {
            Err(format!("configmap {name:?} not found"))
        };
    };
    let text = map.data.iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
    let mode = choice.mode.unwrap_or(MODE);
    of_keys("config", text.chain(binary).collect(), choice.items, choice.optional, mode, choice.user)
}

/// The files of a secret, as [`config_map`].
///
/// # Errors
/// When it or a key is missing, in the kubelet's words.
pub fn secret(name: &str, secret: Option<&Secret>, choice: Choice<'_>) -> Result<Payload, String> {
    let Some(secret) = secret else {
        return if choice.optional { Ok(Payload::new()) } else { Err(format!("secret {name:?} not found")) };
    };
    let bytes = |(key, ByteString(bytes)): (&'_ String, &'_ ByteString)| (key.clone(), bytes.clone());
    let keys: Vec<(String, Vec<u8>)> = secret.data.iter().flatten().map(bytes).collect();
    let keys = keys.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice())).collect();
    let mode = choice.mode.unwrap_or(MODE);
    of_keys("secret", keys, choice.items, choice.optional, mode, choice.user)
}

/// The files of fields and resources of the pod.
///
/// # Errors
/// When there is no such field or resource.
pub fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    node: &NodeFacts,
    mode: Option<i32>,
) -> Result<Payload, String> {
    let mut payload = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::field(pod, &field.field_path, node, &[])?,
            (None, Some(resource)) => fields::resource(pod, None, resource, node)?,
            (None, None) => continue,
        };
        let mode = item.mode.or(mode).unwrap_or(MODE).unsigned_abs() & 0o7777;
        let user = item.user.and_then(|user| u32::try_from(user).ok());
        payload.insert(item.path.clone().into(), File { content: text.into_bytes(), mode, user });
    }
    Ok(payload)
}

/// What the parts of a projected volume are made of.
pub struct Parts<'a> {
    /// The secret of this name.
    pub secret: &'a dyn Fn(&str) -> Option<std::sync::Arc<Secret>>,
    /// The config map of this name.
    pub config_map: &'a dyn Fn(&str) -> Option<std::sync::Arc<ConfigMap>>,
    /// The token for a projection.
    pub token: &'a dyn Fn(&ServiceAccountTokenProjection) -> Option<String>,
    /// Whose tokens are, when all containers of the pod are the same user.
    pub user: Option<u32>,
    /// The pod's volumes belong to a group.
    pub has_group: bool,
}

/// The files of all parts together; a later one replaces an earlier one.
///
/// # Errors
/// When something is missing, in the kubelet's words.
pub fn projected(
    pod: &Pod,
    source: &ProjectedVolumeSource,
    node: &NodeFacts,
    parts: &Parts<'_>,
) -> Result<Payload, String> {
    let mut payload = Payload::new();
    for part in source.sources.iter().flatten() {
        let choice = |items, optional: Option<bool>| Choice {
            items,
            optional: optional == Some(true),
            mode: source.default_mode,
            user: None,
        };
        if let Some(it) = &part.secret {
            let found = (parts.secret)(&it.name);
            payload.extend(secret(&it.name, found.as_deref(), choice(it.items.as_ref(), it.optional))?);
        } else if let Some(it) = &part.config_map {
            let found = (parts.config_map)(&it.name);
            payload.extend(config_map(&it.name, found.as_deref(), choice(it.items.as_ref(), it.optional))?);
        } else if let Some(it) = &part.downward_api {
            let items = it.items.as_deref().unwrap_or_default();
            payload.extend(downward(pod, items, node, source.default_mode)?);
        } else if let Some(it) = &part.service_account_token {
            let Some(token) = (parts.token)(it) else { return Err("failed to fetch token".to_owned()) };
            let private = parts.user.is_some() || parts.has_group;
            let mode = source.default_mode.unwrap_or(MODE).unsigned_abs() & 0o7777;
            let user = it.user.and_then(|user| u32::try_from(user).ok()).or(parts.user);
            let mode = if private { TOKEN_MODE } else { mode };
            payload.insert(it.path.clone().into(), File { content: token.into_bytes(), mode, user });
        } else if part.cluster_trust_bundle.is_some() {
            return Err("projections of clusterTrustBundle are not supported by this node".to_owned());
        } else if part.pod_certificate.is_some() {
            return Err("projections of podCertificate are not supported by this node".to_owned());
        }
    }
    Ok(payload)
}

/// Whether all paths stay in the volume and away from what keeps it together.
///
/// # Errors
/// About the first that does not.
pub fn check(payload: &Payload) -> Result<(), String> {
    for path in payload.keys() {
        let shown = path.display();
        let text = path.as_os_str();
        if text.is_empty() || path.is_absolute() {
            return Err(format!("invalid path: must be relative path: {shown}"));
        }
        if text.len() > LONGEST_PATH {
            return Err(format!("invalid path: must be less than or equal to {LONGEST_PATH} characters"));
        }
        for (index, part) in path.components().enumerate() {
            let Component::Normal(name) = part else {
                return Err(format!("invalid path: must not contain '..': {shown}"));
            };
            if index == 0 && name.to_string_lossy().starts_with("..") {
                return Err(format!("invalid path: must not start with '..': {shown}"));
            }
            if name.len() > LONGEST_NAME {
                let limit = LONGEST_NAME;
                return Err(format!(
                    "invalid path: filenames must be less than or equal to {limit} characters"
                ));
            }
        }
    }
    Ok(())
}

/// The first parts of all paths: what is seen at the top of the volume.
pub fn top_level(payload: &Payload) -> std::collections::BTreeSet<&Path> {
    payload.keys().filter_map(|path| Some(Path::new(path.components().next()?.as_os_str()))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn told(payload: Result<Payload, String>) -> Result<Vec<String>, String> {
        let line = |(path, file): (PathBuf, File)| {
            let content = String::from_utf8_lossy(&file.content).into_owned();
            format!("{} {:o} {:?} {content}", path.display(), file.mode, file.user)
        };
        payload.map(|payload| payload.into_iter().map(line).collect())
    }

    #[test]
    fn keys_become_files_all_or_chosen() {
        let map: ConfigMap = object(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "Mw=="}}));
        let all = told(config_map("m", Some(&map), Choice::default()));
        assert_eq!(all.unwrap(), ["a 644 None 1", "b 644 None 2", "c 644 None 3"]);
        let items: Vec<KeyToPath> =
            object(json!([{"key": "b", "path": "x/y", "mode": 0o400}, {"key": "a", "path": "z", "user": 7}]));
        let choice = Choice { items: Some(&items), optional: false, mode: Some(0o440), user: Some(5) };
        assert_eq!(
            told(config_map("m", Some(&map), choice)).unwrap(),
            ["x/y 400 Some(5) 2", "z 440 Some(7) 1"]
        );
        let missing: Vec<KeyToPath> = object(json!([{"key": "no", "path": "x"}]));
        let choice = Choice { items: Some(&missing), ..Choice::default() };
        assert_eq!(config_map("m", Some(&map), choice), Err("references non-existent config key: no".into()));
        assert_eq!(config_map("m", Some(&map), Choice { optional: true, ..choice }), Ok(Payload::new()));
        assert_eq!(config_map("m", None, Choice::default()), Err("configmap \"m\" not found".into()));
        let optional = Choice { optional: true, ..Choice::default() };
        assert_eq!(config_map("m", None, optional), Ok(Payload::new()));
        let object: Secret = object(json!({"data": {"k": "dg=="}}));
        assert_eq!(told(secret("s", Some(&object), Choice::default())).unwrap(), ["k 644 None v"]);
        assert_eq!(secret("s", Some(&object), choice), Err("references non-existent secret key: no".into()));
        assert_eq!(secret("s", None, choice), Err("secret \"s\" not found".into()));
    }

    #[test]
    fn projected_parts_come_together() {
        let pod: Pod =
            object(json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "2"}}}]}}));
        let source: ProjectedVolumeSource = object(json!({"defaultMode": 0o444, "sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}},
            {"secret": {"name": "none", "optional": true}}]}));
        let run = |user: Option<u32>, has_group: bool, token: Option<String>| {
            let parts = Parts {
                secret: &|_| None,
                config_map: &|name| {
                    (name == "kube-root-ca.crt").then(|| Arc::new(object(json!({"data": {"ca.crt": "CA"}}))))
                },
                token: &|_| token.clone(),
                user,
                has_group,
            };
            told(projected(&pod, &source, &NodeFacts::default(), &parts))
        };
        let token = || Some("t".to_owned());
        assert_eq!(
            run(None, false, token()).unwrap(),
            ["ca.crt 444 None CA", "cpu 444 None 2", "labels 444 None a=\"b\"", "token 444 None t"]
        );
        assert_eq!(run(Some(5), false, token()).unwrap()[3], "token 600 Some(5) t");
        assert_eq!(run(None, true, token()).unwrap()[3], "token 600 None t");
        assert_eq!(run(None, true, None), Err("failed to fetch token".into()));
    }

    #[test]
    fn paths_stay_in_their_volume() {
        let file = || File { content: Vec::new(), mode: 0, user: None };
        let table = [
            ("a/b", Ok(())),
            ("a/..b", Ok(())),
            ("/a", Err("invalid path: must be relative path: /a")),
            ("", Err("invalid path: must be relative path: ")),
            ("a/../b", Err("invalid path: must not contain '..': a/../b")),
            ("..", Err("invalid path: must not contain '..': ..")),
            ("..data", Err("invalid path: must not start with '..': ..data")),
        ];
        for (path, expected) in table {
            let payload = Payload::from([(PathBuf::from(path), file())]);
            assert_eq!(check(&payload), expected.map_err(str::to_owned), "{path}");
        }
        let payload = Payload::from([("a/b".into(), file()), ("a/c".into(), file()), ("d".into(), file())]);
        assert_eq!(top_level(&payload).into_iter().collect::<Vec<_>>(), [Path::new("a"), Path::new("d")]);
    }
}
