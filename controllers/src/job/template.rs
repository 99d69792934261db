//! The pods of a Job as they are made. Values; must never decide how many.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::JobView;
use super::pod::{self, FAILURES, IGNORED_FAILURES, INDEX};
use crate::kind::Object as _;
use crate::pods;

/// The label with the name of a pod's Job.
pub(super) const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Tells containers for which completion they run.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// So much of a name is left by what is generated.
const GENERATED_NAME_MAX: usize = 58;

/// Failures of an index before its next pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) counted: i32,
    pub(super) ignored: i32,
}

/// A pod for no particular completion.
pub(super) fn pod(view: &JobView) -> Option<Pod> {
    let spec = view.job.spec.as_ref()?;
    let mut pod = pods::from_template(&spec.template, &view.job.key().namespace, &view.job.as_controller());
    pod::track(&mut pod);
    Some(pod)
}

/// A pod for this completion; with the number of failures before it where they count for each index.
pub(super) fn indexed_pod(view: &JobView, index: i32, failures: Option<Failures>) -> Option<Pod> {
    let mut pod = pod(view)?;
    let name = view.job.key().name;
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some(failures) = failures {
        annotations.insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), failures.ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let suffix = format!("-{index}-");
    let stem: String = name.chars().take(GENERATED_NAME_MAX - suffix.len()).collect();
    pod.metadata.generate_name = Some(stem + &suffix);
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(tell_index);
    Some(pod)
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().all(|variable| variable.name != INDEX_VARIABLE) {
        let field_path = format!("metadata.labels['{INDEX}']");
        let field_ref = ObjectFieldSelector { api_version: None, field_path };
        variables.push(EnvVar {
            name: INDEX_VARIABLE.to_owned(),
            value: None,
            value_from: Some(EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() }),
        });
    }
}
