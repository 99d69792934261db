//! `kvctl compaction`.

use barque_proto::etcdserverpb::CompactionRequest;
use clap::Args;

use super::Context;
use crate::error::Failure;
use crate::output;

/// Arguments of `compaction`.
#[derive(Debug, Args)]
pub(crate) struct CompactionArgs {
    /// Versions that were superseded before this revision are forgotten
    #[arg(allow_negative_numbers = true)]
    revision: i64,
    /// Wait until the space of what is forgotten can be used again
    #[arg(long)]
    physical: bool,
}

impl CompactionArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = CompactionRequest { revision: self.revision, physical: self.physical };
        context.connection.compact(request).await?;
        output::line(&format!("compacted revision {}", self.revision))
    }
}
