//! How many pods a second get a node, from a client that creates them to the binding in the store: one member of the store that
//! syncs every write, one API server, one scheduler, clients with TLS beside them. The workloads are those of Kubernetes'
//! `scheduler_perf`, whose thresholds are printed for comparison; that test has everything in one process. Rates are printed,
//! never judged.
//!
//! `cargo bench -p barque --bench scheduling -- NAME` runs the workloads whose name contains NAME; `make bench` runs all.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/programs/certificates/mod.rs"]
mod certificates;
#[path = "../tests/programs/cluster/mod.rs"]
mod cluster;
#[path = "machine/mod.rs"]
mod machine;
#[path = "requests/mod.rs"]
mod requests;
#[path = "scheduling/run.rs"]
mod run;
#[path = "../../scheduler/benches/workloads/shapes.rs"]
mod shapes;
#[path = "scheduling/workloads.rs"]
mod workloads;

use machine::load;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let before = load();
    println!(
        "{:<11} {:<48} {:>10} {:>10} {:>10}  ratio",
        "family", "workload", "created/s", "pods/s", "threshold"
    );
    for workload in workloads::all() {
        if wanted.as_ref().is_some_and(|wanted| !workload.name.contains(wanted.as_str())) {
            continue;
        }
        let rates = run::run(&workload).await;
        let (threshold, ratio) = match workload.threshold {
            Some(threshold) => (threshold.to_string(), format!("{:.1}x", rates.bound / f64::from(threshold))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{:<11} {:<48} {:>10.0} {:>10.0} {threshold:>10}  {ratio}",
            workload.family, workload.name, rates.created, rates.bound
        );
    }
    println!("load of the machine before and after: {before}; {}", load());
}
