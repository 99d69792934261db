//! A pod and its containers get other bounds, in the order in which none of them is ever bounded tighter from above than it was
//! granted: the pod grows, containers change, the pod shrinks. Must never take memory that is used: the kernel would end whoever
//! uses it.

use std::future::Future;

use barque_containers::spec::Resources;
use k8s_openapi::api::core::v1::Pod;

use super::super::RuntimeError;
use crate::containers::{bounds, find};

/// What can be bounded.
pub(in super::super) trait Bounded: Sync {
    /// What the node says of a pod's bounds beside.
    fn pod_bounds(&self, pod: &Pod) -> Resources;

    /// What bounds the pod now; nothing when nobody knows.
    fn bounds_of_pod(&self, pod: &Pod) -> impl Future<Output = Option<Resources>> + Send;

    /// The id of the newest container of a name and what bounds it now.
    fn bounds_of(
        &self,
        pod: &Pod,
        container: &str,
    ) -> impl Future<Output = Option<(String, Resources)>> + Send;

    /// Bounds the pod.
    fn bound_pod(&self, pod: &Pod, to: Resources) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Bounds a container of this id.
    fn bound(
        &self,
        pod: &Pod,
        container: &str,
        id: &str,
        to: Resources,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// How much memory is used by the pod and by each of its containers, by name.
    fn memory_used(&self, pod: &Pod) -> impl Future<Output = (Option<u64>, Vec<(String, u64)>)> + Send;
}

/// One container that gets other bounds.
struct Step {
    name: String,
    id: String,
    before: Resources,
    to: Resources,
}

/// Gives these containers and the pod what the pod says.
pub(in super::super) async fn resize(
    runtime: &impl Bounded,
    pod: &Pod,
    containers: &[String],
    shrinks: bool,
) -> Result<(), RuntimeError> {
    let whole = runtime.pod_bounds(pod);
    let before = runtime.bounds_of_pod(pod).await;
    let mut steps = Vec::new();
    for name in containers {
        let Some(container) = find(pod, name) else { continue };
        let Some((id, before)) = runtime.bounds_of(pod, name).await else { continue };
        steps.push(Step { name: name.clone(), id, before, to: bounds::of_container(&container) });
    }
    let target = shrinks.then_some(&whole);
    if let Some(problem) = too_little(runtime, pod, before.as_ref().zip(target), &steps).await {
        return Err(RuntimeError(format!("cannot decrease memory limits: {problem}")));
    }
    let grown = before.as_ref().map_or_else(|| whole.clone(), |before| bounds::raised(before, &whole));
    if before.as_ref().is_none_or(|before| !bounds::same(before, &grown)) {
        runtime.bound_pod(pod, grown.clone()).await?;
    }
    for Step { name, id, to, .. } in steps {
        runtime.bound(pod, &name, &id, to).await?;
    }
    if shrinks && !bounds::same(&grown, &whole) {
        runtime.bound_pod(pod, whole).await?;
    }
    Ok(())
}

/// Who uses more memory than it would be left with, in the kubelet's words.
async fn too_little(
    runtime: &impl Bounded,
    pod: &Pod,
    whole: Option<(&Resources, &Resources)>,
    steps: &[Step],
) -> Option<String> {
    let of_pod = whole.and_then(|(before, to)| less(before, to));
    let shrinking: Vec<_> =
        steps.iter().filter_map(|step| Some((&step.name, less(&step.before, &step.to)?))).collect();
    if of_pod.is_none() && shrinking.is_empty() {
        return None;
    }
    let (by_pod, by_container) = runtime.memory_used(pod).await;
    let beyond = |limit: u64, used: u64| {
        (used > limit).then(|| format!("memory limit ({limit}) below current usage ({used})"))
    };
    let mut problems = Vec::new();
    if let Some(text) = of_pod.zip(by_pod).and_then(|(limit, used)| beyond(limit, used)) {
        problems.push(format!("attempting to set pod {text}"));
    }
    for (name, limit) in shrinking {
        let used = by_container.iter().find(|(other, _)| other == name);
        if let Some(text) = used.and_then(|(_, used)| beyond(limit, *used)) {
            problems.push(format!("attempting to set container {name:?} {text}"));
        }
    }
    match &problems[..] {
        [] => None,
        [one] => Some(one.clone()),
        all => Some(format!("[{}]", all.join(", "))),
    }
}

/// The new bound of memory, where it is tighter than the one before.
fn less(before: &Resources, to: &Resources) -> Option<u64> {
    let to = to.memory_bytes?;
    let tighter = before.memory_bytes.is_none_or(|before| to < before);
    tighter.then(|| u64::try_from(to).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;

    /// One that writes down what it is told, with containers `a` and `b` of 100m and 64Mi in a pod of both.
    #[derive(Default)]
    struct Told {
        done: Mutex<Vec<String>>,
        used: u64,
    }

    fn written(bounds: &Resources) -> String {
        let mebibytes = bounds.memory_bytes.map(|bytes| bytes >> 20);
        format!("{:?} {:?}", bounds.cpu_quota_us.unwrap_or(-1), mebibytes.unwrap_or(-1))
    }

    fn small(count: i64) -> Resources {
        Resources {
            cpu_shares: Some(102 * count.unsigned_abs()),
            cpu_quota_us: Some(10_000 * count),
            memory_bytes: Some((64 << 20) * count),
            ..Resources::default()
        }
    }

    impl Bounded for Told {
        fn pod_bounds(&self, pod: &Pod) -> Resources {
            bounds::of_whole(pod)
        }

        async fn bounds_of_pod(&self, _: &Pod) -> Option<Resources> {
            Some(small(2))
        }

        async fn bounds_of(&self, _: &Pod, container: &str) -> Option<(String, Resources)> {
            Some((container.to_owned(), small(1)))
        }

        async fn bound_pod(&self, _: &Pod, to: Resources) -> Result<(), RuntimeError> {
            self.done.lock().push(format!("pod {}", written(&to)));
            Ok(())
        }

        async fn bound(&self, _: &Pod, _: &str, id: &str, to: Resources) -> Result<(), RuntimeError> {
            self.done.lock().push(format!("{id} {}", written(&to)));
            Ok(())
        }

        async fn memory_used(&self, _: &Pod) -> (Option<u64>, Vec<(String, u64)>) {
            (Some(self.used), vec![("a".to_owned(), self.used)])
        }
    }

    async fn resized(a: (&str, &str), shrinks: bool, used: u64) -> (Result<(), RuntimeError>, Vec<String>) {
        let of = |name: &str, cpu: &str, memory: &str| json!({"name": name, "resources": {"limits": {"cpu": cpu, "memory": memory}}});
        let spec = json!({"containers": [of("a", a.0, a.1), of("b", "100m", "64Mi")]});
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let told = Told { used, ..Told::default() };
        let result = resize(&told, &pod, &["a".to_owned()], shrinks).await;
        (result, told.done.into_inner())
    }

    #[tokio::test]
    async fn the_pod_grows_first_and_shrinks_last() {
        let (_, done) = resized(("200m", "128Mi"), true, 0).await;
        assert_eq!(done, ["pod 30000 192", "a 20000 128"]);
        let (_, done) = resized(("50m", "32Mi"), true, 0).await;
        assert_eq!(done, ["a 5000 32", "pod 15000 96"]);
        let (_, done) = resized(("200m", "32Mi"), true, 0).await;
        assert_eq!(done, ["pod 30000 128", "a 20000 32", "pod 30000 96"]);
        let (_, done) = resized(("200m", "32Mi"), false, 0).await;
        assert_eq!(done, ["pod 30000 128", "a 20000 32"], "another one has more still");
    }

    #[tokio::test]
    async fn memory_that_is_used_is_not_taken() {
        let (result, done) = resized(("100m", "32Mi"), true, 40 << 20).await;
        let text = "cannot decrease memory limits: attempting to set container \"a\" memory limit (33554432) below current \
                    usage (41943040)";
        assert_eq!((result.unwrap_err().0.as_str(), done.len()), (text, 0));
        let (result, _) = resized(("100m", "32Mi"), true, 100 << 20).await;
        assert!(result.unwrap_err().0.contains("[attempting to set pod memory limit (100663296)"));
        assert_eq!(resized(("100m", "128Mi"), true, 1 << 30).await.0, Ok(()));
    }
}
