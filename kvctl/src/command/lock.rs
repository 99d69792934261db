//! `kvctl lock`: held while a command runs, or until this program is interrupted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;

use barque_proto::etcdserverpb::RangeRequest;
use barque_proto::v3lockpb::{LockRequest, LockResponse};
use clap::Args;
use tokio::process::Command;

use super::Context;
use super::session::{Session, Stop};
use super::words::Raw;
use crate::error::Failure;
use crate::output::Answer;

/// Arguments of `lock`.
#[derive(Debug, Args)]
#[command(
    after_help = "The command finds ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment, and its exit code becomes kvctl's."
)]
pub(crate) struct LockArgs {
    /// The lock
    name: Raw,
    /// Seconds until the lock is free again if this program dies
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    ttl: i64,
    /// Run this while the lock is held; flags of its own go after `--`
    #[arg(value_name = "COMMAND")]
    exec: Vec<OsString>,
}

impl LockArgs {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        let session = Session::start(&context.connection, self.ttl).await?;
        let done = tokio::select! {
            held = self.wait(context, &session) => match held {
                Ok(held) => self.hold(context, &session, &held, &mut stop).await,
                Err(failure) => Err(failure),
            },
            () = stop.asked() => Err(Failure::Code(1)),
        };
        let ended = session.end().await;
        done.and(ended)
    }

    async fn wait(&self, context: &Context, session: &Session) -> Result<LockResponse, Failure> {
        let request = LockRequest { name: self.name.0.clone().into(), lease: session.lease };
        let connection = context.connection.patient();
        tokio::select! {
            held = connection.lock(request) => held,
            () = session.lost() => Err(expired()),
        }
    }

    async fn hold(
        &self,
        context: &Context,
        session: &Session,
        held: &LockResponse,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        if let Some((program, arguments)) = self.exec.split_first() {
            let running = run(program, arguments, held);
            let mut running = std::pin::pin!(running);
            return tokio::select! {
                ended = &mut running => ended,
                () = session.lost() => {
                    eprintln!("Warning: the lease has expired: the lock is no longer held while the command runs");
                    running.await
                }
            };
        }
        let request = RangeRequest { key: held.key.clone(), ..Default::default() };
        let response = context.connection.range(request).await?;
        if response.kvs.is_empty() {
            return Err(expired());
        }
        context.output.print(&Answer::Get { response, value_only: false })?;
        tokio::select! {
            () = stop.asked() => Ok(()),
            () = session.lost() => Err(expired()),
        }
    }
}

fn expired() -> Failure {
    Failure::Verdict(
        "the lease has expired, so the lock is lost: see the cluster's health, or raise --ttl".into(),
    )
}

async fn run(program: &OsString, arguments: &[OsString], held: &LockResponse) -> Result<(), Failure> {
    let revision = held.header.map_or(0, |header| header.revision);
    let status = Command::new(program)
        .args(arguments)
        .env("ETCD_LOCK_KEY", OsString::from_vec(held.key.to_vec()))
        .env("ETCD_LOCK_REV", revision.to_string())
        .status()
        .await;
    let status = status.map_err(|why| {
        let program = program.to_string_lossy();
        Failure::Verdict(format!("cannot run {program}: {why}"))
    })?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        // Exit codes have eight bits.
        (Some(code), _) => Err(Failure::Code(u8::try_from(code).unwrap_or(1))),
        (None, signal) => {
            Err(Failure::Verdict(format!("the command was ended by signal {}", signal.unwrap_or(0))))
        }
    }
}
