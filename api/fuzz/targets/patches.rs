//! An object and a patch, as JSON one after the other: every kind of patch on every object ends.
#![no_main]

use barque_api::kind::GroupVersionKind;
use barque_api::patch::{json, merge, strategic};
use barque_api::schema::BuiltinSchemas;
use libfuzzer_sys::fuzz_target;
use serde_json::{Deserializer, Value};

fuzz_target!(|bytes: &[u8]| {
    let mut values = Deserializer::from_slice(bytes).into_iter::<Value>();
    let (Some(Ok(object)), Some(Ok(patch))) = (values.next(), values.next()) else { return };
    let schemas = BuiltinSchemas::get();
    let name = schemas.name_of(&GroupVersionKind::new("", "v1", "Pod")).expect("pods have a schema");
    let view = schemas.definitions().view(name);
    let _ = json::apply(object.clone(), &patch, 1 << 16);
    let _ = merge::apply(object.clone(), patch.clone());
    let _ = strategic::apply(object, patch, view);
});
