//! `kvctl lease`.

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use clap::Subcommand;

use super::Context;
use super::words::LeaseId;
use crate::error::Failure;
use crate::output::{self, Answer, Format};

/// Subcommands of `lease`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum LeaseCommand {
    /// Create a lease
    Grant {
        /// Seconds it lives without being renewed
        #[arg(allow_negative_numbers = true)]
        ttl: i64,
    },
    /// End a lease and delete its keys
    Revoke {
        /// Its id (hexadecimal)
        id: LeaseId,
    },
    /// Show how long a lease still lives
    #[command(name = "timetolive")]
    TimeToLive {
        /// Its id (hexadecimal)
        id: LeaseId,
        /// Also the keys attached to it
        #[arg(long)]
        keys: bool,
    },
    /// List all leases
    List,
    /// Renew a lease, again and again until it has ended
    KeepAlive {
        /// Its id (hexadecimal)
        id: LeaseId,
        /// Renew it once
        #[arg(long)]
        once: bool,
    },
}

impl LeaseCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection;
        let answer = match self {
            Self::Grant { ttl } => {
                Answer::LeaseGrant(connection.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await?)
            }
            Self::Revoke { id: LeaseId(id) } => {
                let response = connection.lease_revoke(pb::LeaseRevokeRequest { id }).await?;
                Answer::LeaseRevoke { id, response }
            }
            Self::TimeToLive { id: LeaseId(id), keys } => {
                let response = connection.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await?;
                Answer::LeaseTimeToLive { response, keys }
            }
            Self::List => Answer::Leases(connection.lease_leases(pb::LeaseLeasesRequest {}).await?),
            Self::KeepAlive { id: LeaseId(id), once } => return keep_alive(context, id, once).await,
        };
        context.output.print(&answer)
    }
}

async fn keep_alive(context: &Context, id: i64, once: bool) -> Result<(), Failure> {
    loop {
        let response = context.connection.lease_keep_alive_once(id).await?;
        if response.ttl <= 0 {
            return match (once, context.output.format) {
                // etcdctl's code for it.
                (true, _) => Err(Failure::Connection("etcdserver: requested lease not found".into())),
                (false, Format::Simple) => output::line(&format!("lease {id:016x} expired or revoked.")),
                (false, _) => Ok(()),
            };
        }
        let pause = Duration::from_secs(response.ttl.unsigned_abs()) / 3;
        context.output.print(&Answer::LeaseKeepAlive(response))?;
        if once {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
    }
}
