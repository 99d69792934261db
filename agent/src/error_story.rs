//! An error with its causes, as people read it in statuses, events and logs. Must never drop a cause.

/// The whole story, from the outermost error to its first cause.
pub(crate) fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
