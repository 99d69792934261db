//! `kvctl move-leader`.

use barque_proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};
use clap::Args;

use super::Context;
use super::words::MemberId;
use crate::error::Failure;
use crate::output::Answer;

/// Arguments of `move-leader`.
#[derive(Debug, Args)]
pub(crate) struct MoveLeaderArgs {
    /// The member that shall lead (hexadecimal)
    #[arg(value_name = "MEMBER_ID")]
    to: MemberId,
}

impl MoveLeaderArgs {
    /// Only the leader can hand leadership over, so it is looked for among the endpoints.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        for endpoint in context.connection.endpoints() {
            let connection = context.connection.to_one(endpoint);
            let status = connection.status(StatusRequest {}).await?;
            let from = status.leader;
            if from != 0 && status.header.is_some_and(|header| header.member_id == from) {
                let response = connection.move_leader(MoveLeaderRequest { target_id: self.to.0 }).await?;
                return context.output.print(&Answer::MoveLeader { from, to: self.to.0, response });
            }
        }
        Err(Failure::Arguments("none of the endpoints leads: give all members as --endpoints".into()))
    }
}
