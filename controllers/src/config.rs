//! What a controller manager is told at its start, checked. Must never read a file, the environment or the clock.

mod autoscaling;
mod nodes;
mod signing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use barque_client::component;

pub use autoscaling::AutoscalingConfig;
pub use nodes::{Failover, NodeOptions};
pub(crate) use nodes::{NodeIpamOptions, NodeLifecycleOptions};
pub use signing::{FilePair, SigningConfig};

use crate::registry::CONTROLLERS;

/// What was said, as kube-controller-manager's flags say it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whom to speak to, what is served, who leads.
    pub component: component::Config,
    /// `*` for all that are on by themselves, `name` for one more, `-name` for one less.
    pub controllers: Vec<String>,
    /// Workers of each controller, by the flag's name; those that are not there have their default.
    pub workers: BTreeMap<&'static str, usize>,
    /// How often everything is looked at though nothing has changed.
    pub min_resync_period: Duration,
    /// The certificates that pods trust API servers by, PEM; nothing is those that this process trusts them by.
    pub root_ca_file: Option<PathBuf>,
    /// The key that signs tokens of service accounts that stand in secrets, PEM; nothing leaves these secrets empty.
    pub service_account_private_key_file: Option<PathBuf>,
    /// How often the usage of every quota is counted anew though nothing has changed.
    pub resource_quota_sync_period: Duration,
    /// Who signs certificates.
    pub signing: SigningConfig,
    /// How the autoscaler behaves.
    pub autoscaling: AutoscalingConfig,
    /// What controllers of nodes, and of what runs on them, are told.
    pub nodes: NodeOptions,
    /// How many endpoints a slice has at most.
    pub max_endpoints_per_slice: usize,
    /// How many addresses of a subset of endpoints that users made are mirrored.
    pub mirroring_max_endpoints_per_subset: usize,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such controller.
    #[error("--controllers: {0:?} is not in the list of known controllers")]
    Controller(String),
    /// What every such process is told.
    #[error(transparent)]
    Component(#[from] component::ConfigError),
    /// One of both is missing.
    #[error("--{0}-cert-file and --{0}-key-file go together")]
    SigningPair(&'static str),
    /// It is not clear which pair signs.
    #[error(
        "cannot specify --cluster-signing-{{cert,key}}-file and other --cluster-signing-*-file flags at the same time"
    )]
    SigningTwice,
    /// It would be done all the time.
    #[error("--horizontal-pod-autoscaler-sync-period must be greater than 0")]
    AutoscalingPeriod,
    /// No share.
    #[error("--horizontal-pod-autoscaler-tolerance must be a number of 0 or more")]
    AutoscalingTolerance,
    /// It would be done all the time.
    #[error("--min-resync-period must be greater than 0")]
    Resync,
    /// It would be done all the time.
    #[error("--resource-quota-sync-period must be greater than 0")]
    QuotaSync,
    /// Nobody would work.
    #[error("--{0} must be greater than 0")]
    Workers(&'static str),
    /// What controllers of nodes were told.
    #[error("--{0}: {1}")]
    Nodes(&'static str, String),
    /// The API takes no more.
    #[error("--{0} must be from 1 to 1000")]
    Endpoints(&'static str),
}

/// A configuration that can be started.
#[derive(Debug, Clone)]
pub struct ValidConfig {
    pub(crate) component: component::ValidConfig,
    /// Names of the controllers that run, with their workers.
    pub(crate) controllers: Vec<(&'static str, usize)>,
    pub(crate) resync: Duration,
    pub(crate) root_ca_file: Option<PathBuf>,
    pub(crate) service_account_private_key_file: Option<PathBuf>,
    pub(crate) resource_quota_sync_period: Duration,
    pub(crate) signing: SigningConfig,
    pub(crate) autoscaling: AutoscalingConfig,
    pub(crate) options: ValidOptions,
}

/// What single controllers are told.
#[derive(Debug, Clone)]
pub(crate) struct ValidOptions {
    pub(crate) node_lifecycle: NodeLifecycleOptions,
    /// Nothing when nodes get no ranges.
    pub(crate) node_ipam: Option<NodeIpamOptions>,
    pub(crate) ended_pods_max: usize,
    pub(crate) endpoints_per_slice: usize,
    pub(crate) mirrored_per_subset: usize,
}

impl Config {
    /// Checked.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        if self.min_resync_period.is_zero() {
            return Err(ConfigError::Resync);
        }
        if self.resource_quota_sync_period.is_zero() {
            return Err(ConfigError::QuotaSync);
        }
        self.signing.check()?;
        self.autoscaling.check()?;
        Ok(ValidConfig {
            component: self.component.validate()?,
            controllers: chosen(&self.controllers, &self.workers)?,
            resync: self.min_resync_period,
            root_ca_file: self.root_ca_file,
            service_account_private_key_file: self.service_account_private_key_file,
            resource_quota_sync_period: self.resource_quota_sync_period,
            signing: self.signing,
            autoscaling: self.autoscaling,
            options: ValidOptions {
                node_lifecycle: self.nodes.lifecycle()?,
                node_ipam: self.nodes.ipam()?,
                ended_pods_max: self.nodes.terminated_pod_gc_threshold,
                endpoints_per_slice: at_most_1000("max-endpoints-per-slice", self.max_endpoints_per_slice)?,
                mirrored_per_subset: at_most_1000(
                    "mirroring-max-endpoints-per-subset",
                    self.mirroring_max_endpoints_per_subset,
                )?,
            },
        })
    }
}

fn at_most_1000(flag: &'static str, count: usize) -> Result<usize, ConfigError> {
    if (1..=1000).contains(&count) { Ok(count) } else { Err(ConfigError::Endpoints(flag)) }
}

/// Which controllers run, with their workers.
fn chosen(
    words: &[String],
    workers: &BTreeMap<&'static str, usize>,
) -> Result<Vec<(&'static str, usize)>, ConfigError> {
    for word in words.iter().filter(|word| *word != "*") {
        let name = word.strip_prefix('-').unwrap_or(word);
        if !CONTROLLERS.iter().any(|row| row.is_named(name)) {
            return Err(ConfigError::Controller(name.to_owned()));
        }
    }
    let mut chosen = Vec::new();
    for row in CONTROLLERS {
        let said = words.iter().find_map(|word| match word.strip_prefix('-') {
            Some(name) => row.is_named(name).then_some(false),
            None => row.is_named(word).then_some(true),
        });
        let all = words.iter().any(|word| word == "*");
        if said.unwrap_or(all && row.on_by_default) {
            let flag = row.workers.as_ref();
            let count = flag.map_or(1, |flag| workers.get(flag.name).copied().unwrap_or(flag.default));
            if count == 0 {
                return Err(ConfigError::Workers(flag.map_or("concurrent-syncs", |flag| flag.name)));
            }
            chosen.push((row.name, count));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<&'static str> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        chosen(&words, &BTreeMap::new()).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn controllers_are_chosen_as_upstream() {
        let all: Vec<_> = CONTROLLERS.iter().filter(|row| row.on_by_default).map(|row| row.name).collect();
        assert_eq!(names(&["*"]), all);
        assert_eq!(names(&["replicaset-controller"]), ["replicaset-controller"]);
        assert_eq!(names(&["replicaset"]), ["replicaset-controller"], "its old name");
        let without = names(&["*", "-replicaset-controller"]);
        assert_eq!(without.len(), all.len() - 1);
        assert!(!without.contains(&"replicaset-controller"));
        let unknown = chosen(&["nobody".to_owned()], &BTreeMap::new()).unwrap_err().to_string();
        assert!(unknown.contains("\"nobody\" is not in the list of known controllers"), "{unknown}");
        let none = BTreeMap::from([("concurrent-replicaset-syncs", 0)]);
        assert!(chosen(&["*".to_owned()], &none).is_err());
    }
}
