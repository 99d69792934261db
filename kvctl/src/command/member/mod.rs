//! `kvctl member`: the list of members and its changes. A change that would cost the quorum is refused with the
//! reason; `--dry-run` only says what would be.

mod observe;
mod quorum;
mod replace;

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use clap::{Args, Subcommand};
use tokio::time::interval;

use super::words::MemberId;
use super::{Consistency, Context};
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::go_quote::quote;
use crate::output::{self, Answer, Format};
use quorum::{Change, Forecast};

/// How often members are looked at before a change is refused, and the pause in between.
const LOOKS: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Subcommands of `member`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum MemberCommand {
    /// Add a member, and print how to start it
    Add {
        /// Its name
        name: String,
        /// Its peer URLs, separated by commas
        #[arg(long, value_name = "URLS", required = true)]
        peer_urls: String,
        /// As a learner, which does not vote
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        caution: Caution,
    },
    /// Remove a member
    Remove {
        /// Its id (hexadecimal)
        #[arg(value_name = "MEMBER_ID")]
        id: MemberId,
        #[command(flatten)]
        caution: Caution,
    },
    /// Change a member's peer URLs
    Update {
        /// Its id (hexadecimal)
        #[arg(value_name = "MEMBER_ID")]
        id: MemberId,
        /// Its new peer URLs, separated by commas
        #[arg(long, value_name = "URLS", required = true)]
        peer_urls: String,
        #[command(flatten)]
        caution: Caution,
    },
    /// List all members
    List {
        /// Linearizable (l) or serializable (s)
        #[arg(long, value_enum, default_value_t = Consistency::L)]
        consistency: Consistency,
    },
    /// Let a learner vote
    Promote {
        /// Its id (hexadecimal)
        #[arg(value_name = "MEMBER_ID")]
        id: MemberId,
        #[command(flatten)]
        caution: Caution,
    },
    /// Replace a dead member: remove it, add the new one as a learner, wait for it, let it vote
    Replace(replace::ReplaceArgs),
}

/// How careful a change is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Caution {
    /// Change nothing; say which quorum would be left
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Ask the cluster even if this program thinks that the change costs the quorum
    #[arg(long)]
    pub(super) force: bool,
}

impl MemberCommand {
    /// Whether the answer can be drawn as a table.
    pub(crate) fn has_table(&self) -> bool {
        matches!(self, Self::List { .. })
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection;
        let answer = match self {
            Self::Add { name, peer_urls, learner, caution } => {
                let urls = urls(&peer_urls);
                let change = Change::Add { name: name.clone(), learner };
                if !weigh(context, &change, caution).await? {
                    return Ok(());
                }
                let request = pb::MemberAddRequest { peer_ur_ls: urls, is_learner: learner };
                let response = connection.member_add(request).await?;
                let start = start_lines(&name, &peer_urls, &response);
                context.output.print(&Answer::MemberAdd(response))?;
                if context.output.format == Format::Simple {
                    output::line(&format!("\n{start}"))?;
                }
                return Ok(());
            }
            Self::Remove { id: MemberId(id), caution } => {
                if !weigh(context, &Change::Remove(id), caution).await? {
                    return Ok(());
                }
                let response = connection.member_remove(pb::MemberRemoveRequest { id }).await?;
                Answer::MemberRemove { id, response }
            }
            Self::Update { id: MemberId(id), peer_urls, caution } => {
                if !weigh(context, &Change::Update(id), caution).await? {
                    return Ok(());
                }
                let request = pb::MemberUpdateRequest { id, peer_ur_ls: urls(&peer_urls) };
                Answer::MemberUpdate { id, response: connection.member_update(request).await? }
            }
            Self::Promote { id: MemberId(id), caution } => {
                if !weigh(context, &Change::Promote(id), caution).await? {
                    return Ok(());
                }
                let response = connection.member_promote(pb::MemberPromoteRequest { id }).await?;
                Answer::MemberPromote { id, response }
            }
            Self::List { consistency } => {
                let linearizable = consistency == Consistency::L;
                Answer::MemberList(connection.member_list(pb::MemberListRequest { linearizable }).await?)
            }
            Self::Replace(args) => return args.run(context).await,
        };
        context.output.print(&answer)
    }
}

fn urls(list: &str) -> Vec<String> {
    list.split(',').map(|url| url.trim().to_owned()).collect()
}

/// Says what the change would do with `--dry-run`, refuses it if it is unsafe, and otherwise returns true.
async fn weigh(context: &Context, change: &Change, caution: Caution) -> Result<bool, Failure> {
    if caution.force && !caution.dry_run {
        return Ok(true);
    }
    let forecast = forecast(&context.connection, change).await?;
    if caution.dry_run {
        context.output.report(&forecast)?;
        return match forecast.refusal {
            Some(_) => Err(Failure::Code(1)),
            None => Ok(false),
        };
    }
    match &forecast.refusal {
        _ if forecast.unknown => Ok(true),
        Some(why) => Err(Failure::Verdict(format!(
            "{why} (--dry-run shows the quorum, --force asks the cluster all the same)"
        ))),
        None => Ok(true),
    }
}

/// What the change would do. A refusal is looked at again: members that elect a leader do not answer for a moment.
async fn forecast(connection: &Connection, change: &Change) -> Result<Forecast, Failure> {
    let mut looks = interval(LOOK_AGAIN_AFTER);
    let mut left = LOOKS;
    loop {
        looks.tick().await;
        left -= 1;
        let forecast = quorum::forecast(&observe::members(connection).await?, change);
        if left == 0 || forecast.unknown || forecast.refusal.is_none() {
            return Ok(forecast);
        }
    }
}

/// The settings with which the new member must be started: etcd's names, and Barque's.
fn start_lines(name: &str, peer_urls: &str, response: &pb::MemberAddResponse) -> String {
    let new_id = response.member.as_ref().map_or(0, |member| member.id);
    let cluster: Vec<String> = response
        .members
        .iter()
        .flat_map(|member| {
            let name = if member.id == new_id { name } else { &member.name };
            member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
        })
        .collect();
    let settings = [
        ("NAME", name.to_owned()),
        ("INITIAL_CLUSTER", cluster.join(",")),
        ("INITIAL_ADVERTISE_PEER_URLS", peer_urls.to_owned()),
        ("INITIAL_CLUSTER_STATE", "existing".to_owned()),
    ];
    let lines = |prefix: &str| {
        let line = |(key, value): &(&str, String)| format!("{prefix}{key}={}", quote(value.as_bytes()));
        settings.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    format!("{}\n\n{}", lines("ETCD_"), lines("BARQUE_STORE_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_member_is_told_how_to_start() {
        let member = |id, name: &str, url: &str| pb::Member {
            id,
            name: name.into(),
            peer_ur_ls: vec![url.into()],
            ..Default::default()
        };
        let response = pb::MemberAddResponse {
            header: None,
            member: Some(member(2, "", "http://b:2380")),
            members: vec![member(1, "m1", "http://a:2380"), member(2, "", "http://b:2380")],
        };
        let text = start_lines("m2", "http://b:2380", &response);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ETCD_NAME=\"m2\"");
        assert_eq!(lines[1], "ETCD_INITIAL_CLUSTER=\"m1=http://a:2380,m2=http://b:2380\"");
        assert_eq!(lines[2], "ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:2380\"");
        assert_eq!(lines[3], "ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
        assert_eq!(lines[5], "BARQUE_STORE_NAME=\"m2\"");
    }
}
