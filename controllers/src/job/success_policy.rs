//! Whether fewer than all indexes are enough for a Job. A decision.

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::indexes::Indexes;

/// Which rule says that it is enough, in upstream's words; nothing when none does.
pub(super) fn met(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let at = policy?.rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            let there = wanted.len_of_common(succeeded);
            !wanted.is_empty()
                && (there == wanted.len() || rule.succeeded_count.is_some_and(|count| there >= count))
        }
        None => rule.succeeded_count.is_some_and(|count| succeeded.len() >= count),
    })?;
    Some(format!("Matched rules at index {at}"))
}
