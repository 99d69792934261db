//! In which versions the objects of a collection are served: owners may have written in another one than is asked for now.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::typed::Shape;
use crate::schema::View;

/// What is known of the versions of a kind; `api_version` is the field `apiVersion`.
pub trait Versions {
    /// Whether objects are served in that version. Owners of versions that are not are forgotten.
    fn serves(&self, api_version: &str) -> bool;

    /// What objects of that version look like; nothing where fields are not known.
    fn schema(&self, api_version: &str) -> Option<View<'_>>;

    /// The object in that version, which is served.
    ///
    /// # Errors
    /// When it cannot be converted, with a sentence that says why.
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String>;
}

/// Versions whose objects differ in nothing but their `apiVersion`.
#[derive(Clone, Debug, Default)]
pub struct AlikeVersions<'a>(BTreeMap<String, Option<View<'a>>>);

impl<'a> AlikeVersions<'a> {
    /// With one more version.
    #[must_use]
    pub fn with(mut self, api_version: &str, schema: Option<View<'a>>) -> Self {
        self.0.insert(api_version.to_owned(), schema);
        self
    }
}

impl Versions for AlikeVersions<'_> {
    fn serves(&self, api_version: &str) -> bool {
        self.0.contains_key(api_version)
    }

    fn schema(&self, api_version: &str) -> Option<View<'_>> {
        self.0.get(api_version).copied().flatten()
    }

    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String> {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".to_owned(), api_version.into());
        }
        Ok(object)
    }
}

/// The object in a version; nothing where that is not served.
pub(super) fn in_version<'o>(
    versions: &dyn Versions,
    object: &'o Value,
    api_version: &str,
) -> Result<Option<Cow<'o, Value>>, String> {
    if object.get("apiVersion").and_then(Value::as_str) == Some(api_version) {
        return Ok(Some(Cow::Borrowed(object)));
    }
    if !versions.serves(api_version) {
        return Ok(None);
    }
    versions.convert(object, api_version).map(|object| Some(Cow::Owned(object)))
}

/// What objects of a version look like.
pub(super) fn shape<'v>(versions: &'v dyn Versions, api_version: &str) -> Shape<'v> {
    Shape::of_object(versions.schema(api_version))
}
