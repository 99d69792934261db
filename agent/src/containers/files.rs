//! What stands in the files that the containers of a pod share: `/etc/hosts`, `/etc/resolv.conf`. A decision; what the machine's
//! own files say is handed in.

use core::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfigOption};

use super::hostname::Names;
use super::namespace;
use crate::pods::spec;

/// Servers that the resolver of the C library asks at most.
const SERVERS: usize = 3;
/// Domains that it looks in at most.
const DOMAINS: usize = 32;
/// How long they may be together.
const DOMAINS_LENGTH: usize = 2048;

/// The names that every pod knows.
const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// The text of `/etc/hosts`. In the network of its node it is the machine's.
#[must_use]
pub fn hosts(pod: &Pod, names: &Names, pod_ips: &[IpAddr], of_machine: &str) -> String {
    let mut text = String::new();
    if spec::uses_host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(of_machine);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n");
        text.push_str(LOCAL);
        for ip in pod_ips {
            let whole = names.fqdn.as_ref().map(|fqdn| format!("{fqdn}\t")).unwrap_or_default();
            let short = match &names.fqdn {
                // The kernel may have been told the whole name; people look for the short one too.
                Some(fqdn) => fqdn.split('.').next().unwrap_or_default(),
                None => &names.hostname,
            };
            text.push_str(&format!("{ip}\t{whole}{short}\n"));
        }
    }
    let aliases = spec::spec(pod).and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// Who answers questions about names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The servers of the cluster; empty when there are none.
    pub servers: Vec<IpAddr>,
    /// As `cluster.local`.
    pub domain: String,
    /// The machine's `/etc/resolv.conf`.
    pub of_machine: String,
}

/// Whom a pod asks about names, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<String>,
    /// What is tried behind a name that is not whole.
    pub domains: Vec<String>,
    /// As `ndots:5`.
    pub options: Vec<String>,
}

fn parse(text: &str) -> Config {
    let mut config = Config::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            // The last one counts.
            Some("search") => {
                config.domains = words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                config.domains.retain(|domain| !domain.is_empty());
            }
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

/// The text of `/etc/resolv.conf`, as the pod's policy wants it.
#[must_use]
pub fn resolv_conf(pod: &Pod, resolver: &Resolver) -> String {
    let config = resolver_config(pod, resolver);
    let mut text = String::new();
    if !config.domains.is_empty() {
        text.push_str(&format!("search {}\n", config.domains.join(" ")));
    }
    for server in config.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !config.options.is_empty() {
        text.push_str(&format!("options {}\n", config.options.join(" ")));
    }
    text
}

/// Whom the pod asks about names, as its policy wants it.
#[must_use]
pub fn resolver_config(pod: &Pod, resolver: &Resolver) -> Config {
    let spec = spec::spec(pod);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let in_host = spec::uses_host_network(pod);
    let of_machine = || parse(&resolver.of_machine);
    let mut config = match policy {
        "None" => Config::default(),
        // Who has no servers of the cluster has those of the machine.
        "ClusterFirst" | "ClusterFirstWithHostNet"
            if !(resolver.servers.is_empty() || in_host && policy == "ClusterFirst") =>
        {
            let domain = &resolver.domain;
            let namespace = namespace(pod);
            let mut domains =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            domains.extend(of_machine().domains);
            Config {
                servers: resolver.servers.iter().map(ToString::to_string).collect(),
                domains,
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ => of_machine(),
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.domains.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            set(&mut config.options, option);
        }
    }
    let mut seen = Vec::new();
    let mut once = |list: &mut Vec<String>| {
        seen.clear();
        list.retain(|it| {
            !seen.contains(it) && {
                seen.push(it.clone());
                true
            }
        });
    };
    once(&mut config.servers);
    once(&mut config.domains);
    config.servers.truncate(SERVERS);
    config.domains.truncate(DOMAINS);
    while config.domains.join(" ").len() > DOMAINS_LENGTH {
        config.domains.pop();
    }
    config
}

/// An option replaces one of its name.
fn set(options: &mut Vec<String>, option: &PodDNSConfigOption) {
    let Some(name) = option.name.as_deref().filter(|name| !name.is_empty()) else { return };
    let value = option.value.as_deref().filter(|value| !value.is_empty());
    let text = value.map_or_else(|| name.to_owned(), |value| format!("{name}:{value}"));
    match options.iter_mut().find(|it| it.split(':').next() == Some(name)) {
        Some(there) => *there = text,
        None => options.push(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_finds_itself_and_its_aliases() {
        let ips = ["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let short = Names { hostname: "p".into(), fqdn: None };
        let plain = hosts(&pod(json!({})), &short, &ips, "");
        assert_eq!(plain, format!("# Kubernetes-managed hosts file.\n{LOCAL}10.1.0.2\tp\nfd00::2\tp\n"));
        let whole = Names { hostname: "h.s.ns.svc.x".into(), fqdn: Some("h.s.ns.svc.x".into()) };
        let aliases = json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
        let more = hosts(&pod(aliases), &whole, &ips[..1], "");
        assert!(
            more.ends_with("10.1.0.2\th.s.ns.svc.x\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{more}"
        );
        let host = hosts(&pod(json!({"hostNetwork": true})), &short, &ips, "127.0.0.1 box");
        assert_eq!(host, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 box\n");
    }

    #[test]
    fn names_are_asked_for_where_the_policy_says() {
        let resolver = Resolver {
            servers: vec!["10.96.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            of_machine: "# x\nsearch old\nsearch corp.\nnameserver 192.0.2.1\noptions rotate ndots:2\n"
                .into(),
        };
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n";
        let machine = "search corp\nnameserver 192.0.2.1\noptions rotate ndots:2\n";
        let own = json!({"nameservers": ["9.9.9.9"], "searches": ["corp", "x.y"],
            "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]});
        let table = [
            (json!({}), cluster.to_owned()),
            (json!({"dnsPolicy": "ClusterFirst"}), cluster.to_owned()),
            (json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), machine.to_owned()),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster.to_owned()),
            (json!({"dnsPolicy": "Default"}), machine.to_owned()),
            (
                json!({"dnsPolicy": "None", "dnsConfig": own}),
                "search corp x.y\nnameserver 9.9.9.9\noptions ndots:1 edns0\n".to_owned(),
            ),
            (
                json!({"dnsPolicy": "Default", "dnsConfig": own}),
                "search corp x.y\nnameserver 192.0.2.1\nnameserver 9.9.9.9\noptions rotate ndots:1 edns0\n"
                    .to_owned(),
            ),
        ];
        for (spec, expected) in table {
            let told = spec.to_string();
            assert_eq!(resolv_conf(&pod(spec), &resolver), expected, "{told}");
        }
        let without = Resolver { servers: Vec::new(), ..resolver };
        assert_eq!(resolv_conf(&pod(json!({})), &without), machine);
        let many = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"],
            "searches": (0..40).map(|n| format!("{}{n}", "d".repeat(100))).collect::<Vec<_>>()}});
        let text = resolv_conf(&pod(many), &without);
        assert_eq!(text.matches("nameserver").count(), 3);
        assert!(text.lines().next().unwrap().len() <= "search ".len() + DOMAINS_LENGTH);
    }
}
