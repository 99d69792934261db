//! `kvctl elect`: run for leader and stay until interrupted, or observe who leads.

use std::time::Duration;

use barque_proto::etcdserverpb::{RangeRequest, RangeResponse};
use barque_proto::v3electionpb::{CampaignRequest, LeaderKey};
use clap::Args;

use super::Context;
use super::session::{Session, Stop};
use super::words::Raw;
use crate::error::Failure;
use crate::output::Answer;

/// How long a dead candidate keeps its place.
const SESSION_TTL_S: i64 = 60;

/// Before an observation that was cut off begins again.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `elect`.
#[derive(Debug, Args)]
pub(crate) struct ElectArgs {
    /// The election
    name: Raw,
    /// What to proclaim as leader
    #[arg(required_unless_present = "listen")]
    proposal: Option<Raw>,
    /// Only observe
    #[arg(long, short, conflicts_with = "proposal")]
    listen: bool,
}

impl ElectArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        match &self.proposal {
            Some(proposal) => self.campaign(proposal, context, &mut stop).await,
            None => tokio::select! {
                ended = self.observe(context) => ended,
                () = stop.asked() => Ok(()),
            },
        }
    }

    /// Prints each leader, and goes on at another member when the observed one is gone.
    async fn observe(&self, context: &Context) -> Result<(), Failure> {
        let connection = context.connection.patient();
        let mut last = 0;
        loop {
            let mut leaders = connection.observe(self.name.0.clone()).await?;
            while let Some(leader) = leaders.next().await {
                let revision = leader.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                // After an interruption the leader that was printed last comes again.
                if revision == last {
                    continue;
                }
                last = revision;
                let response = RangeResponse {
                    header: leader.header,
                    kvs: leader.kv.into_iter().collect(),
                    more: false,
                    count: 0,
                };
                context.output.print(&Answer::Get { response, value_only: false })?;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn campaign(&self, proposal: &Raw, context: &Context, stop: &mut Stop) -> Result<(), Failure> {
        let session = Session::start(&context.connection, SESSION_TTL_S).await?;
        let done = tokio::select! {
            elected = self.lead(proposal, context, &session) => match elected {
                Ok(leader) => Self::stay(&leader, context, &session, stop).await,
                Err(failure) => Err(failure),
            },
            () = stop.asked() => Err(Failure::Code(1)),
        };
        let ended = session.end().await;
        done.and(ended)
    }

    async fn lead(&self, proposal: &Raw, context: &Context, session: &Session) -> Result<LeaderKey, Failure> {
        let connection = context.connection.patient();
        let request = CampaignRequest {
            name: self.name.0.clone().into(),
            lease: session.lease,
            value: proposal.0.clone().into(),
        };
        let elected = tokio::select! {
            elected = connection.campaign(request) => elected?,
            () = session.lost() => return Err(expired()),
        };
        elected.leader.ok_or_else(expired)
    }

    async fn stay(
        leader: &LeaderKey,
        context: &Context,
        session: &Session,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let request = RangeRequest { key: leader.key.clone(), ..Default::default() };
        let response = context.connection.range(request).await?;
        context.output.print(&Answer::Get { response, value_only: false })?;
        tokio::select! {
            // The end of the lease ends the office too.
            () = stop.asked() => Ok(()),
            () = session.lost() => Err(expired()),
        }
    }
}

fn expired() -> Failure {
    Failure::Verdict("the lease has expired, so the office is lost: see the cluster's health".into())
}
