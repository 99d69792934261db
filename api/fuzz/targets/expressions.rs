//! Any text as an expression over an object: compiled, and evaluated within its budget.
#![no_main]

use barque_api::cel::{Activation, Budget, Environment, PER_EXPRESSION, Program, Val};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|source: &str| {
    let environment = Environment::default().with("self", None);
    let Ok(program) = Program::compile(&environment, source, None) else { return };
    let object = json!({"a": [1, 2, 3], "b": "text", "c": {"d": true}, "n": 7});
    let activation = Activation::default().with("self", Val::of_json(&object, None));
    let _ = program.evaluate(&activation, &mut Budget::new(PER_EXPRESSION));
});
