//! Each rule of the specification, on a small cluster.

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::*;
use crate::names::Zone;

fn service(value: serde_json::Value) -> Service {
    serde_json::from_value(value).unwrap()
}

fn slice(name: &str, service: &str, endpoints: serde_json::Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "protocol": "TCP", "port": 8443}, {"port": 1}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn zone() -> Zone {
    Zone { domain: "cluster.local.".parse().unwrap(), ttl: 30, servers: vec!["10.96.0.10".parse().unwrap()] }
}

fn cluster() -> Names {
    let mut names = Names::new(zone());
    let namespaces = ["default", "kube-system"];
    let namespaces: Vec<Namespace> = namespaces
        .iter()
        .map(|name| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap())
        .collect();
    names.replace_namespaces(&namespaces);
    names.replace_services(&[
        service(json!({"metadata": {"namespace": "default", "name": "web"}, "spec": {
            "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd96::7"],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}})),
        service(json!({"metadata": {"namespace": "default", "name": "pets"}, "spec": {"clusterIP": "None"}})),
        service(json!({"metadata": {"namespace": "default", "name": "eager"}, "spec": {
            "clusterIP": "None", "publishNotReadyAddresses": true}})),
        service(json!({"metadata": {"namespace": "default", "name": "empty"}, "spec": {"clusterIP": "None"}})),
        service(json!({"metadata": {"namespace": "default", "name": "far"}, "spec": {
            "type": "ExternalName", "externalName": "db.example.com"}})),
        service(json!({"metadata": {"namespace": "default", "name": "odd"}, "spec": {
            "type": "ExternalName", "externalName": "192.0.2.1"}})),
    ]);
    let unready = json!({"ready": false});
    names.replace_slices(&[
        slice(
            "pets-1",
            "pets",
            json!([
                {"addresses": ["10.1.1.2"], "hostname": "rex", "conditions": {"ready": true}},
                {"addresses": ["10.1.1.3"]},
                {"addresses": ["10.1.1.4"], "hostname": "late", "conditions": unready},
            ]),
        ),
        slice(
            "pets-2",
            "pets",
            json!([{"addresses": ["fd01::2"], "hostname": "rex"}, {"addresses": ["10.1.1.3"]}]),
        ),
        slice("eager-1", "eager", json!([{"addresses": ["10.1.1.4"], "conditions": unready}])),
        slice("web-1", "web", json!([{"addresses": ["10.1.1.9"]}])),
    ]);
    names
}

/// The answer in the form of a zone file.
fn ask_names(names: &Names, name: &str, kind: &str) -> String {
    let query = Query::query(Name::from_ascii(name).unwrap(), kind.parse().unwrap());
    let lines = |records: Vec<Record>| {
        let lines: Vec<_> = records
            .iter()
            .map(|record| format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data))
            .collect();
        lines.join("\n")
    };
    match answer(&query, names) {
        Answer::Records { answers, additionals } if additionals.is_empty() => lines(answers),
        Answer::Records { answers, additionals } => format!("{}\n+\n{}", lines(answers), lines(additionals)),
        Answer::Alias { record, .. } => lines(vec![record]),
        Answer::NoData(soa) => format!("no data for {}", soa.ttl),
        Answer::NoName(soa) => format!("no name for {}", soa.ttl),
        Answer::Elsewhere => "elsewhere".to_owned(),
        Answer::NotReady => "not ready".to_owned(),
    }
}

fn ask(name: &str, kind: &str) -> String {
    ask_names(&cluster(), name, kind)
}

fn check(cases: &[(&str, &str, &str)]) {
    for (name, kind, expected) in cases {
        assert_eq!(ask(name, kind), *expected, "{name} {kind}");
    }
}

#[test]
fn a_service_has_its_cluster_addresses_by_family() {
    check(&[
        ("web.default.svc.cluster.local.", "A", "web.default.svc.cluster.local. 30 A 10.96.0.7"),
        ("web.default.svc.cluster.local.", "AAAA", "web.default.svc.cluster.local. 30 AAAA fd96::7"),
        ("web.default.svc.cluster.local.", "TXT", "no data for 30"),
        ("web.default.svc.cluster.local.", "SRV", "no data for 30"),
    ]);
}

#[test]
fn a_named_port_has_the_service_as_its_target_with_the_addresses_beside() {
    let target = "web.default.svc.cluster.local.";
    let expected = format!(
        "_https._tcp.{target} 30 SRV 0 100 443 {target}\n+\n{target} 30 A 10.96.0.7\n{target} 30 AAAA fd96::7"
    );
    check(&[
        ("_https._tcp.web.default.svc.cluster.local.", "SRV", &expected),
        ("_https._udp.web.default.svc.cluster.local.", "SRV", "no name for 30"),
        ("_http._tcp.web.default.svc.cluster.local.", "SRV", "no name for 30"),
        ("_https._tcp.web.default.svc.cluster.local.", "A", "no data for 30"),
        ("_tcp.web.default.svc.cluster.local.", "SRV", "no data for 30"),
        ("_sctp.web.default.svc.cluster.local.", "SRV", "no name for 30"),
        ("https.tcp.web.default.svc.cluster.local.", "SRV", "no name for 30"),
    ]);
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    let pets = "pets.default.svc.cluster.local.";
    check(&[
        (pets, "A", &format!("{pets} 30 A 10.1.1.2\n{pets} 30 A 10.1.1.3")),
        (pets, "AAAA", &format!("{pets} 30 AAAA fd01::2")),
        ("empty.default.svc.cluster.local.", "A", "no data for 30"),
        ("eager.default.svc.cluster.local.", "A", "eager.default.svc.cluster.local. 30 A 10.1.1.4"),
    ]);
}

#[test]
fn an_endpoint_has_a_name_by_its_hostname_or_its_address() {
    check(&[
        ("rex.pets.default.svc.cluster.local.", "A", "rex.pets.default.svc.cluster.local. 30 A 10.1.1.2"),
        (
            "rex.pets.default.svc.cluster.local.",
            "AAAA",
            "rex.pets.default.svc.cluster.local. 30 AAAA fd01::2",
        ),
        (
            "10-1-1-3.pets.default.svc.cluster.local.",
            "A",
            "10-1-1-3.pets.default.svc.cluster.local. 30 A 10.1.1.3",
        ),
        ("late.pets.default.svc.cluster.local.", "A", "no name for 30"),
        ("10-1-1-9.web.default.svc.cluster.local.", "A", "no name for 30"),
    ]);
}

#[test]
fn a_named_port_of_a_headless_service_has_each_endpoint_once() {
    let pets = "pets.default.svc.cluster.local.";
    let expected = format!(
        "_https._tcp.{pets} 30 SRV 0 50 8443 10-1-1-3.{pets}\n_https._tcp.{pets} 30 SRV 0 50 8443 rex.{pets}\n+\n\
         10-1-1-3.{pets} 30 A 10.1.1.3\nrex.{pets} 30 A 10.1.1.2\nrex.{pets} 30 AAAA fd01::2"
    );
    check(&[
        (&format!("_https._tcp.{pets}"), "SRV", &expected),
        (&format!("_tcp.{pets}"), "SRV", "no data for 30"),
        (&format!("_udp.{pets}"), "SRV", "no name for 30"),
        (&format!("_other._tcp.{pets}"), "SRV", "no name for 30"),
    ]);
}

#[test]
fn addresses_of_services_and_of_headless_endpoints_lead_back_to_names() {
    check(&[
        ("7.0.96.10.in-addr.arpa.", "PTR", "7.0.96.10.in-addr.arpa. 30 PTR web.default.svc.cluster.local."),
        (
            "2.1.1.10.in-addr.arpa.",
            "PTR",
            "2.1.1.10.in-addr.arpa. 30 PTR rex.pets.default.svc.cluster.local.",
        ),
        (
            "4.1.1.10.in-addr.arpa.",
            "PTR",
            "4.1.1.10.in-addr.arpa. 30 PTR 10-1-1-4.eager.default.svc.cluster.local.",
        ),
        ("9.1.1.10.in-addr.arpa.", "PTR", "elsewhere"),
        ("1.1.10.in-addr.arpa.", "PTR", "elsewhere"),
        ("7.0.96.10.in-addr.arpa.", "A", "no data for 30"),
    ]);
    let v6 = format!("7.{}6.9.d.f.ip6.arpa.", "0.".repeat(27));
    assert!(ask(&v6, "PTR").ends_with("PTR web.default.svc.cluster.local."), "{}", ask(&v6, "PTR"));
}

#[test]
fn an_external_name_is_another_name_for_all_types() {
    let alias = "far.default.svc.cluster.local. 30 CNAME db.example.com.";
    check(&[
        ("far.default.svc.cluster.local.", "A", alias),
        ("far.default.svc.cluster.local.", "CNAME", alias),
        ("far.default.svc.cluster.local.", "MX", alias),
        ("x.far.default.svc.cluster.local.", "A", "no name for 30"),
        ("odd.default.svc.cluster.local.", "A", "no data for 30"),
    ]);
}

#[test]
fn pods_have_names_by_their_addresses_in_namespaces_that_exist() {
    check(&[
        ("10-1-1-2.default.pod.cluster.local.", "A", "10-1-1-2.default.pod.cluster.local. 30 A 10.1.1.2"),
        ("fd01--2.default.pod.cluster.local.", "AAAA", "fd01--2.default.pod.cluster.local. 30 AAAA fd01::2"),
        ("10-1-1-2.default.pod.cluster.local.", "AAAA", "no data for 30"),
        ("10-1-1-2.nowhere.pod.cluster.local.", "A", "no name for 30"),
        ("10-1-1-256.default.pod.cluster.local.", "A", "no name for 30"),
        ("web.default.pod.cluster.local.", "A", "no name for 30"),
    ]);
}

#[test]
fn the_zone_itself_has_its_version_its_server_and_its_own_record() {
    check(&[
        ("dns-version.cluster.local.", "TXT", "dns-version.cluster.local. 30 TXT 1.1.0"),
        ("dns-version.cluster.local.", "A", "no data for 30"),
        ("cluster.local.", "NS", "cluster.local. 30 NS ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", "A", "ns.dns.cluster.local. 30 A 10.96.0.10"),
        ("cluster.local.", "A", "no data for 30"),
    ]);
    assert!(
        ask("cluster.local.", "SOA").starts_with("cluster.local. 30 SOA ns.dns.cluster.local. hostmaster.")
    );
}

#[test]
fn names_above_others_exist_and_names_beside_them_do_not() {
    check(&[
        ("svc.cluster.local.", "A", "no data for 30"),
        ("default.svc.cluster.local.", "A", "no data for 30"),
        ("kube-system.svc.cluster.local.", "A", "no data for 30"),
        ("nowhere.svc.cluster.local.", "A", "no name for 30"),
        ("web.nowhere.svc.cluster.local.", "A", "no name for 30"),
        ("other.default.svc.cluster.local.", "A", "no name for 30"),
        ("a.b.c.web.default.svc.cluster.local.", "A", "no name for 30"),
        ("web.default.cluster.local.", "A", "no name for 30"),
        ("*.default.svc.cluster.local.", "A", "no name for 30"),
        ("example.com.", "A", "elsewhere"),
        ("example.com.default.svc.cluster.local.", "A", "no name for 30"),
        ("notcluster.local.", "A", "elsewhere"),
    ]);
}

#[test]
fn case_does_not_matter_and_comes_back_as_it_was_asked() {
    check(&[("Web.DEFAULT.svc.Cluster.Local.", "A", "Web.DEFAULT.svc.Cluster.Local. 30 A 10.96.0.7")]);
}

#[test]
fn before_everything_was_listed_a_missing_name_means_nothing() {
    let mut names = Names::new(zone());
    assert_eq!(ask_names(&names, "web.default.svc.cluster.local.", "A"), "not ready");
    assert_eq!(ask_names(&names, "7.0.96.10.in-addr.arpa.", "PTR"), "not ready");
    assert_eq!(ask_names(&names, "example.com.", "A"), "elsewhere");
    names.replace_namespaces(&[]);
    names.replace_services(&[]);
    assert_eq!(ask_names(&names, "web.default.svc.cluster.local.", "A"), "not ready");
    names.replace_slices(&[]);
    assert_eq!(ask_names(&names, "web.default.svc.cluster.local.", "A"), "no name for 30");
}

#[test]
fn what_changes_or_goes_is_answered_no_more() {
    let mut names = cluster();
    names.apply_service(&service(json!({"metadata": {"namespace": "default", "name": "web"}, "spec": {
        "clusterIP": "10.96.0.8"}})));
    assert_eq!(
        ask_names(&names, "web.default.svc.cluster.local.", "A"),
        "web.default.svc.cluster.local. 30 A 10.96.0.8"
    );
    assert_eq!(ask_names(&names, "7.0.96.10.in-addr.arpa.", "PTR"), "elsewhere");
    names.apply_slice(&slice("pets-1", "pets", json!([{"addresses": ["10.1.1.77"]}])));
    names.delete_slice("default", "pets-2");
    assert_eq!(
        ask_names(&names, "pets.default.svc.cluster.local.", "A"),
        "pets.default.svc.cluster.local. 30 A 10.1.1.77"
    );
    assert_eq!(ask_names(&names, "2.1.1.10.in-addr.arpa.", "PTR"), "elsewhere");
    names.replace_services(&[]);
    assert_eq!(ask_names(&names, "pets.default.svc.cluster.local.", "A"), "no name for 30");
    assert_eq!(ask_names(&names, "8.0.96.10.in-addr.arpa.", "PTR"), "elsewhere");
    names.delete_namespace("default");
    assert_eq!(ask_names(&names, "default.svc.cluster.local.", "A"), "no name for 30");
}
