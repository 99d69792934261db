//! What a node costs: one machine's agent that runs containers, in a network namespace, with a real store, API servers,
//! controllers and scheduler beside it. How long pods take from their creation until they run, with the image there; how fast
//! they are asked through a service; what the agent takes with all of them there, at rest. Figures are printed, never judged.
//!
//! `cargo bench -p barque --bench node -- [pods one at a time] [pods at once] [-o json]`, as root; `make bench` runs it.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/programs/certificates/mod.rs"]
mod certificates;
#[path = "../tests/programs/cluster/mod.rs"]
mod cluster;
#[path = "node/echo.rs"]
mod echo;
#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../tests/programs/containers/ground.rs"]
mod ground;
#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../tests/programs/containers/images.rs"]
mod images;
#[path = "machine/mod.rs"]
mod machine;
#[path = "node/report.rs"]
mod report;
#[path = "requests/mod.rs"]
mod requests;
#[path = "node/starts.rs"]
mod starts;
#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../tests/programs/containers/world.rs"]
mod world;

use std::time::Duration;

use machine::{cpu_seconds, load, resident_mib};
use report::Report;
use world::World;

/// How long everything is left alone, and how long before that, for what starting leaves to do.
const REST: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(10);
/// Counts of the command line.
fn asked(words: &[&str]) -> (usize, usize, bool) {
    let is_json = words.windows(2).any(|pair| pair == ["-o", "json"]);
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let number = |at: usize, usual| numbers.get(at).copied().unwrap_or(usual);
    (number(0, 30), number(1, 50), is_json)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", port] => return echo::serve(port.parse().unwrap()),
        ["ask", address] => return echo::ask(address),
        _ => {}
    }
    if !ground::enter_with("bench-of-a-node", &words) {
        return;
    }
    let (single, at_once, is_json) = asked(&words);
    // As people run it: what the tests log and how often they renew leases costs.
    let usual = [("log-level", "info".to_owned()), ("node-lease-duration-seconds", "40".to_owned())];
    let world = World::start_with(&["n1"], false, &usual);
    let agent = world.agent_pid("n1");
    let (load_before, empty) = (load(), resident_mib(agent));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();

    let client = runtime.block_on(requests::client(&world.cluster.kubeconfig(0)));
    let one_at_a_time = runtime.block_on(starts::one_at_a_time(&client, single));
    let echoes = echo::measure(&world);
    let before = cpu_seconds(agent);
    let together = runtime.block_on(starts::together(&client, at_once));
    let cpu = cpu_seconds(agent) - before;

    std::thread::sleep(SETTLE);
    let resident = resident_mib(agent);
    let before = cpu_seconds(agent);
    std::thread::sleep(REST);
    let idle = (cpu_seconds(agent) - before) / REST.as_secs_f64();
    let ended = runtime.block_on(starts::end_all(&client, at_once));
    let report = Report {
        one_at_a_time,
        together,
        ended,
        echoes,
        cpu,
        empty,
        resident,
        idle,
        load: [load_before, load()],
    };
    if is_json {
        println!("{:#}", report.json());
    } else {
        report.print();
    }
}
