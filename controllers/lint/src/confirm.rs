//! Looks twice, some time apart: what is wrong in both pictures is wrong, what is in one of them only was about to change.

use std::time::Duration;

use kube::Client;

use crate::finding::Finding;
use crate::read::{ReadError, read};
use crate::report::Report;
use crate::rules::lint;

/// Reads the cluster, and once more after `settle` when something is wrong with it; keeps what is found both times.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn confirm(client: &Client, settle: Duration) -> Result<Report, ReadError> {
    let first = read(client).await?;
    let findings = lint(&first);
    if findings.is_empty() {
        return Ok(Report::of(&first, findings));
    }
    drop(first);
    tokio::time::sleep(settle).await;
    let second = read(client).await?;
    Ok(Report::of(&second, both(&findings, lint(&second))))
}

/// What is in both, in order.
fn both(first: &[Finding], second: Vec<Finding>) -> Vec<Finding> {
    second.into_iter().filter(|finding| first.binary_search(finding).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Object, Rule};

    #[test]
    fn what_is_in_one_picture_only_is_not_told() {
        let finding = |rule, name: &str, words: &str| Finding {
            rule,
            object: Object { kind: "Pod".to_owned(), namespace: "n".to_owned(), name: name.to_owned() },
            words: words.to_owned(),
        };
        let stays = finding(Rule::OwnerGone, "a", "x");
        let first = [
            finding(Rule::PodAddressShared, "a", "x"),
            stays.clone(),
            finding(Rule::NamespaceGone, "a", "x"),
        ];
        let second = vec![
            stays.clone(),
            finding(Rule::OwnerGone, "a", "y"),
            finding(Rule::OwnerGone, "b", "x"),
            finding(Rule::TwoControllers, "a", "x"),
        ];
        assert_eq!(both(&first, second), [stays]);
        assert_eq!(both(&first, Vec::new()), []);
    }
}
