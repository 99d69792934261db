//! Who owns what of an object, as it stands in `metadata.managedFields`. Must never change who owns what.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::fields_v1::{self, FieldsV1Error};
use super::set::FieldSet;
use crate::time::Time;

/// How an owner came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It applied them.
    Apply,
    /// It wrote them in any other way.
    Update,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What tells owners apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// Its name, such as `kubectl`.
    pub manager: String,
    /// How it came by its fields.
    pub operation: Operation,
    /// The version it writes in; empty for those who apply, who are the same in any version.
    pub api_version: String,
    /// The subresource it writes through; may be empty.
    pub subresource: String,
}

impl ManagerId {
    /// An owner.
    #[must_use]
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let api_version = match operation {
            Operation::Apply => String::new(),
            Operation::Update => api_version.to_owned(),
        };
        Self { manager: manager.to_owned(), operation, api_version, subresource: subresource.to_owned() }
    }
}

/// As messages name it: `"kubectl" with subresource "scale" using apps/v1`.
impl fmt::Display for ManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// What one owner owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The paths, in the version's words.
    pub set: FieldSet,
    /// The version it wrote in last.
    pub api_version: String,
    /// When it changed anything last.
    pub time: Option<Time>,
}

/// The owners of an object.
pub type Managers = BTreeMap<ManagerId, Owned>;

/// A `metadata.managedFields` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedFieldsError {
    /// It is not a list of objects with texts.
    #[error("metadata.managedFields must be a list of entries; entry {0} is none")]
    NotAnEntry(usize),
    /// An owner that neither applied nor updated.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// An owner that wrote in no version.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// Fields in no form.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// Fields in a form that nobody knows.
    #[error("invalid fieldsType {0:?} in managed fields entry {1}")]
    FieldsType(String, usize),
    /// A time that is none.
    #[error("time {0:?} in managed fields entry {1} is not of the form 2006-01-02T15:04:05Z")]
    Time(String, usize),
    /// Fields that cannot be read.
    #[error("error decoding set: {0}")]
    Fields(#[from] FieldsV1Error),
}

/// The owners that an object names.
///
/// # Errors
/// When they cannot be read.
pub fn decode(object: &Value) -> Result<Managers, ManagedFieldsError> {
    let entries = match object.pointer("/metadata/managedFields") {
        None | Some(Value::Null) => return Ok(Managers::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(ManagedFieldsError::NotAnEntry(0)),
    };
    entries.iter().enumerate().map(|(place, entry)| decode_entry(place, entry)).collect()
}

fn decode_entry(place: usize, entry: &Value) -> Result<(ManagerId, Owned), ManagedFieldsError> {
    let entry = entry.as_object().ok_or(ManagedFieldsError::NotAnEntry(place))?;
    let text = |field: &str| match entry.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(ManagedFieldsError::NotAnEntry(place)),
    };
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(ManagedFieldsError::Operation),
    };
    let api_version = text("apiVersion")?;
    if api_version.is_empty() {
        return Err(ManagedFieldsError::ApiVersion);
    }
    match text("fieldsType")? {
        "FieldsV1" => {}
        "" => return Err(ManagedFieldsError::NoFieldsType(place)),
        other => return Err(ManagedFieldsError::FieldsType(other.to_owned(), place)),
    }
    let time = match text("time")? {
        "" => None,
        time => Some(Time::parse(time).map_err(|_| ManagedFieldsError::Time(time.to_owned(), place))?),
    };
    let set = entry.get("fieldsV1").map(fields_v1::decode).transpose()?.unwrap_or_default();
    let id = ManagerId::new(text("manager")?, operation, api_version, text("subresource")?);
    Ok((id, Owned { set, api_version: api_version.to_owned(), time }))
}

/// Writes the owners into an object: those who applied first, then by time and name.
pub(super) fn store(managers: &Managers, object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        if let (false, Some(object)) = (managers.is_empty(), object.as_object_mut()) {
            object.insert("metadata".to_owned(), json!({"managedFields": encode(managers)}));
        }
        return;
    };
    if managers.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), encode(managers));
    }
}

/// Takes the owners out of an object.
pub(super) fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn encode(managers: &Managers) -> Value {
    let mut sorted: Vec<_> = managers.iter().collect();
    sorted.sort_by(|(one, one_owns), (other, other_owns)| {
        one.operation
            .cmp(&other.operation)
            .then_with(|| one_owns.time.cmp(&other_owns.time))
            .then_with(|| one.manager.cmp(&other.manager))
            .then_with(|| one_owns.api_version.cmp(&other_owns.api_version))
            .then_with(|| one.subresource.cmp(&other.subresource))
    });
    sorted.into_iter().map(|(id, owned)| encode_entry(id, owned)).collect()
}

fn encode_entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = Map::new();
    for (field, text) in [("manager", &id.manager), ("subresource", &id.subresource)] {
        if !text.is_empty() {
            entry.insert(field.to_owned(), text.as_str().into());
        }
    }
    entry.insert("operation".to_owned(), id.operation.to_string().into());
    entry.insert("apiVersion".to_owned(), owned.api_version.as_str().into());
    if let Some(time) = owned.time {
        entry.insert("time".to_owned(), time.to_string().into());
    }
    entry.insert("fieldsType".to_owned(), "FieldsV1".into());
    entry.insert("fieldsV1".to_owned(), fields_v1::encode(&owned.set));
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: &str) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
        })
    }

    #[test]
    fn owners_stand_in_the_order_of_real_servers() {
        let mut status = entry("c", "Update", "2026-01-02T03:04:05Z");
        status["subresource"] = "status".into();
        let sorted = json!([
            entry("z", "Apply", "2026-01-02T03:04:05Z"),
            entry("a", "Apply", "2026-01-02T03:04:06Z"),
            entry("b", "Update", "2026-01-02T03:04:05Z"),
            entry("c", "Update", "2026-01-02T03:04:05Z"),
            status,
            entry("a", "Update", "2027-01-02T03:04:05Z"),
        ]);
        let mut mixed = sorted.as_array().unwrap().clone();
        mixed.reverse();
        let mut object = json!({"metadata": {"managedFields": mixed}});
        let managers = decode(&object).unwrap();
        store(&managers, &mut object);
        assert_eq!(object["metadata"]["managedFields"], sorted);
        store(&Managers::new(), &mut object);
        assert_eq!(object, json!({"metadata": {}}));
    }

    #[test]
    fn times_are_told_in_utc_and_whole_seconds() {
        let mut object =
            json!({"metadata": {"managedFields": [entry("a", "Apply", "2026-01-02T03:04:05.678+02:00")]}});
        let managers = decode(&object).unwrap();
        store(&managers, &mut object);
        assert_eq!(object["metadata"]["managedFields"][0]["time"], "2026-01-02T01:04:05Z");
    }

    #[test]
    fn entries_that_are_none() {
        let with = |field: &str, value: Value| {
            let mut entry = entry("a", "Apply", "2026-01-02T03:04:05Z");
            entry[field] = value;
            entry
        };
        let table = [
            (json!(7), "metadata.managedFields must be a list of entries; entry 0 is none"),
            (with("manager", json!(7)), "metadata.managedFields must be a list of entries; entry 0 is none"),
            (with("operation", json!("Patch")), "operation must be `Apply` or `Update`"),
            (with("operation", json!(null)), "operation must be `Apply` or `Update`"),
            (with("apiVersion", json!("")), "apiVersion must not be empty"),
            (with("fieldsType", json!("")), "missing fieldsType in managed fields entry 0"),
            (with("fieldsType", json!("V2")), "invalid fieldsType \"V2\" in managed fields entry 0"),
            (
                with("time", json!("yesterday")),
                "time \"yesterday\" in managed fields entry 0 is not of the form 2006-01-02T15:04:05Z",
            ),
            (with("fieldsV1", json!({"spec": {}})), "error decoding set: missing colon: spec"),
        ];
        for (entry, sentence) in table {
            let object = json!({"metadata": {"managedFields": [entry]}});
            assert_eq!(decode(&object).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn owners_are_named_as_messages_name_them() {
        let table = [
            (ManagerId::new("kubectl", Operation::Apply, "apps/v1", ""), "\"kubectl\""),
            (ManagerId::new("kubectl", Operation::Update, "apps/v1", ""), "\"kubectl\" using apps/v1"),
            (
                ManagerId::new("hpa", Operation::Update, "apps/v1", "scale"),
                "\"hpa\" with subresource \"scale\" using apps/v1",
            ),
        ];
        for (id, name) in table {
            assert_eq!(id.to_string(), name);
        }
    }
}
