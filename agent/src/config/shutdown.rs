//! How long pods have when the machine shuts down: the kubelet's settings of these names, checked. Must never look at the machine.

use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, go_duration, value};
use crate::node_shutdown::plan::{Period, Periods};
use crate::node_shutdown::task::ShutdownConfig;

/// Where logind is told to wait longer, unless it is said: until the machine starts anew.
pub const LOGIND_CONF_DIR: &str = "/run/systemd/logind.conf.d";

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownFlags {
    /// `--shutdown-grace-period`, a duration; 0 is no time at all.
    pub grace_period: String,
    /// `--shutdown-grace-period-critical-pods`, the part of it that is kept for critical pods.
    pub grace_period_critical_pods: String,
    /// `--shutdown-grace-period-by-pod-priority`, each `priority=duration`; comma separated.
    pub grace_period_by_pod_priority: String,
    /// `--logind-conf-dir`
    pub logind_conf_dir: PathBuf,
}

impl Default for ShutdownFlags {
    fn default() -> Self {
        Self {
            grace_period: "0s".to_owned(),
            grace_period_critical_pods: "0s".to_owned(),
            grace_period_by_pod_priority: String::new(),
            logind_conf_dir: LOGIND_CONF_DIR.into(),
        }
    }
}

impl ShutdownFlags {
    /// Checked; nothing when pods have no time.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(&self) -> Result<Option<ShutdownConfig>, ConfigError> {
        const WHOLE: &str = "--shutdown-grace-period";
        const CRITICAL: &str = "--shutdown-grace-period-critical-pods";
        const BY_PRIORITY: &str = "--shutdown-grace-period-by-pod-priority";
        let directory = &self.logind_conf_dir;
        if !directory.is_absolute() {
            return Err(value("--logind-conf-dir", &directory.to_string_lossy(), "must be an absolute path"));
        }
        let whole = duration(WHOLE, &self.grace_period)?;
        let critical = duration(CRITICAL, &self.grace_period_critical_pods)?;
        if critical > whole {
            let problem = format!("is more than {WHOLE} says, of which it is a part");
            return Err(value(CRITICAL, &self.grace_period_critical_pods, problem));
        }
        let by_priority = self.by_priority(BY_PRIORITY)?;
        if !by_priority.is_empty() && !whole.is_zero() {
            let problem = format!("says what {WHOLE} says otherwise; give one of them");
            return Err(value(BY_PRIORITY, &self.grace_period_by_pod_priority, problem));
        }
        let periods = Periods::of(by_priority).or_else(|| Periods::of_two(whole, critical));
        Ok(periods.map(|periods| ShutdownConfig { periods, logind_conf_dir: directory.clone() }))
    }

    fn by_priority(&self, flag: &'static str) -> Result<Vec<Period>, ConfigError> {
        let mut periods: Vec<Period> = Vec::new();
        let list = self.grace_period_by_pod_priority.split(',').map(str::trim);
        for text in list.filter(|text| !text.is_empty()) {
            let parts =
                text.split_once('=').and_then(|(priority, grace)| Some((priority.parse().ok()?, grace)));
            let Some((priority, grace)) = parts else {
                return Err(value(flag, text, "is not of the form priority=duration"));
            };
            if periods.iter().any(|period| period.priority == priority) {
                return Err(value(flag, text, "names a priority that was named before"));
            }
            periods.push(Period { priority, grace: duration(flag, grace)? });
        }
        Ok(periods)
    }
}

/// None, or a second at least, as the kubelet's.
fn duration(flag: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let fits = |duration: &Duration| duration.is_zero() || *duration >= Duration::from_secs(1);
    go_duration(flag, text)?.filter(fits).ok_or_else(|| value(flag, text, "must be 0 or at least 1s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(whole: &str, critical: &str, by_priority: &str) -> String {
        let flags = ShutdownFlags {
            grace_period: whole.to_owned(),
            grace_period_critical_pods: critical.to_owned(),
            grace_period_by_pod_priority: by_priority.to_owned(),
            ..ShutdownFlags::default()
        };
        match flags.validate() {
            Ok(None) => "off".to_owned(),
            Ok(Some(config)) => format!("{:?}", config.periods.whole()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn no_time_is_off_and_what_contradicts_is_said() {
        let critical = "--shutdown-grace-period-critical-pods";
        for (whole, part, by_priority, expected) in [
            ("0s", "0s", "", "off".to_owned()),
            ("30s", "10s", "", "30s".to_owned()),
            ("1m30s", "0", "", "90s".to_owned()),
            ("5s", "5s", "", "5s".to_owned()),
            ("0s", "0s", "0=3m, 100000=10s", "190s".to_owned()),
            ("10", "0s", "", "--shutdown-grace-period: \"10\" ".to_owned()),
            ("-1s", "0s", "", "--shutdown-grace-period: \"-1s\" must be 0 or at least 1s".to_owned()),
            ("500ms", "0s", "", "--shutdown-grace-period: \"500ms\" must be 0 or at least 1s".to_owned()),
            (
                "5s",
                "6s",
                "",
                format!(
                    "{critical}: \"6s\" is more than --shutdown-grace-period says, of which it is a part"
                ),
            ),
            ("0s", "1s", "", format!("{critical}: \"1s\" is more than --shutdown-grace-period says")),
            ("0s", "0s", "high=1s", "\"high=1s\" is not of the form priority=duration".to_owned()),
            ("0s", "0s", "7=1s,7=2s", "\"7=2s\" names a priority that was named before".to_owned()),
            (
                "9s",
                "0s",
                "7=1s",
                "says what --shutdown-grace-period says otherwise; give one of them".to_owned(),
            ),
        ] {
            let said = told(whole, part, by_priority);
            assert!(said.contains(&expected), "{whole} {part} {by_priority}: {said}");
        }
    }
}
