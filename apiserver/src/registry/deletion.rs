//! What deleting an object means: at once, after a grace period, or once its finalizers are gone (`metav1.DeleteOptions`).
//! Pure: the time is handed in, and what is to be done is told.

use barque_api::kind::GroupResource;
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::{Value, json};

/// What becomes of the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, and are owned by nobody.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// The finalizer of an object whose dependents are to be orphaned.
pub const ORPHAN: &str = "orphan";
/// The finalizer of an object whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// How a client wants an object deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// In seconds; 0 is at once.
    pub grace_period_seconds: Option<i64>,
    /// Nothing: as the kind has it.
    pub propagation: Option<Propagation>,
    /// The object must be this one.
    pub uid: Option<String>,
    /// The object must be unchanged since.
    pub resource_version: Option<String>,
}

/// How objects of a kind are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// What becomes of dependents when nobody says.
    pub propagation: Propagation,
    /// Whether there is a grace period; only pods have one.
    pub graceful: bool,
}

impl Manner {
    /// That of a built-in kind. Jobs leave their pods behind, as they always did.
    #[must_use]
    pub fn of(resource: &GroupResource) -> Self {
        let propagation = match (&*resource.group, &*resource.resource) {
            ("batch", "jobs") | ("", "replicationcontrollers") => Propagation::Orphan,
            _ => Propagation::Background,
        };
        Self { propagation, graceful: resource == &GroupResource::new("", "pods") }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The object goes.
    Remove,
    /// The object is stored like this, and goes later.
    Mark(Value),
    /// It is on its way already.
    Pending,
}

/// Decides about an object as it is stored.
///
/// # Errors
/// Conflict, when the object is not the one that the client means.
pub fn plan(
    object: &Value,
    resource: &GroupResource,
    manner: Manner,
    options: &DeleteOptions,
    now: Time,
) -> Result<Deletion, Status> {
    check_preconditions(object, resource, options)?;
    let finalizers = finalizers(object, manner, options);
    let is_held = !finalizers.is_empty() || is_held_by_spec(object);
    let grace = if manner.graceful { grace(object, options, now) } else { Grace::none(object, now) };
    let mut marked = object.clone();
    let metadata = &mut marked["metadata"];
    if finalizers.is_empty() {
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("finalizers");
        }
        if grace.seconds == 0 && !is_held {
            return Ok(Deletion::Remove);
        }
    } else {
        metadata["finalizers"] = json!(finalizers);
    }
    if metadata.get("deletionTimestamp").is_none_or(Value::is_null)
        && let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|one| *one > 0)
    {
        metadata["generation"] = (generation + 1).into();
    }
    metadata["deletionTimestamp"] = grace.until.to_string().into();
    if is_namespace(object) {
        marked["status"]["phase"] = "Terminating".into();
    } else {
        metadata["deletionGracePeriodSeconds"] = grace.seconds.into();
    }
    Ok(if marked == *object { Deletion::Pending } else { Deletion::Mark(marked) })
}

/// Whether an object that is marked, and is written, goes now: nothing holds it, and its time has come.
#[must_use]
pub fn is_over(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let held = metadata.get("finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let marked = metadata.get("deletionTimestamp").is_some_and(|time| !time.is_null());
    let waits = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default() > 0;
    marked && !held && !waits && !is_held_by_spec(object)
}

/// Namespaces have finalizers in their spec too, since before there were any in the metadata: whoever empties the namespace.
fn is_held_by_spec(object: &Value) -> bool {
    is_namespace(object)
        && object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

fn is_namespace(object: &Value) -> bool {
    object.get("kind").is_some_and(|kind| kind == "Namespace")
        && object.get("apiVersion").is_some_and(|version| version == "v1")
}

fn check_preconditions(
    object: &Value,
    resource: &GroupResource,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let own = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let conflict = |why: String| Err(Status::conflict(resource, own("name"), why));
    match (&options.uid, &options.resource_version) {
        (Some(uid), _) if uid != own("uid") => conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). \
             The object might have been deleted and then recreated",
            own("uid")
        )),
        (_, Some(version)) if version != own("resourceVersion") => conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            own("resourceVersion")
        )),
        _ => Ok(()),
    }
}

/// The object's finalizers with those that stand for what becomes of its dependents: what is asked for, else what stands there
/// already, else what the kind does.
fn finalizers(object: &Value, manner: Manner, options: &DeleteOptions) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    let mut finalizers: Vec<String> = list.filter_map(Value::as_str).map(str::to_owned).collect();
    let present = [(ORPHAN, Propagation::Orphan), (FOREGROUND, Propagation::Foreground)];
    let standing =
        present.iter().find(|(name, _)| finalizers.iter().any(|one| one == name)).map(|(_, how)| *how);
    let wanted = options.propagation.or(standing).unwrap_or(manner.propagation);
    for (name, how) in present {
        let there = finalizers.iter().any(|one| one == name);
        if how == wanted && !there {
            finalizers.push(name.to_owned());
        } else if how != wanted && there {
            finalizers.retain(|one| one != name);
        }
    }
    finalizers
}

/// How long an object still has.
struct Grace {
    seconds: i64,
    until: Time,
}

impl Grace {
    /// No time: what a kind without grace periods has, and what an object has that waits for its finalizers.
    fn none(object: &Value, now: Time) -> Self {
        Self { seconds: 0, until: deletion_time(object).unwrap_or(now) }
    }
}

fn grace(pod: &Value, options: &DeleteOptions, now: Time) -> Grace {
    let metadata = &pod["metadata"];
    if let Some(until) = deletion_time(pod) {
        let standing = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
        // Once it is on its way its time can only be made shorter.
        let seconds = options.grace_period_seconds.map_or(standing, |wanted| wanted.max(0).min(standing));
        return Grace { seconds, until: until.plus_seconds(seconds - standing) };
    }
    let spec = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let wanted = options.grace_period_seconds.unwrap_or(spec);
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
    let seconds = match wanted {
        // Nobody runs it, so nobody has to stop it.
        _ if unscheduled || ended => 0,
        // Less than nothing is as little as can be.
        ..0 => 1,
        other => other,
    };
    Grace { seconds, until: now.plus_seconds(seconds) }
}

fn deletion_time(object: &Value) -> Option<Time> {
    Time::parse(object["metadata"]["deletionTimestamp"].as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "2026-01-02T12:00:00Z";

    fn plan_of(
        resource: &str,
        group: &str,
        object: Value,
        options: &DeleteOptions,
    ) -> Result<Deletion, Status> {
        let resource = GroupResource::new(group, resource);
        plan(&object, &resource, Manner::of(&resource), options, Time::parse(NOON).unwrap())
    }

    fn options(seconds: impl Into<Option<i64>>) -> DeleteOptions {
        DeleteOptions { grace_period_seconds: seconds.into(), ..DeleteOptions::default() }
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "generation": 1},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30},
            "status": {"phase": "Running"},
        })
    }

    fn marked(deletion: Result<Deletion, Status>) -> (Value, Value) {
        match deletion.unwrap() {
            Deletion::Mark(object) => {
                let metadata = &object["metadata"];
                (metadata["deletionTimestamp"].clone(), metadata["deletionGracePeriodSeconds"].clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_running_pod_gets_its_time() {
        let at = |time: &str, seconds: i64| (json!(time), json!(seconds));
        assert_eq!(marked(plan_of("pods", "", pod(), &options(None))), at("2026-01-02T12:00:30Z", 30));
        assert_eq!(marked(plan_of("pods", "", pod(), &options(5))), at("2026-01-02T12:00:05Z", 5));
        assert_eq!(marked(plan_of("pods", "", pod(), &options(-3))), at("2026-01-02T12:00:01Z", 1));
        assert_eq!(plan_of("pods", "", pod(), &options(0)).unwrap(), Deletion::Remove);
    }

    #[test]
    fn a_pod_that_nobody_runs_goes_at_once() {
        let mut unscheduled = pod();
        unscheduled["spec"]["nodeName"] = json!("");
        assert_eq!(plan_of("pods", "", unscheduled, &options(None)).unwrap(), Deletion::Remove);
        let mut ended = pod();
        ended["status"]["phase"] = json!("Failed");
        assert_eq!(plan_of("pods", "", ended, &options(None)).unwrap(), Deletion::Remove);
    }

    #[test]
    fn time_can_only_be_made_shorter() {
        let mut going = pod();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-02T12:00:20Z");
        going["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        assert_eq!(plan_of("pods", "", going.clone(), &options(None)).unwrap(), Deletion::Pending);
        assert_eq!(plan_of("pods", "", going.clone(), &options(60)).unwrap(), Deletion::Pending);
        let shorter = marked(plan_of("pods", "", going.clone(), &options(10)));
        assert_eq!(shorter, (json!("2026-01-02T12:00:00Z"), json!(10)));
        assert_eq!(plan_of("pods", "", going, &options(0)).unwrap(), Deletion::Remove);
    }

    #[test]
    fn finalizers_hold_an_object_and_a_second_deletion_changes_nothing() {
        let object = json!({"metadata": {"name": "a", "generation": 3, "finalizers": ["own/it"]}});
        let Deletion::Mark(held) = plan_of("configmaps", "", object, &options(None)).unwrap() else {
            panic!("gone")
        };
        assert_eq!(held["metadata"]["deletionTimestamp"], NOON);
        assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(held["metadata"]["generation"], 4);
        assert!(!is_over(&held));
        assert_eq!(plan_of("configmaps", "", held.clone(), &options(None)).unwrap(), Deletion::Pending);
        let mut free = held;
        free["metadata"]["finalizers"] = json!([]);
        assert!(is_over(&free));
        assert!(!is_over(&pod()));
    }

    #[test]
    fn namespaces_stay_until_they_are_empty() {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let Deletion::Mark(mut going) = plan_of("namespaces", "", object, &options(None)).unwrap() else {
            panic!("gone")
        };
        assert_eq!(going["status"]["phase"], "Terminating");
        assert_eq!(going["metadata"], json!({"name": "a", "deletionTimestamp": NOON}));
        assert!(!is_over(&going));
        assert_eq!(plan_of("namespaces", "", going.clone(), &options(None)).unwrap(), Deletion::Pending);
        going["spec"]["finalizers"] = json!([]);
        assert!(is_over(&going));
    }

    #[test]
    fn what_becomes_of_dependents_is_a_finalizer() {
        let with = |resource: (&str, &str), finalizers: Value, propagation: Option<Propagation>| {
            let object = json!({"metadata": {"name": "a", "finalizers": finalizers}});
            let options = DeleteOptions { propagation, ..DeleteOptions::default() };
            match plan_of(resource.0, resource.1, object, &options).unwrap() {
                Deletion::Mark(object) => object["metadata"]["finalizers"].clone(),
                Deletion::Remove => json!("removed"),
                Deletion::Pending => json!("pending"),
            }
        };
        let (deployments, jobs) = (("deployments", "apps"), ("jobs", "batch"));
        let table = [
            (deployments, json!([]), None, json!("removed")),
            (deployments, json!([]), Some(Propagation::Orphan), json!([ORPHAN])),
            (deployments, json!([]), Some(Propagation::Foreground), json!([FOREGROUND])),
            (deployments, json!([ORPHAN]), None, json!([ORPHAN])),
            (deployments, json!([ORPHAN]), Some(Propagation::Background), json!("removed")),
            (deployments, json!(["x", ORPHAN]), Some(Propagation::Foreground), json!(["x", FOREGROUND])),
            (jobs, json!([]), None, json!([ORPHAN])),
            (jobs, json!([]), Some(Propagation::Background), json!("removed")),
        ];
        for (resource, finalizers, propagation, expected) in table {
            assert_eq!(
                with(resource, finalizers.clone(), propagation),
                expected,
                "{resource:?} {finalizers} {propagation:?}"
            );
        }
    }

    #[test]
    fn another_object_of_the_same_name_is_not_meant() {
        let options = DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() };
        let status = plan_of("pods", "", pod(), &options).unwrap_err();
        assert!(status.message.contains("the UID in the precondition (other)"), "{status}");
        let options = DeleteOptions { resource_version: Some("8".into()), ..DeleteOptions::default() };
        assert_eq!(plan_of("pods", "", pod(), &options).unwrap_err().reason.code(), 409);
    }
}
