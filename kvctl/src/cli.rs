//! The command line: global flags with etcdctl's names, the list of commands, exit codes of misuse.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::command::{
    alarm, auth, check, compaction, defrag, del, diff, downgrade, elect, endpoint, get, history, lease, lock,
    make_mirror, member, migrate, move_leader, put, recover, role, shell, snapshot, space, status, top, txn,
    undelete, user, verify, watch,
};
use crate::connection::{Endpoint, Settings, TlsFlags, User};
use crate::error::Failure;
use crate::go_duration;
use crate::output::{Format, Output};

/// Administers Barque's store and any other etcd v3 server.
///
/// Commands, flags and output are etcdctl's; every global option is also an environment variable, such as
/// KVCTL_ENDPOINTS for --endpoints.
#[derive(Debug, Parser)]
#[command(name = "kvctl", version, infer_subcommands = true, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One per command, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Get a key or a range of keys
    Get(get::GetArgs),
    /// Put a value at a key; without VALUE it is read from standard input
    Put(put::PutArgs),
    /// Delete a key or a range of keys
    Del(del::DelArgs),
    /// Run a transaction read from standard input
    Txn(txn::TxnArgs),
    /// Forget all history before a revision
    Compaction(compaction::CompactionArgs),
    /// Watch keys, and run a command for each event if one is given after `--`
    Watch(watch::WatchArgs),
    /// Grant, renew, revoke and list leases
    #[command(subcommand)]
    Lease(lease::LeaseCommand),
    /// Hold a lock, while a command runs or until interrupted
    Lock(lock::LockArgs),
    /// Run for leader of an election, or observe it
    Elect(elect::ElectArgs),
    /// List and change the members of the cluster
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Ask each endpoint for its health, status or hash
    Endpoint(endpoint::EndpointArgs),
    /// List and disarm alarms
    #[command(subcommand)]
    Alarm(alarm::AlarmCommand),
    /// Give unused space in the members' files back
    Defrag(defrag::DefragArgs),
    /// Save, list, describe, verify and restore snapshots
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Go on with one member after most were lost for good
    Recover(recover::RecoverArgs),
    /// Hand leadership to another member
    MoveLeader(move_leader::MoveLeaderArgs),
    /// Prepare going back to an older version
    #[command(subcommand)]
    Downgrade(downgrade::DowngradeCommand),
    /// Enable and disable users
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Add, change and list users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Add, change and list roles
    #[command(subcommand)]
    Role(role::RoleCommand),
    /// Copy keys to another cluster and keep following
    MakeMirror(make_mirror::MakeMirrorArgs),
    /// See whether the cluster is fast enough, and how much memory data take
    #[command(subcommand)]
    Check(check::CheckCommand),
    /// One screen about the whole cluster
    Status(status::StatusArgs),
    /// What the members do for their clients right now
    Top(top::TopArgs),
    /// Which keys take how much space, with their history
    Space(space::SpaceArgs),
    /// Compare all members' data at one revision
    Verify(verify::VerifyArgs),
    /// Every version of a key, as far back as history is kept
    History(history::HistoryArgs),
    /// What changed between two revisions
    Diff(diff::DiffArgs),
    /// Bring a deleted key back
    Undelete(undelete::UndeleteArgs),
    /// Copy a live etcd cluster to this one and follow it until clients have moved
    Migrate(migrate::MigrateArgs),
    /// Measure throughput and latency under load
    Bench(BenchArgs),
    /// Print this program's version
    Version,
    /// Print a completion script
    Completion(shell::CompletionArgs),
    /// Print the manual page, or write one for every command into a directory
    #[command(hide = true)]
    Man(shell::ManArgs),
}

/// Options of every command. Their ids must be no command's: what is global is global by its id.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Members to ask, host:port or URL, separated by commas; if one does not answer the next is asked
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        env = "KVCTL_ENDPOINTS",
        hide_env = true
    )]
    endpoints: Vec<String>,
    /// How to print answers
    #[arg(long, short = 'w', global = true, value_enum, default_value_t = Format::Simple, env = "KVCTL_WRITE_OUT", hide_env = true)]
    write_out: Format,
    /// Print byte strings as hexadecimal numbers
    #[arg(long, global = true, env = "KVCTL_HEX", hide_env = true)]
    hex: bool,
    /// How long a short command may take, after connecting; 5s if not given. What takes long, such as `snapshot save`, is
    /// held to it only when it is given
    #[arg(long, global = true, value_name = "DURATION", value_parser = go_duration::parse, env = "KVCTL_COMMAND_TIMEOUT", hide_env = true)]
    command_timeout: Option<Duration>,
    /// How long connecting may take
    #[arg(long, global = true, value_name = "DURATION", value_parser = go_duration::parse, default_value = "2s", env = "KVCTL_DIAL_TIMEOUT", hide_env = true)]
    dial_timeout: Duration,
    /// Ask a silent connection for life this often
    #[arg(long, global = true, value_name = "DURATION", value_parser = go_duration::parse, default_value = "2s", env = "KVCTL_KEEPALIVE_TIME", hide_env = true)]
    keepalive_time: Duration,
    /// Give a connection up after this long without a sign of life
    #[arg(long, global = true, value_name = "DURATION", value_parser = go_duration::parse, default_value = "6s", env = "KVCTL_KEEPALIVE_TIMEOUT", hide_env = true)]
    keepalive_timeout: Duration,
    /// Largest request in bytes; 0 means 2 MiB
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        default_value_t = 0,
        env = "KVCTL_MAX_REQUEST_BYTES",
        hide_env = true
    )]
    max_request_bytes: usize,
    /// Largest answer in bytes; 0 means 2 GiB
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        default_value_t = 0,
        env = "KVCTL_MAX_RECV_BYTES",
        hide_env = true
    )]
    max_recv_bytes: usize,
    /// Certificate (PEM) that this client shows
    #[arg(long, global = true, value_name = "FILE", env = "KVCTL_CERT", hide_env = true)]
    cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long = "key", global = true, value_name = "FILE", env = "KVCTL_KEY", hide_env = true)]
    tls_key: Option<PathBuf>,
    /// Authorities (PEM) that must have signed the members' certificates; without it, the system's
    #[arg(long, global = true, value_name = "FILE", env = "KVCTL_CACERT", hide_env = true)]
    cacert: Option<PathBuf>,
    /// Endpoints without a scheme are spoken to without TLS, unless a certificate is given
    #[arg(long, global = true, action = ArgAction::Set, default_value_t = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "KVCTL_INSECURE_TRANSPORT", hide_env = true)]
    insecure_transport: bool,
    /// Accept any certificate of a member; for tests only
    #[arg(long, global = true, env = "KVCTL_INSECURE_SKIP_TLS_VERIFY", hide_env = true)]
    insecure_skip_tls_verify: bool,
    /// User, or user:password; a password that is not given is asked for
    #[arg(long = "user", global = true, env = "KVCTL_USER", hide_env_values = true, hide_env = true)]
    login_user: Option<String>,
    /// The user's password
    #[arg(long, global = true, env = "KVCTL_PASSWORD", hide_env_values = true, hide_env = true)]
    password: Option<String>,
    /// A token to show instead of user and password
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        conflicts_with = "login_user",
        env = "KVCTL_AUTH_JWT_TOKEN",
        hide_env_values = true,
        hide_env = true
    )]
    auth_jwt_token: Option<String>,
    /// Tell on standard error what goes wrong on the way
    #[arg(long, global = true, env = "KVCTL_DEBUG", hide_env = true)]
    debug: bool,
}

impl GlobalArgs {
    /// How to print.
    pub(crate) fn output(&self) -> Output {
        Output { format: self.write_out, hex: self.hex }
    }

    /// How to connect. Asks for the password if one is missing.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let user = self.login_user.as_deref().filter(|user| !user.is_empty()).map(|user| {
            User::from_flags(user, self.password.as_deref(), || shell::ask_password("Password: "))
        });
        for (flag, path) in [("--cert", &self.cert), ("--key", &self.tls_key), ("--cacert", &self.cacert)] {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(Failure::Arguments(format!("{flag} is empty: name a file, or leave it out")));
            }
        }
        Ok(Settings {
            endpoints: endpoints(&self.endpoints)?,
            dial_timeout: self.dial_timeout,
            command_timeout: self.command_timeout,
            keepalive_time: self.keepalive_time,
            keepalive_timeout: self.keepalive_timeout,
            max_request_bytes: self.max_request_bytes,
            max_recv_bytes: self.max_recv_bytes,
            tls: TlsFlags {
                cert: self.cert.clone(),
                key: self.tls_key.clone(),
                cacert: self.cacert.clone(),
                skip_verify: self.insecure_skip_tls_verify,
                always: !self.insecure_transport,
            },
            user: user.transpose()?,
            token: self.auth_jwt_token.clone(),
            debug: self.debug,
        })
    }
}

/// Reads a list of endpoints; there is at least one.
///
/// # Errors
/// A sentence that says which is wrong.
pub(crate) fn endpoints(texts: &[String]) -> Result<Vec<Endpoint>, Failure> {
    let endpoints: Vec<_> = texts.iter().filter(|text| !text.trim().is_empty()).collect();
    if endpoints.is_empty() {
        return Err(Failure::Arguments(
            "--endpoints is empty: name at least one member, such as 127.0.0.1:2379".into(),
        ));
    }
    endpoints.into_iter().map(|text| Endpoint::parse(text).map_err(Failure::Arguments)).collect()
}

/// Reads the command line.
///
/// # Errors
/// clap's, which `main` prints; also the help and the version.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut matches = command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command()))
}

/// The whole command line as clap knows it.
pub(crate) fn command() -> clap::Command {
    switches_with_values(Cli::command())
}

/// Every switch can be given as `--switch=true` or `--switch=false` too, as etcdctl's users write it.
fn switches_with_values(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        arg.action(ArgAction::Set)
            .value_parser(clap::builder::BoolishValueParser::new())
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
    });
    // Of a flag that is given twice the last one counts, so that an alias can be overridden.
    command.args_override_self(true).mut_subcommands(switches_with_values)
}

/// The exit code of a command line that is none: as etcdctl's for the same mistake.
pub(crate) fn usage_exit_code(error: &clap::Error) -> u8 {
    let of_a_flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.starts_with('-'),
        Some(ContextValue::Strings(args)) => args.iter().all(|arg| arg.starts_with('-')),
        _ => false,
    };
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 0,
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict | ErrorKind::TooManyValues => 128,
        ErrorKind::UnknownArgument | ErrorKind::ValueValidation | ErrorKind::InvalidValue if !of_a_flag => {
            128
        }
        ErrorKind::InvalidValue if error.get(ContextKind::ValidValue).is_some() => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Cli, clap::Error> {
        parse(std::iter::once("kvctl").chain(words.split_whitespace()).map(OsString::from))
    }

    fn code(words: &str) -> u8 {
        parsed(words).map_or_else(|error| usage_exit_code(&error), |_| 255)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn misuse_has_etcdctls_exit_codes() {
        for (words, expected) in [
            ("", 0),
            ("lease", 0),
            ("get --help", 0),
            ("get", 128),
            ("get a b c", 128),
            ("get a --prefix --from-key", 128),
            ("member add m4", 128),
            ("lease revoke xyz", 128),
            ("role grant-permission r fly k", 128),
            ("get a --unknown", 1),
            ("get a --limit=x", 1),
            ("unknown", 1),
            ("get a --order=sideways", 4),
            ("get a --write-out=xml", 4),
        ] {
            assert_eq!(code(words), expected, "{words}");
        }
    }

    #[test]
    fn switches_take_values_and_commands_can_be_shortened() {
        let hex = |words| parsed(words).unwrap().global.hex;
        assert!(hex("get a --hex") && hex("--hex=true get a") && hex("get --hex a"));
        assert!(!hex("get a --hex=false") && !hex("get a") && !hex("get a --hex --hex=false"));
        assert!(matches!(parsed("compact 5").unwrap().command, Command::Compaction(_)));
        assert!(matches!(parsed("mem list").unwrap().command, Command::Member(_)));
    }

    #[test]
    fn global_options_stand_anywhere_and_bench_keeps_its_own() {
        let endpoints = |words| parsed(words).unwrap().global.endpoints;
        assert_eq!(endpoints("--endpoints a:1,b:2 get x"), ["a:1", "b:2"]);
        assert_eq!(endpoints("member list --endpoints=a:1"), ["a:1"]);
        assert!(matches!(parsed("bench put --endpoints a:1").unwrap().command, Command::Bench(_)));
    }

    /// A global option must not stand where a command has an argument of the same id and another meaning.
    #[test]
    fn no_command_has_an_argument_with_a_global_id() {
        fn look(command: &clap::Command, globals: &[String], wrong: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "bench") {
                let ids = sub.get_arguments().map(|arg| arg.get_id().to_string());
                wrong.extend(
                    ids.filter(|id| globals.contains(id)).map(|id| format!("{}: {id}", sub.get_name())),
                );
                look(sub, globals, wrong);
            }
        }
        let root = command();
        let globals: Vec<String> = root
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .map(|arg| arg.get_id().to_string())
            .collect();
        assert!(globals.len() > 10);
        let mut wrong = Vec::new();
        look(&root, &globals, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn wrong_endpoints_are_told() {
        let failure = |words| parsed(words).unwrap().global.settings().unwrap_err().to_string();
        assert!(failure("--endpoints x get a").contains("\"x\" is not host:port"));
        assert!(failure("--endpoints= get a").contains("at least one"));
    }
}
