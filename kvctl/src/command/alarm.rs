//! `kvctl alarm`.

use barque_proto::etcdserverpb::alarm_request::AlarmAction;
use barque_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use clap::Subcommand;

use super::Context;
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::Answer;

/// Subcommands of `alarm`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum AlarmCommand {
    /// End all alarms
    Disarm,
    /// List all alarms
    List,
}

impl AlarmCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let listed = list(&context.connection).await?;
        let response = match self {
            Self::List => listed,
            Self::Disarm => disarm(&context.connection, listed).await?,
        };
        context.output.print(&Answer::Alarm(response))
    }
}

/// All alarms.
pub(super) async fn list(connection: &Connection) -> Result<AlarmResponse, Failure> {
    connection.alarm(request(AlarmAction::Get, AlarmMember::default())).await
}

/// Ends each alarm; the answer has those that were ended, and no header, as etcdctl's.
async fn disarm(connection: &Connection, listed: AlarmResponse) -> Result<AlarmResponse, Failure> {
    let mut all = AlarmResponse::default();
    for alarm in listed.alarms {
        let one = connection.alarm(request(AlarmAction::Deactivate, alarm)).await?;
        all.alarms.extend(one.alarms);
    }
    Ok(all)
}

fn request(action: AlarmAction, alarm: AlarmMember) -> AlarmRequest {
    let kind = AlarmType::try_from(alarm.alarm).unwrap_or(AlarmType::None);
    AlarmRequest { action: action.into(), member_id: alarm.member_id, alarm: kind.into() }
}
