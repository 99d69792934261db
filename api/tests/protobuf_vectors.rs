//! Objects as Go's own code writes them: filled at random by `k8s.io/apimachinery` 0.37, encoded by its serializer for
//! protobuf (as base64) and printed by its decoder (as JSON). Bytes and objects must be the same here.

use barque_api::kind::{GroupVersion, GroupVersionKind};
use barque_api::protobuf::{Messages, decode_object, encode_object};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

fn vectors() -> impl Iterator<Item = (Vec<u8>, Value)> {
    include_str!("data/protobuf_vectors.tsv").lines().map(|line| {
        let (bytes, object) = line.split_once('\t').expect("a line has two fields");
        let bytes = STANDARD.decode(bytes).expect("the first is base64");
        (bytes, serde_json::from_str(object).expect("the second is JSON"))
    })
}

/// Where two values differ first.
fn difference(left: &Value, right: &Value, at: &str) -> Option<String> {
    match (left, right) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
            names.into_iter().find_map(|name| match (ours.get(name), theirs.get(name)) {
                (Some(ours), Some(theirs)) => difference(ours, theirs, &format!("{at}.{name}")),
                (ours, theirs) => Some(format!("{at}.{name}: {ours:?} is not {theirs:?}")),
            })
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => (0..ours.len())
            .find_map(|index| difference(&ours[index], &theirs[index], &format!("{at}[{index}]"))),
        _ => (left != right).then(|| format!("{at}: {left} is not {right}")),
    }
}

#[test]
fn bytes_of_go_become_the_object_that_go_prints() {
    let mut count = 0;
    for (bytes, object) in vectors() {
        let decoded = decode_object(&bytes, None).unwrap_or_else(|error| panic!("{object}: {error}"));
        assert_eq!(difference(&decoded, &object, &object["kind"].to_string()), None);
        count += 1;
    }
    assert!(count > 150, "only {count} vectors were found");
}

#[test]
fn objects_become_the_bytes_that_go_writes() {
    for (bytes, object) in vectors() {
        let encoded = encode_object(&object).unwrap_or_else(|error| panic!("{object}: {error}"));
        if encoded != bytes {
            let ours = decode_object(&encoded, None);
            let told = ours.map(|ours| difference(&ours, &object, ""));
            panic!("{}: the bytes differ: {told:?}\n{encoded:02x?}\n{bytes:02x?}", object["kind"]);
        }
    }
}

#[test]
fn there_is_a_vector_of_every_kind_that_can_be_stored() {
    let kinds: Vec<GroupVersionKind> = vectors()
        .map(|(_, object)| {
            let text = |name: &str| object[name].as_str().unwrap();
            GroupVersion::of_api_version(text("apiVersion")).unwrap().kind(text("kind"))
        })
        .collect();
    // What is measured is never stored, and told in JSON.
    let all = barque_api::resources::Builtin::table().all().iter();
    for resource in all.filter(|one| &*one.name.group != "metrics.k8s.io") {
        let kind = resource.group_version_kind();
        assert!(kinds.contains(&kind), "{kind}");
        assert!(Messages::builtin().of_kind(&kind).is_some(), "{kind}");
    }
}
