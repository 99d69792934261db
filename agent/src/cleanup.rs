//! Everything of a node taken away that no agent keeps any more: containers, links, rules, volumes. Images and logs stay. Must
//! never run beside an agent, and never touch what is not the agent's.

use std::collections::HashSet;

use barque_network::{Backend, Network, Settings};

use crate::config::ContainerConfig;
use crate::pod_network::made_by_plugins;
use crate::volumes::tear_down_all;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Pods of which something was there.
    pub pods: Vec<String>,
    /// Sentences about what is still there.
    pub left: Vec<String>,
}

/// Takes everything away, as far as it can.
pub async fn cleanup(config: &ContainerConfig) -> Cleaned {
    let mut pods = HashSet::new();
    let mut left = Vec::new();
    let (state, data) = (config.run_dir.join("containers"), config.root_dir.join("containers"));
    match tokio::task::spawn_blocking(move || barque_containers::cleanup(&state, &data)).await {
        Ok(Ok(cleaned)) => {
            pods.extend(cleaned.sandboxes);
            left.extend(cleaned.left);
        }
        // An agent is there, or something else that makes all the rest dangerous.
        Ok(Err(error)) => return Cleaned { pods: Vec::new(), left: vec![story(&error)] },
        Err(error) => left.push(error.to_string()),
    }
    if let Err(error) = plugins(config).await {
        left.push(format!("of CNI plugins: {}", story(&error)));
    }
    if let Err(error) = links(config).await {
        left.push(format!("of the network: {}", story(&error)));
    }
    let rules =
        tokio::task::spawn_blocking(|| barque_proxy::cleanup(&barque_proxy::Settings::default().table));
    match rules.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => left.push(format!("of the packet filter: {}", story(&error))),
        Err(error) => left.push(error.to_string()),
    }
    let root = config.root_dir.clone();
    match tokio::task::spawn_blocking(move || tear_down_all(&root)).await {
        Ok((uids, problems)) => {
            pods.extend(uids);
            left.extend(problems);
        }
        Err(error) => left.push(error.to_string()),
    }
    let mut pods: Vec<String> = pods.into_iter().collect();
    pods.sort();
    Cleaned { pods, left }
}

/// An error with what caused it.
fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let told = next.to_string();
        // Some say it themselves.
        if !text.ends_with(&told) {
            text.push_str(&format!(": {told}"));
        }
        cause = next.source();
    }
    text
}

async fn plugins(config: &ContainerConfig) -> Result<(), barque_network::cni::CniError> {
    let networks = made_by_plugins(config)?;
    for pod in networks.attached()? {
        networks.detach(&pod.pod_id).await?;
    }
    Ok(())
}

async fn links(config: &ContainerConfig) -> Result<(), barque_network::NetworkError> {
    let network = Network::open(Settings {
        state_dir: config.run_dir.join("network"),
        addresses: Vec::new(),
        mtu: None,
        backend: Backend::default(),
    })?;
    network.cleanup().await?;
    for address in &config.cluster_dns {
        network.remove_local_address(*address).await?;
    }
    Ok(())
}
