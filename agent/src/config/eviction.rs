//! When pods leave a node that is short of something: the kubelet's flags of these names, checked. Must never look at the
//! machine.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_api::quantity::Quantity;

use super::{ConfigError, not_negative, value};
use crate::eviction::signals::Signal;
use crate::eviction::thresholds::{Amount, EvictionConfig, Threshold};

/// `--eviction-hard`, unless it is said.
pub const EVICTION_HARD: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,\
                                 imagefs.available<15%,imagefs.inodesFree<5%";
/// A whole, in thousandths of a percent.
const WHOLE: i64 = 100_000;

/// What was said. Lists are comma separated, and may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionFlags {
    /// `--eviction-hard`, each `signal<amount`.
    pub hard: String,
    /// `--eviction-soft`, the same.
    pub soft: String,
    /// `--eviction-soft-grace-period`, each `signal=duration`.
    pub soft_grace_period: String,
    /// `--eviction-max-pod-grace-period`, in seconds.
    pub max_pod_grace_period: u32,
    /// `--eviction-pressure-transition-period`, a duration.
    pub pressure_transition_period: String,
    /// `--eviction-minimum-reclaim`, each `signal=amount`.
    pub minimum_reclaim: String,
}

impl Default for EvictionFlags {
    fn default() -> Self {
        Self {
            hard: EVICTION_HARD.to_owned(),
            soft: String::new(),
            soft_grace_period: String::new(),
            max_pod_grace_period: 0,
            pressure_transition_period: "5m".to_owned(),
            minimum_reclaim: String::new(),
        }
    }
}

impl EvictionFlags {
    /// Checked.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(&self) -> Result<EvictionConfig, ConfigError> {
        const HARD: &str = "--eviction-hard";
        const SOFT: &str = "--eviction-soft";
        const GRACE: &str = "--eviction-soft-grace-period";
        const RECLAIM: &str = "--eviction-minimum-reclaim";
        let graces = list(GRACE, &self.soft_grace_period, '=')?;
        let graces: BTreeMap<Signal, Duration> = graces
            .into_iter()
            .map(|(signal, text)| Ok((signal, not_negative(GRACE, text)?)))
            .collect::<Result<_, ConfigError>>()?;
        let mut reclaims = BTreeMap::new();
        for (signal, text) in list(RECLAIM, &self.minimum_reclaim, '=')? {
            reclaims.insert(signal, amount(RECLAIM, text)?);
        }
        let mut thresholds = Vec::new();
        for (flag, text) in [(HARD, &self.hard), (SOFT, &self.soft)] {
            for (signal, text) in list(flag, text, '<')? {
                // As much as there is, or nothing at all: the kubelet takes both for no threshold.
                if matches!(text, "0%" | "100%") {
                    continue;
                }
                let grace = match graces.get(&signal) {
                    _ if flag == HARD => Duration::ZERO,
                    Some(grace) => *grace,
                    None => {
                        let problem = format!("names no time for {}, which {SOFT} names", signal.word());
                        return Err(value(GRACE, &self.soft_grace_period, problem));
                    }
                };
                let amount = amount(flag, text)?;
                if amount == Amount::Part(0) || matches!(&amount, Amount::Quantity(it) if it.is_zero()) {
                    return Err(value(flag, text, "must be greater than 0"));
                }
                let minimum_reclaim = reclaims.get(&signal).cloned();
                thresholds.push(Threshold { signal, amount, grace, minimum_reclaim });
            }
        }
        Ok(EvictionConfig {
            thresholds,
            max_pod_grace: Duration::from_secs(self.max_pod_grace_period.into()),
            transition: not_negative(
                "--eviction-pressure-transition-period",
                &self.pressure_transition_period,
            )?,
        })
    }
}

/// The signals of a list with what is said of each.
fn list<'a>(flag: &'static str, text: &'a str, sign: char) -> Result<Vec<(Signal, &'a str)>, ConfigError> {
    let mut all: Vec<(Signal, &str)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((word, said)) = part.split_once(sign) else {
            return Err(value(flag, part, format!("is not of the form signal{sign}value")));
        };
        let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.word() == word.trim()) else {
            let words = Signal::ALL.map(Signal::word).join(", ");
            return Err(value(flag, part, format!("names none of {words}")));
        };
        if all.iter().any(|(other, _)| *other == signal) {
            return Err(value(flag, part, "names a signal that was named before"));
        }
        all.push((signal, said.trim()));
    }
    Ok(all)
}

fn amount(flag: &'static str, text: &str) -> Result<Amount, ConfigError> {
    let percent = text.strip_suffix('%');
    let parsed = Quantity::parse(percent.unwrap_or(text));
    let parsed =
        parsed.map_err(|_| value(flag, text, "is neither an amount such as 100Mi nor a part such as 10%"))?;
    if parsed.sign() < 0 {
        return Err(value(flag, text, "must not be negative"));
    }
    if percent.is_none() {
        return Ok(Amount::Quantity(parsed));
    }
    let part = u64::try_from(parsed.milli_value()).ok().filter(|_| parsed.milli_value() <= WHOLE);
    part.map(Amount::Part).ok_or_else(|| value(flag, text, "must be at most 100%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut EvictionFlags)) -> Result<Vec<String>, String> {
        let mut flags = EvictionFlags::default();
        change(&mut flags);
        let config = flags.validate().map_err(|error| error.to_string())?;
        let one = |it: &Threshold| {
            let more = it.minimum_reclaim.as_ref().map(|more| format!(" +{}", more.of(1000)));
            let amount = it.amount.of(1000);
            format!("{}<{amount} {}{}", it.signal.word(), it.grace.as_secs(), more.unwrap_or_default())
        };
        Ok(config.thresholds.iter().map(one).collect())
    }

    fn check(change: impl FnOnce(&mut EvictionFlags), expected: &str) {
        let error = told(change).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn thresholds_are_those_of_the_kubelet() {
        let usual = [
            "memory.available<100Mi 0",
            "nodefs.available<100 0",
            "nodefs.inodesFree<50 0",
            "imagefs.available<150 0",
            "imagefs.inodesFree<50 0",
        ];
        assert_eq!(told(|_| {}).unwrap(), usual);
        assert_eq!(told(|flags| flags.hard = String::new()).unwrap(), [""; 0]);
        let off = "memory.available<0%,nodefs.available<100%,pid.available<1k";
        assert_eq!(told(|flags| flags.hard = off.into()).unwrap(), ["pid.available<1k 0"]);
        let soft = told(|flags| {
            flags.hard = String::new();
            flags.soft = "memory.available<12.5%, nodefs.available<1Gi".into();
            flags.soft_grace_period = "memory.available=1m30s,nodefs.available=2m".into();
            flags.minimum_reclaim = "nodefs.available=500Mi".into();
        });
        assert_eq!(soft.unwrap(), ["memory.available<125 90", "nodefs.available<1Gi 120 +500Mi"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(
            |flags| flags.hard = "memory.available".into(),
            "--eviction-hard: \"memory.available\" is not of",
        );
        check(
            |flags| flags.hard = "disk<1".into(),
            "--eviction-hard: \"disk<1\" names none of memory.available",
        );
        check(|flags| flags.hard = "pid.available<x".into(), "--eviction-hard: \"x\" is neither an amount");
        check(|flags| flags.hard = "pid.available<-1".into(), "must not be negative");
        check(|flags| flags.hard = "pid.available<0".into(), "must be greater than 0");
        check(|flags| flags.hard = "pid.available<101%".into(), "must be at most 100%");
        check(|flags| flags.hard = "pid.available<1,pid.available<2".into(), "named before");
        check(
            |flags| flags.soft = "pid.available<1".into(),
            "--eviction-soft-grace-period: \"\" names no time for pid.available, which --eviction-soft names",
        );
        check(|flags| flags.soft_grace_period = "pid.available=-1s".into(), "--eviction-soft-grace-period");
        check(|flags| flags.minimum_reclaim = "pid.available<1".into(), "--eviction-minimum-reclaim");
        let period = "--eviction-pressure-transition-period";
        check(|flags| flags.pressure_transition_period = "soon".into(), period);
    }
}
