//! ResourceQuotas: what is used of them is counted anew when something goes, and all of it now and then; what comes is charged by
//! the API server. Must never refuse anything, nor give back what was charged for an object that is still on its way.

mod counts;
mod in_flight;
mod replenish;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::cache::Caches;
use crate::clock::Clock;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan};
use barque_api::quota::Meter;
use barque_api::quota::amounts::Amounts;
pub(crate) use counts::{Counts, follow};
use in_flight::{Charges, WINDOW, rise};
use usage::{Counted, bounds, counted_by};

/// The controller of quotas.
pub(crate) struct ResourceQuotas {
    counts: Arc<Counts>,
    charges: Arc<Charges>,
}

/// A quota with what may be charged to it.
pub(crate) struct View {
    quota: Arc<ResourceQuota>,
    counted: Vec<(Meter, Counted)>,
    /// What was charged in the last moments.
    charged: Amounts,
}

impl ResourceQuotas {
    /// Objects that have only a number are counted by these.
    pub(crate) fn new(counts: Arc<Counts>, clock: Clock) -> Self {
        Self { counts, charges: Arc::new(Charges::new(clock)) }
    }
}

/// The quotas of a namespace that count something of a kind.
fn quotas_about(namespace: &str, meter: &Meter, caches: &Caches) -> Vec<Key> {
    let quotas = caches.of::<ResourceQuota>().in_namespace(namespace);
    let about = |quota: &ResourceQuota| bounds(quota).keys().any(|name| meter.counts(name));
    quotas.iter().filter(|quota| about(quota)).map(|quota| quota.key()).collect()
}

/// Objects of a namespace as JSON.
fn values<K: Object>(namespace: &str, caches: &Caches) -> Vec<Value> {
    let objects = caches.of::<K>().in_namespace(namespace);
    objects.iter().filter_map(|object| serde_json::to_value(&**object).ok()).collect()
}

impl Controller for ResourceQuotas {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        let (counts, charges) = (self.counts.clone(), self.charges.clone());
        watches.mapped::<ResourceQuota>(move |change, _| {
            counts.asked();
            charges.seen(change);
            // The API server charges the status for every object that comes: that is nothing to look at.
            let spec =
                |quota: &Option<Arc<ResourceQuota>>| quota.as_ref().and_then(|quota| quota.spec.clone());
            let news = change.old.is_none() || spec(&change.old) != spec(&change.new);
            change.new.iter().filter(|_| news).map(|quota| quota.key()).collect()
        });
        watches.all(|caches| caches.of::<ResourceQuota>().all().iter().map(|quota| quota.key()).collect());
        watches.mapped::<Pod>(|change, caches| {
            let namespace = change.latest().key().namespace;
            if replenish::pod(change) { quotas_about(&namespace, &Meter::Pods, caches) } else { Vec::new() }
        });
        watches.mapped::<Service>(|change, caches| {
            let namespace = change.latest().key().namespace;
            if replenish::service(change) {
                quotas_about(&namespace, &Meter::Services, caches)
            } else {
                Vec::new()
            }
        });
        watches.mapped::<PersistentVolumeClaim>(|change, caches| {
            let namespace = change.latest().key().namespace;
            if replenish::claim(change) {
                quotas_about(&namespace, &Meter::Claims, caches)
            } else {
                Vec::new()
            }
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let quota = caches.of::<ResourceQuota>().get(key)?;
        let namespace = &key.namespace;
        let hard = bounds(&quota);
        let mut counted = Vec::new();
        for meter in [Meter::Pods, Meter::Claims, Meter::Services] {
            if hard.keys().any(|name| meter.counts(name)) {
                let objects = match meter {
                    Meter::Pods => values::<Pod>(namespace, caches),
                    Meter::Claims => values::<PersistentVolumeClaim>(namespace, caches),
                    Meter::Services | Meter::Others(_) => values::<Service>(namespace, caches),
                };
                counted.push((meter, Counted::Each(objects)));
            }
        }
        for resource in hard.keys().filter_map(|name| counted_by(name)) {
            // One that is not known yet is looked at again when it is.
            if let (Some(count), Some(meter)) =
                (self.counts.count(&resource.to_string(), namespace), Meter::of(&resource))
            {
                counted.push((meter, Counted::Number(count)));
            }
        }
        Some(View { quota, counted, charged: self.charges.recent(key) })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let quota = &*view.quota;
        let hard = bounds(quota);
        let status = quota.status.clone().unwrap_or_default();
        let before = status.used.as_ref().map(amounts);
        let mut used = before.clone().unwrap_or_default();
        let counted = usage::of(quota, &view.counted, now);
        let kept = kept(view, &counted, before.as_ref().unwrap_or(&used), now);
        if kept != counted {
            plan.look_again_after(WINDOW);
        }
        used.extend(kept);
        used.retain(|name, _| hard.contains_key(name));
        if before.as_ref() == Some(&used) && status.hard.as_ref().map(amounts).as_ref() == Some(&hard) {
            return plan;
        }
        let mut after = quota.clone();
        let texts = |of: &Amounts| {
            let all = of.iter().map(|(name, amount)| (name.clone(), Text(amount.to_string())));
            Some(all.collect())
        };
        after.status = Some(ResourceQuotaStatus { hard: texts(&hard), used: texts(&used) });
        if let Some(update) = Action::update_status(quota, &after) {
            plan.then(update.because("another amount is used"));
        }
        plan
    }
}

/// What stays charged: what was counted, and what may be on its way of that which was charged. Objects that came as late as these
/// charges are taken for theirs.
fn kept(view: &View, counted: &Amounts, before: &Amounts, now: Timestamp) -> Amounts {
    // Objects tell their age in whole seconds, so that they seem older than they are.
    let young = usage::made_since(&view.quota, &view.counted, now, now - (WINDOW - Duration::from_secs(1)));
    let on_their_way = rise(&young, &view.charged);
    let kept = counted.iter().map(|(name, count)| {
        let most = on_their_way.get(name).map_or_else(|| count.clone(), |more| count.plus(more));
        let kept = before.get(name).map_or(count, |before| before.min(&most).max(count));
        (name.clone(), kept.clone())
    });
    kept.collect()
}

/// Amounts as the API tells them.
fn amounts(texts: &std::collections::BTreeMap<String, Text>) -> Amounts {
    let read = |(name, text): (&String, &Text)| {
        Some((name.clone(), barque_api::quantity::Quantity::parse(&text.0).ok()?))
    };
    texts.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests;
