//! What a namespace that is deleted says of its content, in upstream's words. A decision; time is handed in.

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::leftovers::Leftovers;

/// A condition with the words for when all is well.
struct Said {
    type_: &'static str,
    reason: &'static str,
    message: &'static str,
}

const DISCOVERY: Said = Said {
    type_: "NamespaceDeletionDiscoveryFailure",
    reason: "ResourcesDiscovered",
    message: "All resources successfully discovered",
};
const PARSING: Said = Said {
    type_: "NamespaceDeletionGroupVersionParsingFailure",
    reason: "ParsedGroupVersions",
    message: "All legacy kube types successfully parsed",
};
const CONTENT: Said = Said {
    type_: "NamespaceDeletionContentFailure",
    reason: "ContentDeleted",
    message: "All content successfully deleted, may be waiting on finalization",
};
const REMAINING: Said = Said {
    type_: "NamespaceContentRemaining",
    reason: "ContentRemoved",
    message: "All content successfully removed",
};
const FINALIZERS: Said = Said {
    type_: "NamespaceFinalizersRemaining",
    reason: "ContentHasNoFinalizers",
    message: "All content-preserving finalizers finished",
};

/// The conditions that follow; those of others stay as they are.
pub(super) fn update(status: &mut NamespaceStatus, leftovers: &Leftovers, now: Timestamp) {
    let discovery = leftovers.discovery.clone().map(|message| ("DiscoveryFailed", message));
    let parsing = leftovers.unreadable.clone().map(|message| ("GroupVersionParsingFailed", message));
    let content = (!leftovers.failures.is_empty()).then(|| {
        let mut failures = leftovers.failures.clone();
        failures.sort();
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            failures.len(),
            failures.join(", ")
        );
        ("ContentDeletionFailed", message)
    });
    let told = |parts: Vec<String>| (!parts.is_empty()).then(|| parts.join(", "));
    let remaining =
        leftovers.remaining.iter().map(|(name, count)| format!("{name} has {count} resource instances"));
    let remaining = told(remaining.collect())
        .map(|parts| ("SomeResourcesRemain", format!("Some resources are remaining: {parts}")));
    let finalizers =
        leftovers.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
    let finalizers = told(finalizers.collect()).map(|parts| {
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {parts}"))
    });
    for (said, trouble) in [
        (DISCOVERY, discovery),
        (PARSING, parsing),
        (CONTENT, content),
        (REMAINING, remaining),
        (FINALIZERS, finalizers),
    ] {
        put(status, &said, trouble, now);
    }
}

fn put(status: &mut NamespaceStatus, said: &Said, trouble: Option<(&str, String)>, now: Timestamp) {
    let value = if trouble.is_some() { "True" } else { "False" };
    let (reason, message) = trouble.unwrap_or_else(|| (said.reason, said.message.to_owned()));
    let conditions = status.conditions.get_or_insert_default();
    let found = conditions.iter_mut().find(|condition| condition.type_ == said.type_);
    let changed = found.as_ref().is_none_or(|condition| condition.status != value);
    let time = match &found {
        Some(condition) if !changed => condition.last_transition_time.clone(),
        _ => Some(Time(now)),
    };
    let new = NamespaceCondition {
        type_: said.type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: time,
    };
    match found {
        Some(condition) => *condition = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn told(status: &NamespaceStatus) -> Vec<(&str, &str, &str, i64)> {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|one| {
                let time = one.last_transition_time.as_ref().unwrap().0.as_second();
                (&*one.status, one.reason.as_deref().unwrap(), one.message.as_deref().unwrap(), time)
            })
            .collect()
    }

    #[test]
    fn what_blocks_is_named() {
        let mut status = NamespaceStatus::default();
        let leftovers = Leftovers {
            discovery: Some("d".into()),
            unreadable: Some("p".into()),
            failures: vec!["z".into(), "a".into()],
            remaining: BTreeMap::from([("pods.".into(), 2), ("deployments.apps".into(), 1)]),
            finalizers: BTreeMap::from([("custom.io/finalizer".into(), 1)]),
            estimate: 15,
        };
        update(&mut status, &leftovers, at(1));
        assert_eq!(
            told(&status),
            [
                ("True", "DiscoveryFailed", "d", 1),
                ("True", "GroupVersionParsingFailed", "p", 1),
                (
                    "True",
                    "ContentDeletionFailed",
                    "Failed to delete all resource types, 2 remaining: a, z",
                    1
                ),
                (
                    "True",
                    "SomeResourcesRemain",
                    "Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource \
                     instances",
                    1
                ),
                (
                    "True",
                    "SomeFinalizersRemain",
                    "Some content in the namespace has finalizers remaining: custom.io/finalizer in 1 resource instances",
                    1
                ),
            ]
        );
        let less = Leftovers { failures: vec!["a".into()], ..leftovers };
        update(&mut status, &less, at(2));
        let content = "Failed to delete all resource types, 1 remaining: a";
        assert_eq!(told(&status)[2], ("True", "ContentDeletionFailed", content, 1));
        update(&mut status, &Leftovers::default(), at(3));
        assert_eq!(
            told(&status),
            [
                ("False", "ResourcesDiscovered", "All resources successfully discovered", 3),
                ("False", "ParsedGroupVersions", "All legacy kube types successfully parsed", 3),
                (
                    "False",
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                    3
                ),
                ("False", "ContentRemoved", "All content successfully removed", 3),
                ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished", 3),
            ]
        );
    }

    #[test]
    fn conditions_of_others_stay() {
        let other = NamespaceCondition {
            type_: "Others".into(),
            status: "Unknown".into(),
            last_transition_time: Some(Time(at(0))),
            reason: Some("r".into()),
            message: Some("m".into()),
        };
        let mut status = NamespaceStatus { conditions: Some(vec![other.clone()]), phase: None };
        update(&mut status, &Leftovers::default(), at(1));
        let conditions = status.conditions.unwrap();
        assert_eq!((conditions.len(), &conditions[0]), (6, &other));
    }
}
