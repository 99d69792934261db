//! LimitRanger: containers get the defaults of their namespace's LimitRanges, and pods and claims are held to their bounds.
//! Must never change a resource that was given.

use barque_api::kind::GroupResource;
use barque_api::metadata::MetadataMut;
use barque_api::quantity::{Format, Quantity};
use barque_api::quota::amounts::{self, Amounts, Side, amounts as read};
use barque_api::status::Status;
use serde_json::{Value, json};

use super::pod::{list, text};
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

/// Says which defaults a pod got.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Numbers up to this one are compared in thousandths.
const MILLI_MAX: i64 = i64::MAX / 1000;

impl<S: Storage> Admission<S> {
    /// Puts defaults into the containers of a new pod.
    pub(super) async fn default_limits(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if is_pod(attributes) {
            for range in self.limit_ranges(attributes).await? {
                fill(object, &range);
            }
        }
        Ok(())
    }

    /// Whether a new pod or a claim is within all bounds.
    pub(super) async fn check_limits(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let check: fn(&Value, &Value) -> Vec<String> = if is_pod(attributes) {
            wrong_with_pod
        } else if is_claim(attributes) {
            wrong_with_claim
        } else {
            return Ok(());
        };
        for range in self.limit_ranges(attributes).await? {
            let errors = check(object, &range);
            if !errors.is_empty() {
                return Err(attributes.forbidden(told(errors)));
            }
        }
        Ok(())
    }

    async fn limit_ranges(&self, attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
        let ranges = GroupResource::new("", "limitranges");
        self.collections.objects(&ranges, attributes.namespace).await
    }
}

/// The containers of a pod do not change once it is there.
fn is_pod(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Create && attributes.is_plainly("", "pods")
}

fn is_claim(attributes: &Attributes<'_>) -> bool {
    matches!(attributes.operation, Operation::Create | Operation::Update)
        && attributes.is_plainly("", "persistentvolumeclaims")
}

/// Several errors as one, each told once.
fn told(errors: Vec<String>) -> String {
    let mut once: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        if !once.contains(&error) {
            once.push(error);
        }
    }
    if once.len() == 1 { once.remove(0) } else { format!("[{}]", once.join(", ")) }
}

fn fill(pod: &mut Value, range: &Value) {
    let defaults = |field: &str| {
        let mut all = serde_json::Map::new();
        for limit in list(range, "/spec/limits").iter().filter(|limit| text(limit, "/type") == "Container") {
            all.extend(limit.get(field).and_then(Value::as_object).cloned().unwrap_or_default());
        }
        all
    };
    let (requests, limits) = (defaults("defaultRequest"), defaults("default"));
    let mut notes = Vec::new();
    for (field, called) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.pointer_mut(&format!("/spec/{field}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            for (side, defaults, one) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill_side(container, side, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {one} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty()
        && let Some(mut metadata) = MetadataMut::of(pod)
    {
        metadata.set_annotation(ANNOTATION, &format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// Puts in what is missing, and answers the names of that in their order.
fn fill_side(container: &mut Value, side: &str, defaults: &serde_json::Map<String, Value>) -> Vec<String> {
    let there =
        |name: &str| container.pointer("/resources").and_then(|all| all.get(side)?.get(name)).is_some();
    let mut missing: Vec<String> = defaults.keys().filter(|name| !there(name)).cloned().collect();
    missing.sort_unstable();
    let Some(fields) = container.as_object_mut().filter(|_| !missing.is_empty()) else { return Vec::new() };
    let resources = fields.entry("resources").or_insert_with(|| json!({}));
    if resources.is_null() {
        *resources = json!({});
    }
    let Some(resources) = resources.as_object_mut() else { return Vec::new() };
    let amounts = resources.entry(side).or_insert_with(|| json!({}));
    if amounts.is_null() {
        *amounts = json!({});
    }
    let Some(amounts) = amounts.as_object_mut() else { return Vec::new() };
    for name in &missing {
        amounts.insert(name.clone(), defaults[name].clone());
    }
    missing
}

fn wrong_with_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in list(range, "/spec/limits") {
        match text(limit, "/type") {
            "Container" => {
                for field in ["/spec/containers", "/spec/initContainers"] {
                    for container in list(pod, field) {
                        let [requests, limits] =
                            [Side::Requests, Side::Limits].map(|side| amounts::of_container(container, side));
                        check(limit, &requests, &limits, &mut errors);
                    }
                }
            }
            "Pod" => {
                let [requests, limits] =
                    [Side::Requests, Side::Limits].map(|side| amounts::of_pod(pod, side));
                check(limit, &requests, &limits, &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn wrong_with_claim(claim: &Value, range: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let requests = read(claim.pointer("/spec/resources/requests"));
    for limit in list(range, "/spec/limits") {
        if text(limit, "/type") != "PersistentVolumeClaim" {
            continue;
        }
        for (name, least) in &read(limit.get("min")) {
            errors.extend(below("PersistentVolumeClaim", name, least, requests.get(name), None));
        }
        for (name, most) in &read(limit.get("max")) {
            let of = format!("maximum {name} usage per PersistentVolumeClaim is {most}");
            match requests.get(name) {
                None => errors.push(format!("{of}.  No request is specified")),
                Some(request) if compared(request, most).is_gt() => {
                    errors.push(format!("{of}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    errors
}

fn check(limit: &Value, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    let kind = text(limit, "/type");
    for (name, least) in &read(limit.get("min")) {
        errors.extend(below(kind, name, least, requests.get(name), limits.get(name)));
    }
    for (name, most) in &read(limit.get("max")) {
        errors.extend(above(kind, name, most, requests.get(name), limits.get(name)));
    }
    for (name, ratio) in &read(limit.get("maxLimitRequestRatio")) {
        errors.extend(apart(kind, name, ratio, requests.get(name), limits.get(name)));
    }
}

/// In thousandths, where these fit.
fn compared(one: &Quantity, other: &Quantity) -> std::cmp::Ordering {
    if one.value() <= MILLI_MAX && other.value() <= MILLI_MAX {
        return one.milli_value().cmp(&other.milli_value());
    }
    one.value().cmp(&other.value())
}

fn below(
    kind: &str,
    name: &str,
    least: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let of = format!("minimum {name} usage per {kind} is {least}");
    let Some(request) = request else { return Some(format!("{of}.  No request is specified")) };
    if compared(request, least).is_lt() {
        return Some(format!("{of}, but request is {request}"));
    }
    let limit = limit.filter(|limit| compared(limit, least).is_lt())?;
    Some(format!("{of}, but limit is {limit}"))
}

fn above(
    kind: &str,
    name: &str,
    most: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let of = format!("maximum {name} usage per {kind} is {most}");
    let Some(limit) = limit else { return Some(format!("{of}.  No limit is specified")) };
    if compared(limit, most).is_gt() {
        return Some(format!("{of}, but limit is {limit}"));
    }
    let request = request.filter(|request| compared(request, most).is_gt())?;
    Some(format!("{of}, but request is {request}"))
}

fn apart(
    kind: &str,
    name: &str,
    ratio: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let of = format!("{name} max limit to request ratio per {kind} is {ratio}");
    let zero = Quantity::new(0, 0, Format::DecimalSi);
    let (request, limit) = (request.unwrap_or(&zero), limit.unwrap_or(&zero));
    let fine = [request, limit, ratio].iter().all(|one| one.value() <= MILLI_MAX);
    let number = |one: &Quantity| if fine { one.milli_value() } else { one.value() };
    let (request, limit) = (number(request), number(limit));
    if request == 0 {
        return Some(format!("{of}, but no request is specified or request is 0"));
    }
    if limit == 0 {
        return Some(format!("{of}, but no limit is specified or limit is 0"));
    }
    let own = limit as f64 / request as f64;
    let wide = if ratio.value() <= MILLI_MAX {
        own * 1000.0 > ratio.milli_value() as f64
    } else {
        own > ratio.value() as f64
    };
    wide.then(|| format!("{of}, but provided ratio is {own:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn range(limits: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "a"},
            "spec": {"limits": limits}})
    }

    fn pod(requests: Value, limits: Value) -> Value {
        json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": requests, "limits": limits}}
        ]}})
    }

    #[test]
    fn containers_get_defaults_and_the_pod_says_so() {
        let range = range(json!([{"type": "Container", "default": {"cpu": "1", "memory": "2Mi"},
            "defaultRequest": {"cpu": "100m", "memory": "1Mi"}}]));
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "5m"}, "limits": {"cpu": "7"}}}, {"name": "d"}],
        }});
        fill(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "5m", "memory": "1Mi"}, "limits": {"cpu": "7", "memory": "2Mi"}})
        );
        assert_eq!(
            pod["spec"]["initContainers"][0]["resources"]["limits"],
            json!({"cpu": "1", "memory": "2Mi"})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; memory limit for container c; cpu, memory request \
             for container d; cpu, memory limit for container d; cpu, memory request for init container i; cpu, memory \
             limit for init container i"
        );
        let before = pod.clone();
        fill(&mut pod, &range);
        assert_eq!(pod, before);
    }

    #[test]
    fn pods_outside_of_the_bounds_are_refused() {
        let least = json!([{"type": "Container", "min": {"cpu": "100m"}}]);
        let most = json!([{"type": "Container", "max": {"cpu": "500m"}}]);
        let ratio = json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]);
        let whole = json!([{"type": "Pod", "max": {"memory": "1Gi"}}]);
        let none = json!({});
        let table = [
            (
                &least,
                none.clone(),
                none.clone(),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                &least,
                json!({"cpu": "50m"}),
                none.clone(),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                &least,
                json!({"cpu": "1"}),
                json!({"cpu": "10m"}),
                "minimum cpu usage per Container is 100m, but limit is 10m",
            ),
            (&least, json!({"cpu": "0.1"}), none.clone(), ""),
            (
                &most,
                none.clone(),
                none.clone(),
                "maximum cpu usage per Container is 500m.  No limit is specified",
            ),
            (
                &most,
                none.clone(),
                json!({"cpu": "1"}),
                "maximum cpu usage per Container is 500m, but limit is 1",
            ),
            (
                &most,
                json!({"cpu": "2"}),
                json!({"cpu": "0.5"}),
                "maximum cpu usage per Container is 500m, but request is 2",
            ),
            (
                &ratio,
                json!({"cpu": "100m"}),
                json!({"cpu": "300m"}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (&ratio, json!({"cpu": "100m"}), json!({"cpu": "200m"}), ""),
            (
                &ratio,
                none.clone(),
                json!({"cpu": "1"}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
            (&whole, none, json!({"memory": "2Gi"}), "maximum memory usage per Pod is 1Gi, but limit is 2Gi"),
        ];
        for (limits, requested, limited, expected) in table {
            let errors = wrong_with_pod(&pod(requested, limited), &range(limits.clone()));
            assert_eq!(errors.join("; "), expected);
        }
    }

    #[tokio::test]
    async fn claims_are_held_to_bounds_and_errors_are_told_at_once() {
        let bounds = json!([
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
            {"type": "Container", "min": {"cpu": "1", "memory": "1Gi"}},
        ]);
        let cluster = Cluster::with(&[range(bounds)]).await;
        let claims =
            Asked::create("", "persistentvolumeclaims", "PersistentVolumeClaim").within("a").named("c");
        let answer = async |asked: &Asked, object: Value| {
            let answer = cluster.admission.check_limits(&asked.attributes(), &object).await;
            answer.err().map(|status| status.message).unwrap_or_default()
        };
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(
            answer(&claims, claim("5Gi")).await,
            r#"persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"#
        );
        assert_eq!(answer(&claims, claim("1Gi")).await, "");
        assert_eq!(answer(&claims.clone().within("b"), claim("5Gi")).await, "");
        assert_eq!(
            answer(&Asked::pod(), pod(json!({}), json!({}))).await,
            "pods \"p\" is forbidden: [minimum cpu usage per Container is 1.  No request is specified, minimum memory \
             usage per Container is 1Gi.  No request is specified]"
        );
        assert_eq!(answer(&Asked::pod().doing(Operation::Update), pod(json!({}), json!({}))).await, "");
    }
}
