//! Fields of pods and resources of containers, as environment variables and files of the downward API show them. A decision.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use barque_api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{NodeFacts, find, name, namespace};
use crate::pods::spec;

/// The value of a field of the pod's object, of the node that it is on, or of its addresses.
///
/// # Errors
/// When there is no such field, in the kubelet's words.
pub fn field(pod: &Pod, path: &str, node: &NodeFacts, pod_ips: &[IpAddr]) -> Result<String, String> {
    let spec = spec::spec(pod);
    let text = |field: Option<&String>| field.cloned().unwrap_or_default();
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let list = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(text(map.as_ref().and_then(|map| map.get(key))));
    }
    Ok(match path {
        "metadata.name" => name(pod).to_owned(),
        "metadata.namespace" => namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| node.name.clone()),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" => first(&node.host_ips),
        "status.hostIPs" => list(&node.host_ips),
        "status.podIP" => first(pod_ips),
        "status.podIPs" => list(pod_ips),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` in its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// `key="value"` in lines, ordered by the keys.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// As Go quotes a text.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            // Writing to a text cannot fail.
            c if u32::from(c) < 0x20 || c == '\u{7f}' => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The amount of a resource of a container: in units of the divisor, rounded up. A limit that nobody set is the pod's, or what
/// the node has for pods.
///
/// # Errors
/// When there is no such container or resource.
pub fn resource(
    pod: &Pod,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: &NodeFacts,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let other = match named {
        Some(name) => Some(find(pod, name).ok_or_else(|| format!("container {name} not found"))?),
        None => None,
    };
    let container = other.as_ref().or(container).ok_or("container name is required")?;
    let unknown = || format!("unsupported container resource : {}", selector.resource);
    let (which, resource) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let known =
        matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !known || !matches!(which, "limits" | "requests") {
        return Err(unknown());
    }
    let own = container.resources.as_ref();
    let whole = spec::spec(pod).and_then(|spec| spec.resources.as_ref());
    let amount = if which == "limits" {
        let set = |list: Option<&BTreeMap<String, Text>>| {
            list.and_then(|list| quantity(list, resource)).filter(|amount| !amount.is_zero())
        };
        set(own.and_then(|own| own.limits.as_ref()))
            .or_else(|| set(whole.and_then(|whole| whole.limits.as_ref())))
            .or_else(|| quantity(&node.allocatable, resource))
    } else {
        own.and_then(|own| own.requests.as_ref()).and_then(|list| quantity(list, resource))
    };
    let amount = amount.unwrap_or_else(|| Quantity::new(0, 0, Format::DecimalSi));
    let divisor = selector.divisor.as_ref().and_then(|text| Quantity::parse(&text.0).ok());
    let divisor = divisor.filter(|divisor| !divisor.is_zero());
    let divisor = divisor.unwrap_or_else(|| Quantity::new(1, 0, Format::DecimalSi));
    let (amount, divisor) = if resource == "cpu" {
        (amount.milli_value(), divisor.milli_value())
    } else {
        (amount.value(), divisor.value())
    };
    let (amount, divisor) = (i128::from(amount), i128::from(divisor.max(1)));
    Ok(((amount + divisor - 1).max(0) / divisor).to_string())
}

fn quantity(list: &BTreeMap<String, Text>, resource: &str) -> Option<Quantity> {
    // The API server has read it before.
    list.get(resource).and_then(|text| Quantity::parse(&text.0).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u",
                "labels": {"b": "2", "a": "1", "x.io/y": "z"}, "annotations": {"k": "q\"\n\\ä"}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {
                    "requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1200m"}}},
                {"name": "d", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}]}}))
        .unwrap()
    }

    fn node() -> NodeFacts {
        let quantity = |text: &str| Text(text.to_owned());
        NodeFacts {
            name: "n".into(),
            host_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            allocatable: [("cpu".to_owned(), quantity("3900m")), ("memory".to_owned(), quantity("1Gi"))]
                .into(),
            ..NodeFacts::default()
        }
    }

    #[test]
    fn fields_are_those_of_the_pod_its_node_and_its_addresses() {
        let ips = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let table = [
            ("metadata.name", "p"),
            ("metadata.namespace", "ns"),
            ("metadata.uid", "u"),
            ("metadata.labels", "a=\"1\"\nb=\"2\"\nx.io/y=\"z\""),
            ("metadata.annotations", "k=\"q\\\"\\n\\\\ä\""),
            ("metadata.labels['x.io/y']", "z"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['k']", "q\"\n\\ä"),
            ("spec.nodeName", "n"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "10.0.0.1"),
            ("status.hostIPs", "10.0.0.1,fd00::1"),
            ("status.podIP", "10.1.0.2"),
            ("status.podIPs", "10.1.0.2,fd00::2"),
        ];
        for (path, expected) in table {
            assert_eq!(field(&pod(), path, &node(), &ips).as_deref(), Ok(expected), "{path}");
        }
        let wrong = field(&pod(), "status.phase", &node(), &ips);
        assert_eq!(wrong, Err("unsupported fieldPath: status.phase".into()));
    }

    #[test]
    fn resources_are_divided_rounded_up_and_limits_end_with_the_node() {
        let table = [
            ("c", "limits.cpu", "0", "2"),
            ("c", "limits.cpu", "1m", "1200"),
            ("c", "requests.cpu", "1", "1"),
            ("c", "requests.cpu", "1m", "250"),
            ("c", "requests.memory", "1Mi", "32"),
            ("c", "limits.memory", "1", "1073741824"),
            ("c", "limits.memory", "1Gi", "1"),
            ("d", "requests.cpu", "1", "0"),
            ("d", "limits.cpu", "1", "4"),
            ("d", "limits.hugepages-2Mi", "1Mi", "4"),
            ("d", "requests.ephemeral-storage", "1", "0"),
        ];
        for (container, resource_name, divisor, expected) in table {
            let selector: ResourceFieldSelector = serde_json::from_value(
                json!({"containerName": container, "resource": resource_name, "divisor": divisor}),
            )
            .unwrap();
            let got = resource(&pod(), None, &selector, &node());
            assert_eq!(got.as_deref(), Ok(expected), "{container} {resource_name} / {divisor}");
        }
        let none = ResourceFieldSelector { container_name: Some("x".into()), ..Default::default() };
        assert_eq!(resource(&pod(), None, &none, &node()), Err("container x not found".into()));
    }
}
