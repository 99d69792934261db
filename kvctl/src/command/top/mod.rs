//! `kvctl top`: what the members do for their clients, refreshed with each of their answers.

mod screen;

use std::io::Write;
use std::time::Duration;

use barque_proto::admin as pb;
use barque_proto::etcdserverpb as etcd;
use clap::Args;
use futures::future::join_all;

use super::Context;
use super::groups::GroupArgs;
use crate::connection::{Activities, Connection, Endpoint};
use crate::error::Failure;
use screen::Screen;

/// A member that is silent for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between looks while nobody answers.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Look once, at one second, instead of again and again
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    groups: GroupArgs,
}

/// A member that is looked at.
struct Looked {
    name: String,
    /// How to reach it, or why that is not known.
    connection: Result<Connection, String>,
    stream: Option<Activities>,
}

impl TopArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = pb::ActivityRequest { grouping: Some(self.groups.grouping()) };
        let mut members = members(&context.connection).await?;
        loop {
            let asked = members.iter_mut().map(|member| member.next(&request));
            let mut screen = Screen::new(self.groups.top());
            let mut answered = false;
            for (name, answer) in join_all(asked).await {
                match answer {
                    Ok(activity) => {
                        answered = true;
                        screen.add(name, &activity);
                    }
                    Err(failure) if is_unknown(&failure) => return Err(not_offered()),
                    Err(failure) => screen.add_trouble(name, failure.to_string()),
                }
            }
            screen.sort();
            if !self.once && context.output.is_for_people() {
                // Home, and everything below it cleared.
                print!("\x1b[H\x1b[J");
            }
            context.output.report(&screen.shown(context.output.hex))?;
            std::io::stdout().flush().map_err(Failure::io("standard output"))?;
            if self.once {
                return if answered { Ok(()) } else { Err(Failure::Code(1)) };
            }
            if !answered {
                // Connecting fails at once; those that answer set the pace otherwise.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_unknown(failure: &Failure) -> bool {
    matches!(failure, Failure::Server(error) if error.unimplemented)
}

fn not_offered() -> Failure {
    Failure::Unsupported("this server does not tell what goes on: `kvctl top` needs Barque".into())
}

/// Every member of the cluster.
async fn members(connection: &Connection) -> Result<Vec<Looked>, Failure> {
    let list = connection.member_list(etcd::MemberListRequest { linearizable: false }).await?;
    let looked = |member: etcd::Member| Looked {
        connection: match member.client_ur_ls.first() {
            Some(url) => Endpoint::parse(url).map(|endpoint| connection.to_one(&endpoint)),
            None => Err("never started".to_owned()),
        },
        name: if member.name.is_empty() { format!("{:x}", member.id) } else { member.name },
        stream: None,
    };
    Ok(list.members.into_iter().map(looked).collect())
}

impl Looked {
    /// The member's next answer; a stream that ended is opened anew with the next call.
    async fn next(
        &mut self,
        request: &pb::ActivityRequest,
    ) -> (String, Result<pb::ActivityResponse, Failure>) {
        let late = || Failure::Interrupted(format!("no answer within {} s", PATIENCE.as_secs()));
        let answer = tokio::time::timeout(PATIENCE, self.ask(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(late()));
        if answer.is_err() {
            self.stream = None;
        }
        (self.name.clone(), answer)
    }

    async fn ask(&mut self, request: &pb::ActivityRequest) -> Result<pb::ActivityResponse, Failure> {
        let connection = self.connection.as_ref().map_err(|why| Failure::Connection(why.clone()))?;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(connection.activity(request.clone()).await?),
        };
        stream.next().await
    }
}
