//! The commands, a file each: its arguments, what follows from them (pure), and the talk with the cluster.

pub(crate) mod alarm;
pub(crate) mod auth;
pub(crate) mod check;
pub(crate) mod compaction;
pub(crate) mod defrag;
pub(crate) mod del;
pub(crate) mod diff;
pub(crate) mod downgrade;
pub(crate) mod elect;
pub(crate) mod endpoint;
pub(crate) mod get;
mod groups;
pub(crate) mod history;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod make_mirror;
pub(crate) mod member;
pub(crate) mod migrate;
pub(crate) mod move_leader;
pub(crate) mod put;
pub(crate) mod recover;
pub(crate) mod role;
mod session;
pub(crate) mod shell;
pub(crate) mod snapshot;
pub(crate) mod space;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod txn;
pub(crate) mod undelete;
pub(crate) mod user;
pub(crate) mod verify;
pub(crate) mod watch;
pub(crate) mod words;

use clap::ValueEnum;

use crate::cli::{Cli, Command};
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::{Format, Output};

/// What every command works with.
pub(crate) struct Context {
    /// The cluster of the global flags.
    pub(crate) connection: Connection,
    /// How to print.
    pub(crate) output: Output,
}

/// `--consistency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consistency {
    /// Linearizable: as new as every acknowledged write
    L,
    /// Serializable: what the member that is asked has
    S,
}

/// Runs the command to its end.
///
/// # Errors
/// Whatever keeps it from doing what it is for.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let output = cli.global.output();
    match &cli.command {
        Command::Version => return shell::version(),
        Command::Completion(args) => return shell::completion(args),
        Command::Man(args) => return shell::man(args),
        _ => {}
    }
    // They are about files alone.
    match cli.command {
        Command::Snapshot(snapshot::SnapshotCommand::OnFiles(command)) => command.run(output),
        Command::Recover(args) => args.run(output),
        _ => run_on_cluster(cli, output),
    }
}

fn run_on_cluster(cli: Cli, output: Output) -> Result<(), Failure> {
    if output.format == Format::Table && !has_table(&cli.command) {
        return Err(output.unsupported());
    }
    let context = Context { connection: Connection::new(cli.global.settings()?), output };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("starting the asynchronous runtime"))?;
    runtime.block_on(dispatch(cli.command, &context))
}

/// Commands whose answers can be drawn as tables; checked before anything is asked or changed.
fn has_table(command: &Command) -> bool {
    match command {
        Command::Member(member) => member.has_table(),
        Command::Snapshot(snapshot) => snapshot.has_table(),
        Command::Endpoint(_)
        | Command::Defrag(_)
        | Command::Check(_)
        | Command::Status(_)
        | Command::Verify(_)
        | Command::History(_)
        | Command::Diff(_)
        | Command::Undelete(_)
        | Command::Space(_)
        | Command::Top(_)
        | Command::Migrate(_) => true,
        _ => false,
    }
}

async fn dispatch(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Get(args) => args.run(context).await,
        Command::Put(args) => args.run(context).await,
        Command::Del(args) => args.run(context).await,
        Command::Txn(args) => args.run(context).await,
        Command::Compaction(args) => args.run(context).await,
        Command::Watch(args) => Box::pin(args.run(context)).await,
        Command::Lease(command) => command.run(context).await,
        Command::Lock(args) => Box::pin(args.run(context)).await,
        Command::Elect(args) => Box::pin(args.run(context)).await,
        Command::Member(command) => Box::pin(command.run(context)).await,
        Command::Endpoint(args) => args.run(context).await,
        Command::Alarm(command) => command.run(context).await,
        Command::Defrag(args) => args.run(context).await,
        Command::MoveLeader(args) => args.run(context).await,
        Command::Snapshot(command) => Box::pin(command.run(context)).await,
        Command::Downgrade(command) => command.run(context).await,
        Command::Auth(command) => command.run(context).await,
        Command::User(command) => command.run(context).await,
        Command::Role(command) => command.run(context).await,
        Command::MakeMirror(args) => Box::pin(args.run(context)).await,
        Command::Check(command) => Box::pin(command.run(context)).await,
        Command::Status(args) => Box::pin(args.run(context)).await,
        Command::Verify(args) => Box::pin(args.run(context)).await,
        Command::History(args) => Box::pin(args.run(context)).await,
        Command::Diff(args) => Box::pin(args.run(context)).await,
        Command::Space(args) => Box::pin(args.run(context)).await,
        Command::Top(args) => Box::pin(args.run(context)).await,
        Command::Undelete(args) => Box::pin(args.run(context)).await,
        Command::Migrate(args) => Box::pin(args.run(context)).await,
        // Run without a runtime, by `main` and `run`.
        Command::Bench(_)
        | Command::Version
        | Command::Completion(_)
        | Command::Man(_)
        | Command::Recover(_) => Ok(()),
    }
}
