//! What every such process is told at its start, checked. Must never read a file, the environment or the clock.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use crate::leader_election::Settings;
use crate::leader_election::plan::SettingsError;
use crate::servers::{Servers, Source};

/// What was said, as the flags of Kubernetes' own processes say it.
#[derive(Debug, Clone)]
pub struct Config {
    /// A kubeconfig; nothing is what a pod finds.
    pub kubeconfig: Option<PathBuf>,
    /// URLs of API servers, the preferred one first; empty is the one of the kubeconfig.
    pub master: Vec<String>,
    /// Where health and metrics are served.
    pub bind_address: String,
    /// The port; 0 lets the system choose.
    pub secure_port: u16,
    /// Certificate that is shown there, PEM; nothing is one that signs itself.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    pub tls_private_key_file: Option<PathBuf>,
    /// Whether only one of several does the work.
    pub leader_elect: bool,
    /// The lease's namespace.
    pub leader_elect_resource_namespace: String,
    /// The lease's name.
    pub leader_elect_resource_name: String,
    /// How long the lease's parts take.
    pub leader_elect_times: Settings,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No address.
    #[error("--bind-address: {0:?} is not an IP address")]
    BindAddress(String),
    /// No URL.
    #[error("--master: {0:?} is not a URL")]
    Master(String),
    /// One of both is missing.
    #[error("--tls-cert-file and --tls-private-key-file go together")]
    Certificate,
    /// Leases that do not work out.
    #[error("--leader-elect: {0}")]
    Lease(#[from] SettingsError),
}

/// A configuration that can be started.
#[derive(Debug, Clone)]
pub struct ValidConfig {
    /// Whom to speak to.
    pub servers: Servers,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// Certificate and key that are shown there.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The lease of who does the work; without one, this process does.
    pub lease: Option<LeaseConfig>,
}

/// Which lease, and for how long.
#[derive(Debug, Clone)]
pub struct LeaseConfig {
    /// Where it is.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// How long its parts take.
    pub times: Settings,
}

impl Config {
    /// Checked.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        let address: IpAddr =
            self.bind_address.parse().map_err(|_| ConfigError::BindAddress(self.bind_address.clone()))?;
        let certificate = match (self.tls_cert_file, self.tls_private_key_file) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(ConfigError::Certificate),
        };
        if self.leader_elect {
            self.leader_elect_times.check()?;
        }
        Ok(ValidConfig {
            servers: servers(self.kubeconfig, &self.master)?,
            listen: SocketAddr::new(address, self.secure_port),
            certificate,
            lease: self.leader_elect.then_some(LeaseConfig {
                namespace: self.leader_elect_resource_namespace,
                name: self.leader_elect_resource_name,
                times: self.leader_elect_times,
            }),
        })
    }
}

impl Servers {
    /// The servers that `--kubeconfig` and `--master` name.
    ///
    /// # Errors
    /// When a URL is none.
    pub fn of_flags(kubeconfig: Option<PathBuf>, master: &[String]) -> Result<Self, ConfigError> {
        servers(kubeconfig, master)
    }
}

fn servers(kubeconfig: Option<PathBuf>, master: &[String]) -> Result<Servers, ConfigError> {
    let urls = master.iter().map(|text| {
        let uri: Option<http::Uri> = text.parse().ok();
        let whole = uri.filter(|uri| uri.scheme().is_some() && uri.authority().is_some());
        whole.ok_or_else(|| ConfigError::Master(text.clone()))
    });
    let urls = urls.collect::<Result<_, _>>()?;
    Ok(Servers { urls, source: kubeconfig.map_or(Source::InCluster, Source::Kubeconfig) })
}

/// A time of zero or more as Go writes it, such as `1h30m0s`; nothing when it is none.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let whole = !text.contains(char::is_whitespace) && !text.starts_with(['P', 'p']);
    let time: SignedDuration = text.parse().ok().filter(|_| whole)?;
    time.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            kubeconfig: None,
            master: vec!["https://127.0.0.1:6443".to_owned()],
            bind_address: "127.0.0.1".to_owned(),
            secure_port: 0,
            tls_cert_file: None,
            tls_private_key_file: None,
            leader_elect: true,
            leader_elect_resource_namespace: "kube-system".to_owned(),
            leader_elect_resource_name: "lease".to_owned(),
            leader_elect_times: Settings::default(),
        }
    }

    #[test]
    fn times_are_read_as_go_writes_them() {
        assert_eq!(go_duration("12h0m0s"), Some(Duration::from_secs(12 * 3600)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("0"), Some(Duration::ZERO));
        for wrong in ["", "5", "-1s", "1 h", "PT1H", "soon"] {
            assert_eq!(go_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_flag() {
        let told = |config: Config| config.validate().unwrap_err().to_string();
        assert!(config().validate().is_ok());
        assert!(told(Config { bind_address: "here".into(), ..config() }).starts_with("--bind-address"));
        assert!(told(Config { master: vec!["here".into()], ..config() }).starts_with("--master"));
        let half = Config { tls_cert_file: Some("cert".into()), ..config() };
        assert!(told(half).starts_with("--tls-cert-file"));
        let times = Settings { renew_deadline: Duration::from_secs(20), ..Settings::default() };
        assert!(told(Config { leader_elect_times: times, ..config() }).starts_with("--leader-elect"));
        assert!(Config { leader_elect_times: times, leader_elect: false, ..config() }.validate().is_ok());
    }
}
