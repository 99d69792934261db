//! Bad networks really are bad: what is asked of a routed network happens to the packets of a member and its client.
//!
//! One test alone: it becomes the same program again, in namespaces of its own. It needs root, /dev/net/tun and tools.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jepsen_like_tests::client::Client;
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::{PATIENCE, eventually};
use jepsen_like_tests::network::{self, Conditions, Delay, Network, Passage, Rule};
use jepsen_like_tests::spawn;
use tokio::time::{Instant, timeout};

/// What is missing for networks of our own, if anything is.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun".to_owned());
    }
    let tools = [("ip", "iproute2"), ("nft", "nftables"), ("unshare", "util-linux")];
    let missing = tools.iter().find(|(tool, _)| spawn::command(Path::new(tool)).is_err());
    missing.map(|(tool, package)| format!("`{tool}` (apt-get install {package})"))
}

fn everywhere(conditions: Conditions) -> Vec<Rule> {
    vec![Rule { passage: Passage::default(), conditions }]
}

/// How long a write of so many bytes takes.
async fn written(client: &Client, bytes: usize) -> Duration {
    let began = Instant::now();
    timeout(PATIENCE, client.put("k", vec![7; bytes])).await.unwrap().unwrap();
    began.elapsed()
}

#[test]
fn packets_suffer_what_was_asked() {
    if let Some(missing) = missing() {
        println!("skipped: bad networks need {missing}");
        return;
    }
    if !network::is_inside() {
        panic!("{}", network::enter());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(suffer());
}

async fn suffer() {
    let normal = Conditions::default();
    let network = Arc::new(Network::build_routed(1).unwrap());
    let options = Options::default().network(Arc::clone(&network));
    let cluster = Cluster::start(Flavor::under_test(), 1, options).await.unwrap();
    let client = cluster.client(0);
    written(&client, 1).await;

    // There and back again. Only lower bounds: a busy machine may take any time on top.
    let delay = Delay::Uniform { least_us: 150_000, most_us: 160_000 };
    network.set_rules(everywhere(Conditions { delay, ..normal }));
    let took = written(&client, 1).await;
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(network.packets().unwrap().late >= 2);

    // 200 kB at 1 Mb/s.
    network.set_rules(everywhere(Conditions { bits_per_s: Some(1_000_000), ..normal }));
    let took = written(&client, 200_000).await;
    assert!(took >= Duration::from_millis(1500), "{took:?}");

    // TCP repairs all of it.
    let before = network.packets().unwrap();
    let sick = Conditions { loss_percent: 10, duplicate_percent: 20, overtaken_percent: 20, ..normal };
    network.set_rules(everywhere(sick));
    for _ in 0..20 {
        written(&client, 20_000).await;
    }
    let after = network.packets().unwrap();
    for (what, before, after) in [
        ("lost", before.lost, after.lost),
        ("duplicated", before.duplicated, after.duplicated),
        ("overtaken", before.overtaken, after.overtaken),
    ] {
        assert!(after > before, "{what}: {before} before, {after} after");
    }

    // One direction alone is enough to be silent, and nobody is told.
    let address = network.address_of("m1");
    for passage in [
        Passage { from: address, ..Passage::default() },
        Passage { to: address, ..Passage::default() },
        Passage { port: Some(cluster.client_port(0)), ..Passage::default() },
    ] {
        let conditions = Conditions { loss_percent: 100, ..normal };
        network.set_rules(vec![Rule { passage, conditions }]);
        let answer = timeout(Duration::from_millis(500), client.get("k")).await;
        assert!(answer.is_err(), "{passage:?}: {answer:?}");
        // The port for members is not what clients use.
        let port = Some(cluster.peer_port(0));
        network.set_rules(vec![Rule { passage: Passage { port, ..Passage::default() }, conditions }]);
        let heard = eventually("an answer", PATIENCE, || async { client.get("k").await.map(drop) });
        heard.await.unwrap();
    }
    network.set_rules(Vec::new());
    written(&client, 1).await;
}
