//! `barque agent leave`: the node of this machine leaves its cluster. By its own rights a node may take no more pods, and have those
//! on it evicted; its object may be deleted by who has a kubeconfig for that. Prints; must never decide.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use barque_agent::cleanup::Cleaned;
use barque_client::servers::{Servers, Source, connect};
use barque_cluster::node_join::{self, NodeFiles};
use barque_cluster::node_leave::{self, Drain};
use clap::Args;

use crate::agent_args::CleanupArgs;
use crate::cluster_command::print;
use crate::component_args::time;
use crate::service_command;
use crate::service_unit::Service;

/// How a node leaves.
#[derive(Debug, Args)]
pub(crate) struct LeaveArgs {
    /// Whose rights are used [default: the node's own, which do not suffice to delete its Node object].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The node's name [default: the one that this machine joined as].
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// How long pods may take to go; what their PodDisruptionBudgets and times of grace say is respected.
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = time)]
    timeout: Duration,
    /// How long each pod has to end, in seconds [default: what it says itself].
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// Pods that nothing makes again elsewhere are evicted as well, and are lost.
    #[arg(long)]
    force: bool,
    /// Leaves what there is on this machine as it is: containers, links, rules, volumes, and the certificate.
    #[arg(long)]
    keep_state: bool,
    #[command(flatten)]
    cleanup: CleanupArgs,
}

/// Drains, cleans up, forgets.
pub(crate) async fn leave(args: LeaveArgs) -> anyhow::Result<()> {
    let config = args.cleanup.into_config()?;
    let directory = node_join::directory(&config.root_dir);
    let node = match args.hostname_override {
        Some(name) => name,
        None => node_leave::node_name(&directory)?,
    };
    let own = NodeFiles::at(directory.clone()).kubeconfig();
    let source = Source::Kubeconfig(args.kubeconfig.clone().unwrap_or(own));
    let client = connect(Servers { source, urls: Vec::new() }).await.context("the API servers")?;

    node_leave::cordon(&client, &node).await?;
    print(&format!("{node} takes no pods any more\n"));
    let how = Drain { within: args.timeout, grace_s: args.grace_period, force: args.force };
    let drained = node_leave::drain(&client, &node, how, |pod| print(&format!("pod {pod} has gone\n"))).await;
    drained.with_context(|| {
        format!("{node} does not leave, and takes no pods until `kubectl uncordon {node}`")
    })?;
    print(&format!("{node} has no pods any more but those that belong to it\n"));

    if !args.keep_state {
        service_command::stop(Service::Agent)?;
        if !told(&barque_agent::cleanup::cleanup(&config).await) {
            anyhow::bail!(
                "{node} is drained, and not all of it is taken away: stop its agent if it runs, and do this again"
            );
        }
    }
    if node_leave::forget(&client, &node).await? {
        print(&format!("{node} is no node any more\n"));
    } else {
        print(&format!(
            "the Node object stays, since a node may not delete itself: `kubectl delete node {node}`, or --kubeconfig of an \
             administrator here\n"
        ));
    }
    if !args.keep_state && directory.exists() {
        // Last: until here, this can be done again.
        std::fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
        print(&format!("{} is removed\n", directory.display()));
    }
    Ok(())
}

/// Prints what was taken away and what is left; whether nothing is.
pub(crate) fn told(cleaned: &Cleaned) -> bool {
    for pod in &cleaned.pods {
        print(&format!("pod {pod} is taken away\n"));
    }
    for problem in &cleaned.left {
        eprintln!("left: {problem}");
    }
    cleaned.left.is_empty()
}
