//! The environment of a container, with the kubelet's order: services, then whole objects, then single variables; a later one of
//! a name wins, and a value sees those before it. A decision.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::names;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVarSource, Pod, Secret, Service};

use super::expansion::expand;
use super::{ContainerError, NodeFacts, fields, namespace};
use crate::pods::spec;

/// Where values come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The secrets of the pod's namespace that are there, of those that [`secrets`] names.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// The config maps that are there, of those that [`config_maps`] names.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// The services of the pod's namespace and of `default`.
    pub services: Vec<Arc<Service>>,
}

/// What the container finds in its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<(String, String)>,
    /// What was left out, in sentences for an event `InvalidEnvironmentVariableNames`.
    pub skipped: Vec<String>,
}

impl Environment {
    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Names and values; each name once.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn set(&mut self, name: String, value: String) {
        match self.variables.iter_mut().find(|(known, _)| *known == name) {
            Some(variable) => variable.1 = value,
            None => self.variables.push((name, value)),
        }
    }
}

/// The names of the secrets that the container's environment needs.
pub fn secrets(container: &Container) -> impl Iterator<Item = &str> {
    let whole = container.env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref());
    let keys = sources(container).filter_map(|from| from.secret_key_ref.as_ref());
    whole.map(|it| it.name.as_str()).chain(keys.map(|it| it.name.as_str()))
}

/// The names of the config maps that the container's environment needs.
pub fn config_maps(container: &Container) -> impl Iterator<Item = &str> {
    let whole = container.env_from.iter().flatten().filter_map(|from| from.config_map_ref.as_ref());
    let keys = sources(container).filter_map(|from| from.config_map_key_ref.as_ref());
    whole.map(|it| it.name.as_str()).chain(keys.map(|it| it.name.as_str()))
}

fn sources(container: &Container) -> impl Iterator<Item = &EnvVarSource> {
    container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref())
}

/// The environment that the pod wants for a container. That of the image is not in it.
///
/// # Errors
/// When something that is named is not there, in the kubelet's words.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    node: &NodeFacts,
    pod_ips: &[IpAddr],
) -> Result<Environment, ContainerError> {
    let mut own = Environment::default();
    for from in container.env_from.iter().flatten() {
        whole_object(&mut own, pod, from, sources)?;
    }
    let mut of_services = service_variables(pod, &sources.services);
    for variable in container.env.iter().flatten() {
        // The pod's word goes before that of a service, also while the value is made.
        of_services.retain(|(name, _)| *name != variable.name);
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(from)) => match single(pod, container, from, sources, node, pod_ips)? {
                Some(value) => value,
                None => continue,
            },
            (text, None) => {
                let known = |name: &str| {
                    let service = || of_services.iter().find(|(known, _)| known == name);
                    own.get(name).or_else(|| service().map(|(_, value)| value.as_str()))
                };
                expand(text.as_deref().unwrap_or_default(), known)
            }
        };
        own.set(variable.name.clone(), value);
    }
    let mut all = Environment { variables: of_services, skipped: std::mem::take(&mut own.skipped) };
    for (name, value) in own.variables {
        all.set(name, value);
    }
    Ok(all)
}

fn missing(kind: &str, name: &str) -> ContainerError {
    ContainerError::Config(format!("{kind} {name:?} not found"))
}

/// All keys of an object, with a prefix.
fn whole_object(
    own: &mut Environment,
    pod: &Pod,
    from: &EnvFromSource,
    sources: &Sources,
) -> Result<(), ContainerError> {
    let (kind, name, values): (_, _, Vec<(String, String)>) = if let Some(it) = &from.config_map_ref {
        let Some(object) = sources.config_maps.get(&it.name) else {
            return if it.optional == Some(true) { Ok(()) } else { Err(missing("configmap", &it.name)) };
        };
        ("configMap", &it.name, object.data.clone().into_iter().flatten().collect())
    } else if let Some(it) = &from.secret_ref {
        let Some(object) = sources.secrets.get(&it.name) else {
            return if it.optional == Some(true) { Ok(()) } else { Err(missing("secret", &it.name)) };
        };
        let text = |(key, bytes): (&String, &k8s_openapi::ByteString)| (key.clone(), text(&bytes.0));
        ("secret", &it.name, object.data.iter().flatten().map(text).collect())
    } else {
        return Ok(());
    };
    let prefix = from.prefix.as_deref().unwrap_or_default();
    let mut invalid = Vec::new();
    for (key, value) in values {
        let variable = format!("{prefix}{key}");
        if names::env_var_name(&variable).is_empty() {
            own.set(variable, value);
        } else {
            invalid.push(variable);
        }
    }
    if !invalid.is_empty() {
        own.skipped.push(format!(
            "Keys [{}] from the EnvFrom {kind} {}/{name} were skipped since they are considered invalid environment variable names.",
            invalid.join(", "),
            namespace(pod),
        ));
    }
    Ok(())
}

/// The value from one source; nothing for one that is optional and not there.
fn single(
    pod: &Pod,
    container: &Container,
    from: &EnvVarSource,
    sources: &Sources,
    node: &NodeFacts,
    pod_ips: &[IpAddr],
) -> Result<Option<String>, ContainerError> {
    let absent = |optional: Option<bool>, error: ContainerError| match optional {
        Some(true) => Ok(None),
        _ => Err(error),
    };
    let no_key = |key: &str, kind: &str, name: &str| {
        ContainerError::Config(format!("couldn't find key {key} in {kind} {}/{name}", namespace(pod)))
    };
    if let Some(it) = &from.field_ref {
        return fields::field(pod, &it.field_path, node, pod_ips).map(Some).map_err(ContainerError::Config);
    }
    if let Some(it) = &from.resource_field_ref {
        return fields::resource(pod, Some(container), it, node).map(Some).map_err(ContainerError::Config);
    }
    if let Some(it) = &from.config_map_key_ref {
        let Some(object) = sources.config_maps.get(&it.name) else {
            return absent(it.optional, missing("configmap", &it.name));
        };
        return match object.data.as_ref().and_then(|data| data.get(&it.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => absent(it.optional, no_key(&it.key, "ConfigMap", &it.name)),
        };
    }
    if let Some(it) = &from.secret_key_ref {
        let Some(object) = sources.secrets.get(&it.name) else {
            return absent(it.optional, missing("secret", &it.name));
        };
        return match object.data.as_ref().and_then(|data| data.get(&it.key)) {
            Some(bytes) => Ok(Some(text(&bytes.0))),
            None => absent(it.optional, no_key(&it.key, "Secret", &it.name)),
        };
    }
    let what = if from.file_key_ref.is_some() { "fileKeyRef" } else { "an empty valueFrom" };
    Err(ContainerError::Config(format!("{what} is not supported by this node")))
}

/// A variable is text; bytes that are none are replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Variables that tell of services: those of the pod's namespace if it wants them, and that of the API servers in any case.
#[must_use]
pub fn service_variables(pod: &Pod, services: &[Arc<Service>]) -> Vec<(String, String)> {
    let links = spec::spec(pod).and_then(|spec| spec.enable_service_links) != Some(false);
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let in_namespace = service.metadata.namespace.as_deref() == Some(namespace(pod));
        if in_namespace && links {
            chosen.insert(name, service);
        } else if service.metadata.namespace.as_deref() == Some("default") && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    chosen.into_iter().flat_map(|(name, service)| of_service(name, service)).collect()
}

fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first().filter(|_| !matches!(address, "" | "None")) else { return Vec::new() };
    let variable = |name: &str| name.to_uppercase().replace('-', "_");
    let name = variable(name);
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), address.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    let named = ports.iter().filter_map(|port| Some((port.name.as_deref()?, port.port)));
    for (port, number) in named.filter(|(port, _)| !port.is_empty()) {
        all.push((format!("{name}_SERVICE_PORT_{}", variable(port)), number.to_string()));
    }
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{}", port.port);
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        if index == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), lower));
        all.push((format!("{prefix}_PORT"), port.port.to_string()));
        all.push((format!("{prefix}_ADDR"), address.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn sources() -> Sources {
        let service = |namespace: &str, name: &str, ip: &str, ports: Value| {
            Arc::new(object(json!({"metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": ports}})))
        };
        Sources {
            secrets: [(
                "s".to_owned(),
                Arc::new(object(json!({"data": {"k": "dg==", "9": "OQ==", "a=b": "eA=="}}))),
            )]
            .into(),
            config_maps: [(
                "m".to_owned(),
                Arc::new(object(json!({"data": {"K": "from map", "L": "$(A)"}}))),
            )]
            .into(),
            services: vec![
                service("default", "kubernetes", "10.96.0.1", json!([{"name": "https", "port": 443}])),
                service(
                    "ns",
                    "red-is",
                    "10.96.0.9",
                    json!([{"name": "a-b", "port": 6379}, {"port": 53, "protocol": "UDP"}]),
                ),
                service("ns", "headless", "None", json!([{"port": 1}])),
                service("ns", "six", "fd00::9", json!([{"port": 1}])),
                service("other", "away", "10.96.0.10", json!([{"port": 1}])),
            ],
        }
    }

    fn run(spec: Value, container: Value) -> Result<Environment, ContainerError> {
        let mut pod: Pod = object(
            json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"x": "y"}}, "spec": {"containers": []}}),
        );
        let mut whole = serde_json::to_value(&pod).unwrap();
        whole["spec"] = spec;
        whole["spec"]["containers"] = json!([]);
        pod = object(whole);
        let container = object(container);
        let ips = ["10.1.0.1".parse().unwrap()];
        environment(&pod, &container, &sources(), &NodeFacts::default(), &ips)
    }

    fn without_services(container: Value) -> Result<Vec<String>, String> {
        let found =
            run(json!({"enableServiceLinks": false}), container).map_err(|error| error.to_string())?;
        let own = found.iter().filter(|(name, _)| !name.starts_with("KUBERNETES"));
        Ok(own.map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn services_are_told_in_both_old_ways() {
        let found = run(json!({}), json!({"name": "c"})).unwrap();
        let told: BTreeMap<_, _> = found.iter().collect();
        let expected = BTreeMap::from([
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
            ("KUBERNETES_PORT_443_TCP", "tcp://10.96.0.1:443"),
            ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
            ("KUBERNETES_PORT_443_TCP_PORT", "443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
            ("RED_IS_SERVICE_HOST", "10.96.0.9"),
            ("RED_IS_SERVICE_PORT", "6379"),
            ("RED_IS_SERVICE_PORT_A_B", "6379"),
            ("RED_IS_PORT", "tcp://10.96.0.9:6379"),
            ("RED_IS_PORT_6379_TCP", "tcp://10.96.0.9:6379"),
            ("RED_IS_PORT_6379_TCP_PROTO", "tcp"),
            ("RED_IS_PORT_6379_TCP_PORT", "6379"),
            ("RED_IS_PORT_6379_TCP_ADDR", "10.96.0.9"),
            ("RED_IS_PORT_53_UDP", "udp://10.96.0.9:53"),
            ("RED_IS_PORT_53_UDP_PROTO", "udp"),
            ("RED_IS_PORT_53_UDP_PORT", "53"),
            ("RED_IS_PORT_53_UDP_ADDR", "10.96.0.9"),
            ("SIX_SERVICE_HOST", "fd00::9"),
            ("SIX_SERVICE_PORT", "1"),
            ("SIX_PORT", "tcp://[fd00::9]:1"),
            ("SIX_PORT_1_TCP", "tcp://[fd00::9]:1"),
            ("SIX_PORT_1_TCP_PROTO", "tcp"),
            ("SIX_PORT_1_TCP_PORT", "1"),
            ("SIX_PORT_1_TCP_ADDR", "fd00::9"),
        ]);
        assert_eq!(told, expected);
        let few = run(json!({"enableServiceLinks": false}), json!({"name": "c"})).unwrap();
        assert!(few.iter().all(|(name, _)| name.starts_with("KUBERNETES_")) && few.iter().count() == 8);
    }

    #[test]
    fn values_come_from_where_they_say_and_see_those_before() {
        let found = without_services(json!({"name": "c",
            "resources": {"requests": {"cpu": "100m"}},
            "envFrom": [{"configMapRef": {"name": "m"}}, {"prefix": "P_", "secretRef": {"name": "s"}},
                {"secretRef": {"name": "gone", "optional": true}}, {"configMapRef": {"name": "gone", "optional": true}}],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)$(K)$(C)$$(A)"},
                {"name": "K", "value": "own"},
                {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "L"}}},
                {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "G", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
                {"name": "H", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": true}}},
                {"name": "I", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none", "optional": true}}},
                {"name": "A", "value": "$(A)2"},
                {"name": "EMPTY"},
                {"name": "J", "value": "$(KUBERNETES_SERVICE_HOST)"},
                {"name": "KUBERNETES_PORT", "value": "$(KUBERNETES_PORT)"},
            ]}))
        .unwrap();
        let expected = [
            "K=own",
            "L=$(A)",
            "P_9=9",
            "P_k=v",
            "A=12",
            "B=1from map$(C)$(A)",
            "C=v",
            "D=$(A)",
            "E=y",
            "F=10.1.0.1",
            "G=100",
            "EMPTY=",
            "J=10.96.0.1",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_service_s_variable_is_not_seen_by_the_one_that_replaces_it() {
        let container =
            json!({"name": "c", "env": [{"name": "KUBERNETES_PORT", "value": "$(KUBERNETES_PORT)"}]});
        let found = run(json!({}), container).unwrap();
        assert_eq!(found.get("KUBERNETES_PORT"), Some("$(KUBERNETES_PORT)"));
    }

    #[test]
    fn names_that_cannot_be_are_left_out_and_told() {
        let found = run(json!({}), json!({"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]})).unwrap();
        assert_eq!(found.get("a=b"), None);
        assert_eq!(
            found.skipped,
            [
                "Keys [a=b] from the EnvFrom secret ns/s were skipped since they are considered invalid environment variable names."
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_told_in_the_kubelet_s_words() {
        let key = |kind: &str, name: &str, key: &str| json!({"name": "c", "env": [{"name": "X", "valueFrom": {kind: {"name": name, "key": key}}}]});
        let table = [
            (key("secretKeyRef", "gone", "k"), "secret \"gone\" not found"),
            (key("configMapKeyRef", "gone", "k"), "configmap \"gone\" not found"),
            (key("secretKeyRef", "s", "none"), "couldn't find key none in Secret ns/s"),
            (key("configMapKeyRef", "m", "none"), "couldn't find key none in ConfigMap ns/m"),
            (json!({"name": "c", "envFrom": [{"secretRef": {"name": "gone"}}]}), "secret \"gone\" not found"),
            (
                json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}),
                "configmap \"gone\" not found",
            ),
        ];
        for (container, expected) in table {
            assert_eq!(without_services(container), Err(expected.to_owned()));
        }
        let error = run(json!({}), key("secretKeyRef", "gone", "k")).unwrap_err();
        assert_eq!(error.reason(), "CreateContainerConfigError");
    }

    #[test]
    fn the_objects_that_are_needed_are_named() {
        let container = object(json!({"name": "c",
            "envFrom": [{"secretRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}],
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "c", "key": "k"}}},
                {"name": "Y", "valueFrom": {"configMapKeyRef": {"name": "d", "key": "k"}}}]}));
        assert_eq!(secrets(&container).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(config_maps(&container).collect::<Vec<_>>(), ["b", "d"]);
    }
}
