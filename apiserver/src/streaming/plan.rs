//! From a request and the objects it is about to the place where it goes. Pure; must never connect to anything.

use std::net::IpAddr;

use barque_api::status::{Reason, Status};
use serde_json::Value;

use super::node::Agent;

/// Whose certificate is expected at a place, and which one is shown there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// That of an agent, verified if its authority is known; this server's own is shown.
    Agent {
        /// The name of its node.
        node: String,
        /// Whether the node says that its agent shows a certificate of the cluster's.
        is_certified: bool,
    },
    /// The same, never verified.
    UnverifiedAgent,
    /// Anybody's; none is shown.
    Anybody,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// With TLS.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, encoded.
    pub path: String,
    /// The query, encoded; may be empty.
    pub query: String,
    /// Whose certificates.
    pub trust: Trust,
}

impl Target {
    /// Something that an agent serves.
    #[must_use]
    pub fn agent(agent: Agent, path: String, query: String) -> Self {
        let Agent { host, port, node, is_certified } = agent;
        Self { tls: true, host, port, path, query, trust: Trust::Agent { node, is_certified } }
    }

    /// Host and port as they stand in an address.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Path and query.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// Host and port as they stand in an address.
#[must_use]
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The container of a pod that a request means: the one it names, or the only one.
///
/// # Errors
/// 400 when the pod has no such container, or several and none is named.
pub fn container(pod: &Value, wanted: &str) -> Result<String, Status> {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let of = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect()
    };
    let main = of("containers");
    let all = [of("initContainers"), main.clone(), of("ephemeralContainers")].concat();
    if !wanted.is_empty() {
        return if all.iter().any(|one| one == wanted) {
            Ok(wanted.to_owned())
        } else {
            Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
        };
    }
    match main.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

/// The node that a pod runs on; nothing as long as it runs nowhere.
#[must_use]
pub fn node_name(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|name| !name.is_empty())
}

/// A pod that runs nowhere.
#[must_use]
pub fn no_host(name: &str) -> Status {
    Status::bad_request(format!("pod {name} does not have a host assigned"))
}

/// A name as proxies take it: `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyName<'a> {
    /// `https`, not `http` or nothing.
    pub tls: bool,
    /// The object.
    pub name: &'a str,
    /// A number, or a name where services are meant; may be empty.
    pub port: &'a str,
}

/// Reads such a name. `kind` stands in the error: `pod`, `node` or `service`.
///
/// # Errors
/// 400 for anything else.
pub fn proxy_name<'a>(id: &'a str, kind: &str) -> Result<ProxyName<'a>, Status> {
    let parts: Vec<&str> = id.split(':').collect();
    let parts = match *parts.as_slice() {
        [name] => Some(("", name, "")),
        [name, port] => Some(("", name, port)),
        [scheme, name, port] => Some((scheme, name, port)),
        _ => None,
    };
    match parts {
        Some((scheme @ ("" | "http" | "https"), name, port)) if !name.is_empty() => {
            Ok(ProxyName { tls: scheme == "https", name, port })
        }
        _ => Err(Status::bad_request(format!("invalid {kind} request {id:?}"))),
    }
}

/// Where a pod is reached through its proxy.
///
/// # Errors
/// 400 for a pod without an address, or with one that is not for pods; 503 for a port that is none.
pub fn pod_target(pod: &Value, asked: ProxyName<'_>, path: String, query: String) -> Result<Target, Status> {
    let declared = || {
        let mut containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        containers.find_map(|one| one["ports"][0]["containerPort"].as_u64())
    };
    let port = match (asked.port, declared()) {
        ("", Some(port)) => port.to_string(),
        (port, _) => port.to_owned(),
    };
    let ip = pod.pointer("/status/podIPs/0/ip").and_then(Value::as_str).unwrap_or_default();
    if !ip.parse().is_ok_and(|ip: IpAddr| is_global_unicast(ip)) {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(Target {
        tls: asked.tls,
        host: ip.to_owned(),
        port: port_number(&port, asked.tls)?,
        path,
        query,
        trust: Trust::Anybody,
    })
}

/// Where a node is reached through its proxy: its agent, unless another port is named.
///
/// # Errors
/// 400 for a node with an address that only the node itself may use; 503 for a port that is none.
pub fn node_target(
    agent: Agent,
    asked: ProxyName<'_>,
    path: String,
    query: String,
) -> Result<Target, Status> {
    if asked.port.is_empty() || asked.port == agent.port.to_string() {
        return Ok(Target::agent(agent, path, query));
    }
    let allowed = match agent.host.parse::<IpAddr>() {
        Ok(ip) => is_global_unicast(ip),
        Err(_) => agent.host != "localhost",
    };
    if !allowed {
        return Err(Status::bad_request("address not allowed"));
    }
    let port = port_number(asked.port, asked.tls)?;
    Ok(Target { tls: asked.tls, host: agent.host, port, path, query, trust: Trust::Anybody })
}

/// The name of the port of a service that a request means.
///
/// # Errors
/// 503 when the service has no port with this number.
pub fn service_port(service: &Value, asked: ProxyName<'_>) -> Result<String, Status> {
    let Ok(number) = asked.port.parse::<i64>() else { return Ok(asked.port.to_owned()) };
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.find(|port| port["port"].as_i64() == Some(number));
    match found {
        Some(port) => Ok(port["name"].as_str().unwrap_or_default().to_owned()),
        None => Err(Status::new(
            Reason::ServiceUnavailable,
            format!("no service port {number} found for service {:?}", asked.name),
        )),
    }
}

/// An address behind a service, and the pod that must have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The address.
    pub ip: String,
    /// The port there.
    pub port: u16,
    /// The pod.
    pub pod: String,
}

/// The addresses behind a service that take a request to this port, as its Endpoints object says: those of pods of the
/// same namespace only.
#[must_use]
pub fn backends(endpoints: &Value, port_name: &str, namespace: &str) -> Vec<Backend> {
    let mut found = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports = subset["ports"].as_array().into_iter().flatten();
        for port in ports.filter(|port| port["name"].as_str().unwrap_or_default() == port_name) {
            let Some(port) = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()) else {
                continue;
            };
            for address in subset["addresses"].as_array().into_iter().flatten() {
                let target = &address["targetRef"];
                if target["namespace"].as_str() == Some(namespace)
                    && let (Some(ip), Some(pod)) = (address["ip"].as_str(), target["name"].as_str())
                {
                    found.push(Backend { ip: ip.to_owned(), port, pod: pod.to_owned() });
                }
            }
        }
    }
    found
}

/// Whether a pod has this address.
#[must_use]
pub fn has_address(pod: &Value, ip: &str) -> bool {
    let all = pod.pointer("/status/podIPs").and_then(Value::as_array);
    all.into_iter().flatten().any(|one| one["ip"].as_str() == Some(ip))
}

/// Nothing is behind a service. `id` is its name as the request has it.
#[must_use]
pub fn no_endpoints(id: &str) -> Status {
    Status::new(Reason::ServiceUnavailable, format!("no endpoints available for service {id:?}"))
}

/// What follows `proxy` in the path of a request: decoded, rid of `.`, `..` and empty steps, and encoded again, with the
/// slash at its end if it had one. Nothing where there is not even a slash.
#[must_use]
pub fn proxied_path(path: &str, rest: &str) -> Option<String> {
    if rest.is_empty() {
        return path.ends_with('/').then(|| "/".to_owned());
    }
    let decoded = percent_decoded(rest);
    let mut steps: Vec<&[u8]> = Vec::new();
    for step in decoded.split(|byte| *byte == b'/') {
        match step {
            b"" | b"." => {}
            b".." => {
                steps.pop();
            }
            _ => steps.push(step),
        }
    }
    let slash = path.ends_with('/') && !steps.is_empty();
    let mut clean: String = steps.iter().map(|step| format!("/{}", percent_encoded(step))).collect();
    if slash || clean.is_empty() {
        clean.push('/');
    }
    Some(clean)
}

pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are one byte"));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// As Go encodes a path.
pub(super) fn percent_encoded(step: &[u8]) -> String {
    let mut encoded = String::with_capacity(step.len());
    for byte in step {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,:;=@".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn port_number(port: &str, tls: bool) -> Result<u16, Status> {
    if port.is_empty() {
        return Ok(if tls { 443 } else { 80 });
    }
    port.parse().map_err(|_| {
        Status::new(
            Reason::ServiceUnavailable,
            format!("error trying to reach service: dial tcp: lookup tcp/{port}: unknown port"),
        )
    })
}

/// Go's `IsGlobalUnicast`: also private addresses, but no loopback, link-local, multicast, broadcast or unspecified ones.
fn is_global_unicast(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_named_or_the_only_one() {
        let pod = |containers: Value| json!({"metadata": {"name": "p"}, "spec": containers});
        let one = pod(json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}));
        let two = pod(json!({
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
            "ephemeralContainers": [{"name": "e"}],
        }));
        let told = |pod: &Value, wanted: &str| container(pod, wanted).map_err(|status| status.message);
        assert_eq!(told(&one, ""), Ok("a".to_owned()));
        assert_eq!(told(&two, "e"), Ok("e".to_owned()));
        assert_eq!(told(&one, "i"), Ok("i".to_owned()));
        assert_eq!(told(&one, "x"), Err("container x is not valid for pod p".to_owned()));
        assert_eq!(
            told(&two, ""),
            Err("a container name must be specified for pod p, choose one of: [i a b e]".to_owned())
        );
        assert_eq!(
            told(&pod(json!({"containers": []})), ""),
            Err("a container name must be specified for pod p".to_owned())
        );
        assert_eq!(container(&two, "").unwrap_err().reason.code(), 400);
    }

    #[test]
    fn names_of_proxies_may_have_a_scheme_and_a_port() {
        let read = |id: &str| proxy_name(id, "pod").map(|it| format!("{} {} {}", it.tls, it.name, it.port));
        let table = [
            ("a", Ok("false a ")),
            ("a:80", Ok("false a 80")),
            ("https:a:443", Ok("true a 443")),
            ("http:a:", Ok("false a ")),
            ("ftp:a:21", Err("invalid pod request \"ftp:a:21\"")),
            (":80", Err("invalid pod request \":80\"")),
            ("a:b:c:d", Err("invalid pod request \"a:b:c:d\"")),
        ];
        for (id, wanted) in table {
            let wanted = wanted.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(read(id).map_err(|status| status.message), wanted, "{id}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_its_address_and_first_port() {
        let pod = |ip: &str| {
            json!({
                "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
                "status": {"podIPs": [{"ip": ip}]},
            })
        };
        let target = |ip: &str, id: &str| {
            let asked = proxy_name(id, "pod").unwrap();
            pod_target(&pod(ip), asked, "/x".to_owned(), "q=1".to_owned())
                .map(|it| format!("{} {}{}", it.tls, it.authority(), it.path_and_query()))
                .map_err(|status| (status.reason.code(), status.message))
        };
        assert_eq!(target("10.1.2.3", "a"), Ok("false 10.1.2.3:8080/x?q=1".to_owned()));
        assert_eq!(target("fd00::1", "https:a:99"), Ok("true [fd00::1]:99/x?q=1".to_owned()));
        for ip in
            ["", "127.0.0.1", "169.254.169.254", "::1", "fe80::1", "224.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"]
        {
            assert_eq!(target(ip, "a"), Err((400, "address not allowed".to_owned())), "{ip}");
        }
        assert_eq!(target("10.1.2.3", "a:web").unwrap_err().0, 503);
    }

    #[test]
    fn a_node_is_its_agent_unless_another_port_is_asked() {
        let target = |host: &str, id: &str| {
            let agent =
                Agent { host: host.to_owned(), port: 10250, node: "n".to_owned(), is_certified: true };
            node_target(agent, proxy_name(id, "node").unwrap(), "/".to_owned(), String::new())
                .map(|it| {
                    let is_agent = it.trust == Trust::Agent { node: "n".to_owned(), is_certified: true };
                    let whose = if is_agent { "Agent".to_owned() } else { format!("{:?}", it.trust) };
                    format!("{} {} {whose}", it.tls, it.authority())
                })
                .map_err(|status| status.message)
        };
        assert_eq!(target("127.0.0.1", "n"), Ok("true 127.0.0.1:10250 Agent".to_owned()));
        assert_eq!(target("10.0.0.1", "n:10250"), Ok("true 10.0.0.1:10250 Agent".to_owned()));
        assert_eq!(target("10.0.0.1", "n:9100"), Ok("false 10.0.0.1:9100 Anybody".to_owned()));
        assert_eq!(target("127.0.0.1", "n:9100"), Err("address not allowed".to_owned()));
        assert_eq!(target("localhost", "n:9100"), Err("address not allowed".to_owned()));
    }

    #[test]
    fn a_service_is_reached_at_pods_of_its_namespace() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"port": 81}]}});
        let port = |id: &str| {
            service_port(&service, proxy_name(id, "service").unwrap()).map_err(|status| status.message)
        };
        assert_eq!(port("s:80"), Ok("web".to_owned()));
        assert_eq!(port("s:81"), Ok(String::new()));
        assert_eq!(port("s:web"), Ok("web".to_owned()));
        assert_eq!(port("s:82"), Err("no service port 82 found for service \"s\"".to_owned()));

        let endpoints = json!({"subsets": [{
            "addresses": [
                {"ip": "10.0.0.1", "targetRef": {"kind": "Pod", "namespace": "a", "name": "p"}},
                {"ip": "10.0.0.2", "targetRef": {"kind": "Pod", "namespace": "b", "name": "q"}},
                {"ip": "10.0.0.3"},
            ],
            "ports": [{"name": "web", "port": 8080}, {"name": "other", "port": 1}],
        }]});
        let wanted = Backend { ip: "10.0.0.1".to_owned(), port: 8080, pod: "p".to_owned() };
        assert_eq!(backends(&endpoints, "web", "a"), [wanted]);
        assert_eq!(backends(&endpoints, "", "a"), []);
        let pod = json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
        assert!(has_address(&pod, "fd00::1") && !has_address(&pod, "10.0.0.2"));
    }

    #[test]
    fn a_path_cannot_climb_out_of_its_proxy() {
        let table = [
            ("/p/proxy", "", None),
            ("/p/proxy/", "", Some("/")),
            ("/p/proxy/a/b", "a/b", Some("/a/b")),
            ("/p/proxy/a/b/", "a/b", Some("/a/b/")),
            ("/p/proxy/a/../../c", "a/../../c", Some("/c")),
            ("/p/proxy/a/%2E%2e/c", "a/%2E%2e/c", Some("/c")),
            ("/p/proxy/a//b/./c", "a//b/./c", Some("/a/b/c")),
            ("/p/proxy/a%2Fb", "a%2Fb", Some("/a/b")),
            ("/p/proxy/a/..%2F../c", "a/..%2F../c", Some("/c")),
            ("/p/proxy/a%20b!%", "a%20b!%", Some("/a%20b%21%25")),
            ("/p/proxy/..", "..", Some("/")),
        ];
        for (path, rest, wanted) in table {
            assert_eq!(proxied_path(path, rest).as_deref(), wanted, "{path}");
        }
    }
}
