//! The `metadata` of an object, read and changed in place. What has the wrong type counts as not there: schemas tell about
//! it elsewhere. Must never know a kind.

mod validate;

use serde_json::{Map, Value};

use crate::resource_version::ResourceVersion;
use crate::time::Time;

pub use validate::{
    ANNOTATIONS_LIMIT, validate_annotations, validate_create, validate_field_manager, validate_finalizers,
    validate_managed_fields, validate_owner_references, validate_update,
};

/// Dependents stay when the object is deleted.
pub const ORPHAN_FINALIZER: &str = "orphan";
/// Dependents go before the object is deleted.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// The metadata of an object, to read. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a>(Option<&'a Map<String, Value>>);

/// One of the objects that an object belongs to.
#[derive(Clone, Copy, Debug)]
pub struct OwnerReference<'a>(&'a Value);

impl<'a> Metadata<'a> {
    /// Of an object.
    #[must_use]
    pub fn of(object: &'a Value) -> Self {
        Self(object.get("metadata").and_then(Value::as_object))
    }

    /// The field as it stands.
    #[must_use]
    pub fn field(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name)
    }

    fn text(self, name: &str) -> &'a str {
        self.field(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn list(self, name: &str) -> &'a [Value] {
        self.field(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// `name`; empty where there is none.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.text("name")
    }

    /// `generateName`; empty where there is none.
    #[must_use]
    pub fn generate_name(self) -> &'a str {
        self.text("generateName")
    }

    /// `namespace`; empty where there is none.
    #[must_use]
    pub fn namespace(self) -> &'a str {
        self.text("namespace")
    }

    /// `uid`; empty where there is none.
    #[must_use]
    pub fn uid(self) -> &'a str {
        self.text("uid")
    }

    /// `resourceVersion` as text; empty where there is none.
    #[must_use]
    pub fn resource_version(self) -> &'a str {
        self.text("resourceVersion")
    }

    /// `generation`; 0 where there is none.
    #[must_use]
    pub fn generation(self) -> i64 {
        self.field("generation").and_then(Value::as_i64).unwrap_or(0)
    }

    /// `labels`
    #[must_use]
    pub fn labels(self) -> Option<&'a Map<String, Value>> {
        self.field("labels")?.as_object()
    }

    /// The value of a label.
    #[must_use]
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.labels()?.get(key)?.as_str()
    }

    /// `annotations`
    #[must_use]
    pub fn annotations(self) -> Option<&'a Map<String, Value>> {
        self.field("annotations")?.as_object()
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.annotations()?.get(key)?.as_str()
    }

    /// `ownerReferences`
    pub fn owner_references(self) -> impl ExactSizeIterator<Item = OwnerReference<'a>> {
        self.list("ownerReferences").iter().map(OwnerReference)
    }

    /// The owner that manages the object.
    #[must_use]
    pub fn controller(self) -> Option<OwnerReference<'a>> {
        self.owner_references().find(|owner| owner.is_controller())
    }

    /// `finalizers`
    pub fn finalizers(self) -> impl Iterator<Item = &'a str> {
        self.list("finalizers").iter().filter_map(Value::as_str)
    }

    /// Whether it has this finalizer.
    #[must_use]
    pub fn has_finalizer(self, name: &str) -> bool {
        self.finalizers().any(|one| one == name)
    }

    /// `managedFields`
    #[must_use]
    pub fn managed_fields(self) -> &'a [Value] {
        self.list("managedFields")
    }

    /// `creationTimestamp`
    #[must_use]
    pub fn creation_time(self) -> Option<Time> {
        Time::parse(self.text("creationTimestamp")).ok()
    }

    /// `deletionTimestamp`
    #[must_use]
    pub fn deletion_time(self) -> Option<Time> {
        Time::parse(self.text("deletionTimestamp")).ok()
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_deleting(self) -> bool {
        self.field("deletionTimestamp").is_some_and(|time| !time.is_null())
    }

    /// `deletionGracePeriodSeconds`
    #[must_use]
    pub fn deletion_grace_seconds(self) -> Option<i64> {
        self.field("deletionGracePeriodSeconds")?.as_i64()
    }
}

impl<'a> OwnerReference<'a> {
    fn text(self, name: &str) -> &'a str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// `apiVersion`
    #[must_use]
    pub fn api_version(self) -> &'a str {
        self.text("apiVersion")
    }

    /// `kind`
    #[must_use]
    pub fn kind(self) -> &'a str {
        self.text("kind")
    }

    /// `name`
    #[must_use]
    pub fn name(self) -> &'a str {
        self.text("name")
    }

    /// `uid`
    #[must_use]
    pub fn uid(self) -> &'a str {
        self.text("uid")
    }

    /// Whether it manages the object.
    #[must_use]
    pub fn is_controller(self) -> bool {
        self.flag("controller")
    }

    /// Whether it stays until the object is gone, when it is deleted in the foreground.
    #[must_use]
    pub fn blocks_deletion(self) -> bool {
        self.flag("blockOwnerDeletion")
    }

    /// As it stands.
    #[must_use]
    pub const fn value(self) -> &'a Value {
        self.0
    }
}

/// The metadata of an object, to change.
#[derive(Debug)]
pub struct MetadataMut<'a>(&'a mut Map<String, Value>);

impl<'a> MetadataMut<'a> {
    /// Of an object; metadata that is not there is made. Nothing when the value is no object, or its metadata is none.
    #[must_use]
    pub fn of(object: &'a mut Value) -> Option<Self> {
        let metadata = object.as_object_mut()?.entry("metadata");
        let metadata = metadata.or_insert_with(|| Value::Object(Map::new()));
        if metadata.is_null() {
            *metadata = Value::Object(Map::new());
        }
        metadata.as_object_mut().map(Self)
    }

    /// The same, to read.
    #[must_use]
    pub const fn read(&self) -> Metadata<'_> {
        Metadata(Some(self.0))
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Takes a field away, and gives what stood there.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Sets a field to a text; an empty one takes it away.
    fn set_text(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            self.0.remove(name);
        } else {
            self.set(name, text);
        }
    }

    /// Sets a field to a list; an empty one takes it away.
    fn set_list(&mut self, name: &str, list: Vec<Value>) {
        if list.is_empty() {
            self.0.remove(name);
        } else {
            self.set(name, list);
        }
    }

    /// Sets `name`.
    pub fn set_name(&mut self, name: &str) {
        self.set_text("name", name);
    }

    /// Sets `namespace`.
    pub fn set_namespace(&mut self, namespace: &str) {
        self.set_text("namespace", namespace);
    }

    /// Sets `uid`.
    pub fn set_uid(&mut self, uid: &str) {
        self.set_text("uid", uid);
    }

    /// Sets `resourceVersion`; none takes it away.
    pub fn set_resource_version(&mut self, version: ResourceVersion) {
        self.set_text("resourceVersion", &version.to_string());
    }

    /// Sets `generation`.
    pub fn set_generation(&mut self, generation: i64) {
        self.set("generation", generation);
    }

    /// Sets `creationTimestamp`.
    pub fn set_creation_time(&mut self, time: Time) {
        self.set("creationTimestamp", time.to_string());
    }

    /// Sets when the object is to be gone, and how long it has for it.
    pub fn set_deletion(&mut self, time: Time, grace_seconds: i64) {
        self.set("deletionTimestamp", time.to_string());
        self.set("deletionGracePeriodSeconds", grace_seconds);
    }

    /// Takes away that the object is being deleted.
    pub fn clear_deletion(&mut self) {
        self.0.remove("deletionTimestamp");
        self.0.remove("deletionGracePeriodSeconds");
    }

    /// Sets a label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        self.set_entry("labels", key, value);
    }

    /// Sets an annotation.
    pub fn set_annotation(&mut self, key: &str, value: &str) {
        self.set_entry("annotations", key, value);
    }

    fn set_entry(&mut self, name: &str, key: &str, value: &str) {
        let map = self.0.entry(name).or_insert(Value::Null);
        if !map.is_object() {
            *map = Value::Object(Map::new());
        }
        if let Value::Object(map) = map {
            map.insert(key.to_owned(), value.into());
        }
    }

    /// Adds a finalizer, if it is not there.
    pub fn add_finalizer(&mut self, name: &str) {
        if !self.read().has_finalizer(name) {
            let all = self.read().finalizers().chain([name]).map(Value::from).collect();
            self.set_list("finalizers", all);
        }
    }

    /// Takes a finalizer away.
    pub fn remove_finalizer(&mut self, name: &str) {
        if self.read().has_finalizer(name) {
            let left = self.read().finalizers().filter(|one| *one != name).map(Value::from).collect();
            self.set_list("finalizers", left);
        }
    }

    /// Sets `managedFields`; an empty list takes them away.
    pub fn set_managed_fields(&mut self, entries: Vec<Value>) {
        self.set_list("managedFields", entries);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_there_is_read() {
        let object = json!({"metadata": {
            "name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "generation": 3,
            "labels": {"app": "web"}, "annotations": {"note": "x"}, "finalizers": ["orphan"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "2", "controller": true},
            ],
            "creationTimestamp": "1970-01-01T00:00:01Z", "deletionTimestamp": "1970-01-01T00:00:02Z",
            "deletionGracePeriodSeconds": 30,
        }});
        let metadata = Metadata::of(&object);
        assert_eq!((metadata.name(), metadata.namespace(), metadata.uid()), ("a", "b", "c"));
        assert_eq!((metadata.resource_version(), metadata.generation()), ("7", 3));
        assert_eq!((metadata.label("app"), metadata.annotation("note")), (Some("web"), Some("x")));
        assert!(metadata.has_finalizer(ORPHAN_FINALIZER) && !metadata.has_finalizer(FOREGROUND_FINALIZER));
        assert_eq!(metadata.controller().map(OwnerReference::uid), Some("2"));
        assert_eq!(metadata.creation_time().map(Time::unix), Some(1));
        assert_eq!(metadata.deletion_time().map(Time::unix), Some(2));
        assert_eq!(metadata.deletion_grace_seconds(), Some(30));
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        for object in
            [json!({}), json!({"metadata": null}), json!({"metadata": {"name": 1, "labels": []}}), json!(1)]
        {
            let metadata = Metadata::of(&object);
            assert_eq!((metadata.name(), metadata.labels(), metadata.generation()), ("", None, 0));
            assert!(!metadata.is_deleting() && metadata.owner_references().len() == 0);
        }
    }

    #[test]
    fn changes_leave_no_empty_fields() {
        let mut object = json!({});
        let mut metadata = MetadataMut::of(&mut object).unwrap();
        metadata.set_name("a");
        metadata.set_resource_version(ResourceVersion::of_revision(5));
        metadata.set_label("app", "web");
        metadata.add_finalizer("x/y");
        metadata.add_finalizer("x/y");
        metadata.set_deletion(Time::of_unix(0), 0);
        assert_eq!(
            object,
            json!({"metadata": {
                "name": "a", "resourceVersion": "5", "labels": {"app": "web"}, "finalizers": ["x/y"],
                "deletionTimestamp": "1970-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0,
            }})
        );
        let mut metadata = MetadataMut::of(&mut object).unwrap();
        metadata.set_resource_version(ResourceVersion::NONE);
        metadata.remove_finalizer("x/y");
        metadata.clear_deletion();
        assert_eq!(object, json!({"metadata": {"name": "a", "labels": {"app": "web"}}}));
        assert!(MetadataMut::of(&mut json!([])).is_none());
    }
}
