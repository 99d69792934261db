//! `kvctl make-mirror`: all keys of a prefix are copied to another cluster, and every change after that. Leases and
//! revisions are not; `kvctl migrate` does that.

use std::path::PathBuf;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::request_op::Request;
use barque_proto::mvccpb::{Event, event};
use clap::{ArgAction, Args};

use super::words::Raw;
use super::{Context, shell};
use crate::cli;
use crate::connection::{Connection, Settings, TlsFlags, User, WatchOptions, Watcher};
use crate::error::Failure;
use crate::output;
use crate::range;

/// Keys of one request.
const PAGE_KEYS: i64 = 1000;

/// How often the number of copied keys is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Arguments of `make-mirror`.
#[derive(Debug, Args)]
pub(crate) struct MakeMirrorArgs {
    /// Members of the other cluster, separated by commas
    #[arg(value_delimiter = ',', required = true)]
    destination: Vec<String>,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: Raw,
    /// Copy nothing; follow changes from this revision on
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// At most so many operations in a transaction
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    max_txn_ops: usize,
    /// What keys begin with there, instead of the prefix
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "no_dest_prefix")]
    dest_prefix: Raw,
    /// Keys lose their prefix there
    #[arg(long)]
    no_dest_prefix: bool,
    #[command(flatten)]
    login: Login,
}

/// How to connect to the other cluster.
#[derive(Debug, Args)]
struct Login {
    /// Certificate (PEM) to show there
    #[arg(long, value_name = "FILE")]
    dest_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    dest_key: Option<PathBuf>,
    /// Authorities (PEM) that must have signed the certificates there
    #[arg(long, value_name = "FILE")]
    dest_cacert: Option<PathBuf>,
    /// Endpoints without a scheme are spoken to without TLS, unless a certificate is given
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dest_insecure_transport: bool,
    /// User there, or user:password
    #[arg(long, value_name = "USER")]
    dest_user: Option<String>,
    /// The user's password
    #[arg(long, value_name = "PASSWORD")]
    dest_password: Option<String>,
}

impl MakeMirrorArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.max_txn_ops == 0 {
            return Err(Failure::Arguments("--max-txn-ops must be at least 1".into()));
        }
        let destination = Connection::new(self.destination(context.connection.settings())?);
        let mut total = 0;
        let start = match self.rev {
            0 => self.copy(&context.connection, &destination, &mut total).await? + 1,
            rev => rev.max(1),
        };
        self.follow(&context.connection, &destination, start, &mut total).await
    }

    fn destination(&self, source: &Settings) -> Result<Settings, Failure> {
        let login = &self.login;
        let user = login.dest_user.as_deref().map(|user| {
            User::from_flags(user, login.dest_password.as_deref(), || {
                shell::ask_password("Destination Password: ")
            })
        });
        Ok(Settings {
            endpoints: cli::endpoints(&self.destination)?,
            tls: TlsFlags {
                cert: login.dest_cert.clone(),
                key: login.dest_key.clone(),
                cacert: login.dest_cacert.clone(),
                skip_verify: false,
                always: !login.dest_insecure_transport,
            },
            user: user.transpose()?,
            token: None,
            ..source.clone()
        })
    }

    /// Copies everything as of one revision, which is returned.
    async fn copy(
        &self,
        source: &Connection,
        destination: &Connection,
        total: &mut u64,
    ) -> Result<i64, Failure> {
        let (mut key, range_end) = range::prefix(&self.prefix.0);
        let mut revision = 0;
        loop {
            let request = pb::RangeRequest {
                key: key.clone().into(),
                range_end: range_end.clone().into(),
                revision,
                limit: PAGE_KEYS,
                ..Default::default()
            };
            let page = source.range(request).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            for kv in &page.kvs {
                let put = pb::PutRequest {
                    key: self.renamed(&kv.key).into(),
                    value: kv.value.clone(),
                    ..Default::default()
                };
                destination.put(put).await?;
                *total += 1;
            }
            match page.kvs.last() {
                Some(last) if page.more => key = [&last.key[..], b"\0"].concat(),
                _ => return Ok(revision),
            }
        }
    }

    async fn follow(
        &self,
        source: &Connection,
        destination: &Connection,
        start: i64,
        total: &mut u64,
    ) -> Result<(), Failure> {
        let (key, range_end) = range::prefix(&self.prefix.0);
        let options = WatchOptions { key, range_end, start_revision: start, ..WatchOptions::default() };
        let mut watcher = Watcher::open(source, options).await?;
        let mut tell = tokio::time::interval(TELL_EVERY);
        tell.tick().await;
        loop {
            let answer = tokio::select! {
                answer = watcher.next() => answer?,
                _ = tell.tick() => {
                    output::line(&total.to_string())?;
                    continue;
                }
            };
            if answer.compact_revision > 0 {
                return Err(Failure::Verdict(
                    "the source has compacted what was not copied yet: begin again without --rev".into(),
                ));
            }
            if answer.canceled {
                return Err(Failure::Interrupted(format!(
                    "the source ended the watch: {}",
                    answer.cancel_reason
                )));
            }
            for operations in batches(&answer.events, self.max_txn_ops) {
                let success = operations.iter().map(|event| self.operation(event)).collect();
                destination.txn(pb::TxnRequest { success, ..Default::default() }).await?;
                *total += operations.len() as u64;
            }
        }
    }

    fn operation(&self, event: &Event) -> pb::RequestOp {
        let kv = event.kv.clone().unwrap_or_default();
        let key = self.renamed(&kv.key).into();
        let request = match event.r#type() {
            event::EventType::Put => {
                Request::RequestPut(pb::PutRequest { key, value: kv.value, ..Default::default() })
            }
            event::EventType::Delete => {
                Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
            }
        };
        pb::RequestOp { request: Some(request) }
    }

    /// The key's name at the destination.
    fn renamed(&self, key: &[u8]) -> Vec<u8> {
        if self.dest_prefix.0.is_empty() && !self.no_dest_prefix {
            return key.to_vec();
        }
        let rest = key.strip_prefix(&self.prefix.0[..]).unwrap_or(key);
        [&self.dest_prefix.0[..], rest].concat()
    }
}

/// Events in transactions: each revision by itself, and none larger than `most`.
fn batches(events: &[Event], most: usize) -> impl Iterator<Item = &[Event]> {
    let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
    events
        .chunk_by(move |left, right| revision(left) == revision(right))
        .flat_map(move |one| one.chunks(most))
}

#[cfg(test)]
mod tests {
    use barque_proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn revisions_stay_apart_and_transactions_small() {
        let event = |mod_revision| Event {
            kv: Some(KeyValue { mod_revision, ..Default::default() }),
            ..Default::default()
        };
        let events: Vec<Event> = [4, 4, 4, 5, 6, 6].into_iter().map(event).collect();
        let sizes: Vec<usize> = batches(&events, 2).map(<[Event]>::len).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
    }
}
