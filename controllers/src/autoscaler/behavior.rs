//! How fast is scaled: what was recommended and done lately holds back what is recommended now. A decision; time and memory are
//! handed in.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};
use k8s_openapi::jiff::Timestamp;

/// What is remembered of an autoscaler.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Memory {
    /// What was recommended when, before anything held it back.
    pub(super) recommendations: Vec<(Timestamp, i32)>,
    /// By how much it was scaled up when.
    pub(super) ups: Vec<(Timestamp, i32)>,
    /// By how much it was scaled down when.
    pub(super) downs: Vec<(Timestamp, i32)>,
    /// Which pods it scales.
    pub(super) selector: String,
}

/// Between what and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) least: i32,
    pub(super) most: i32,
}

/// A condition: whether it is true, why, and in a sentence.
pub(super) type Said = (bool, &'static str, &'static str);

/// What comes of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Normalized {
    /// So many.
    pub(super) replicas: i32,
    /// `AbleToScale`.
    pub(super) able: Said,
    /// `ScalingLimited`.
    pub(super) limited: Said,
}

/// Behaviour with everything said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Behavior {
    pub(super) up: Rules,
    pub(super) down: Rules,
}

/// The rules of one direction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub(super) window: Duration,
    pub(super) select: Select,
    pub(super) policies: Vec<HPAScalingPolicy>,
}

/// Which of several policies counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select {
    /// That which allows the most.
    Max,
    /// That which allows the least.
    Min,
    /// None: the direction is closed.
    Disabled,
}

const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const READY: Said = (true, "ReadyForNewScale", "recommended size matches current size");
const IN_RANGE: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

impl Rules {
    fn of(said: Option<&HPAScalingRules>, window: Duration, policies: &[(&str, i32)]) -> Self {
        let seconds = said.and_then(|rules| rules.stabilization_window_seconds);
        let window = seconds.map_or(window, |it| Duration::from_secs(u64::try_from(it).unwrap_or_default()));
        let select = match said.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Min") => Select::Min,
            Some("Disabled") => Select::Disabled,
            _ => Select::Max,
        };
        let own = said.and_then(|rules| rules.policies.clone()).filter(|own| !own.is_empty());
        let default = policies.iter().map(|(kind, value)| HPAScalingPolicy {
            type_: (*kind).to_owned(),
            value: *value,
            period_seconds: 15,
        });
        Self { window, select, policies: own.unwrap_or_else(|| default.collect()) }
    }

    /// After so long nothing that was done counts any more.
    fn longest_period(&self) -> Duration {
        let seconds = self.policies.iter().map(|policy| policy.period_seconds).max().unwrap_or_default();
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }
}

impl Behavior {
    /// Of what an autoscaler says; what it does not say is as the API would have filled it in.
    pub(super) fn of(said: &HorizontalPodAutoscalerBehavior, downscale: Duration) -> Self {
        Self {
            up: Rules::of(said.scale_up.as_ref(), Duration::ZERO, &[("Pods", 4), ("Percent", 100)]),
            down: Rules::of(said.scale_down.as_ref(), downscale, &[("Percent", 100)]),
        }
    }
}

fn before(now: Timestamp, delay: Duration) -> Timestamp {
    now.checked_sub(delay).unwrap_or(Timestamp::MIN)
}

/// By how much it was scaled within a period.
fn change(events: &[(Timestamp, i32)], period_seconds: i32, now: Timestamp) -> i64 {
    let period = Duration::from_secs(u64::try_from(period_seconds).unwrap_or_default());
    let since = before(now, period);
    events.iter().filter(|(at, _)| *at > since).map(|(_, by)| i64::from(*by)).sum()
}

/// How far it may go in one direction by its policies.
fn rate_limit(rules: &Rules, current: i32, memory: &Memory, now: Timestamp, up: bool) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let period = policy.period_seconds;
        let start =
            i64::from(current) - change(&memory.ups, period, now) + change(&memory.downs, period, now);
        let value = i64::from(policy.value);
        let proposed = match (policy.type_.as_str(), up) {
            ("Percent", true) => (start as f64 * (1.0 + value as f64 / 100.0)).ceil() as i64,
            ("Percent", false) => (start as f64 * (1.0 - value as f64 / 100.0)) as i64,
            (_, true) => start + value,
            (_, false) => start - value,
        };
        i32::try_from(proposed).unwrap_or(if proposed < 0 { i32::MIN } else { i32::MAX })
    });
    let furthest = match (rules.select, up) {
        (Select::Disabled, _) => return current,
        (Select::Max, true) | (Select::Min, false) => proposals.max(),
        (Select::Max, false) | (Select::Min, true) => proposals.min(),
    };
    furthest.unwrap_or(current)
}

impl Memory {
    fn recommended_since(&self, since: Timestamp) -> impl Iterator<Item = i32> {
        self.recommendations.iter().filter(move |(at, _)| *at > since).map(|(_, replicas)| *replicas)
    }

    /// The first recommendation of an autoscaler that nothing is known of is what is there.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// This was recommended; what is older than this does not count any more.
    pub(super) fn recommend(&mut self, replicas: i32, now: Timestamp, window: Duration) {
        let since = before(now, window);
        self.recommendations.retain(|(at, _)| *at >= since);
        self.recommendations.push((now, replicas));
    }

    /// It was scaled.
    pub(super) fn scaled(&mut self, from: i32, to: i32, behavior: &Behavior, now: Timestamp) {
        let (events, rules, by) = if to > from {
            (&mut self.ups, &behavior.up, to - from)
        } else {
            (&mut self.downs, &behavior.down, from - to)
        };
        let since = before(now, rules.longest_period());
        events.retain(|(at, _)| *at >= since);
        events.push((now, by));
    }
}

fn condition((reason, text): (&'static str, &'static str), is: bool) -> Said {
    (is, reason, text)
}

/// Where an autoscaler says nothing of behaviour: down only below all recommendations of a while, up at most to the double, or four.
pub(super) fn normalize(
    memory: &Memory,
    window: Duration,
    limits: Limits,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> Normalized {
    let since = before(now, window);
    let recent = memory.recommendations.iter().filter(|(at, _)| *at >= since).map(|(_, replicas)| *replicas);
    let stabilized = recent.fold(desired, i32::max);
    let able = if stabilized == desired { READY } else { condition(DOWN_STABILIZED, true) };
    let rate = current.saturating_mul(2).max(4);
    let (most, why) = if limits.most > rate { (rate, UP_LIMIT) } else { (limits.most, TOO_MANY) };
    let (replicas, why) = if stabilized < limits.least {
        (limits.least, TOO_FEW)
    } else if stabilized > most {
        (most, why)
    } else {
        (stabilized, IN_RANGE)
    };
    Normalized { replicas, able, limited: condition(why, replicas != stabilized) }
}

/// As an autoscaler's behaviour says.
pub(super) fn normalize_by(
    behavior: &Behavior,
    memory: &Memory,
    limits: Limits,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> Normalized {
    let lowest = memory.recommended_since(before(now, behavior.up.window)).fold(desired, i32::min);
    let highest = memory.recommended_since(before(now, behavior.down.window)).fold(desired, i32::max);
    let stabilized = current.max(lowest).min(highest);
    let why = if desired >= current { UP_STABILIZED } else { DOWN_STABILIZED };
    let able = if stabilized == desired { READY } else { condition(why, true) };
    let (replicas, why) = if stabilized > current {
        let rate = rate_limit(&behavior.up, current, memory, now, true).max(current);
        let (most, why) = if limits.most > rate { (rate, UP_LIMIT) } else { (limits.most, TOO_MANY) };
        if stabilized > most { (most, why) } else { (stabilized, IN_RANGE) }
    } else if stabilized < current {
        let rate = rate_limit(&behavior.down, current, memory, now, false).min(current);
        let (least, why) = if limits.least < rate { (rate, DOWN_LIMIT) } else { (limits.least, TOO_FEW) };
        if stabilized < least { (least, why) } else { (stabilized, IN_RANGE) }
    } else {
        (stabilized, IN_RANGE)
    };
    Normalized { replicas, able, limited: condition(why, replicas != stabilized) }
}
