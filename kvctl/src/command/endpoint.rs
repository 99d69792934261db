//! `kvctl endpoint`: each endpoint is asked by itself.

use std::future::Future;
use std::time::Instant;

use barque_proto::etcdserverpb as pb;
use clap::{Args, Subcommand};
use tokio::task::JoinSet;

use super::{Context, alarm};
use crate::connection::{Connection, Endpoint};
use crate::error::Failure;
use crate::go_duration;
use crate::output::{Answer, EndpointHash, EndpointHealth, EndpointStatus};

/// Arguments of `endpoint`.
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// Every member of the cluster instead of the endpoints
    #[arg(long, global = true)]
    cluster: bool,
    /// What to ask
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
enum Question {
    /// See whether the endpoint commits a proposal and has no alarm
    Health,
    /// Version, size, leader and positions of the endpoint's member
    Status,
    /// Hash of the keys and their history
    #[command(name = "hashkv")]
    HashKv {
        /// Hash up to this revision instead of the newest
        #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
        rev: i64,
    },
}

impl EndpointArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection;
        let endpoints = asked(connection, self.cluster).await?;
        match self.question {
            Question::Health => {
                let list =
                    each(
                        connection,
                        &endpoints,
                        |endpoint, one| async move { health(&endpoint, &one).await },
                    );
                let list = list.await;
                let healthy = list.iter().all(EndpointHealth::healthy);
                context.output.print(&Answer::Health(list))?;
                if healthy { Ok(()) } else { Err(Failure::Verdict("unhealthy cluster".into())) }
            }
            Question::Status => {
                let list = each(connection, &endpoints, |endpoint, one| async move {
                    (endpoint, one.status(pb::StatusRequest {}).await)
                });
                let (answered, failed) = sorted(list.await, "status");
                let status = |(endpoint, response)| EndpointStatus { endpoint, response };
                context.output.print(&Answer::Status(answered.into_iter().map(status).collect()))?;
                failed.map_or(Ok(()), |_| Err(Failure::Code(1)))
            }
            Question::HashKv { rev } => {
                let list = each(connection, &endpoints, move |endpoint, one| async move {
                    (endpoint, one.hash_kv(pb::HashKvRequest { revision: rev }).await)
                });
                let (answered, failed) = sorted(list.await, "hash");
                let hash = |(endpoint, response)| EndpointHash { endpoint, response };
                context.output.print(&Answer::HashKv(answered.into_iter().map(hash).collect()))?;
                failed.map_or(Ok(()), |_| Err(Failure::Code(1)))
            }
        }
    }
}

/// The endpoints of the flags, or with `--cluster` the client URLs of all members.
pub(super) async fn asked(connection: &Connection, cluster: bool) -> Result<Vec<Endpoint>, Failure> {
    if !cluster {
        return Ok(connection.endpoints().to_vec());
    }
    let list = connection.member_list(pb::MemberListRequest { linearizable: true }).await?;
    let urls: Vec<String> = list.members.into_iter().flat_map(|member| member.client_ur_ls).collect();
    urls.iter().map(|url| Endpoint::parse(url).map_err(Failure::Verdict)).collect()
}

/// Asks all endpoints at the same time; the answers have the endpoints' order.
pub(super) async fn each<T, F, R>(connection: &Connection, endpoints: &[Endpoint], ask: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(Endpoint, Connection) -> R,
    R: Future<Output = T> + Send + 'static,
{
    let mut asking = JoinSet::new();
    for (place, endpoint) in endpoints.iter().enumerate() {
        let answer = ask(endpoint.clone(), connection.to_one(endpoint));
        asking.spawn(async move { (place, answer.await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Answers with their endpoints; failures are told on standard error, and the last one is returned.
fn sorted<T>(
    answers: Vec<(Endpoint, Result<T, Failure>)>,
    what: &str,
) -> (Vec<(String, T)>, Option<Failure>) {
    let mut answered = Vec::new();
    let mut failed = None;
    for (endpoint, answer) in answers {
        match answer {
            Ok(answer) => answered.push((endpoint.to_string(), answer)),
            Err(failure) => {
                eprintln!("Failed to get the {what} of endpoint {endpoint} ({failure})");
                failed = Some(failure);
            }
        }
    }
    (answered, failed)
}

/// A linearizable read is answered only by a member with a leader; alarms make the cluster unhealthy.
async fn health(endpoint: &Endpoint, connection: &Connection) -> EndpointHealth {
    let start = Instant::now();
    let read = connection.range(pb::RangeRequest { key: "health".into(), ..Default::default() }).await;
    let took = go_duration::format(start.elapsed());
    let error = match read {
        Err(Failure::Connection(why)) => {
            return EndpointHealth { endpoint: endpoint.to_string(), took: String::new(), error: why };
        }
        // Who may not read it has been answered after all.
        Err(failure) if !failure.server_message().is_some_and(|text| text.contains("permission denied")) => {
            failure.to_string()
        }
        _ => match alarm::list(connection).await {
            Ok(list) => active(&list),
            Err(failure) => format!("Unable to fetch the alarm list: {failure}"),
        },
    };
    EndpointHealth { endpoint: endpoint.to_string(), took, error }
}

fn active(list: &pb::AlarmResponse) -> String {
    if list.alarms.is_empty() {
        return String::new();
    }
    let names: String = list.alarms.iter().map(|alarm| format!("{} ", alarm.alarm().as_str_name())).collect();
    format!("Active Alarm(s): {names}")
}
