//! ResourceQuota: what a request uses is charged to the quotas of its namespace before it is done, and refused when one of them
//! is used up. The charge is a guarded write of the quota's status, so that two servers never give away the same; it is the
//! only thing that admission writes. What is charged and then not used comes back when usage is counted anew.

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::quota::amounts::{Amounts, add, amounts};
use barque_api::quota::{Meter, cover};
use barque_api::status::Status;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Admission, Attributes, Operation};
use crate::registry::collections::{Collection, parse};
use crate::storage::{self, Entry, Expected, Storage, Write, Written};
use crate::watch_cache::query::ListQuery;
use crate::watch_cache::registry::Selection;

/// How often a charge is tried again that somebody else's charge got in the way of.
const TRIES: usize = 20;

/// A quota that a request is charged to.
struct Bill {
    /// Where it stands.
    entry: Entry,
    /// With the new usage.
    quota: Value,
}

impl<S: Storage> Admission<S> {
    /// Charges what the object uses.
    pub(super) async fn charge_quotas(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let resource = attributes.resource.group_resource();
        let Some(meter) = Meter::of(&resource).filter(|meter| handles(meter, attributes)) else {
            return Ok(());
        };
        if attributes.namespace.is_empty() {
            return Ok(());
        }
        let quotas = GroupResource::new("", "resourcequotas");
        let known = self.collections.objects(&quotas, attributes.namespace).await?;
        let is_about = |quota: &&Value| {
            let names = counted(quota, &meter, object);
            meter.unsaid(object, &names).is_some() || !charge(quota, &meter, attributes, object).is_empty()
        };
        let names = known.iter().filter(is_about).map(|quota| Metadata::of(quota).name());
        let mut names: Vec<&str> = names.collect();
        if names.is_empty() {
            return Ok(());
        }
        let collection = self.collections.collection(&quotas).ok_or_else(Status::no_such_path)?;
        for _ in 0..TRIES {
            // All of them agree before the first one is written.
            let mut bills = Vec::with_capacity(names.len());
            for name in &names {
                bills.extend(
                    self.bill(&collection, name, &meter, attributes, object).await?.map(|bill| (*name, bill)),
                );
            }
            if attributes.dry_run {
                return Ok(());
            }
            let mut late = Vec::new();
            for (name, bill) in bills {
                if !write(&collection, bill).await? {
                    late.push(name);
                }
            }
            if late.is_empty() {
                return Ok(());
            }
            names = late;
        }
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Err(Status::conflict(&quotas, names.first().copied().unwrap_or_default(), why))
    }

    /// The quota as the store has it, with what the request adds; nothing when the request is not about it any more.
    async fn bill(
        &self,
        collection: &Collection<S>,
        name: &str,
        meter: &Meter,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Option<Bill>, Status> {
        let key = collection.keys.object(attributes.namespace, name);
        let got = collection.storage.get(&key).await.map_err(|error| error.to_status())?;
        let Some(entry) = got.entry else { return Ok(None) };
        let mut quota: Value = serde_json::from_slice(&entry.value)
            .map_err(|error| Status::internal(format!("the quota {name} cannot be read: {error}")))?;
        let names = counted(&quota, meter, object);
        if attributes.subresource != "status"
            && let Some(why) = meter.unsaid(object, &names)
        {
            return Err(attributes.forbidden(format!("failed quota: {name}: {why}")));
        }
        let requested = charge(&quota, meter, attributes, object);
        if requested.is_empty() {
            return Ok(None);
        }
        let used = amounts(quota.pointer("/status/used"));
        if names.iter().any(|name| !used.contains_key(name)) {
            let used = self.count(meter, attributes, &quota, &names).await?;
            put_usage(&mut quota, &used);
        }
        let used = settle(&quota, &requested, attributes.subresource != "status")
            .map_err(|why| attributes.forbidden(format!("exceeded quota: {name}, {why}")))?;
        put_usage(&mut quota, &used);
        Ok(Some(Bill { entry, quota }))
    }

    /// What the objects of a quota use that are there now.
    async fn count(
        &self,
        meter: &Meter,
        attributes: &Attributes<'_>,
        quota: &Value,
        names: &[String],
    ) -> Result<Amounts, Status> {
        let resource = attributes.resource.group_resource();
        let collection = self.collections.collection(&resource).ok_or_else(Status::no_such_path)?;
        let prefix = collection.keys.namespace_prefix(attributes.namespace);
        let selection = Selection { prefix, ..Selection::default() };
        let all = collection.cache.list(&ListQuery::default(), &selection).await?;
        let zero = || barque_api::quantity::Quantity::new(0, 0, barque_api::quantity::Format::DecimalSi);
        let mut used: Amounts = names.iter().map(|name| (name.clone(), zero())).collect();
        for one in &all.objects {
            let one = parse(one)?;
            if cover(quota, meter, &one) {
                let mut own = meter.usage(&one, attributes.now);
                own.retain(|name, _| used.contains_key(name));
                add(&mut used, &own);
            }
        }
        Ok(used)
    }
}

/// Whether a request can change what is used.
fn handles(meter: &Meter, attributes: &Attributes<'_>) -> bool {
    let operation = attributes.operation;
    match (meter, attributes.subresource) {
        (Meter::Pods, "resize") => operation == Operation::Update,
        (Meter::Claims, "status") => operation == Operation::Update,
        (Meter::Claims | Meter::Services, "") => {
            matches!(operation, Operation::Create | Operation::Update)
        }
        (_, "") => operation == Operation::Create,
        _ => false,
    }
}

/// What a quota bounds: as its status says, or its spec while it has none.
fn bounds(quota: &Value) -> Amounts {
    let hard = amounts(quota.pointer("/status/hard"));
    if hard.is_empty() { amounts(quota.pointer("/spec/hard")) } else { hard }
}

/// What of that is used by an object; empty when the quota is not about it.
fn counted(quota: &Value, meter: &Meter, object: &Value) -> Vec<String> {
    let names: Vec<String> = bounds(quota).into_keys().filter(|name| meter.counts(name)).collect();
    if names.is_empty() || !cover(quota, meter, object) { Vec::new() } else { names }
}

/// What a request uses of what a quota bounds, more than before; empty for nothing.
fn charge(quota: &Value, meter: &Meter, attributes: &Attributes<'_>, object: &Value) -> Amounts {
    let bounded = counted(quota, meter, object);
    if bounded.is_empty() {
        return Amounts::new();
    }
    let mut usage = meter.usage(object, attributes.now);
    if attributes.operation == Operation::Update
        && let Some(old) = attributes.old.filter(|old| cover(quota, meter, old))
    {
        for (name, before) in meter.usage(old, attributes.now) {
            if let Some(now) = usage.get_mut(&name) {
                *now = now.minus(&before);
            }
        }
    }
    usage.retain(|name, amount| bounded.contains(name) && amount.sign() > 0);
    usage
}

/// The usage of a quota after a request; what was asked for, used and left, where that is too much.
fn settle(quota: &Value, requested: &Amounts, bounded: bool) -> Result<Amounts, String> {
    let (hard, before) = (bounds(quota), amounts(quota.pointer("/status/used")));
    let mut used = before.clone();
    add(&mut used, requested);
    let is_exceeded = |name: &&String| match (used.get(*name), hard.get(*name)) {
        (Some(used), Some(hard)) => used > hard,
        _ => false,
    };
    let exceeded: Vec<&String> = requested.keys().filter(is_exceeded).collect();
    if !bounded || exceeded.is_empty() {
        return Ok(used);
    }
    let told = |of: &Amounts| {
        let parts = exceeded.iter().filter_map(|name| Some(format!("{name}={}", of.get(*name)?)));
        parts.collect::<Vec<_>>().join(",")
    };
    Err(format!("requested: {}, used: {}, limited: {}", told(requested), told(&before), told(&hard)))
}

/// Puts usage into the status of a quota, with what it is bounded by.
fn put_usage(quota: &mut Value, used: &Amounts) {
    let hard = quota.pointer("/spec/hard").cloned();
    let Some(fields) = quota.as_object_mut() else { return };
    let status = fields.entry("status").or_insert_with(|| json!({}));
    if !status.is_object() {
        *status = json!({});
    }
    if let (None, Some(hard)) = (status.get("hard"), hard) {
        status["hard"] = hard;
    }
    let mut all = status.get("used").and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    all.extend(used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())));
    status["used"] = all.into();
}

/// Writes a bill; false when the quota changed meanwhile.
async fn write<S: Storage>(collection: &Collection<S>, bill: Bill) -> Result<bool, Status> {
    let value = serde_json::to_vec(&bill.quota).map(Bytes::from).map_err(Status::internal)?;
    let action = storage::Action::Put { value, lease: None };
    let write = Write { key: bill.entry.key, expected: Expected::At(bill.entry.revision), action };
    match collection.storage.write(&write).await.map_err(|error| error.to_status())? {
        Written::Done(_) => Ok(true),
        Written::Differs(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn quota(hard: Value, status: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "a"},
            "spec": {"hard": hard}, "status": status})
    }

    fn pod(cpu: &str) -> Value {
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    async fn used(cluster: &Cluster) -> Value {
        cluster.newest("", "resourcequotas", "a", "q").await["status"]["used"].clone()
    }

    #[tokio::test]
    async fn a_quota_is_charged_until_it_is_used_up() {
        let hard = json!({"requests.cpu": "2", "pods": "10"});
        let status = json!({"hard": hard, "used": {"requests.cpu": "500m", "pods": "1"}});
        let cluster = Cluster::with(&[quota(hard, status)]).await;
        let create = async |cpu: &str| {
            let answer = cluster.admission.charge_quotas(&Asked::pod().attributes(), &pod(cpu)).await;
            answer.err().map(|status| status.message).unwrap_or_default()
        };
        assert_eq!(create("1").await, "");
        assert_eq!(used(&cluster).await, json!({"requests.cpu": "1500m", "pods": "2"}));
        assert_eq!(
            create("1").await,
            "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, limited: \
             requests.cpu=2"
        );
        assert_eq!(used(&cluster).await, json!({"requests.cpu": "1500m", "pods": "2"}));
        let silent = json!({"spec": {"containers": [{"name": "c"}]}});
        assert_eq!(create("0").await, "");
        assert_eq!(used(&cluster).await, json!({"requests.cpu": "1500m", "pods": "3"}));
        let status = cluster.admission.charge_quotas(&Asked::pod().attributes(), &silent).await.unwrap_err();
        assert_eq!(
            status.message,
            "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"
        );
        let mut dry = Asked::pod();
        dry.dry_run = true;
        cluster.admission.charge_quotas(&dry.attributes(), &pod("500m")).await.unwrap();
        assert_eq!(used(&cluster).await, json!({"requests.cpu": "1500m", "pods": "3"}));
    }

    #[tokio::test]
    async fn usage_that_nobody_counted_yet_is_counted() {
        let hard = json!({"count/configmaps": "2", "pods": "1"});
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "a"}});
        let cluster = Cluster::with(&[quota(hard.clone(), json!({})), map]).await;
        let asked = Asked::create("", "configmaps", "ConfigMap").within("a").named("n");
        cluster.admission.charge_quotas(&asked.attributes(), &json!({})).await.unwrap();
        let stored = cluster.newest("", "resourcequotas", "a", "q").await;
        assert_eq!(stored["status"], json!({"hard": hard, "used": {"count/configmaps": "2"}}));
        let status = cluster.admission.charge_quotas(&asked.attributes(), &json!({})).await.unwrap_err();
        assert_eq!(
            status.message,
            "configmaps \"n\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, \
             limited: count/configmaps=2"
        );
        let elsewhere = asked.within("b");
        assert_eq!(cluster.admission.charge_quotas(&elsewhere.attributes(), &json!({})).await, Ok(()));
    }

    #[tokio::test]
    async fn changes_are_charged_by_what_they_add() {
        let hard = json!({"services.nodeports": "3", "services": "1"});
        let status = json!({"hard": hard, "used": {"services.nodeports": "2", "services": "1"}});
        let cluster = Cluster::with(&[quota(hard, status)]).await;
        let service = |ports: usize| json!({"spec": {"type": "NodePort", "ports": vec![json!({}); ports]}});
        let change = async |from: usize, to: usize| {
            let asked = Asked::create("", "services", "Service").within("a").named("s").over(service(from));
            cluster.admission.charge_quotas(&asked.attributes(), &service(to)).await
        };
        assert_eq!(change(2, 3).await, Ok(()));
        assert_eq!(used(&cluster).await, json!({"services.nodeports": "3", "services": "1"}));
        assert!(change(3, 4).await.is_err());
        assert_eq!(change(3, 1).await, Ok(()));
        assert_eq!(used(&cluster).await, json!({"services.nodeports": "3", "services": "1"}));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_at_once_never_exceed_a_quota() {
        let hard = json!({"pods": "5"});
        let cluster =
            Cluster::with(&[quota(hard.clone(), json!({"hard": hard, "used": {"pods": "0"}}))]).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let admission = cluster.admission.clone();
            tasks.spawn(async move {
                admission.charge_quotas(&Asked::pod().attributes(), &pod("1")).await.is_ok()
            });
        }
        let admitted = tasks.join_all().await.into_iter().filter(|admitted| *admitted).count();
        assert_eq!(admitted, 5);
        assert_eq!(used(&cluster).await, json!({"pods": "5"}));
    }
}
