//! The one binary: each part of Barque is a subcommand.
//!
//! Reads words, says what is wrong with them, and hands them on. Never decides anything else.

mod agent_args;
mod agent_join;
mod agent_leave;
mod apiserver_args;
mod authentication_args;
mod bundle_command;
mod cluster_args;
mod cluster_command;
mod component_args;
mod config_file;
mod controller_manager_args;
mod doctor_command;
mod front_args;
mod image_args;
mod image_command;
mod lint_args;
mod log;
mod notify;
mod oidc_args;
mod part_choice;
mod process;
mod rotate_ca_command;
mod scheduler_args;
mod server_args;
mod server_command;
mod server_parts;
mod service_command;
mod service_unit;
mod shell;
mod store_args;
mod uninstall_command;
mod up_args;
mod up_command;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use barque_agent::config::ContainerConfig;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::agent_args::{AgentArgs, AgentCommand, CheckArgs};
use crate::apiserver_args::ApiserverArgs;
use crate::cluster_args::{
    BundleArgs, CertsArgs, DoctorArgs, KubeconfigArgs, ServerCommand, StatusArgs, TokenArgs,
};
use crate::component_args::Output;
use crate::controller_manager_args::ControllerManagerArgs;
use crate::front_args::FrontArgs;
use crate::image_args::{ImageArgs, ImageCommand};
use crate::lint_args::LintArgs;
use crate::scheduler_args::{ExplainArgs, SchedulerArgs, SchedulerCommand};
use crate::server_args::ServerArgs;
use crate::service_command::ServiceArgs;
use crate::shell::{CompletionArgs, ManArgs};
use crate::store_args::StoreArgs;
use crate::uninstall_command::UninstallArgs;
use crate::up_args::{DownArgs, FaultArgs, UpArgs};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The words were wrong; nothing was done.
const USAGE: u8 = 2;
/// Something is wrong in a cluster.
const FOUND: u8 = 1;
/// Nobody knows whether something is wrong in a cluster.
const UNKNOWN: u8 = 2;

/// A Kubernetes-compatible cluster in one program.
#[derive(Debug, Parser)]
#[command(name = "barque", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a master: a member of the store, an API server, the controllers and the scheduler, in one process.
    ///
    /// The first one begins a cluster; others join it with --join and a token, and any of them may die.
    Server(Box<ServerArgs>),
    /// Says how the cluster is: masters with their stores, nodes, pods, what happened last.
    ///
    /// Exit codes: 0 when all masters and nodes are ready, 1 when not, 2 when nobody could be asked.
    Status(StatusArgs),
    /// Looks for what is wrong with this master and its cluster, also when nothing answers; changes nothing.
    ///
    /// Quorum, alarms and size of the store, syncs and space of the disk, clocks, certificates, large packets, API servers,
    /// releases, nodes, and what a node needs of the kernel. Exit codes: 0 when nothing failed, 1 when something did, 2 when
    /// there is no master.
    Doctor(DoctorArgs),
    /// Puts what somebody needs who helps from afar into one file: findings, objects without what they hold, metrics, logs.
    ///
    /// No secrets, keys, tokens, environments or annotations. A piece that cannot be had is told of.
    SupportBundle(BundleArgs),
    /// Makes, lists and revokes the tokens by which machines join.
    Token(TokenArgs),
    /// Prints a kubeconfig for the administrator, or for a user with groups.
    Kubeconfig(KubeconfigArgs),
    /// Lists the certificates of this master, and makes them anew.
    Certs(CertsArgs),
    /// Runs a member of the key/value store, with etcd's flags.
    Store(Box<StoreArgs>),
    /// Serves the Kubernetes API over a store, with kube-apiserver's flags.
    Apiserver(Box<ApiserverArgs>),
    /// Keeps a node, or many hollow ones in one process, with the kubelet's flags.
    Agent(Box<AgentArgs>),
    /// Runs the controllers over the Kubernetes API, with kube-controller-manager's flags.
    ControllerManager(Box<ControllerManagerArgs>),
    /// Places pods over the Kubernetes API, with kube-scheduler's flags.
    Scheduler(Box<SchedulerArgs>),
    /// Looks at every object of a cluster and says what cannot be right; changes nothing.
    ///
    /// Works with any Kubernetes cluster. Everything is read once, and when something is wrong, once more after a while: only
    /// what is wrong both times is told, so that what just changes is not. A cluster that is correct and at rest has no
    /// findings.
    ///
    /// Exit codes: 0 when nothing is wrong, 1 when something is, 2 when the cluster could not be read.
    Lint(LintArgs),
    /// Pulls, lists, removes, loads and saves the images of this node, also while its agent runs.
    Image(ImageArgs),
    /// Makes a whole cluster on this machine, with several masters and nodes, or starts it again.
    ///
    /// As root, each is in a network namespace of its own, `ip netns exec barque-m1` runs programs there, and nodes run containers.
    /// Without root, each has a loopback address, and nodes are hollow. Comes back when all nodes are ready and all objects of
    /// -f are what they ask for; what was begun is taken away when that fails.
    Up(UpArgs),
    /// Takes the cluster of `barque up` away, or stops it and keeps its data.
    ///
    /// Exit codes: 0 when nothing is left, 1 when something is, 2 when nothing was done.
    Down(DownArgs),
    /// Kills, pauses, cuts off a member of the cluster of `barque up`, and brings it back.
    Fault(FaultArgs),
    /// Passes TCP connections on to API servers that are ready.
    ///
    /// Each is asked every second. TLS stays between clients and servers. A server that does not answer twice, or takes no
    /// connection, is left out, and its connections are cut, so that clients come again and get another one.
    Front(FrontArgs),
    /// Takes away what Barque has on this machine: its units, what a node left, directories of master and node.
    ///
    /// Refuses while the master is part of a cluster: `barque server leave` first.
    Uninstall(Box<UninstallArgs>),
    /// Writes units of systemd for a master or a node of this machine.
    Service(ServiceArgs),
    /// Prints a completion script for a shell.
    Completion(CompletionArgs),
    /// Prints the manual page, or writes those of all commands.
    Man(ManArgs),
}

/// The words of this process, and those of the file that they name.
fn parsed() -> Command {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let told = Args::command().get_matches_from(&typed);
    let args = Args::from_arg_matches(&told).unwrap_or_else(|error| error.exit());
    let file = match &args.command {
        Command::Server(server) if server.command.is_none() => server.config(),
        Command::Agent(agent) if agent.command.is_none() => agent.config(),
        _ => None,
    };
    let (Some(file), Some((name, given))) = (file, told.subcommand()) else { return args.command };
    let mut command = Args::command();
    command.build();
    let known = command.find_subcommand(name).expect("it was parsed");
    match config_file::read(file, known, given) {
        Ok(more) => {
            let all = typed.into_iter().chain(more.into_iter().map(OsString::from));
            Args::try_parse_from(all)
                .unwrap_or_else(|error| {
                    eprintln!("--config={}:", file.display());
                    error.exit()
                })
                .command
        }
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(USAGE.into())
        }
    }
}

/// What agents start: their sandboxes' shims, which must be there before any thread is.
const SHIM: &str = "shim";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some((_, words)) = words.split_first().filter(|(first, _)| *first == SHIM) {
        return barque_containers::shim::main(words);
    }
    match parsed() {
        Command::Server(args) => server(*args),
        Command::Status(args) => looked(process::run(|_| cluster_command::status(args))),
        Command::SupportBundle(args) => ended(process::run(|_| bundle_command::support_bundle(args))),
        Command::Doctor(args) => looked(process::run(|_| doctor_command::doctor(args))),
        Command::Token(args) => ended(process::run(|_| cluster_command::token(args.command))),
        Command::Kubeconfig(args) => ended(cluster_command::kubeconfig(args)),
        Command::Certs(args) => looked(process::run(|_| cluster_command::certs(args.command))),
        Command::Store(args) => {
            let log = args.log;
            match args.into_config() {
                Ok(config) => {
                    log.start();
                    ended(process::run(|stop| async { Ok(barque_store::server::run(config, stop).await?) }))
                }
                Err(error) => usage(&error),
            }
        }
        Command::Apiserver(args) => {
            let log = args.log;
            match args.into_config() {
                Ok(config) => {
                    log.start();
                    ended(process::run(|stop| async {
                        Ok(barque_apiserver::server::run(config, stop).await?)
                    }))
                }
                Err(error) => usage(&error),
            }
        }
        Command::Agent(mut args) => match args.command.take() {
            Some(AgentCommand::Check(args)) => check(*args),
            Some(AgentCommand::Leave(args)) => ended(process::run(|_| agent_leave::leave(*args))),
            Some(AgentCommand::Cleanup(args)) => match args.into_config() {
                Ok(config) => cleanup(config),
                Err(error) => usage(&error),
            },
            None => {
                let log = args.log();
                match args.join() {
                    Ok(None) => {}
                    Ok(Some(join)) => {
                        log.start();
                        return ended(process::run(|stop| agent_join::run(*args, join, stop)));
                    }
                    Err(error) => return usage(&error),
                }
                match args.into_config() {
                    Ok(config) => {
                        log.start();
                        ended(process::run(|stop| async {
                            Ok(barque_agent::agent::run(config, notify::ready, stop).await?)
                        }))
                    }
                    Err(error) => usage(&error),
                }
            }
        },
        Command::ControllerManager(args) => {
            let log = args.log();
            match args.into_config() {
                Ok(config) => {
                    log.start();
                    ended(process::run(|stop| async {
                        Ok(barque_controllers::run(config, barque_controllers::metrics::Metrics::new(), stop)
                            .await?)
                    }))
                }
                Err(error) => usage(&*error),
            }
        }
        Command::Scheduler(mut args) => match args.command.take() {
            Some(SchedulerCommand::Explain(args)) => explain(args),
            None => {
                let log = args.log();
                match args.into_config() {
                    Ok(config) => {
                        log.start();
                        ended(process::run(|stop| async {
                            Ok(barque_scheduler_driver::run(
                                config,
                                barque_scheduler_driver::Metrics::new(),
                                stop,
                            )
                            .await?)
                        }))
                    }
                    Err(error) => usage(&*error),
                }
            }
        },
        Command::Lint(args) => lint(args),
        Command::Image(args) => image(args),
        Command::Up(args) => up_command::up(args),
        Command::Down(args) => up_command::down(args),
        Command::Fault(args) => up_command::fault(args),
        Command::Uninstall(args) => ended(process::run(|_| uninstall_command::uninstall(*args))),
        Command::Service(args) => ended(service_command::service(args.command)),
        Command::Completion(args) => {
            shell::completion(&args, Args::command());
            ExitCode::SUCCESS
        }
        Command::Man(args) => ended(shell::man(&args, Args::command())),
        Command::Front(args) => {
            let config = args.into_config();
            ended(process::run(|stop| async { Ok(barque_local::front::run(config, stop).await?) }))
        }
    }
}

/// Runs a master.
fn server(mut args: ServerArgs) -> ExitCode {
    if let Some(ServerCommand::Leave(place)) = args.command.take() {
        return ended(process::run(|_| cluster_command::leave(place)));
    }
    args.start_log();
    match args.into_plan() {
        Ok(plan) => ended(process::run(|stop| server_command::run(plan, stop))),
        Err(error) => usage(&error),
    }
}

/// Whether what was looked at is as it should be.
fn looked(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Prints what is wrong in a cluster.
fn lint(args: LintArgs) -> ExitCode {
    let servers = match args.servers() {
        Ok(servers) => servers,
        Err(error) => return usage(&*error),
    };
    let report = process::run(move |stop| async move {
        let client = barque_client::servers::connect(servers).await.context("the API servers")?;
        let looking = barque_lint::confirm(&client, args.settle);
        let report = stop.run_until_cancelled(looking).await.context("stopped")??.without(&args.skip);
        match args.output {
            Output::Table => print!("{}", report.table()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        }
        Ok(report)
    });
    match report {
        Ok(report) if report.findings.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Tries what a node needs of this machine.
fn check(args: CheckArgs) -> ExitCode {
    let output = args.output;
    let config = match args.into_config() {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    let findings = match process::run(|_| async move { Ok(barque_agent::check::check(&config).await?) }) {
        Ok(findings) => findings,
        Err(error) => return ended(Err(error)),
    };
    match output {
        Output::Table => print!("{}", barque_agent::check::table(&findings)),
        Output::Json => match serde_json::to_string_pretty(&findings) {
            Ok(text) => println!("{text}"),
            Err(error) => return ended(Err(error.into())),
        },
    }
    if findings.iter().all(|found| found.ok) { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
}

/// Takes away what a node has left behind.
fn cleanup(config: ContainerConfig) -> ExitCode {
    let cleaned = match process::run(|_| async move { Ok(barque_agent::cleanup::cleanup(&config).await) }) {
        Ok(cleaned) => cleaned,
        Err(error) => return ended(Err(error)),
    };
    if agent_leave::told(&cleaned) { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
}

/// Works on the images of this node.
fn image(args: ImageArgs) -> ExitCode {
    let credentials = match &args.command {
        ImageCommand::Pull(pull) => pull.credentials().map(Some),
        _ => Ok(None),
    };
    let ((root, options), credentials) = match (args.store(), credentials) {
        (Ok(store), Ok(credentials)) => (store, credentials),
        (Err(error), _) | (_, Err(error)) => return usage(&*error),
    };
    ended(process::run(move |stop| image_command::run(root, options, args.command, credentials, stop)))
}

/// Prints where a pod would go.
fn explain(args: ExplainArgs) -> ExitCode {
    let output = args.output;
    let (servers, configuration, asked) = match args.into_question() {
        Ok(question) => question,
        Err(error) => return usage(&*error),
    };
    ended(process::run(move |stop| async move {
        let asking = barque_scheduler_driver::explain::explain(servers, configuration, asked);
        let Some(explanation) = stop.run_until_cancelled(asking).await else { return Ok(()) };
        let explanation = explanation?;
        match output {
            Output::Table => print!("{}", explanation.table()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
        }
        Ok(())
    }))
}

/// The words were wrong.
fn usage(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(USAGE)
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = sentence(&error);
            tracing::error!("{sentence}");
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes as one sentence; some causes are repeated in the text of what they caused.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}
