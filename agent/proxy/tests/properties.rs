//! However services, endpoints, pods and policies came and went: what was told step by step is what is told at once.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use barque_proxy::nft::{Family, Step, Transaction, Verdict};
use barque_proxy::{Kernel, State};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Ns, facts, root, service, set, settings};

/// A table as the kernel would keep it, strict where the kernel is.
#[derive(Debug, Default, Clone, PartialEq)]
struct Table {
    chains: BTreeMap<String, Vec<String>>,
    sets: BTreeMap<String, BTreeMap<Vec<u8>, String>>,
    /// Chains that each map's elements lead to.
    targets: BTreeMap<(String, Vec<u8>), String>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    tables: BTreeMap<Family, Table>,
}

impl Model {
    fn apply(&mut self, transaction: &Transaction) {
        for (family, step) in &transaction.steps {
            if matches!(step, Step::AddTable) {
                self.tables.entry(*family).or_default();
                continue;
            }
            if matches!(step, Step::DeleteTable) {
                self.tables.remove(family).expect("the table is there");
                continue;
            }
            self.tables.get_mut(family).expect("the table is there").apply(step);
        }
        for table in self.tables.values() {
            table.check();
        }
    }
}

impl Table {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::AddTable | Step::DeleteTable => {}
            Step::AddSet(name, _) => {
                self.sets.entry(name.to_string()).or_default();
            }
            Step::DeleteSet(name) => {
                let used = self.chains.values().flatten().any(|rule| rule.contains(&format!("\"{name}\"")));
                assert!(!used, "{name} is deleted but used");
                self.sets.remove(&**name).expect("the set is there");
            }
            Step::AddChain(name, ..) => {
                self.chains.entry(name.to_string()).or_default();
            }
            Step::FlushChain(name) => self.chains.get_mut(&**name).expect("the chain is there").clear(),
            Step::DeleteChain(name) => {
                assert!(self.targets.values().all(|target| **target != **name), "{name} is deleted but used");
                assert!(self.chains.remove(&**name).expect("the chain is there").is_empty());
            }
            Step::AddRule(chain, rule) => {
                self.chains.get_mut(&**chain).expect("the chain is there").push(format!("{rule:?}"));
            }
            Step::AddElements(set, elements) => {
                let keys = self.sets.get_mut(&**set).expect("the set is there");
                for (key, value) in elements {
                    assert!(
                        keys.insert(key.clone(), format!("{value:?}")).is_none(),
                        "an element of {set} is added twice"
                    );
                    if let Some(Verdict::Goto(chain) | Verdict::Jump(chain)) = &value.verdict {
                        assert!(self.chains.contains_key(&**chain), "{chain} is not there");
                        self.targets.insert((set.to_string(), key.clone()), chain.to_string());
                    }
                }
            }
            Step::DeleteElements(set, elements) => {
                let keys = self.sets.get_mut(&**set).expect("the set is there");
                for (key, _) in elements {
                    keys.remove(key).expect("the element is there");
                    self.targets.remove(&(set.to_string(), key.clone()));
                }
            }
        }
    }

    /// Every chain that is named is there.
    fn check(&self) {
        for rule in self.chains.values().flatten() {
            for word in ["Goto(\"", "Jump(\""] {
                for (at, _) in rule.match_indices(word) {
                    let name = rule[at + word.len()..].split('"').next().unwrap();
                    assert!(self.chains.contains_key(name), "{name} is not there: {rule}");
                }
            }
        }
    }
}

/// Objects by kind and name.
type Objects = BTreeMap<(String, String), Value>;

fn a_service() -> impl Strategy<Value = Value> {
    let policies = || prop_oneof![Just("Cluster"), Just("Local")];
    let kinds = prop_oneof![Just("ClusterIP"), Just("NodePort"), Just("LoadBalancer")];
    let families = prop_oneof![Just(vec![4]), Just(vec![6]), Just(vec![4, 6])];
    (0..3_u8, kinds, policies(), policies(), any::<bool>(), any::<bool>(), families, 1..3_u16).prop_map(
        |(number, kind, internal, external, affinity, ranges, families, ports)| {
            let ips: Vec<_> = families
                .iter()
                .map(|family| if *family == 4 { format!("10.43.0.{}", number + 1) } else { format!("fd00:43::{}", number + 1) })
                .collect();
            let ports: Vec<_> = (0..ports)
                .map(|port| {
                    let protocol = if port == 0 { "TCP" } else { "UDP" };
                    // Node ports and external addresses are not unique on purpose.
                    json!({"name": format!("p{port}"), "port": 80 + port, "protocol": protocol, "nodePort": 30000 + port})
                })
                .collect();
            let mut object = service(
                &format!("s{number}"),
                json!({
                    "type": kind, "clusterIPs": ips, "ports": ports, "externalIPs": ["198.51.100.1", "2001:db8:1::1"],
                    "internalTrafficPolicy": internal, "externalTrafficPolicy": external,
                    "sessionAffinity": if affinity { "ClientIP" } else { "None" },
                    "loadBalancerSourceRanges": if ranges { json!(["192.0.2.0/24"]) } else { json!([]) },
                }),
            );
            object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
            object
        },
    )
}

fn a_slice() -> impl Strategy<Value = Value> {
    let endpoint = (1..5_u8, any::<bool>(), 0..4_u8).prop_map(|(host, here, kind)| {
        let conditions = match kind {
            0 => json!({"ready": false, "serving": false, "terminating": false}),
            1 => json!({"ready": false, "serving": true, "terminating": true}),
            _ => json!({"ready": true, "serving": true, "terminating": false}),
        };
        let hints = if host % 2 == 0 {
            json!({"forZones": [{"name": if here { "east" } else { "west" }}]})
        } else {
            Value::Null
        };
        (host, json!({"nodeName": if here { "a" } else { "b" }, "conditions": conditions, "hints": hints}))
    });
    let endpoints = proptest::collection::vec(endpoint, 0..4);
    (0..3_u8, 0..2_u8, any::<bool>(), endpoints).prop_map(|(number, part, six, endpoints)| {
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|(host, mut rest)| {
                let address = if six { format!("fd00:42::{host}") } else { format!("10.42.0.{host}") };
                rest["addresses"] = json!([address]);
                rest
            })
            .collect();
        json!({
            "kind": "EndpointSlice",
            "metadata": {"name": format!("s{number}-{part}-{six}"), "namespace": "shop", "labels": {"kubernetes.io/service-name": format!("s{number}")}},
            "addressType": if six { "IPv6" } else { "IPv4" },
            "ports": [{"name": "p0", "port": 8080, "protocol": "TCP"}, {"name": "p1", "port": 5353, "protocol": "UDP"}],
            "endpoints": endpoints,
        })
    })
}

fn a_pod() -> impl Strategy<Value = Value> {
    (0..4_u8, any::<bool>(), 0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(number, here, label, address, host_port)| {
        let ips = match address {
            0 => json!([]),
            1 => json!([{"ip": format!("10.42.0.{}", number + 1)}]),
            _ => json!([{"ip": format!("10.42.0.{}", number + 1)}, {"ip": format!("fd00:42::{}", number + 1)}]),
        };
        let port = if host_port { json!({"name": "web", "containerPort": 8080, "hostPort": 8000}) } else { json!({"name": "web", "containerPort": 8080}) };
        json!({
            "kind": "Pod",
            "metadata": {"name": format!("p{number}"), "namespace": if number == 3 { "office" } else { "shop" }, "labels": {"app": format!("l{label}")}},
            "spec": {"nodeName": if here { "a" } else { "b" }, "containers": [{"name": "c", "ports": [port]}]},
            "status": {"podIPs": ips},
        })
    })
}

fn a_policy() -> impl Strategy<Value = Value> {
    let labels = || (0..3_u8).prop_map(|label| json!({"matchLabels": {"app": format!("l{label}")}}));
    let peer = prop_oneof![
        labels().prop_map(|pods| json!({"podSelector": pods})),
        Just(json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}})),
        Just(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.42.0.0/30"]}})),
        Just(json!({"ipBlock": {"cidr": "fd00::/8"}})),
    ];
    let port = prop_oneof![
        Just(json!({"port": 80})),
        Just(json!({"port": "web"})),
        Just(json!({"port": 80, "endPort": 90, "protocol": "UDP"}))
    ];
    let rule = (proptest::collection::vec(peer, 0..3), proptest::collection::vec(port, 0..3), any::<bool>());
    (0..3_u8, prop_oneof![labels(), Just(json!({}))], proptest::collection::vec(rule, 0..3)).prop_map(|(number, pods, rules)| {
        let mut spec = json!({"podSelector": pods, "ingress": [], "egress": []});
        for (peers, ports, incoming) in rules {
            let (list, side) = if incoming { ("ingress", "from") } else { ("egress", "to") };
            spec[list].as_array_mut().unwrap().push(json!({side: peers, "ports": ports}));
        }
        json!({"kind": "NetworkPolicy", "metadata": {"name": format!("n{number}"), "namespace": "shop"}, "spec": spec})
    })
}

fn a_namespace() -> impl Strategy<Value = Value> {
    (any::<bool>(), any::<bool>()).prop_map(|(shop, blue)| {
        let name = if shop { "shop" } else { "office" };
        json!({"kind": "Namespace", "metadata": {"name": name, "labels": {"team": if blue { "blue" } else { "red" }}}})
    })
}

fn an_object() -> impl Strategy<Value = Value> {
    prop_oneof![3 => a_service(), 4 => a_slice(), 3 => a_pod(), 3 => a_policy(), 1 => a_namespace()]
}

/// Whether it comes or goes, and whether the kernel is told behind it.
fn history() -> impl Strategy<Value = Vec<(Value, bool, bool)>> {
    proptest::collection::vec((an_object(), proptest::bool::weighted(0.75), any::<bool>()), 1..40)
}

fn note(objects: &mut Objects, object: &Value, there: bool) {
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let key = (of(&object["kind"]), format!("{}/{}", of(&metadata["namespace"]), of(&metadata["name"])));
    if there {
        objects.insert(key, object.clone());
    } else {
        objects.remove(&key);
    }
}

fn fresh(objects: &Objects, table: &str) -> State {
    let mut state = State::new(barque_proxy::Settings { table: table.to_owned(), ..settings() }, facts());
    for object in objects.values() {
        set(&mut state, object, true);
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steps_lead_to_what_a_fresh_plan_says(history in history()) {
        let mut state = State::new(settings(), facts());
        let mut model = Model::default();
        model.apply(&state.whole());
        let mut objects = Objects::new();
        for (object, there, tell) in &history {
            set(&mut state, object, *there);
            note(&mut objects, object, *there);
            if *tell {
                model.apply(&state.changes());
            }
        }
        model.apply(&state.changes());
        model.apply(&state.sweep());
        prop_assert!(state.changes().is_empty());
        let mut wanted = Model::default();
        wanted.apply(&fresh(&objects, "barque").whole());
        prop_assert_eq!(&model, &wanted);
        // To make everything anew changes nothing.
        let mut again = model.clone();
        again.apply(&state.whole());
        prop_assert_eq!(again, wanted);
    }
}

#[test]
fn the_kernel_ends_with_what_a_fresh_plan_says() {
    if !root() {
        return;
    }
    let ns = Ns::new();
    let config = ProptestConfig { cases: 15, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&history(), |history| {
        let mut kernel = ns.run(async { Kernel::open("steps") }).unwrap();
        let mut state = State::new(settings(), facts());
        kernel.commit(&state.whole()).unwrap();
        let mut objects = Objects::new();
        for (object, there, tell) in &history {
            set(&mut state, object, *there);
            note(&mut objects, object, *there);
            if *tell {
                kernel.commit(&state.changes()).unwrap();
            }
        }
        kernel.commit(&state.changes()).unwrap();
        kernel.commit(&state.sweep()).unwrap();
        let mut other = ns.run(async { Kernel::open("fresh") }).unwrap();
        other.commit(&fresh(&objects, "fresh").whole()).unwrap();
        for family in ["ip", "ip6"] {
            prop_assert_eq!(blocks(&ns, family, "steps"), blocks(&ns, family, "fresh"));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// The chains and sets of a table, whatever their order; elements of sets likewise.
fn blocks(ns: &Ns, family: &str, table: &str) -> BTreeSet<String> {
    let all =
        ns.nft(&format!("list table {family} {table}")).replace(&format!("table {family} {table} {{"), "");
    all.split("\n\n")
        .map(|block| {
            let mut words: Vec<_> = match block.split_once("elements = {") {
                Some((_, elements)) => elements.split([',', '}']).map(|one| one.trim().to_owned()).collect(),
                None => return block.trim().trim_end_matches("\n}").to_owned(),
            };
            words.sort();
            format!("{} {}", block.split_once("elements").map_or("", |(head, _)| head), words.join(","))
        })
        .collect()
}
