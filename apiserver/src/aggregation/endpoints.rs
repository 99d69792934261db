//! Where a service can be reached, and what is wrong where it cannot, in Kubernetes' words. Pure; must never connect.

use serde_json::Value;

use super::registration::ServicePort;

/// An address of something that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// As it stands in URLs.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a service cannot be asked at all: reason and message of the condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `ServiceNotFound` and so on.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What is missing of a service, before it is asked. Only services with an address of their own are judged by what stands
/// behind them, as in Kubernetes.
///
/// # Errors
/// The first that is missing.
pub fn check(at: &ServicePort, service: Option<&Value>, slices: &[Value]) -> Result<(), Missing> {
    let ServicePort { namespace, name, port } = at;
    let missing = |reason: &'static str, message: String| Err(Missing { reason, message });
    let Some(service) = service else {
        return missing("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
    };
    if kind(service) != "ClusterIP" {
        return Ok(());
    }
    let Some(port_name) = port_name(service, *port) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return missing("ServicePortError", message);
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return missing("EndpointsNotFound", message);
    }
    let any = slices.iter().any(|slice| ready(slice).next().is_some() && port_of(slice, port_name).is_some());
    if !any {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return missing("MissingEndpoints", message);
    }
    Ok(())
}

/// All addresses of those who stand behind a service, or the name outside of the cluster for which it stands.
///
/// # Errors
/// Why there is none.
pub fn addresses(
    at: &ServicePort,
    service: Option<&Value>,
    slices: &[Value],
) -> Result<Vec<Address>, String> {
    let ServicePort { name, port, .. } = at;
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    match kind(service) {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => {
            let host = service["spec"]["externalName"].as_str().unwrap_or_default().to_owned();
            return Ok(vec![Address { host, port: *port }]);
        }
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let port_name = port_name(service, *port)
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let mut found = Vec::new();
    for slice in slices {
        let Some(port) = port_of(slice, port_name) else { continue };
        let hosts = ready(slice).filter_map(|one| one["addresses"].as_array()?.first()?.as_str());
        found.extend(hosts.map(|host| Address { host: host.to_owned(), port }));
    }
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(found)
}

fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

/// The name of a service's port; ports of slices have the same name.
fn port_name(service: &Value, port: u16) -> Option<&str> {
    let mut ports = service["spec"]["ports"].as_array()?.iter();
    let found = ports.find(|one| one["port"].as_u64() == Some(port.into()))?;
    Some(found["name"].as_str().unwrap_or_default())
}

fn port_of(slice: &Value, name: &str) -> Option<u16> {
    let mut ports = slice["ports"].as_array()?.iter();
    let found = ports.find(|one| one["name"].as_str().unwrap_or_default() == name)?;
    u16::try_from(found["port"].as_u64()?).ok()
}

/// The endpoints that serve; one that does not say so does.
fn ready(slice: &Value) -> impl Iterator<Item = &Value> {
    let all = slice["endpoints"].as_array().into_iter().flatten();
    all.filter(|one| one["conditions"]["ready"].as_bool() != Some(false))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(port: u16) -> ServicePort {
        ServicePort { namespace: "a".into(), name: "s".into(), port }
    }

    fn service() -> Value {
        json!({"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443, "targetPort": 8443}]}})
    }

    fn slice(port: &str, ready: Value) -> Value {
        json!({
            "ports": [{"name": port, "port": 8443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
        })
    }

    #[test]
    fn what_is_missing_is_told_as_kubernetes_tells_it() {
        let (there, ready) = (service(), slice("https", true.into()));
        let told = |port, service: Option<&Value>, slices: &[Value]| {
            check(&at(port), service, slices).map_err(|it| format!("{}: {}", it.reason, it.message))
        };
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(told(443, Some(&there), std::slice::from_ref(&ready)), Ok(()));
        assert_eq!(told(443, Some(&there), &[slice("https", Value::Null)]), Ok(()));
        assert_eq!(told(443, None, &[]), error("ServiceNotFound: service/s in \"a\" is not present"));
        assert_eq!(
            told(444, Some(&there), &[ready]),
            error("ServicePortError: service/s in \"a\" is not listening on port 444")
        );
        assert_eq!(
            told(443, Some(&there), &[]),
            error("EndpointsNotFound: cannot find endpointslices for service/s in \"a\"")
        );
        let none = "MissingEndpoints: endpointslices for service/s in \"a\" have no addresses with port name \"https\"";
        assert_eq!(told(443, Some(&there), &[slice("https", false.into())]), error(none));
        assert_eq!(told(443, Some(&there), &[slice("http", true.into())]), error(none));
        assert_eq!(told(443, Some(&json!({"spec": {"type": "ExternalName"}})), &[]), Ok(()));
    }

    #[test]
    fn a_service_is_reached_where_its_endpoints_are_ready() {
        let told = |service: Value, slices: &[Value]| {
            addresses(&at(443), Some(&service), slices)
                .map(|all| all.iter().map(Address::to_string).collect::<Vec<_>>().join(" "))
        };
        let mut six = slice("https", Value::Null);
        six["endpoints"][0]["addresses"] = json!(["fd00::1"]);
        let slices =
            [slice("https", true.into()), slice("other", true.into()), slice("https", false.into()), six];
        assert_eq!(told(service(), &slices), Ok("10.0.0.1:8443 [fd00::1]:8443".to_owned()));
        assert_eq!(
            told(service(), &slices[1..3]),
            Err("no endpoints available for service \"s\"".to_owned())
        );
        let outside = json!({"spec": {"type": "ExternalName", "externalName": "api.example.com"}});
        assert_eq!(told(outside, &[]), Ok("api.example.com:443".to_owned()));
        let other = json!({"spec": {"ports": [{"port": 80}]}});
        assert_eq!(told(other, &[]), Err("no service port 443 found for service \"s\"".to_owned()));
    }
}
