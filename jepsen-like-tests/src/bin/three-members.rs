//! Starts three members on this machine, sends one put and one get through them, and shows where they are.
//!
//! They go on until Ctrl-C when this runs in a terminal (or `HOLD=1`); otherwise they are removed at once.

use std::io::IsTerminal;

use anyhow::{Context, ensure};
use jepsen_like_tests::cluster::{Cluster, Flavor, Options};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Flavor::under_test(), 3, Options::default()).await?;
    let followers = cluster.followers().await?;
    let [writes, reads] = followers[..] else { anyhow::bail!("three members have two followers") };
    cluster.client(writes).put("hello", "barque").await.context("a put through a follower")?;
    let value = cluster.client(reads).get("hello").await.context("a get through the other follower")?;
    ensure!(value.as_deref() == Some(b"barque"), "the get answered {value:?}");

    println!("{:<8}{:<10}{:<26}{:<8}{:<10}role", "member", "process", "client endpoint", "peer", "revision");
    for index in 0..cluster.len() {
        let status = cluster.client(index).status().await?;
        let header = status.header.context("an answer without a header")?;
        println!(
            "{:<8}{:<10}{:<26}{:<8}{:<10}{}",
            cluster.name(index),
            cluster.process_id(index).context("a member has ended")?,
            cluster.endpoint(index),
            cluster.peer_port(index),
            header.revision,
            if status.leader == header.member_id { "leader" } else { "follower" },
        );
    }
    println!(
        "put through {}, got back through {}: hello = barque",
        cluster.name(writes),
        cluster.name(reads)
    );

    if std::io::stdout().is_terminal() || std::env::var_os("HOLD").is_some() {
        println!("Try: etcdctl --endpoints={} get hello", cluster.endpoints().join(","));
        println!("Ctrl-C ends them.");
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}
