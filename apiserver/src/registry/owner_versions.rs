//! Who owns which fields, where owners wrote in versions that a webhook converts: the rules about owners are pure and ask nobody,
//! so they are run, what they missed is converted, and they are run again until they miss nothing. Must never answer by objects
//! that nobody converted.

use std::cell::RefCell;

use barque_api::kind::GroupVersionKind;
use barque_api::managed_fields::Versions;
use barque_api::schema::View;
use barque_api::status::Status;
use serde_json::Value;

use super::served::Served;

/// More conversions than any write needs: a few for each version that an owner wrote in.
const CONVERSIONS_MAX: usize = 256;

/// An object, the version that it is wanted in, and what came of it.
struct Known {
    object: Value,
    api_version: String,
    converted: Result<Value, String>,
}

/// The versions of a collection with what was converted already.
struct KnownVersions<'a> {
    served: &'a Served,
    known: &'a [Known],
    /// The first that was not.
    missed: RefCell<Option<(Value, String)>>,
}

impl Versions for KnownVersions<'_> {
    fn serves(&self, api_version: &str) -> bool {
        self.served.serves(api_version)
    }

    fn schema(&self, api_version: &str) -> Option<View<'_>> {
        self.served.schema(api_version)
    }

    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String> {
        let is_it = |known: &&Known| known.api_version == api_version && known.object == *object;
        if let Some(known) = self.known.iter().find(is_it) {
            return known.converted.clone();
        }
        let mut missed = self.missed.borrow_mut();
        missed.get_or_insert_with(|| (object.clone(), api_version.to_owned()));
        Err("it is not converted yet".to_owned())
    }
}

/// The outcome of `rules`, which may be run more than once; those before the last knew too little and count for nothing.
///
/// # Errors
/// When there is no end of what they want to have converted.
pub async fn settled<T>(served: &Served, mut rules: impl FnMut(&dyn Versions) -> T) -> Result<T, Status> {
    let Some(converter) = served.converter() else { return Ok(rules(served)) };
    let mut known: Vec<Known> = Vec::new();
    while known.len() < CONVERSIONS_MAX {
        let (object, api_version) = {
            let versions = KnownVersions { served, known: &known, missed: RefCell::default() };
            let outcome = rules(&versions);
            match versions.missed.into_inner() {
                None => return Ok(outcome),
                Some(missed) => missed,
            }
        };
        let converted = match served.versions.iter().find(|kind| is_of(kind, &api_version)) {
            None => Err(format!("{api_version} is not served")),
            Some(kind) => converter.convert(vec![object.clone()], kind).await.and_then(|mut converted| {
                let mut object = converted.pop().ok_or("a conversion lost its object")?;
                served.prune_as(&mut object, kind);
                Ok(object)
            }),
        };
        known.push(Known { object, api_version, converted });
    }
    Err(Status::internal("there is no end of versions in which owners of fields wrote"))
}

fn is_of(kind: &GroupVersionKind, api_version: &str) -> bool {
    kind.group_version().to_string() == api_version
}
