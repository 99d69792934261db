//! The flags that all processes share which work over the API, under Kubernetes' names; each also in the environment, with the
//! process' own prefix.
//!
//! Turns words into values; what they must be is for each process to say.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use barque_client::component::{Config, go_duration};
use barque_client::leader_election::Settings;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use crate::log::{self, LogFormat, LogLevel};

/// A process.
pub(crate) trait Component: Debug + Clone + Send + Sync + 'static {
    /// What its variables in the environment begin with.
    const ENVIRONMENT: &'static str;
    /// The port that Kubernetes gives it.
    const SECURE_PORT: u16;
    /// What Kubernetes calls its lease.
    const LEASE: &'static str;
}

/// The flags of a process.
#[derive(Debug)]
pub(crate) struct ComponentArgs<C: Component> {
    pub(crate) flags: Flags,
    component: PhantomData<C>,
}

/// What was said.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Whom to speak to, and as who [default: what a pod finds].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// URLs of API servers, the preferred one first, comma separated [default: the one of --kubeconfig].
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub(crate) master: Vec<String>,

    /// The address where health and metrics are served, to anybody.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) bind_address: String,
    /// The port, with TLS; 0 lets the system choose.
    #[arg(long, value_name = "PORT")]
    pub(crate) secure_port: Option<u16>,
    /// Certificate and chain that are shown there, PEM [default: one that signs itself].
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Key of --tls-cert-file, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_private_key_file: Option<PathBuf>,

    /// Whether only one of several does the work [default: true].
    #[arg(
        long,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub(crate) leader_elect: Option<bool>,
    /// For how long a lease is left to a holder that does not renew it [default: 15s].
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) leader_elect_lease_duration: Option<Duration>,
    /// How long a leader leads without having renewed its lease [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) leader_elect_renew_deadline: Option<Duration>,
    /// How long it takes from one attempt to get or renew the lease to the next [default: 2s].
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) leader_elect_retry_period: Option<Duration>,
    /// The lease's namespace [default: kube-system].
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) leader_elect_resource_namespace: Option<String>,
    /// The lease's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) leader_elect_resource_name: Option<String>,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogArgs {
    /// The least important messages that are logged.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// One line of text, or one JSON object, for each message.
    #[arg(long, alias = "logging-format", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

impl<C: Component> ComponentArgs<C> {
    /// As a configuration, for a process without a file of its own.
    pub(crate) fn into_config(self) -> Config {
        let (said, times) = (self.flags, Settings::default());
        let or = |said: Option<String>, default: &str| said.unwrap_or_else(|| default.to_owned());
        Config {
            kubeconfig: said.kubeconfig,
            master: said.master,
            bind_address: said.bind_address,
            secure_port: said.secure_port.unwrap_or(C::SECURE_PORT),
            tls_cert_file: said.tls_cert_file,
            tls_private_key_file: said.tls_private_key_file,
            leader_elect: said.leader_elect.unwrap_or(true),
            leader_elect_resource_namespace: or(said.leader_elect_resource_namespace, "kube-system"),
            leader_elect_resource_name: or(said.leader_elect_resource_name, C::LEASE),
            leader_elect_times: Settings {
                lease_duration: said.leader_elect_lease_duration.unwrap_or(times.lease_duration),
                renew_deadline: said.leader_elect_renew_deadline.unwrap_or(times.renew_deadline),
                retry_period: said.leader_elect_retry_period.unwrap_or(times.retry_period),
            },
        }
    }
}

impl LogArgs {
    /// From here on, messages are written.
    pub(crate) fn start(self) {
        log::start(self.log_level, self.log_format);
    }
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// A time as Go writes it.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    go_duration(text).ok_or_else(|| "it is not a time such as 15s or 1h30m".to_owned())
}

impl<C: Component> Args for ComponentArgs<C> {
    fn augment_args(command: Command) -> Command {
        let flags = Flags::augment_args(Command::new("flags"));
        let named = flags.get_arguments().map(|arg| {
            let flag = arg.get_long().unwrap_or_default().replace('-', "_").to_uppercase();
            // The command line is described once, and lives as long as the program.
            let name: &'static str = Box::leak(format!("{}{flag}", C::ENVIRONMENT).into_boxed_str());
            let default = match arg.get_id().as_str() {
                "secure_port" => C::SECURE_PORT.to_string(),
                "leader_elect_resource_name" => C::LEASE.to_owned(),
                _ => return arg.clone().env(name),
            };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            arg.clone().env(name).help(format!("{help} [default: {default}]"))
        });
        command.args(named.collect::<Vec<_>>())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: Component> FromArgMatches for ComponentArgs<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { flags: Flags::from_arg_matches(matches)?, component: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.flags.update_from_arg_matches(matches)
    }
}
