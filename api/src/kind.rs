//! Names of types and of collections: group, version, kind, resource. Must never know which of them exist.

use std::fmt;
use std::sync::Arc;

/// A group of resources and the version of their shape; the core group is the empty text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersion {
    /// `apps`, or nothing for the core group.
    pub group: Arc<str>,
    /// `v1`.
    pub version: Arc<str>,
}

/// The type of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionKind {
    /// `apps`, or nothing for the core group.
    pub group: Arc<str>,
    /// `v1`.
    pub version: Arc<str>,
    /// `Deployment`.
    pub kind: Arc<str>,
}

/// A collection as it stands in paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionResource {
    /// `apps`, or nothing for the core group.
    pub group: Arc<str>,
    /// `v1`.
    pub version: Arc<str>,
    /// `deployments`, in the plural.
    pub resource: Arc<str>,
}

/// A collection without a version: what objects are stored, authorized and counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// `apps`, or nothing for the core group.
    pub group: Arc<str>,
    /// `deployments`, in the plural.
    pub resource: Arc<str>,
}

/// An `apiVersion` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("apiVersion {0:?} is neither a version (v1) nor a group with a version (apps/v1)")]
pub struct ApiVersionError(String);

impl GroupVersion {
    /// From its parts.
    #[must_use]
    pub fn new(group: &str, version: &str) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// From the field `apiVersion` of an object.
    ///
    /// # Errors
    /// When it has an empty part or more than one slash.
    pub fn of_api_version(text: &str) -> Result<Self, ApiVersionError> {
        let error = || ApiVersionError(text.to_owned());
        let (group, version) = match text.split_once('/') {
            Some((group, version)) if !group.is_empty() => (group, version),
            Some(_) => return Err(error()),
            None => ("", text),
        };
        if version.is_empty() || version.contains('/') {
            return Err(error());
        }
        Ok(Self::new(group, version))
    }

    /// The type with this name in it.
    #[must_use]
    pub fn kind(&self, kind: &str) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }

    /// The collection with this name in it.
    #[must_use]
    pub fn resource(&self, resource: &str) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: resource.into(),
        }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.pad(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

impl GroupVersionKind {
    /// From its parts.
    #[must_use]
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        GroupVersion::new(group, version).kind(kind)
    }

    /// Its group and version; as text, the field `apiVersion`.
    #[must_use]
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.group_version(), self.kind)
    }
}

impl GroupVersionResource {
    /// From its parts.
    #[must_use]
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        GroupVersion::new(group, version).resource(resource)
    }

    /// Its group and version.
    #[must_use]
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    /// Without the version.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Resource={}", self.group_version(), self.resource)
    }
}

impl GroupResource {
    /// From its parts.
    #[must_use]
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

/// As messages and RBAC name it: `deployments.apps`, `pods`.
impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.pad(&self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_are_read_and_written() {
        for (text, group, version) in
            [("v1", "", "v1"), ("apps/v1", "apps", "v1"), ("a.b/v1beta1", "a.b", "v1beta1")]
        {
            let read = GroupVersion::of_api_version(text).unwrap();
            assert_eq!(read, GroupVersion::new(group, version));
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "/", "apps/", "/v1", "a/b/c"] {
            assert!(GroupVersion::of_api_version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn collections_are_named_as_messages_name_them() {
        assert_eq!(GroupResource::new("", "pods").to_string(), "pods");
        assert_eq!(GroupResource::new("apps", "deployments").to_string(), "deployments.apps");
        assert_eq!(GroupVersionKind::new("apps", "v1", "Deployment").to_string(), "apps/v1, Kind=Deployment");
    }
}
