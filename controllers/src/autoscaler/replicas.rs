//! How many pods follow from what was measured. Decisions; time is handed in. Floating point as upstream has it, for the results must
//! be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

use crate::config::AutoscalingConfig;
use crate::kind::Object as _;
use crate::pods;

/// What was measured at one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// When.
    pub(super) at: Timestamp,
    /// Over which time.
    pub(super) window: Duration,
    /// In thousandths.
    pub(super) value: i64,
}

/// By the names of pods.
pub(super) type Readings = BTreeMap<String, Reading>;

/// Changes of less than this share are none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerances {
    pub(super) up: f64,
    pub(super) down: f64,
}

impl Tolerances {
    fn within(&self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What the calculation goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) tolerances: Tolerances,
    pub(super) config: &'a AutoscalingConfig,
    pub(super) now: Timestamp,
    /// So many there shall be now.
    pub(super) current: i32,
}

/// Pods by what their readings mean.
#[derive(Debug, Default)]
struct Groups {
    ready: usize,
    /// Not ready yet: what they use says nothing.
    unready: BTreeSet<String>,
    /// Nothing was measured.
    missing: BTreeSet<String>,
    /// They are ending.
    ignored: BTreeSet<String>,
}

fn ready(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Whether its use of CPU is that of its start.
fn is_starting(pod: &Pod, reading: &Reading, rules: &Rules<'_>) -> bool {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(condition), Some(start)) = (ready(pod), start) else { return true };
    let after = |at: Timestamp, delay: Duration| at.checked_add(delay).unwrap_or(Timestamp::MAX);
    let changed = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    if after(start.0, rules.config.cpu_initialization_period) > rules.now {
        condition.status == "False" || reading.at < after(changed, reading.window)
    } else {
        condition.status == "False" && after(start.0, rules.config.initial_readiness_delay) > changed
    }
}

fn group(pods: &[Arc<Pod>], readings: &Readings, resource: &str, rules: &Rules<'_>) -> Groups {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.key().name;
        if pod.is_deleting() || pods::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pods::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else {
            match readings.get(&name) {
                None => {
                    groups.missing.insert(name);
                }
                Some(reading) if resource == "cpu" && is_starting(pod, reading, rules) => {
                    groups.unready.insert(name);
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

fn ceil(number: f64) -> i32 {
    number.ceil() as i32
}

/// How many there shall be, for readings of pods. `ratio` says how much is used of what shall be; `fallback` what a pod is taken to use
/// that was not measured, when less are needed.
fn replicas(
    pods: &[Arc<Pod>],
    mut readings: Readings,
    resource: &str,
    rules: &Rules<'_>,
    ratio: impl Fn(&Readings) -> Result<f64, String>,
    fallback: impl Fn(&str) -> i64,
) -> Result<i32, String> {
    let groups = group(pods, &readings, resource, rules);
    readings.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    let measured = ratio(&readings)?;
    let up_with_unready = !groups.unready.is_empty() && measured > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        let same = rules.tolerances.within(measured);
        return Ok(if same { rules.current } else { ceil(measured * groups.ready as f64) });
    }
    let taken = |value: i64| Reading { at: rules.now, window: Duration::ZERO, value };
    if measured < 1.0 {
        readings.extend(groups.missing.iter().map(|name| (name.clone(), taken(fallback(name)))));
    } else if measured > 1.0 {
        readings.extend(groups.missing.iter().map(|name| (name.clone(), taken(0))));
    }
    if up_with_unready {
        readings.extend(groups.unready.iter().map(|name| (name.clone(), taken(0))));
    }
    let again = ratio(&readings)?;
    let turned = (measured < 1.0 && again > 1.0) || (measured > 1.0 && again < 1.0);
    if rules.tolerances.within(again) || turned {
        return Ok(rules.current);
    }
    let wanted = ceil(again * readings.len() as f64);
    let turned = (again < 1.0 && wanted > rules.current) || (again > 1.0 && wanted < rules.current);
    Ok(if turned { rules.current } else { wanted })
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_READINGS: &str = "did not receive metrics for targeted pods (pods might be unready)";

/// Those that count: of pods that are there, and neither ending nor unready.
fn counted(
    pods: &[Arc<Pod>],
    readings: &Readings,
    resource: &str,
    rules: &Rules<'_>,
) -> Result<Readings, String> {
    if pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let groups = group(pods, readings, resource, rules);
    let mut counted = readings.clone();
    counted.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if counted.is_empty() { Err(NO_READINGS.to_owned()) } else { Ok(counted) }
}

fn sum(values: impl Iterator<Item = i64>) -> i128 {
    values.map(i128::from).sum()
}

fn narrow(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

/// The mean of readings.
fn mean(readings: &Readings) -> i64 {
    narrow(sum(readings.values().map(|reading| reading.value)) / (readings.len().max(1) as i128))
}

/// For a target that each pod shall use on average, in thousandths. With the average that was measured.
pub(super) fn by_average(
    pods: &[Arc<Pod>],
    readings: &Readings,
    target: i64,
    resource: &str,
    rules: &Rules<'_>,
) -> Result<(i32, i64), String> {
    let usage = mean(&counted(pods, readings, resource, rules)?);
    let ratio = |readings: &Readings| Ok(mean(readings) as f64 / target as f64);
    let wanted = replicas(pods, readings.clone(), resource, rules, ratio, |_| target)?;
    Ok((wanted, usage))
}

/// For a share of what pods request that they shall use, in hundredths. With the share and the average that were measured.
pub(super) fn by_utilization(
    pods: &[Arc<Pod>],
    readings: &Readings,
    target: i32,
    (resource, container): (&str, &str),
    rules: &Rules<'_>,
) -> Result<(i32, i32, i64), String> {
    let counted = counted(pods, readings, resource, rules)?;
    let requests = requests(pods, resource, container)?;
    let utilization = |readings: &Readings| -> Result<(i32, i64), String> {
        let known: Vec<_> = readings.iter().filter(|(name, _)| requests.contains_key(*name)).collect();
        let used = sum(known.iter().map(|(_, reading)| reading.value));
        let requested = sum(known.iter().map(|(name, _)| requests[*name]));
        if requested == 0 {
            return Err("no metrics returned matched known pods".to_owned());
        }
        let share = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
        Ok((share, narrow(used / known.len() as i128)))
    };
    let (share, average) = utilization(&counted)?;
    let ratio = |readings: &Readings| Ok(f64::from(utilization(readings)?.0) / f64::from(target));
    let fallback = |name: &str| {
        let request = requests.get(name).copied().unwrap_or_default();
        narrow(i128::from(request) * i128::from(target.max(100)) / 100)
    };
    let wanted = replicas(pods, readings.clone(), resource, rules, ratio, fallback)?;
    Ok((wanted, share, average))
}

/// For one value of all pods together. With none of them, the ratio says how many.
pub(super) fn by_value(pods: &[Arc<Pod>], usage: i64, target: i64, rules: &Rules<'_>) -> Result<i32, String> {
    let ratio = usage as f64 / target as f64;
    if rules.current == 0 {
        return Ok(ceil(ratio));
    }
    if rules.tolerances.within(ratio) {
        return Ok(rules.current);
    }
    if pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let ready = pods.iter().filter(|pod| pods::phase(pod) == "Running" && pods::is_ready(pod)).count();
    Ok(ceil(ratio * ready as f64))
}

/// For one value that is divided among the pods that there are. With the average.
pub(super) fn by_value_per_pod(usage: i64, target: i64, there: i32, tolerances: Tolerances) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(there));
    let wanted = if tolerances.within(ratio) { there } else { ceil(usage as f64 / target as f64) };
    (wanted, (usage as f64 / f64::from(there)).ceil() as i64)
}

/// What pods request of a resource, in thousandths.
fn requests(pods: &[Arc<Pod>], resource: &str, container: &str) -> Result<BTreeMap<String, i64>, String> {
    pods.iter().map(|pod| Ok((pod.key().name, request(pod, resource, container)?))).collect()
}

fn request(pod: &Pod, resource: &str, container: &str) -> Result<i64, String> {
    let name = pod.key().name;
    let milli = |text: &str| Quantity::parse(text).map(|quantity| quantity.milli_value()).unwrap_or_default();
    let Some(spec) = &pod.spec else { return Ok(0) };
    let whole = spec.resources.as_ref().and_then(|it| it.requests.as_ref()).and_then(|all| all.get(resource));
    if let Some(whole) = whole.filter(|_| container.is_empty()) {
        return Ok(milli(&whole.0));
    }
    let stays =
        spec.init_containers.iter().flatten().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let mut total = 0i64;
    for it in spec.containers.iter().chain(stays) {
        if !container.is_empty() && it.name != container {
            continue;
        }
        let requests = it.resources.as_ref().and_then(|it| it.requests.as_ref());
        let Some(asked) = requests.and_then(|all| all.get(resource)) else {
            return Err(format!("missing request for {resource} in container {} of Pod {name}", it.name));
        };
        total = total.saturating_add(milli(&asked.0));
        if it.name == container {
            return Ok(total);
        }
    }
    if container.is_empty() {
        Ok(total)
    } else {
        Err(format!("container {container} not found in Pod {name}"))
    }
}
