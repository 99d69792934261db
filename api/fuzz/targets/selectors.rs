//! Any text as a selector, a quantity, a time or a name: read, and what was read is written and read as the same.
#![no_main]

use barque_api::field::FieldPath;
use barque_api::field_selector::FieldSelector;
use barque_api::labels::Selector;
use barque_api::time::{GoDuration, Time};
use barque_api::{ip, names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text, &FieldPath::root()) {
        let again = Selector::parse(&selector.to_string(), &FieldPath::root());
        assert_eq!(again.expect("what was written can be read").to_string(), selector.to_string());
    }
    let _ = text.parse::<FieldSelector>();
    let _ = (Time::parse(text), GoDuration::parse(text));
    let _ = (ip::parse_ip(text), ip::parse_cidr(text));
    let _ = (names::dns_subdomain(text), names::label_key(text), names::path_segment_name(text));
});
