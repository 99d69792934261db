//! The flags of `barque scheduler`: kube-scheduler's names, each also as `BARQUE_SCHEDULER_*` in the environment.
//!
//! Turns words into a configuration, and reads the files that they name; what they must be is the scheduler's to say.

use std::error::Error;
use std::path::{Path, PathBuf};

use barque_client::servers::Servers;
use barque_scheduler_driver::config::{self, ValidConfig};
use barque_scheduler_driver::explain::Asked;
use clap::{Args, Subcommand};

use crate::component_args::{Component, ComponentArgs, LogArgs, Output};

/// The scheduler.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler;

impl Component for Scheduler {
    const ENVIRONMENT: &'static str = "BARQUE_SCHEDULER_";
    const SECURE_PORT: u16 = config::PORT;
    const LEASE: &'static str = config::LEASE.1;
}

/// Places pods over the Kubernetes API, with kube-scheduler's flags.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SchedulerArgs {
    #[command(subcommand)]
    pub(crate) command: Option<SchedulerCommand>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else there is.
#[derive(Debug, Subcommand)]
pub(crate) enum SchedulerCommand {
    /// Says where a pod would go now, or why nowhere, node by node; changes nothing.
    Explain(ExplainArgs),
}

/// What the scheduler is started with.
#[derive(Debug, Args)]
struct RunArgs {
    /// A KubeSchedulerConfiguration, version kubescheduler.config.k8s.io/v1; flags count more.
    #[arg(long, env = "BARQUE_SCHEDULER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    component: ComponentArgs<Scheduler>,
}

/// Which pod, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The pod; one that runs is looked at as if it did not.
    #[arg(value_name = "POD", required_unless_present = "what_if", conflicts_with = "what_if")]
    pod: Option<String>,
    /// Its namespace.
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    /// A manifest of a pod that is not there. The API server says what it would be, and creates nothing.
    #[arg(long, value_name = "FILE")]
    what_if: Option<PathBuf>,
    /// A table, or all that is known as JSON.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
    /// Whom to ask, and as who [default: what a pod finds].
    #[arg(long, env = "BARQUE_SCHEDULER_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// URLs of API servers, the preferred one first, comma separated [default: the one of --kubeconfig].
    #[arg(long, env = "BARQUE_SCHEDULER_MASTER", value_name = "URLS", value_delimiter = ',')]
    master: Vec<String>,
    /// The scheduler's KubeSchedulerConfiguration.
    #[arg(long, env = "BARQUE_SCHEDULER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The text of a file; the sentence about what is wrong names it.
fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

impl SchedulerArgs {
    /// What is logged.
    pub(crate) const fn log(&self) -> LogArgs {
        self.run.component.flags.log
    }

    /// The configuration, checked.
    pub(crate) fn into_config(self) -> Result<ValidConfig, Box<dyn Error>> {
        let text = self.run.config.as_deref().map(read).transpose()?;
        let said = self.run.component.flags;
        let flags = config::Flags {
            kubeconfig: said.kubeconfig,
            master: said.master,
            bind_address: said.bind_address,
            secure_port: said.secure_port,
            tls_cert_file: said.tls_cert_file,
            tls_private_key_file: said.tls_private_key_file,
            leader_elect: said.leader_elect,
            leader_elect_resource_namespace: said.leader_elect_resource_namespace,
            leader_elect_resource_name: said.leader_elect_resource_name,
            leader_elect_lease_duration: said.leader_elect_lease_duration,
            leader_elect_renew_deadline: said.leader_elect_renew_deadline,
            leader_elect_retry_period: said.leader_elect_retry_period,
        };
        Ok(flags.validate(text.as_deref())?)
    }
}

impl ExplainArgs {
    /// Whom to ask, with which configuration, about which pod.
    pub(crate) fn into_question(
        self,
    ) -> Result<(Servers, barque_scheduler::config::Configuration, Asked), Box<dyn Error>> {
        let text = self.config.as_deref().map(read).transpose()?;
        let configuration = config::configuration(text.as_deref())?;
        let servers = config::servers(self.kubeconfig, &self.master, &configuration)?;
        let namespace = self.namespace;
        let asked = match (self.what_if, self.pod) {
            (Some(path), _) => Asked::WhatIf { namespace, manifest: read(&path)? },
            (None, name) => Asked::Pod { namespace, name: name.unwrap_or_default() },
        };
        Ok((servers, configuration, asked))
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        scheduler: SchedulerArgs,
    }

    fn parse(words: &[&str]) -> SchedulerArgs {
        Cli::try_parse_from([&["scheduler"], words].concat()).unwrap().scheduler
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        let mut flags = 0;
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let flag = arg.get_long().unwrap();
            let expected = format!("BARQUE_SCHEDULER_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
            flags += 1;
        }
        assert!(flags > 10);
    }

    #[test]
    fn what_upstream_is_started_with_is_understood() {
        let args = parse(&[
            "--kubeconfig=/etc/kubernetes/scheduler.conf",
            "--leader-elect",
            "--leader-elect-lease-duration=30s",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
        ]);
        assert!(args.command.is_none());
        args.into_config().unwrap();
        let wrong = parse(&["--leader-elect-renew-deadline=20s"]).into_config().unwrap_err();
        assert!(wrong.to_string().contains("leaseDuration must be greater"), "{wrong}");
        parse(&["--leader-elect=false", "--leader-elect-renew-deadline=20s"]).into_config().unwrap();
        let wrong = Cli::try_parse_from(["scheduler", "--leader-elect-retry-period=soon"]).unwrap_err();
        assert!(wrong.to_string().contains("not a time"), "{wrong}");
        let wrong = parse(&["--config=/nowhere/at/all"]).into_config().unwrap_err();
        assert!(wrong.to_string().starts_with("/nowhere/at/all: "), "{wrong}");
    }

    #[test]
    fn an_explanation_is_of_a_pod_or_of_a_manifest() {
        let args = parse(&["explain", "web-1", "-n", "shop", "-o", "json"]);
        let Some(SchedulerCommand::Explain(explain)) = args.command else { panic!("{args:?}") };
        let (.., asked) = explain.into_question().unwrap();
        assert!(matches!(asked, Asked::Pod { namespace, name } if namespace == "shop" && name == "web-1"));
        assert!(Cli::try_parse_from(["scheduler", "explain"]).is_err());
        assert!(Cli::try_parse_from(["scheduler", "explain", "web-1", "--what-if=f"]).is_err());
    }
}
