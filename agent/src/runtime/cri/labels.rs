//! The labels and annotations by which an agent finds again what it made: the kubelet's names where there are some, so that
//! tools for CRI show pods as they do elsewhere. Vocabulary.

use std::collections::HashMap;

use barque_containers::spec::Resources;

/// Whose sandbox or container it is.
pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
/// The pod's name.
pub(super) const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub(super) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The container's name in the pod.
pub(super) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// How many of this name came before it.
pub(super) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Where the container finds the file for its last word.
pub(super) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Where its last word comes from: `File` or `FallbackToLogsOnError`.
pub(super) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The grace of its pod, in seconds.
pub(super) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The image as the pod names it: runtimes tell what it has come to be.
pub(super) const IMAGE: &str = "barque.io/image";
/// What it was bounded by when it was made.
pub(in crate::runtime) const BOUNDS: &str = "barque.io/bounds";
/// The file of the machine that the last word is in.
pub(super) const LAST_WORD: &str = "barque.io/last-word";
/// There when the end of the log stands in for it.
pub(super) const FALL_BACK_TO_LOGS: &str = "barque.io/fall-back-to-logs";

/// Bounds as [`BOUNDS`] has them.
pub(in crate::runtime) fn bounds(bounds: &Resources) -> String {
    serde_json::to_string(bounds).expect("numbers and words are always JSON")
}

/// The bounds that annotations tell; none when they do not.
pub(super) fn told_bounds(annotations: &HashMap<String, String>) -> Resources {
    let told = annotations.get(BOUNDS).and_then(|text| serde_json::from_str(text).ok());
    told.unwrap_or_default()
}
