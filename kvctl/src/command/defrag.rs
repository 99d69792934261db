//! `kvctl defrag`.

use std::time::Instant;

use barque_proto::etcdserverpb::DefragmentRequest;
use clap::Args;

use super::{Context, endpoint};
use crate::error::Failure;
use crate::{go_duration, output};

/// Arguments of `defrag`.
#[derive(Debug, Args)]
pub(crate) struct DefragArgs {
    /// Every member of the cluster instead of the endpoints
    #[arg(long)]
    cluster: bool,
}

impl DefragArgs {
    /// One member after the other: etcd's stand still meanwhile.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut failed = false;
        for endpoint in endpoint::asked(&context.connection, self.cluster).await? {
            let start = Instant::now();
            let done = context.connection.to_one(&endpoint).defragment(DefragmentRequest {}).await;
            let took = go_duration::format(start.elapsed());
            match done {
                Ok(_) => {
                    output::line(&format!("Finished defragmenting etcd member[{endpoint}]. took {took}"))?;
                }
                Err(failure) => {
                    eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({failure})");
                    failed = true;
                }
            }
        }
        if failed { Err(Failure::Code(1)) } else { Ok(()) }
    }
}
