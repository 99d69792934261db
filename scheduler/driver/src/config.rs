//! What a scheduler is told at its start, by flags and by a `KubeSchedulerConfiguration`, checked. Must never read a file, the
//! environment or the clock.

use std::path::PathBuf;
use std::time::Duration;

use barque_client::component::{self, go_duration};
use barque_client::leader_election::Settings;
use barque_client::servers::Servers;
use barque_scheduler::config::Configuration;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The port of kube-scheduler.
pub const PORT: u16 = 10259;
/// The lease of kube-scheduler, and its namespace.
pub const LEASE: (&str, &str) = ("kube-system", "kube-scheduler");

/// What flags said. What they did not say is for the configuration to say, and else as in Kubernetes.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// A kubeconfig; nothing is what a pod finds.
    pub kubeconfig: Option<PathBuf>,
    /// URLs of API servers, the preferred one first; empty is the one of the kubeconfig.
    pub master: Vec<String>,
    /// Where health and metrics are served.
    pub bind_address: String,
    /// The port; 0 lets the system choose.
    pub secure_port: Option<u16>,
    /// Certificate that is shown there, PEM; nothing is one that signs itself.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub tls_private_key_file: Option<PathBuf>,
    /// Whether only one of several does the work.
    pub leader_elect: Option<bool>,
    /// The lease's namespace.
    pub leader_elect_resource_namespace: Option<String>,
    /// The lease's name.
    pub leader_elect_resource_name: Option<String>,
    /// For how long a lease is left to a holder that does not renew it.
    pub leader_elect_lease_duration: Option<Duration>,
    /// How long a leader leads without having renewed.
    pub leader_elect_renew_deadline: Option<Duration>,
    /// From one attempt to the next.
    pub leader_elect_retry_period: Option<Duration>,
}

/// What is wrong with flags or configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag.
    #[error(transparent)]
    Flag(#[from] component::ConfigError),
    /// The configuration.
    #[error("--config: {0}")]
    Configuration(#[from] barque_scheduler::config::ConfigError),
    /// Its part about the process.
    #[error("--config: {0}: {1}")]
    Process(&'static str, serde_json::Error),
    /// A time in it.
    #[error("--config: leaderElection.{0}: {1:?} is not a time such as 15s or 1h30m")]
    Time(&'static str, String),
    /// A lock that is not there.
    #[error("--config: leaderElection.resourceLock: {0:?} is not supported, only \"leases\"")]
    Lock(String),
}

/// A configuration that can be started.
#[derive(Debug, Clone)]
pub struct ValidConfig {
    pub(crate) component: component::ValidConfig,
    pub(crate) configuration: Configuration,
}

/// `leaderElection` of a configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeaderElection {
    leader_elect: Option<bool>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
    resource_lock: Option<String>,
    resource_name: Option<String>,
    resource_namespace: Option<String>,
}

/// `clientConnection` of a configuration. What it says of encodings and rates is for other clients: this one has as many
/// requests under way as it performs, and API servers say when that is too much.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientConnection {
    kubeconfig: Option<PathBuf>,
}

/// The text of `--config`, or nothing, read.
///
/// # Errors
/// With everything that is wrong.
pub fn configuration(text: Option<&str>) -> Result<Configuration, ConfigError> {
    Ok(text.map(Configuration::parse).transpose()?.unwrap_or_default())
}

/// The servers that flags name, or else the configuration.
///
/// # Errors
/// When there is something wrong with either.
pub fn servers(
    kubeconfig: Option<PathBuf>,
    master: &[String],
    configuration: &Configuration,
) -> Result<Servers, ConfigError> {
    let said: ClientConnection = part(&configuration.process, "clientConnection")?;
    let kubeconfig = kubeconfig.or(said.kubeconfig.filter(|path| !path.as_os_str().is_empty()));
    Ok(Servers::of_flags(kubeconfig, master)?)
}

fn part<T: for<'a> Deserialize<'a> + Default>(
    process: &Map<String, Value>,
    field: &'static str,
) -> Result<T, ConfigError> {
    let value = process.get(field).filter(|value| !value.is_null());
    let read = value.map(|value| serde_json::from_value(value.clone())).transpose();
    Ok(read.map_err(|error| ConfigError::Process(field, error))?.unwrap_or_default())
}

impl Flags {
    /// Flags and the text of `--config` together, checked.
    ///
    /// # Errors
    /// With a sentence about what is wrong.
    pub fn validate(self, text: Option<&str>) -> Result<ValidConfig, ConfigError> {
        let configuration = configuration(text)?;
        let servers = servers(self.kubeconfig, &self.master, &configuration)?;
        let said: LeaderElection = part(&configuration.process, "leaderElection")?;
        if let Some(lock) = said.resource_lock.filter(|lock| lock != "leases") {
            return Err(ConfigError::Lock(lock));
        }
        let time = |flag: Option<Duration>, field, text: Option<String>, usual| match (flag, text) {
            (Some(time), _) => Ok(time),
            (None, Some(text)) => go_duration(&text).ok_or(ConfigError::Time(field, text)),
            (None, None) => Ok(usual),
        };
        let usual = Settings::default();
        let lease = self.leader_elect_lease_duration;
        let deadline = self.leader_elect_renew_deadline;
        let retry = self.leader_elect_retry_period;
        let component = component::Config {
            kubeconfig: None,
            master: Vec::new(),
            bind_address: self.bind_address,
            secure_port: self.secure_port.unwrap_or(PORT),
            tls_cert_file: self.tls_cert_file,
            tls_private_key_file: self.tls_private_key_file,
            leader_elect: self.leader_elect.or(said.leader_elect).unwrap_or(true),
            leader_elect_resource_namespace: self
                .leader_elect_resource_namespace
                .or(said.resource_namespace)
                .unwrap_or_else(|| LEASE.0.to_owned()),
            leader_elect_resource_name: self
                .leader_elect_resource_name
                .or(said.resource_name)
                .unwrap_or_else(|| LEASE.1.to_owned()),
            leader_elect_times: Settings {
                lease_duration: time(lease, "leaseDuration", said.lease_duration, usual.lease_duration)?,
                renew_deadline: time(deadline, "renewDeadline", said.renew_deadline, usual.renew_deadline)?,
                retry_period: time(retry, "retryPeriod", said.retry_period, usual.retry_period)?,
            },
        };
        let component = component::ValidConfig { servers, ..component.validate()? };
        Ok(ValidConfig { component, configuration })
    }
}

#[cfg(test)]
mod tests {
    use barque_client::servers::Source;

    use super::*;

    fn flags() -> Flags {
        Flags { bind_address: "127.0.0.1".to_owned(), ..Flags::default() }
    }

    fn text(more: &str) -> String {
        format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{more}")
    }

    #[test]
    fn flags_count_more_than_the_configuration() {
        let text = text(
            "leaderElection: {resourceName: other, leaseDuration: 40s, resourceLock: leases}\n\
             clientConnection: {kubeconfig: /etc/scheduler.conf, qps: 50}\n",
        );
        let valid = flags().validate(Some(&text)).unwrap().component;
        let lease = valid.lease.unwrap();
        assert_eq!((&*lease.namespace, &*lease.name), ("kube-system", "other"));
        assert_eq!(lease.times.lease_duration, Duration::from_secs(40));
        assert_eq!(valid.servers.source, Source::Kubeconfig("/etc/scheduler.conf".into()));
        assert_eq!(valid.listen.port(), PORT);
        let mine = Flags {
            kubeconfig: Some("/mine".into()),
            leader_elect_lease_duration: Some(Duration::from_secs(30)),
            ..flags()
        };
        let valid = mine.validate(Some(&text)).unwrap().component;
        assert_eq!(valid.servers.source, Source::Kubeconfig("/mine".into()));
        assert_eq!(valid.lease.unwrap().times.lease_duration, Duration::from_secs(30));
        let off = Flags { leader_elect: Some(false), ..flags() };
        assert!(off.validate(Some(&text)).unwrap().component.lease.is_none());
    }

    #[test]
    fn what_is_wrong_in_the_configuration_is_told() {
        let told = |more: &str| flags().validate(Some(&text(more))).unwrap_err().to_string();
        assert!(told("leaderElection: {leaseDuration: soon}\n").contains("leaseDuration: \"soon\""));
        assert!(told("leaderElection: {resourceLock: endpoints}\n").contains("only \"leases\""));
        assert!(told("leaderElection: {leader: true}\n").contains("leaderElection: unknown field"));
        assert!(told("profiles: []\n").contains("profiles"));
    }
}
