//! What is used of a quota. A decision; time is handed in.

use barque_api::kind::GroupResource;
use barque_api::quantity::{Format, Quantity};
use barque_api::quota::amounts::{Amounts, add};
use barque_api::quota::{Meter, cover};
use barque_api::time::Time;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// Collections that quotas also name without saying that they count.
const PLAIN_NAMES: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];

/// What there is of a kind in a quota's namespace.
pub(super) enum Counted {
    /// All objects.
    Each(Vec<Value>),
    /// How many there are.
    Number(usize),
}

/// What a quota bounds.
pub(super) fn bounds(quota: &ResourceQuota) -> Amounts {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    hard.map(super::amounts).unwrap_or_default()
}

/// The collection whose objects are counted under a name; nothing when it is one of those that are measured.
pub(super) fn counted_by(name: &str) -> Option<GroupResource> {
    let counted = match name.strip_prefix("count/") {
        Some(counted) => counted,
        None if PLAIN_NAMES.contains(&name) => name,
        None => return None,
    };
    let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
    let resource = GroupResource::new(group, resource);
    matches!(Meter::of(&resource), Some(Meter::Others(_))).then_some(resource)
}

/// What is used of everything that could be counted.
pub(super) fn of(quota: &ResourceQuota, counted: &[(Meter, Counted)], now: Timestamp) -> Amounts {
    sum(quota, counted, now, |_| true)
}

/// The same of objects that were made after a moment; what only has a number has no age and is left out.
pub(super) fn made_since(
    quota: &ResourceQuota,
    counted: &[(Meter, Counted)],
    now: Timestamp,
    since: Timestamp,
) -> Amounts {
    sum(quota, counted, now, |object| {
        let made =
            object.and_then(|object| object.pointer("/metadata/creationTimestamp")?.as_str()?.parse().ok());
        made.is_some_and(|made: Timestamp| made > since)
    })
}

/// What is used by these objects; what only has a number is nothing.
fn sum(
    quota: &ResourceQuota,
    counted: &[(Meter, Counted)],
    now: Timestamp,
    is_meant: impl Fn(Option<&Value>) -> bool,
) -> Amounts {
    let zero = || Quantity::new(0, 0, Format::DecimalSi);
    let value = serde_json::to_value(quota).unwrap_or_default();
    let now = Time::of_unix(now.as_second());
    let mut used = Amounts::new();
    for (meter, objects) in counted {
        let names = bounds(quota).into_keys().filter(|name| meter.counts(name));
        let mut own: Amounts = names.map(|name| (name, zero())).collect();
        match objects {
            Counted::Each(objects) => {
                let meant = objects.iter().filter(|object| is_meant(Some(object)));
                for object in meant.filter(|object| cover(&value, meter, object)) {
                    let mut usage = meter.usage(object, now);
                    usage.retain(|name, _| own.contains_key(name));
                    add(&mut own, &usage);
                }
            }
            // What only has a number is in no scope.
            Counted::Number(count) if is_meant(None) && cover(&value, meter, &Value::Null) => {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                own.values_mut().for_each(|amount| *amount = Quantity::new(count, 0, Format::DecimalSi));
            }
            Counted::Number(_) => {}
        }
        used.extend(own);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_counted() {
        let table = [
            ("count/deployments.apps", Some("deployments.apps")),
            ("count/ships.barque.test", Some("ships.barque.test")),
            ("count/configmaps", Some("configmaps")),
            ("secrets", Some("secrets")),
            ("count/pods", None),
            ("count/services", None),
            ("count/persistentvolumeclaims", None),
            ("count/events.events.k8s.io", None),
            ("pods", None),
            ("requests.cpu", None),
        ];
        for (name, expected) in table {
            let counted = counted_by(name).map(|resource| resource.to_string());
            assert_eq!(counted.as_deref(), expected, "{name}");
        }
    }
}
