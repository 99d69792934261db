//! Configurations as they are read, and what is wrong with them.

use super::*;
use crate::plugins::{Plugin, PluginSet};
use crate::profile::{FILTERS, Strategy};

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn parse(text: &str) -> Result<Configuration, ConfigError> {
    Configuration::parse(&format!("{HEAD}{text}"))
}

fn wrong(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Fields(errors)) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(parse("").unwrap(), Configuration::default());
    assert_eq!(parse("profiles: [{}]").unwrap(), Configuration::default());
}

#[test]
fn everything_is_read() {
    let configuration = parse(
        r#"
parallelism: 4
percentageOfNodesToScore: 50
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
leaderElection: {leaderElect: true}
profiles:
- schedulerName: a
- schedulerName: b
  plugins:
    score:
      disabled: [{name: ImageLocality}, {name: NodeResourcesFit}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
    filter: {disabled: [{name: NodePorts}]}
    postFilter: {disabled: [{name: "*"}]}
  pluginConfig:
  - name: NodeResourcesFit
    args:
      ignoredResources: [example.com/x]
      ignoredResourceGroups: [example.org]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 3}, {name: memory}]
        requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 7, ignorePreferredTermsOfExistingPods: true}
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
  - name: DefaultPreemption
    args: {minCandidateNodesPercentage: 20, minCandidateNodesAbsolute: 5}
  - name: VolumeBinding
    args: {bindTimeoutSeconds: 30}
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: gpu, operator: Exists}]}]
  - name: NodeResourcesBalancedAllocation
    args: {resources: [{name: cpu, weight: 1}]}
"#,
    )
    .unwrap();
    let [a, b] = configuration.profiles.as_slice() else { panic!() };
    assert_eq!(*a, Profile::of_defaults("a"));
    assert_eq!((&*b.scheduler_name, b.preempts), ("b", false));
    assert_eq!((b.weight(Plugin::NodeResourcesFit), b.weight(Plugin::ImageLocality)), (5, 0));
    assert_eq!(b.weight(Plugin::TaintToleration), 3);
    assert!(!b.filters.has(Plugin::NodePorts) && b.filters.has(Plugin::NodeName));
    assert_eq!(b.fit.strategy, Strategy::RequestedToCapacityRatio(vec![(0, 0), (100, 100)]));
    let weights: Vec<_> = b.fit.resources.iter().map(|one| (&*one.name, one.weight)).collect();
    assert_eq!(weights, [("cpu", 3), ("memory", 1)]);
    assert!(
        b.fit.ignores("example.com/x") && b.fit.ignores("example.org/y") && !b.fit.ignores("example.com/y")
    );
    assert_eq!(b.inter_pod_affinity.hard_pod_affinity_weight, 7);
    assert!(b.inter_pod_affinity.ignore_preferred_terms_of_existing_pods);
    assert!(b.default_spread.constraints[0].hard && !b.default_spread.system);
    assert_eq!(b.preemption.min_candidate_nodes_percentage, 20);
    assert!(b.added_affinity.required.is_some());
    assert_eq!(b.balanced.len(), 1);
    assert_eq!(configuration.bind_timeouts[1], Duration::from_secs(30));
    assert_eq!(configuration.queue.initial_backoff, Duration::from_secs(2));
    assert_eq!(configuration.queue.max_backoff, Duration::from_secs(20));
    assert!(configuration.process.contains_key("leaderElection"));
}

#[test]
fn multi_point_turns_plugins_on_and_off_everywhere() {
    let plugins =
        |plugins: &str| parse(&format!("profiles: [{{plugins: {plugins}}}]")).unwrap().profiles.remove(0);
    let off = plugins("{multiPoint: {disabled: [{name: TaintToleration}]}}");
    assert!(!off.filters.has(Plugin::TaintToleration) && off.weight(Plugin::TaintToleration) == 0);
    let here = plugins(
        "{multiPoint: {disabled: [{name: TaintToleration}]}, filter: {enabled: [{name: TaintToleration}]}}",
    );
    assert!(here.filters.has(Plugin::TaintToleration) && here.weight(Plugin::TaintToleration) == 0);
    let heavy = plugins("{multiPoint: {enabled: [{name: TaintToleration, weight: 9}]}}");
    assert_eq!(heavy.weight(Plugin::TaintToleration), 9);
    let few = plugins(
        "{multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}, \
         {name: NodeResourcesFit}]}}",
    );
    assert_eq!(few.filters, PluginSet::of(&[Plugin::NodeResourcesFit]));
    assert_eq!(few.scores, [(Plugin::NodeResourcesFit, 1)]);
    let all = plugins("{score: {disabled: [{name: '*'}]}}");
    assert_eq!((all.filters, all.scores.len()), (PluginSet::of(&FILTERS), 0));
}

#[test]
fn what_is_wrong_is_told_where_it_is() {
    let profile = |text: &str| format!("profiles: [{{{text}}}]");
    let args =
        |name: &str, args: &str| profile(&format!("pluginConfig: [{{name: {name}, args: {{{args}}}}}]"));
    let at = "profiles[0].pluginConfig[0].args";
    let table: Vec<(String, String)> = vec![
        ("parallelism: 0".into(), "parallelism: Invalid value: 0: should be an integer value greater than zero".into()),
        ("percentageOfNodesToScore: 101".into(), "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]".into()),
        ("podInitialBackoffSeconds: 0".into(), "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0".into()),
        (
            "podInitialBackoffSeconds: 11".into(),
            "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds".into(),
        ),
        ("profiles: []".into(), "profiles: Required value".into()),
        ("profiles: [{schedulerName: a}, {}]".into(), "profiles[1].schedulerName: Required value".into()),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]".into(),
            "profiles[1].schedulerName: Duplicate value: \"a\"".into(),
        ),
        ("surprise: 1".into(), "surprise: Invalid value: 1: unknown field".into()),
        ("parallelism: many".into(), "parallelism: Invalid value: \"many\": must be an integer".into()),
        ("extenders: [{}]".into(), "extenders: Forbidden: extenders are not supported".into()),
        (
            profile("plugins: {score: {enabled: [{name: Nobody}]}}"),
            "profiles[0].plugins.score.enabled[0].name: Not found: \"Nobody\"".into(),
        ),
        (
            profile("plugins: {score: {enabled: [{name: NodeAffinity}, {name: NodeAffinity}]}}"),
            "profiles[0].plugins.score.enabled[1].name: Duplicate value: \"NodeAffinity\"".into(),
        ),
        (
            profile("plugins: {bind: {disabled: [{name: DefaultBinder}]}}"),
            "profiles[0].plugins.bind.disabled: Forbidden: DefaultBinder is needed at bind: there is no other".into(),
        ),
        (
            profile("pluginConfig: [{name: NodeName, args: {}}]"),
            "profiles[0].pluginConfig[0].name: Invalid value: \"NodeName\": has no arguments".into(),
        ),
        (
            profile("pluginConfig: [{name: NodeAffinity}, {name: NodeAffinity}]"),
            "profiles[0].pluginConfig[1]: Duplicate value: \"NodeAffinity\"".into(),
        ),
        (
            args("InterPodAffinity", "hardPodAffinityWeight: 101"),
            format!("{at}.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"),
        ),
        (
            args("DefaultPreemption", "minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0"),
            format!(
                "{at}.minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as \
                 minCandidateNodesAbsolute"
            ),
        ),
        (
            args("NodeResourcesFit", "ignoredResourceGroups: [a/b]"),
            format!("{at}.ignoredResourceGroups[0]: Invalid value: \"a/b\": resource group name can't contain '/'"),
        ),
        (
            args("NodeResourcesFit", "scoringStrategy: {type: Best}"),
            format!(
                "{at}.scoringStrategy.type: Unsupported value: \"Best\": supported values: \"LeastAllocated\", \
                 \"MostAllocated\", \"RequestedToCapacityRatio\""
            ),
        ),
        (
            args("NodeResourcesFit", "scoringStrategy: {type: RequestedToCapacityRatio}"),
            format!(
                "{at}.scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be \
                 specified"
            ),
        ),
        (
            args("NodeResourcesBalancedAllocation", "resources: [{name: cpu, weight: 2}]"),
            format!("{at}.resources[0].weight: Invalid value: 2: must be 1"),
        ),
        (
            args("PodTopologySpread", "defaultingType: List, defaultConstraints: [{maxSkew: 0, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]"),
            format!("{at}.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)"),
        ),
        (
            args("NodeAffinity", "addedAffinity: {}"),
            format!("{at}.addedAffinity: Required value: must have required or preferred terms"),
        ),
        (
            args("NodeAffinity", "kind: OtherArgs"),
            format!("{at}.kind: Invalid value: \"OtherArgs\": should be NodeAffinityArgs"),
        ),
        (
            args("VolumeBinding", "bindTimeoutSeconds: -1"),
            format!(
                "{at}.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value"
            ),
        ),
    ];
    for (text, error) in table {
        assert_eq!(wrong(&text), [error], "{text}");
    }
}

#[test]
fn shapes_rise() {
    let shape = "[{utilization: 50, score: 11}, {utilization: 50, score: 0}]";
    let strategy =
        format!("{{type: RequestedToCapacityRatio, requestedToCapacityRatio: {{shape: {shape}}}}}");
    let text = format!(
        "profiles: [{{pluginConfig: [{{name: NodeResourcesFit, args: {{scoringStrategy: {strategy}}}}}]}}]"
    );
    let at = "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape";
    assert_eq!(
        wrong(&text),
        [
            format!("{at}[0].score: Invalid value: 11: not in valid range [0-10]"),
            format!(
                "{at}[1].utilization: Invalid value: 50: utilization values must be sorted in increasing order"
            ),
        ]
    );
}

#[test]
fn other_documents_are_not_configurations() {
    let error = Configuration::parse("apiVersion: v1\nkind: Pod\n").unwrap_err().to_string();
    assert!(error.contains("apiVersion: Unsupported value: \"v1\"") && error.contains("kind:"), "{error}");
    assert!(matches!(Configuration::parse("{"), Err(ConfigError::Text(_))));
}
