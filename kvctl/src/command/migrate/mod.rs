//! `kvctl migrate`: a live etcd cluster is copied to this one at one revision and then followed, until the clients
//! have moved. The position is kept in the destination, in the same transactions as the data, so that an
//! interrupted migration goes on where it stopped and nothing is applied twice.

mod copy;
mod follow;
mod leases;
mod position;

use std::path::PathBuf;

use barque_proto::etcdserverpb as pb;
use clap::{ArgAction, Args};
use indicatif::ProgressBar;

use super::session::Stop;
use super::{Context, shell};
use crate::cli;
use crate::connection::{Connection, Settings, TlsFlags, User};
use crate::error::Failure;
use crate::output::{self, Format};
use crate::range;
use leases::Leases;
use position::{Phase, Position};

/// Arguments of `migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "The destination is the cluster of --endpoints. Stop with Ctrl-C and start again at any time. When all clients have
been pointed at the destination, run it once more with --finish. Users, roles and members are not copied; leases keep
their ids and times."
)]
pub(crate) struct MigrateArgs {
    /// Members of the cluster to copy, separated by commas
    #[arg(value_delimiter = ',', required = true)]
    endpoint: Vec<String>,
    /// Catch up with the source once, then end
    #[arg(long)]
    once: bool,
    /// Catch up with the source, compare, and end the migration for good
    #[arg(long)]
    finish: bool,
    /// Keys that are in the destination and not in the source are deleted; without this, a destination with keys is
    /// refused
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    login: Login,
}

/// How to connect to the source.
#[derive(Debug, Args)]
struct Login {
    /// Certificate (PEM) to show to the source
    #[arg(long, value_name = "FILE")]
    source_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    source_key: Option<PathBuf>,
    /// Authorities (PEM) that must have signed the source's certificates
    #[arg(long, value_name = "FILE")]
    source_cacert: Option<PathBuf>,
    /// Endpoints without a scheme are spoken to without TLS, unless a certificate is given
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    source_insecure_transport: bool,
    /// User at the source, or user:password
    #[arg(long, value_name = "USER")]
    source_user: Option<String>,
    /// The user's password
    #[arg(long, value_name = "PASSWORD")]
    source_password: Option<String>,
}

/// Both clusters and what is on its way between them.
struct Migration {
    source: Connection,
    destination: Connection,
    position: Position,
    leases: Leases,
    bar: ProgressBar,
    /// Lines about phases; JSON has a document at the end only.
    quiet: bool,
}

impl Migration {
    fn tell(&self, text: &str) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        self.bar.suspend(|| output::line(text))
    }
}

impl MigrateArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let destination = context.connection.clone();
        let source = Connection::new(self.source(destination.settings())?);
        let source_id = cluster_id(&source).await?;
        if source_id == cluster_id(&destination).await? {
            return Err(Failure::Arguments(
                "ENDPOINT and --endpoints are the same cluster: ENDPOINT is copied to --endpoints".into(),
            ));
        }
        let position = match Position::read(&destination, source_id).await? {
            Some(position) => position,
            None => {
                self.must_be_fresh(&destination).await?;
                Position::new(source_id)
            }
        };
        let mut migration = Migration {
            source,
            destination,
            position,
            leases: Leases::default(),
            bar: if context.output.format == Format::Json {
                ProgressBar::hidden()
            } else {
                ProgressBar::new_spinner()
            },
            quiet: context.output.format == Format::Json,
        };
        let mut stop = Stop::new()?;
        let done = tokio::select! {
            done = self.go(&mut migration) => done,
            () = stop.asked() => Ok(()),
        };
        migration.bar.finish_and_clear();
        done?;
        let report = position::Report::of(&migration.position, self.finish);
        if self.finish {
            migration.position.delete(&migration.destination).await?;
        }
        context.output.report(&report)
    }

    /// Copies and follows; returns when the source has been caught up with, or never.
    async fn go(&self, migration: &mut Migration) -> Result<(), Failure> {
        let resumed = migration.position.revision > 0;
        if resumed && !migration.leases.recall(&migration.source, &migration.destination).await? {
            migration.tell("leases have ended at the destination meanwhile: everything is compared again")?;
            migration.position.begin_again();
        }
        loop {
            if migration.position.phase == Phase::Copy {
                copy::run(migration).await?;
            }
            let until =
                if self.once || self.finish { Some(revision(&migration.source).await?) } else { None };
            match follow::run(migration, until).await? {
                follow::End::CaughtUp => break,
                follow::End::Compacted => {
                    migration.tell(
                        "the source has compacted what was not copied yet: everything is compared again",
                    )?;
                    migration.position.begin_again();
                }
            }
        }
        if self.finish {
            self.compare(migration).await?;
        }
        Ok(())
    }

    async fn must_be_fresh(&self, destination: &Connection) -> Result<(), Failure> {
        if self.overwrite || count(destination, 0).await? == 0 {
            return Ok(());
        }
        let what = "the destination has keys, which would be deleted or mixed with the source's";
        Err(Failure::Input(format!("{what}: use an empty cluster, or say --overwrite")))
    }

    /// The source must not have gone on, and both must have as many keys.
    async fn compare(&self, migration: &Migration) -> Result<(), Failure> {
        let now = revision(&migration.source).await?;
        if now != migration.position.revision {
            return Err(Failure::Verdict(format!(
                "the source is still written to (revision {now} came after {}): stop its clients, then run --finish again",
                migration.position.revision
            )));
        }
        let theirs = count(&migration.source, now).await?;
        let ours = count(&migration.destination, 0).await?;
        if theirs != ours {
            return Err(Failure::Verdict(format!(
                "the source has {theirs} keys and the destination {ours}: something else writes to the destination; run with --overwrite to compare again"
            )));
        }
        Ok(())
    }

    fn source(&self, destination: &Settings) -> Result<Settings, Failure> {
        let login = &self.login;
        let user = login.source_user.as_deref().map(|user| {
            User::from_flags(user, login.source_password.as_deref(), || {
                shell::ask_password("Source password: ")
            })
        });
        Ok(Settings {
            endpoints: cli::endpoints(&self.endpoint)?,
            tls: TlsFlags {
                cert: login.source_cert.clone(),
                key: login.source_key.clone(),
                cacert: login.source_cacert.clone(),
                skip_verify: false,
                always: !login.source_insecure_transport,
            },
            user: user.transpose()?,
            token: None,
            ..destination.clone()
        })
    }
}

async fn cluster_id(connection: &Connection) -> Result<u64, Failure> {
    let list = connection.member_list(pb::MemberListRequest { linearizable: false }).await?;
    Ok(list.header.map_or(0, |header| header.cluster_id))
}

/// The newest revision.
async fn revision(connection: &Connection) -> Result<i64, Failure> {
    let request = pb::RangeRequest { key: range::NO_END.into(), count_only: true, ..Default::default() };
    Ok(connection.range(request).await?.header.map_or(0, |header| header.revision))
}

/// How many keys there are, without positions of migrations; 0 as the revision stands for now.
async fn count(connection: &Connection, revision: i64) -> Result<i64, Failure> {
    let count = async |prefix: &[u8]| {
        let (key, range_end) = range::prefix(prefix);
        let request = pb::RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            revision,
            count_only: true,
            ..Default::default()
        };
        connection.range(request).await.map(|answer| answer.count)
    };
    Ok(count(b"").await? - count(position::PREFIX.as_bytes()).await?)
}
