//! In which order groups and their versions are offered: clients take the first that fits a name. Must never hide a group.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::kind::GroupVersion;

/// How early a group and its version are offered; greater is earlier (`APIServiceSpec.groupPriorityMinimum` and
/// `versionPriority`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// Of the group among all groups.
    pub group: i32,
    /// Of the version in its group.
    pub version: i32,
}

/// What groups of custom resources have.
pub const CUSTOM: Priority = Priority { group: 1000, version: 100 };

static BUILTIN: LazyLock<HashMap<GroupVersion, Priority>> = LazyLock::new(|| {
    let lines = include_str!("../../data/groups.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(read_line).collect()
});

fn read_line(line: &str) -> Option<(GroupVersion, Priority)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[group, version, group_priority, version_priority] = fields.as_slice() else { return None };
    let group = if group == "core" { "" } else { group };
    let priority = Priority { group: group_priority.parse().ok()?, version: version_priority.parse().ok()? };
    Some((GroupVersion::new(group, version), priority))
}

/// The priority of a built-in group and version.
#[must_use]
pub fn of_builtin(group_version: &GroupVersion) -> Option<Priority> {
    BUILTIN.get(group_version).copied()
}

/// Where a version of a custom group stands among its versions: `v2` before `v1` before `v1beta1` before `v1alpha1`, then
/// all other names by the alphabet.
#[must_use]
pub fn version_order(version: &str) -> impl Ord + use<> {
    match stages(version) {
        Some((major, stage, minor)) => (0, Reverse(stage), Reverse(major), Reverse(minor), String::new()),
        None => (1, Reverse(0), Reverse(0), Reverse(0), version.to_owned()),
    }
}

/// `v1beta2` as (1, beta, 2); the stage of a stable version is the greatest.
fn stages(version: &str) -> Option<(u32, u8, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let (stage, minor) = match &rest[digits..] {
        "" => return Some((major, 2, 0)),
        rest => rest
            .strip_prefix("beta")
            .map(|minor| (1, minor))
            .or(rest.strip_prefix("alpha").map(|minor| (0, minor)))?,
    };
    let plain = minor.bytes().all(|byte| byte.is_ascii_digit());
    Some((major, stage, if plain { minor.parse().ok()? } else { return None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Builtin;

    #[test]
    fn each_built_in_group_has_its_priority() {
        for resource in Builtin::table().all() {
            let group_version = resource.name.group_version();
            assert!(of_builtin(&group_version).is_some(), "{group_version}");
        }
        let lines = include_str!("../../data/groups.tsv").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), BUILTIN.len());
    }

    #[test]
    fn stable_versions_come_before_others() {
        let mut versions =
            ["foo1", "v1alpha1", "v10beta3", "v2", "v11alpha2", "v1", "v3beta1", "v12", "foo10", "v1beta+1"];
        versions.sort_by_key(|version| version_order(version));
        let expected =
            ["v12", "v2", "v1", "v10beta3", "v3beta1", "v11alpha2", "v1alpha1", "foo1", "foo10", "v1beta+1"];
        assert_eq!(versions, expected);
    }
}
