//! `kvctl member replace`: a dead member gives its place to a new one, and the quorum never shrinks on the way.

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use clap::Args;
use tokio::time::{Instant, interval};

use super::quorum::{Change, Seen, name_of};
use super::{Caution, observe, quorum, start_lines, urls};
use crate::command::Context;
use crate::error::Failure;
use crate::{go_duration, output};

/// Between two looks at a member that is to catch up. There is no message that it has.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `member replace`.
#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    /// The dead member: its name or id
    dead: String,
    /// The new member's name
    new: String,
    /// The new member's peer URLs, separated by commas
    #[arg(long, value_name = "URLS", required = true)]
    peer_urls: String,
    /// How long to wait until the new member has caught up
    #[arg(long, value_name = "DURATION", value_parser = go_duration::parse, default_value = "10m")]
    wait: Duration,
    #[command(flatten)]
    caution: Caution,
}

impl ReplaceArgs {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let members = observe::members(&context.connection).await?;
        let dead = find(&members, &self.dead)?;
        let forecast = quorum::forecast(&members, &Change::Remove(dead.id));
        let refusal = if dead.answers && !self.caution.force {
            Some(format!("{} is alive: stop it first, or say --force", name_of(dead)))
        } else {
            forecast.refusal.clone().filter(|_| !self.caution.force)
        };
        if self.caution.dry_run {
            context.output.report(&quorum::Forecast { refusal: refusal.clone(), ..forecast })?;
            return if refusal.is_some() { Err(Failure::Code(1)) } else { Ok(()) };
        }
        if let Some(why) = refusal {
            return Err(Failure::Verdict(why));
        }

        let connection = &context.connection;
        connection.member_remove(pb::MemberRemoveRequest { id: dead.id }).await?;
        output::line(&format!("removed {}", name_of(dead)))?;
        let added = self.add(context).await.map_err(|failure| {
            let Self { new, peer_urls, .. } = &self;
            let then = format!("run `kvctl member add {new} --learner --peer-urls {peer_urls}`");
            Failure::Verdict(format!("{:x} is removed, but {new} was not added ({failure}): {then}", dead.id))
        })?;
        let id = added.member.as_ref().map_or(0, |member| member.id);
        output::line(&format!("added {} ({id:x}) as a learner; start it now with\n", self.new))?;
        output::line(&start_lines(&self.new, &self.peer_urls, &added))?;
        output::line("")?;
        self.promote_when_ready(context, id).await
    }

    /// Adds the learner. A cluster takes no member while its own have not been connected for some seconds.
    async fn add(&self, context: &Context) -> Result<pb::MemberAddResponse, Failure> {
        let request = pb::MemberAddRequest { peer_ur_ls: urls(&self.peer_urls), is_learner: true };
        let until = Instant::now() + self.wait;
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            match context.connection.member_add(request.clone()).await {
                Err(failure)
                    if Instant::now() < until
                        && failure
                            .server_message()
                            .is_some_and(|text| text.contains("unhealthy cluster")) => {}
                other => return other,
            }
        }
    }

    /// Looks until the learner has caught up, and promotes it.
    async fn promote_when_ready(&self, context: &Context, id: u64) -> Result<(), Failure> {
        let until = Instant::now() + self.wait;
        let mut told = String::new();
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let state = match context.connection.member_promote(pb::MemberPromoteRequest { id }).await {
                Ok(_) => {
                    return output::line(&format!("{} ({id:x}) votes: the replacement is done", self.new));
                }
                // It may be promoted already by a cluster that does so itself.
                Err(failure)
                    if failure
                        .server_message()
                        .is_some_and(|text| text.contains("can only promote a learner member"))
                        && !failure.to_string().contains("in sync") =>
                {
                    return output::line(&format!("{} ({id:x}) votes: the replacement is done", self.new));
                }
                Err(failure @ Failure::Server(_)) => {
                    let members = observe::members(&context.connection).await.unwrap_or_default();
                    progress(&members, id, &failure)
                }
                Err(failure) => failure.to_string(),
            };
            if state != told {
                output::line(&format!("waiting: {state}"))?;
                told = state;
            }
            if Instant::now() >= until {
                return Err(Failure::Verdict(format!(
                    "{} has not caught up within {}: see its log, then run `kvctl member promote {id:x}`",
                    self.new,
                    go_duration::format(self.wait)
                )));
            }
        }
    }
}

fn find<'a>(members: &'a [Seen], text: &str) -> Result<&'a Seen, Failure> {
    let id = u64::from_str_radix(text, 16).ok();
    let by_id = members.iter().find(|member| Some(member.id) == id);
    let mut by_name = members.iter().filter(|member| member.name == text);
    match (by_id, by_name.next(), by_name.next()) {
        (Some(member), ..) | (None, Some(member), None) => Ok(member),
        (None, Some(_), Some(_)) => {
            Err(Failure::Arguments(format!("several members are called {text}: give the id instead")))
        }
        (None, None, _) => {
            Err(Failure::Arguments(format!("no member has the name or id {text}: see `kvctl member list`")))
        }
    }
}

/// What the new member is waited for.
fn progress(members: &[Seen], id: u64, failure: &Failure) -> String {
    let leader = members.iter().find(|member| member.leads).and_then(|member| member.applied_index);
    match members.iter().find(|member| member.id == id) {
        Some(Seen { name, .. }) if name.is_empty() => "the new member has not been started".into(),
        Some(Seen { applied_index: Some(applied), .. }) => match leader {
            Some(leader) => format!("the new member has applied entry {applied} of {leader}"),
            None => format!("the new member has applied entry {applied}"),
        },
        Some(_) => "the new member does not answer yet".into(),
        None => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u64, name: &str, applied_index: Option<u64>, leads: bool) -> Seen {
        Seen { id, name: name.into(), votes: true, answers: applied_index.is_some(), leads, applied_index }
    }

    #[test]
    fn a_member_is_found_by_name_or_id() {
        let members =
            [seen(0xabc, "m1", None, false), seen(2, "m2", None, false), seen(3, "m2", None, false)];
        assert_eq!(find(&members, "abc").unwrap().id, 0xabc);
        assert_eq!(find(&members, "m1").unwrap().id, 0xabc);
        assert!(find(&members, "m2").unwrap_err().to_string().contains("several"));
        assert!(find(&members, "m3").is_err());
    }

    #[test]
    fn progress_says_what_is_waited_for() {
        let failure = Failure::Code(1);
        let leader = seen(1, "m1", Some(90), true);
        let told = |new: Seen| progress(&[leader.clone(), new], 2, &failure);
        assert!(told(seen(2, "", None, false)).contains("not been started"));
        assert!(told(seen(2, "m2", None, false)).contains("does not answer"));
        assert!(told(seen(2, "m2", Some(7), false)).contains("entry 7 of 90"));
    }
}
