//! The flags of `barque controller-manager`: kube-controller-manager's names, each also as `BARQUE_CONTROLLER_MANAGER_*` in the
//! environment.
//!
//! Turns words into a configuration; what they must be is the controller manager's to say.

mod autoscaling;
mod nodes;
mod signing;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use barque_controllers::config::{Config, ValidConfig};
use barque_controllers::registry::CONTROLLERS;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::component_args::{Component, ComponentArgs, LogArgs};
use autoscaling::AutoscalingArgs;
use nodes::NodesArgs;
use signing::SigningArgs;

/// The controller manager.
#[derive(Clone, Debug)]
pub(crate) struct ControllerManager;

impl Component for ControllerManager {
    const ENVIRONMENT: &'static str = "BARQUE_CONTROLLER_MANAGER_";
    const SECURE_PORT: u16 = 10257;
    const LEASE: &'static str = "kube-controller-manager";
}

/// Runs the controllers over the Kubernetes API, with kube-controller-manager's flags.
#[derive(Debug, Args)]
pub(crate) struct ControllerManagerArgs {
    #[command(flatten)]
    component: ComponentArgs<ControllerManager>,

    /// Which controllers run: * for all that are on by themselves, name for one more, -name for one less.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CONTROLLERS",
        default_value = "*",
        value_name = "NAMES",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    controllers: Vec<String>,
    #[command(flatten)]
    workers: WorkersArgs,
    /// How often everything is looked at though nothing has changed.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_MIN_RESYNC_PERIOD",
        default_value = "12h0m0s",
        value_name = "TIME"
    )]
    min_resync_period: String,

    /// Certificates that pods trust API servers by, PEM [default: those that this process trusts them by].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_ROOT_CA_FILE", value_name = "FILE")]
    root_ca_file: Option<PathBuf>,
    /// Key that signs tokens of service accounts that stand in secrets, PEM [default: such secrets stay without tokens].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_SERVICE_ACCOUNT_PRIVATE_KEY_FILE", value_name = "FILE")]
    service_account_private_key_file: Option<PathBuf>,
    /// How often the usage of every quota is counted anew though nothing has changed.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_RESOURCE_QUOTA_SYNC_PERIOD",
        default_value = "5m0s",
        value_name = "TIME"
    )]
    resource_quota_sync_period: String,

    #[command(flatten)]
    nodes: NodesArgs,
    /// How many endpoints a slice has at most.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_MAX_ENDPOINTS_PER_SLICE",
        default_value_t = 100,
        value_name = "COUNT"
    )]
    max_endpoints_per_slice: usize,
    /// How many addresses of a subset of endpoints that users made are mirrored to slices.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_MIRRORING_MAX_ENDPOINTS_PER_SUBSET",
        default_value_t = 1000,
        value_name = "COUNT"
    )]
    mirroring_max_endpoints_per_subset: usize,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    autoscaling: AutoscalingArgs,
}

/// Workers of each controller: a flag for each row of the table of controllers that has one.
#[derive(Debug, Default)]
struct WorkersArgs(BTreeMap<&'static str, usize>);

impl Args for WorkersArgs {
    fn augment_args(command: Command) -> Command {
        CONTROLLERS.iter().filter_map(|row| row.workers.map(|flag| (row, flag))).fold(
            command,
            |command, (row, flag)| {
                command.arg(
                    Arg::new(flag.name)
                        .long(flag.name)
                        .env(flag.env)
                        .value_name("COUNT")
                        .value_parser(value_parser!(usize))
                        .help(format!(
                            "How many objects {} works on at once [default: {}]",
                            row.name, flag.default
                        )),
                )
            },
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for WorkersArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut made = Self::default();
        made.update_from_arg_matches(matches)?;
        Ok(made)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in CONTROLLERS.iter().filter_map(|row| row.workers) {
            if let Some(count) = matches.get_one::<usize>(flag.name) {
                self.0.insert(flag.name, *count);
            }
        }
        Ok(())
    }
}

/// A time as Go writes it; the flag is for the sentence about what is wrong.
fn time(flag: &str, text: &str) -> Result<Duration, String> {
    barque_client::component::go_duration(text)
        .ok_or_else(|| format!("--{flag}: {text:?} is not a time such as 15s or 1h30m"))
}

impl ControllerManagerArgs {
    /// What is logged.
    pub(crate) const fn log(&self) -> LogArgs {
        self.component.flags.log
    }

    /// The configuration, checked.
    pub(crate) fn into_config(self) -> Result<ValidConfig, Box<dyn Error>> {
        let config = Config {
            component: self.component.into_config(),
            controllers: self.controllers,
            workers: self.workers.0,
            min_resync_period: time("min-resync-period", &self.min_resync_period)?,
            root_ca_file: self.root_ca_file,
            service_account_private_key_file: self.service_account_private_key_file,
            resource_quota_sync_period: time("resource-quota-sync-period", &self.resource_quota_sync_period)?,
            signing: self.signing.into_config()?,
            autoscaling: self.autoscaling.into_config()?,
            nodes: self.nodes.into_options()?,
            max_endpoints_per_slice: self.max_endpoints_per_slice,
            mirroring_max_endpoints_per_subset: self.mirroring_max_endpoints_per_subset,
        };
        Ok(config.validate()?)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        manager: ControllerManagerArgs,
    }

    fn parse(words: &[&str]) -> ControllerManagerArgs {
        Cli::try_parse_from([&["controller-manager"], words].concat()).unwrap().manager
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let flag = arg.get_long().unwrap();
            let expected = format!("BARQUE_CONTROLLER_MANAGER_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
        }
    }

    #[test]
    fn what_upstream_is_started_with_is_understood() {
        let args = parse(&[
            "--kubeconfig=/etc/kubernetes/controller-manager.conf",
            "--controllers=*,-replicationcontroller-controller",
            "--concurrent-replicaset-syncs=7",
            "--leader-elect",
            "--leader-elect-lease-duration=30s",
            "--bind-address=127.0.0.1",
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt",
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key",
            "--cluster-signing-duration=720h0m0s",
            "--horizontal-pod-autoscaler-sync-period=5s",
        ]);
        assert_eq!(args.workers.0["concurrent-replicaset-syncs"], 7);
        args.into_config().unwrap();
        let wrong = parse(&["--leader-elect-renew-deadline=20s"]).into_config().unwrap_err();
        assert!(wrong.to_string().contains("leaseDuration must be greater"), "{wrong}");
        let wrong = parse(&["--min-resync-period=soon"]).into_config().unwrap_err();
        assert!(wrong.to_string().contains("--min-resync-period"), "{wrong}");
        let wrong = parse(&["--cluster-signing-cert-file=a"]).into_config().unwrap_err();
        assert!(wrong.to_string().contains("--cluster-signing-cert-file and"), "{wrong}");
        parse(&["--leader-elect=false", "--leader-elect-renew-deadline=20s"]).into_config().unwrap();
        parse(&[
            "--allocate-node-cidrs=true",
            "--cluster-cidr=10.244.0.0/16,fd00::/56",
            "--node-cidr-mask-size-ipv4=25",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--node-monitor-period=5s",
            "--node-monitor-grace-period=40s",
            "--terminated-pod-gc-threshold=1000",
        ])
        .into_config()
        .unwrap();
        let wrong = parse(&["--allocate-node-cidrs"]).into_config().unwrap_err();
        assert!(wrong.to_string().contains("--cluster-cidr"), "{wrong}");
        let wrong = parse(&["--node-startup-grace-period=soon"]).into_config().unwrap_err();
        assert!(wrong.to_string().contains("--node-startup-grace-period"), "{wrong}");
    }
}
