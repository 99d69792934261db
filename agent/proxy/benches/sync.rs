//! What telling the kernel costs: 5,000 services at once, one endpoint among them, and the whole again. Run as root:
//! `cargo bench -p barque-proxy`; everything happens in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use barque_proxy::{Kernel, State};
use serde_json::{Value, json};
use support::{Ns, endpoint, facts, root, service, set, settings, slice};

const SERVICES: usize = 5_000;
const ENDPOINTS: usize = 3;
const ROUNDS: usize = 200;

fn of(number: usize) -> (Value, String) {
    let address = format!("10.43.{}.{}", number / 250, number % 250 + 1);
    let name = format!("s{number}");
    (service(&name, json!({"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]})), name)
}

fn endpoints(name: &str, number: usize, shift: usize) -> Value {
    let all: Vec<_> = (0..ENDPOINTS)
        .map(|one| {
            let host = number * ENDPOINTS + one + shift * usize::from(one == 0);
            endpoint(&format!("10.42.{}.{}", host / 250 % 250, host % 250 + 1), "a")
        })
        .collect();
    slice(name, json!([{"name": "", "port": 8080, "protocol": "TCP"}]), json!(all))
}

fn spread(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: p50 {:.2?}, p99 {:.2?}, longest {:.2?}", at(50), at(99), at(100));
}

fn main() {
    if !root() {
        return;
    }
    let ns = Ns::new();
    let mut kernel = ns.run(async { Kernel::open("barque") }).unwrap();
    let mut state = State::new(settings(), facts());
    for number in 0..SERVICES {
        let (object, name) = of(number);
        set(&mut state, &object, true);
        set(&mut state, &endpoints(&name, number, 0), true);
    }
    let begin = Instant::now();
    let whole = state.whole();
    let planned = begin.elapsed();
    kernel.commit(&whole).unwrap();
    println!(
        "{SERVICES} services with {ENDPOINTS} endpoints each, {} steps: planned in {planned:.2?}, told in {:.2?}",
        whole.steps.len(),
        begin.elapsed() - planned
    );

    let (mut plans, mut commits) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let number = round * 17 % SERVICES;
        let (_, name) = of(number);
        set(&mut state, &endpoints(&name, number, 20_000), true);
        let begin = Instant::now();
        let changes = state.changes();
        plans.push(begin.elapsed());
        kernel.commit(&changes).unwrap();
        commits.push(begin.elapsed());
    }
    spread("one endpoint replaced, planned", plans);
    spread("one endpoint replaced, planned and told", commits);
    let mut commits = Vec::new();
    for round in 0..ROUNDS {
        let number = (round * 17 + 5) % SERVICES;
        let (_, name) = of(number);
        let mut fewer = endpoints(&name, number, 0);
        fewer["endpoints"].as_array_mut().unwrap().pop();
        set(&mut state, &fewer, true);
        let begin = Instant::now();
        kernel.commit(&state.changes()).unwrap();
        commits.push(begin.elapsed());
    }
    spread("one endpoint less of one service, planned and told", commits);
    let begin = Instant::now();
    kernel.commit(&state.sweep()).unwrap();
    println!("what was emptied deleted in {:.2?}", begin.elapsed());

    let begin = Instant::now();
    kernel.commit(&state.whole()).unwrap();
    println!("everything anew, with the old table there, in {:.2?}", begin.elapsed());
    let begin = Instant::now();
    let listed = ns.nft("list table ip barque").len();
    println!("for comparison, `nft list table` of it: {listed} bytes in {:.2?}", begin.elapsed());
}
