//! `kvctl status`: one screen about the whole cluster.

pub(crate) mod metrics;
mod screen;

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use barque_proto::etcdserverpb as pb;
use clap::Args;

use super::endpoint::each;
use super::{Context, alarm};
use crate::connection::{Connection, Endpoint, http_get};
use crate::error::Failure;
use crate::{go_duration, output};
use screen::{MemberLine, Metrics, Screen};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Look again and again, by default every two seconds
    #[arg(long, value_name = "INTERVAL", value_parser = go_duration::parse, num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    watch: Option<Duration>,
}

impl StatusArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Some(every) = self.watch else {
            let screen = look(&context.connection).await?;
            context.output.report(&screen)?;
            return if screen.healthy { Ok(()) } else { Err(Failure::Code(1)) };
        };
        if every.is_zero() {
            return Err(Failure::Arguments("--watch needs an interval above 0, such as --watch=2s".into()));
        }
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            let screen = look(&context.connection).await;
            // Home, and everything below it cleared.
            print!("\x1b[H\x1b[J");
            match screen {
                Ok(screen) => context.output.report(&screen)?,
                Err(failure) => output::line(&failure.to_string())?,
            }
            std::io::stdout().flush().map_err(Failure::io("standard output"))?;
        }
    }
}

/// Asks every member for everything.
async fn look(connection: &Connection) -> Result<Screen, Failure> {
    let list = connection.member_list(pb::MemberListRequest { linearizable: false }).await?;
    let alarms = alarm::list(connection).await.map(|list| list.alarms).unwrap_or_default();
    let first_url =
        |member: &pb::Member| member.client_ur_ls.first().and_then(|url| Endpoint::parse(url).ok());
    let asked: Vec<_> = list.members.iter().filter_map(first_url).collect();
    let ask = |endpoint: Endpoint, one: Connection| async move {
        let (status, page) =
            tokio::join!(one.status(pb::StatusRequest {}), http_get(one.settings(), &endpoint, "/metrics"));
        (endpoint, status, page)
    };
    let mut answers = each(connection, &asked, ask).await.into_iter();
    let mut lines = Vec::new();
    for member in &list.members {
        let mut line = MemberLine::new(member);
        if first_url(member).is_some()
            && let Some((_, status, page)) = answers.next()
        {
            match status {
                Ok(status) => line.status = Some(status),
                Err(failure) => line.trouble = Some(failure.to_string()),
            }
            if let Ok(page) = page {
                line.certificate_ends_s = page.certificate_ends_s;
                line.metrics = (page.status == 200).then(|| Metrics::read(&page.body));
            }
        }
        lines.push(line);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cluster_id = list.header.map_or(0, |header| header.cluster_id);
    Ok(Screen::new(cluster_id, lines, &alarms, i64::try_from(now.as_secs()).unwrap_or(i64::MAX)))
}
