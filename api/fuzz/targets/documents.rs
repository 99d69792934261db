//! Any bytes as a document of a client: read, held to a schema, pruned and defaulted.
#![no_main]

use barque_api::custom_schema::CustomSchema;
use barque_api::field::FieldPath;
use barque_api::kind::GroupVersionKind;
use barque_api::schema::{self, BuiltinSchemas, Extent, Place, read_document};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = read_document(bytes) else { return };
    let mut object = document.value;
    let schemas = BuiltinSchemas::get();
    let name = schemas.name_of(&GroupVersionKind::new("apps", "v1", "Deployment")).expect("it has a schema");
    let view = schemas.definitions().view(name).expect("its schema is there");
    let _ = schema::validate(view, &object, &FieldPath::root(), Extent::Types);
    // The same document as the schema of a custom kind.
    if let Ok(custom) = CustomSchema::new(&object, &FieldPath::root(), true) {
        let mut value = object.clone();
        custom.prune(&mut value);
        custom.default(&mut value);
        let _ = custom.validate(&value);
    }
    schema::drop_nulls(view, &mut object);
    schema::prune(view, &mut object, Place::Object);
});
