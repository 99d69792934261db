//! `barque agent --join`: the machine becomes a node of a cluster first, and stays one. Must never join again what it joined already.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use barque_client::servers::connect;
use barque_cluster::node_join::{self, NodeFiles};
use barque_cluster::token::Token;
use barque_cluster::{node_serving, node_trust};
use clap::Args;
use http::Uri;
use tokio_util::sync::CancellationToken;

use crate::agent_args::AgentArgs;
use crate::notify;
use crate::server_args::{ServerArgsError, master_url, read_token};

/// Whose node the machine becomes.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The URL of a master whose node this machine becomes, such as https://10.0.0.1:6443, instead of --kubeconfig.
    #[arg(long, env = "BARQUE_AGENT_JOIN", value_name = "URL")]
    join: Option<Uri>,
    /// With --join, the token: what the file `node-token` in that master's data directory says. Only asked for the first time.
    #[arg(long, env = "BARQUE_AGENT_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// With --join, a file with the token.
    #[arg(long, env = "BARQUE_AGENT_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

/// Whose node it becomes, and by what it is believed.
#[derive(Debug)]
pub(crate) struct Join {
    url: Uri,
    token: TokenPlace,
}

/// Where the token is. A file is read when it is needed: who has joined goes on without it.
#[derive(Debug)]
enum TokenPlace {
    Said(Token),
    File(PathBuf),
}

impl TokenPlace {
    fn read(self) -> Result<Token, JoinArgsError> {
        match self {
            Self::Said(token) => Ok(token),
            Self::File(path) => read_token(None, Some(&path))?.ok_or(JoinArgsError::NoToken),
        }
    }
}

/// What is wrong with the flags.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinArgsError {
    #[error(transparent)]
    Server(#[from] ServerArgsError),
    #[error("--join needs --token or --token-file: the file `node-token` in that master's data directory")]
    NoToken,
    #[error("--token and --token-file are for joining: --join says whose cluster")]
    NoJoin,
    #[error("--join makes this machine one node; --hollow-nodes needs a --kubeconfig that may keep many")]
    Hollow,
    #[error("--join and --kubeconfig both say whom to speak to; give one of them")]
    Kubeconfig,
}

impl JoinArgs {
    pub(crate) fn read(&self) -> Result<Option<Join>, JoinArgsError> {
        let said = read_token(self.token.as_deref(), None)?.map(TokenPlace::Said);
        match (&self.join, said.or(self.token_file.clone().map(TokenPlace::File))) {
            (Some(url), Some(token)) => Ok(Some(Join { url: master_url(url.clone())?, token })),
            (Some(_), None) => Err(JoinArgsError::NoToken),
            (None, Some(_)) => Err(JoinArgsError::NoJoin),
            (None, None) => Ok(None),
        }
    }
}

/// Joins, if that was not done before, and runs the agent until `stop`.
pub(crate) async fn run(mut args: AgentArgs, join: Join, stop: CancellationToken) -> anyhow::Result<()> {
    let node = args.node_name();
    let files = NodeFiles::at(node_join::directory(args.root_dir()));
    let cluster = match files.known(&node, SystemTime::now())? {
        Some(cluster) => cluster,
        None => {
            tracing::info!(url = %join.url, node, "joins a cluster");
            let token = join.token.read()?;
            let joining = node_join::join(&files, &node, &join.url, &token);
            match stop.run_until_cancelled(joining).await {
                Some(joined) => joined?,
                None => return Ok(()),
            }
        }
    };
    let serves = args.joined(&files, cluster);
    if serves {
        node_serving::begin(&files, &node, SystemTime::now())?;
    }
    let config = args.into_config()?;
    let client = connect(config.servers().clone()).await.context("the API servers")?;
    let stop = stop.child_token();
    let following = tokio::spawn(node_join::follow_masters(files.clone(), client.clone(), stop.clone()));
    let trusting = node_trust::follow(files.clone(), node.clone(), client.clone(), serves, stop.clone());
    let trusting = tokio::spawn(trusting);
    let renewing = tokio::spawn(node_join::renew(files, node, client, stop.clone()));
    let outcome = barque_agent::agent::run(config, notify::ready, stop.clone()).await;
    stop.cancel();
    following.await.context("following masters")?;
    trusting.await.context("following whom the cluster trusts")?;
    renewing.await.context("renewing certificates")?;
    Ok(outcome?)
}
