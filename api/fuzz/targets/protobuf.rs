//! Any bytes as a built-in object: what can be read is written again and read as the same.
#![no_main]

use barque_api::kind::GroupVersionKind;
use barque_api::protobuf::{Envelope, decode_object, encode_object};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As they are, and as what is in the envelope of a pod.
    let pod = GroupVersionKind::new("", "v1", "Pod");
    let _ = decode_object(bytes, Some(&pod));
    let sealed = Envelope { api_version: "v1", kind: "Pod", object: bytes }.seal();
    let Ok(object) = decode_object(&sealed, None) else { return };
    let Ok(again) = encode_object(&object) else { return };
    let read = decode_object(&again, None).expect("what was written can be read");
    let twice = encode_object(&read).expect("what was read can be written");
    assert_eq!(again, twice);
});
