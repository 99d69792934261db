//! The workloads of `scheduler_perf` as requests to an API server: what is there before, and the pods that are measured. Named as
//! there, with the same numbers.

use serde_json::{Value, json};

use super::shapes::{
    HOST, ZONE, affinity, anywhere, asking, claim, constraints, csi, csi_node, in_tree, in_zones, node,
    node_of, on_node, template, term, volume, with_claim, with_volume,
};

/// Makes the object of a number.
pub(crate) type Make = Box<dyn Fn(usize) -> Value>;

/// What becomes of pods that are there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// They have a node.
    Bound,
    /// They have one, and were asked to go, but are held.
    Going,
    /// They have none, and cannot have one.
    Waiting,
}

/// Pods of a kind.
pub(crate) struct Pods {
    pub(crate) count: usize,
    pub(crate) make: Make,
}

/// One workload.
pub(crate) struct Workload {
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    /// Pods a second that Kubernetes' tests hold, if they do.
    pub(crate) threshold: Option<u32>,
    pub(crate) nodes: usize,
    pub(crate) node: Make,
    /// Other objects, by the path of their collection.
    pub(crate) objects: Vec<(&'static str, usize, Make)>,
    pub(crate) before: Vec<(Pods, Then)>,
    pub(crate) measured: Pods,
    /// Whether nodes and pods that fit nowhere come and go meanwhile.
    pub(crate) churns: bool,
}

fn pods(count: usize, make: impl Fn(usize) -> Value + 'static) -> Pods {
    Pods { count, make: Box::new(make) }
}

/// Pods that are all alike.
fn alike(count: usize, namespace: &str, labels: Value, spec: &Value) -> Pods {
    let pod = template(namespace, labels, spec);
    pods(count, move |_| pod.clone())
}

fn plain(count: usize) -> Pods {
    alike(count, "ns-1", json!({}), &json!({}))
}

fn colored(count: usize, namespace: &str, color: &str, spec: &Value) -> Pods {
    alike(count, namespace, json!({"color": color}), spec)
}

impl Workload {
    /// Pods on nodes in three zones, and nothing else.
    fn new(
        family: &'static str,
        name: &'static str,
        threshold: impl Into<Option<u32>>,
        nodes: usize,
        measured: Pods,
    ) -> Self {
        Self {
            family,
            name,
            threshold: threshold.into(),
            nodes,
            node: Box::new(|at| node_of(at, 3)),
            objects: Vec::new(),
            before: Vec::new(),
            measured,
            churns: false,
        }
    }

    fn after(mut self, pods: Pods, then: Then) -> Self {
        self.before.push((pods, then));
        self
    }

    fn on(mut self, node: impl Fn(usize) -> Value + 'static) -> Self {
        self.node = Box::new(node);
        self
    }

    fn with(mut self, path: &'static str, count: usize, make: impl Fn(usize) -> Value + 'static) -> Self {
        self.objects.push((path, count, Box::new(make)));
        self
    }
}

pub(crate) fn all() -> Vec<Workload> {
    let mut all = basic();
    all.extend(preemption());
    all.extend(near_and_far());
    all.extend(in_namespaces());
    all.extend(topology());
    all.extend(volumes());
    all
}

fn basic() -> Vec<Workload> {
    let new = |name, threshold, nodes, measured| Workload::new("basic", name, threshold, nodes, measured);
    let large = |count| pods(count, |_| asking("9", "500Mi", "ns-1", json!({}), &json!({})));
    let held = pods(5000, |_| {
        let mut pod = template("ns-1", json!({}), &json!({"terminationGracePeriodSeconds": 0}));
        pod["metadata"]["finalizers"] = json!(["barque.bench/held"]);
        pod
    });
    let extended = pods(5000, |_| {
        let mut pod = template("ns-1", json!({}), &json!({}));
        let amounts = json!({"cpu": "100m", "memory": "500Mi", "foo.com/bar": "1"});
        pod["spec"]["containers"][0]["resources"] =
            json!({"requests": amounts, "limits": {"foo.com/bar": "1"}});
        pod
    });
    let daemons = pods(30_000, |at| template("ns-1", json!({}), &on_node(&format!("node-{}", at % 15_000))));
    vec![
        new("SchedulingBasic 5000/1000/10000", 680, 5000, plain(10_000)).after(plain(1000), Then::Bound),
        new("SchedulingBasic 5000/5000/50000", 810, 5000, plain(50_000)).after(plain(5000), Then::Bound),
        new("SchedulingDaemonset 15000/-/30000", 1100, 15_000, daemons),
        Workload { churns: true, ..new("SchedulingWithMixedChurn 5000/-/10000", 710, 5000, plain(10_000)) },
        gated("basic", "SchedulingWhileGated 1/10000/20000", 910, &json!({})),
        new("DeletedPodsWithFinalizers 5000/-/5000", 830, 5000, plain(5000)).after(held, Then::Going),
        new("Unschedulable 5000/100/10000", 590, 5000, plain(10_000)).after(large(100), Then::Waiting),
        new("Unschedulable 5000/20000/10000", 600, 5000, plain(10_000)).after(large(20_000), Then::Waiting),
        new("ExtendedResource 5000/-/5000", 180, 5000, extended)
            .on(|at| node(at, &json!({}), &json!({"foo.com/bar": "4"}))),
    ]
}

/// One node with room for all, while others wait for their gates.
fn gated(family: &'static str, name: &'static str, threshold: u32, spec: &Value) -> Workload {
    let mut waiting = spec.clone();
    waiting["schedulingGates"] = json!([{"name": "barque.bench/wait"}]);
    Workload::new(family, name, threshold, 1, colored(20_000, "ns-1", "blue", spec))
        .on(|at| node(at, &json!({}), &json!({"cpu": "100000", "memory": "100Ti", "pods": "100000"})))
        .after(colored(10_000, "ns-1", "blue", &waiting), Then::Waiting)
}

/// Every pod is refused, has others evicted, and is then placed where they were.
fn preemption() -> Vec<Workload> {
    let class = |_| json!({"metadata": {"name": "high"}, "value": 10});
    let one = |name, threshold, nodes, before, measured| {
        // They go at once: there is nobody on the nodes who could end them.
        let low = pods(before, |_| {
            asking("900m", "500Mi", "ns-1", json!({}), &json!({"terminationGracePeriodSeconds": 0}))
        });
        let high = pods(measured, |_| {
            asking("3000m", "500Mi", "ns-1", json!({}), &json!({"priorityClassName": "high"}))
        });
        Workload::new("preemption", name, threshold, nodes, high)
            .with("/apis/scheduling.k8s.io/v1/priorityclasses", 1, class)
            .after(low, Then::Bound)
    };
    vec![
        one("PreemptionBasic 1000/4000/1000", None, 1000, 4000, 1000),
        one("PreemptionAsync 5000/20000/5000", Some(570), 5000, 20_000, 5000),
    ]
}

fn near_and_far() -> Vec<Workload> {
    let new = |name, threshold, measured| Workload::new("affinity", name, threshold, 5000, measured);
    let spec = |kind, color, key, required| affinity(kind, &term(color, key, &json!({})), required);
    let same = |name, threshold, color: &str, spec: &Value, before, measured| {
        new(name, threshold, colored(measured, "ns-1", color, spec))
            .after(colored(before, "ns-0", color, spec), Then::Bound)
    };
    let far = spec("podAntiAffinity", "green", HOST, true);
    let near = spec("podAffinity", "blue", ZONE, true);
    let (liked, disliked) =
        (spec("podAffinity", "red", HOST, false), spec("podAntiAffinity", "yellow", HOST, false));
    let zones = in_zones(&["zone1", "zone2"]);
    vec![
        same("PodAntiAffinity 5000/1000/2000", 60, "green", &far, 1000, 2000),
        new("PodMatchingAntiAffinity 5000/-/5000", 595, colored(5000, "ns-1", "green", &json!({})))
            .after(colored(1000, "ns-1", "blue", &far), Then::Bound),
        same("PodAffinity 5000/5000/5000", 35, "blue", &near, 5000, 5000).on(|at| node_of(at, 1)),
        same("PreferredPodAffinity 5000/5000/5000", 90, "red", &liked, 5000, 5000),
        same("PreferredPodAntiAffinity 5000/5000/5000", 90, "yellow", &disliked, 5000, 5000),
        new("NodeAffinity 5000/5000/10000", 220, alike(10_000, "ns-1", json!({}), &zones))
            .after(alike(5000, "ns-1", json!({}), &zones), Then::Bound),
        new("MixedSchedulingBasePod 5000/-/5000", 140, colored(5000, "ns-0", "white", &json!({})))
            .after(colored(2000, "ns-0", "white", &json!({})), Then::Bound)
            .after(colored(2000, "ns-0", "blue", &near), Then::Bound)
            .after(colored(2000, "ns-0", "green", &far), Then::Bound)
            .after(colored(2000, "ns-0", "red", &liked), Then::Bound)
            .after(colored(2000, "ns-0", "yellow", &disliked), Then::Bound),
        gated(
            "affinity",
            "GatedPodsWithPodAffinity 1/10000/20000",
            110,
            &spec("podAffinity", "blue", HOST, true),
        ),
    ]
}

/// Pods in a hundred namespaces that all see each other.
fn in_namespaces() -> Vec<Workload> {
    let one = |name, threshold, nodes, color: &'static str, spec: Value, measured| {
        let several = |count, spec: Value| {
            pods(count, move |at| template(&format!("ns-{}", at % 100), json!({"color": color}), &spec))
        };
        Workload::new("affinity", name, threshold, nodes, several(measured, spec.clone()))
            .after(several(2000, spec), Then::Bound)
    };
    let spec = |kind, color, key, required| affinity(kind, &term(color, key, &anywhere()), required);
    let far = spec("podAntiAffinity", "green", HOST, true);
    let near = spec("podAffinity", "blue", ZONE, true);
    let (liked, disliked) =
        (spec("podAffinity", "red", HOST, false), spec("podAntiAffinity", "yellow", HOST, false));
    vec![
        one("RequiredPodAntiAffinity NSSelector 6000/-/2000", 24, 6000, "green", far, 2000),
        one("PreferredAntiAffinity NSSelector 5000/-/2000", 55, 5000, "yellow", disliked, 2000),
        one("RequiredAffinity NSSelector 5000/-/2000", 35, 5000, "blue", near, 2000).on(|at| node_of(at, 1)),
        one("PreferredAffinity NSSelector 5000/-/5000", 90, 5000, "red", liked, 5000),
    ]
}

fn topology() -> Vec<Workload> {
    let new = |name, threshold, measured| Workload::new("topology", name, threshold, 5000, measured);
    let spread = |when| constraints(5, when, &json!({}));
    let web = |count| alike(count, "ns-1", json!({"app": "web"}), &json!({}));
    let service = |_| {
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        json!({"metadata": {"name": "web"}, "spec": spec})
    };
    let honor = json!({"topologyKey": HOST, "nodeTaintsPolicy": "Honor"});
    let half_tainted = |at: usize| {
        let mut node = node(at, &json!({}), &json!({}));
        if at.is_multiple_of(2) {
            node["spec"] = json!({"taints": [{"key": "foo", "effect": "NoSchedule"}]});
        }
        node
    };
    vec![
        new("TopologySpreading 5000/5000/5000", 460, colored(5000, "ns-1", "blue", &spread("DoNotSchedule")))
            .after(plain(5000), Then::Bound),
        new(
            "PreferredTopologySpreading 5000/5000/5000",
            340,
            colored(5000, "ns-1", "blue", &spread("ScheduleAnyway")),
        )
        .after(plain(5000), Then::Bound),
        new("DefaultTopologySpreading 5000/5000/50000", 160, web(50_000))
            .with("/api/v1/namespaces/ns-1/services", 1, service)
            .after(web(5000), Then::Bound),
        new(
            "NodeInclusionPolicy 5000/-/4000",
            270,
            colored(4000, "ns-1", "blue", &constraints(1, "DoNotSchedule", &honor)),
        )
        .on(half_tainted),
    ]
}

fn volumes() -> Vec<Workload> {
    let secret = with_volume(&json!({"secret": {"secretName": "secret"}}));
    let secrets = |count| alike(count, "ns-1", json!({}), &secret);
    let claims = |name, threshold, before: usize, measured: usize, source: fn(usize) -> Value| {
        // Each pod has a claim of its own, which is bound.
        let of = move |at| template("ns-1", json!({}), &with_claim(at));
        let workload =
            Workload::new("volumes", name, threshold, 5000, pods(measured, move |at| of(before + at)))
                .with("/apis/storage.k8s.io/v1/csinodes", 5000, csi_node)
                .with("/api/v1/persistentvolumes", before + measured, move |at| volume(at, &source(at)))
                .with("/api/v1/namespaces/ns-1/persistentvolumeclaims", before + measured, claim);
        if before == 0 { workload } else { workload.after(pods(before, of), Then::Bound) }
    };
    vec![
        Workload::new("volumes", "Secrets 5000/5000/10000", 790, 5000, secrets(10_000))
            .after(secrets(5000), Then::Bound),
        claims("InTreePVs 5000/-/2000", 290, 0, 2000, in_tree),
        claims("MigratedInTreePVs 5000/5000/5000", 100, 5000, 5000, in_tree),
        claims("CSIPVs 5000/5000/5000", 100, 5000, 5000, csi),
    ]
}
