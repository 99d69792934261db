//! `kvctl undelete`: the value that a key had before it was deleted is put again.

use std::fmt;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use barque_proto::etcdserverpb::request_op::Request;
use clap::Args;
use serde::Serialize;

use super::Context;
use super::history::{self, History};
use super::words::Raw;
use crate::error::Failure;
use crate::output::go_quote::quote;

/// Arguments of `undelete`.
#[derive(Debug, Args)]
pub(crate) struct UndeleteArgs {
    /// The key
    key: Raw,
    /// Bring back the version of this revision instead of the last one
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// Change nothing; say which version would come back
    #[arg(long)]
    dry_run: bool,
}

/// What was brought back.
#[derive(Debug, Serialize)]
struct Undeleted {
    from_revision: i64,
    value_bytes: usize,
    /// 0 if nothing was changed.
    revision: i64,
    #[serde(skip)]
    key: String,
}

impl fmt::Display for Undeleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from_revision, value_bytes, revision, key } = self;
        if *revision == 0 {
            writeln!(
                f,
                "{key} would come back as of revision {from_revision} ({value_bytes} bytes), without a lease"
            )
        } else {
            writeln!(
                f,
                "{key} is back as of revision {from_revision} ({value_bytes} bytes), now revision {revision}, without a lease"
            )
        }
    }
}

impl UndeleteArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let history = history::read(&context.connection, self.key.0.clone()).await?;
        let (from_revision, value) = choose(&history, self.rev)?;
        let mut done =
            Undeleted { from_revision, value_bytes: value.len(), revision: 0, key: quote(&self.key.0) };
        if !self.dry_run {
            let answer = context.connection.txn(put_if_absent(&self.key.0, value)).await?;
            if !answer.succeeded {
                return Err(exists(&self.key.0));
            }
            done.revision = answer.header.map_or(0, |header| header.revision);
        }
        context.output.report(&done)
    }
}

/// The version that comes back: revision and value.
fn choose(history: &History, revision: i64) -> Result<(i64, Vec<u8>), Failure> {
    let key = quote(&history.key);
    match history.versions.last() {
        Some(last) if last.value.is_some() => return Err(exists(&history.key)),
        Some(_) => {}
        None => {
            let since = history.since_revision;
            return Err(Failure::Verdict(format!(
                "nothing is known of {key} since revision {since}, the oldest that is kept"
            )));
        }
    }
    let values =
        history.versions.iter().rev().filter_map(|version| Some((version.revision, version.value.clone()?)));
    let chosen = values.into_iter().find(|(at, _)| revision == 0 || *at == revision);
    chosen.ok_or_else(|| match revision {
        0 => Failure::Verdict(format!("only the deletion of {key} is still known; its value was compacted")),
        _ => Failure::Verdict(format!("{key} was not put at revision {revision}: see `kvctl history`")),
    })
}

fn exists(key: &[u8]) -> Failure {
    Failure::Verdict(format!(
        "{} exists: `kvctl history` shows its older values, `kvctl put` sets one",
        quote(key)
    ))
}

fn put_if_absent(key: &[u8], value: Vec<u8>) -> pb::TxnRequest {
    let key = key.to_vec();
    let absent = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: key.clone().into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    let put = pb::RequestOp { request: Some(Request::RequestPut(put)) };
    pb::TxnRequest { compare: vec![absent], success: vec![put], failure: Vec::new() }
}
