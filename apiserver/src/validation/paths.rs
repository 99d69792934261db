//! Paths of files as they may stand in objects. Must never look at a file.

use barque_api::field::FieldPath;

use super::findings::Findings;

/// A relative path that never goes up.
pub(super) fn check_descending(target: &str, path: &FieldPath, findings: &mut Findings) {
    if target.starts_with('/') {
        findings.invalid(path, target, "must be a relative path");
    }
    check_no_backsteps(target, path, findings);
}

/// A path without `..` as one of its parts.
pub(super) fn check_no_backsteps(target: &str, path: &FieldPath, findings: &mut Findings) {
    if has_backsteps(target) {
        findings.invalid(path, target, "must not contain '..'");
    }
}

/// A relative path that never goes up and does not begin with two dots, which volumes keep for themselves.
pub(super) fn check_not_reserved(target: &str, path: &FieldPath, findings: &mut Findings) {
    check_descending(target, path, findings);
    // A first part `..` was already told.
    if target.starts_with("..") && !target.starts_with("../") {
        findings.invalid(path, target, "must not start with '..'");
    }
}

/// Whether a part of the path is `..`.
pub(super) fn has_backsteps(target: &str) -> bool {
    target.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_what_is_wrong_with_them() {
        let relative = "must be a relative path";
        let contains = "must not contain '..'";
        let starts = "must not start with '..'";
        let table: &[(&str, &[&str])] = &[
            ("a/b", &[]),
            ("a..b", &[]),
            ("", &[]),
            ("/a", &[relative]),
            ("a/../b", &[contains]),
            ("/../b", &[relative, contains]),
            ("../b", &[contains]),
            ("..", &[contains, starts]),
            ("..data", &[starts]),
        ];
        for (target, expected) in table {
            let mut findings = Findings::default();
            check_not_reserved(target, &FieldPath::of("path"), &mut findings);
            let details: Vec<_> = findings.into_errors().into_iter().map(|error| error.detail).collect();
            assert_eq!(details, *expected, "{target}");
        }
    }
}
