//! What the leader does about a file of the cluster, and which objects go. A decision: must never ask a server.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::manifest::{Manifest, Reference, parse, sort};
use crate::published::{BROUGHT_BY, Published};

/// Namespaces that the API never lets go.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// All of it was applied.
    Nothing,
    /// These are applied, in this order.
    Apply { checksum: String, manifests: Vec<Manifest> },
    /// Its objects go, and then it.
    Remove,
    /// It cannot be applied; what it brought before stays.
    Refuse(String),
}

/// What is to be done about a file.
pub(crate) fn work(published: &Published) -> Work {
    if published.is_going {
        return Work::Remove;
    }
    let content = match &published.content {
        Ok(content) => content,
        Err(why) => return Work::Refuse(why.clone()),
    };
    if published.applied.as_ref() == Some(&content.checksum) {
        return Work::Nothing;
    }
    match objects(published) {
        // Half a file, or one that is being written, is not taken for the wish that all goes.
        Ok(manifests) if manifests.is_empty() => {
            Work::Refuse("it has no object: remove the file to take away what it has brought".to_owned())
        }
        Ok(mut manifests) => {
            manifests.iter_mut().for_each(|manifest| stamp(&mut manifest.object, &published.file));
            Work::Apply { checksum: content.checksum.clone(), manifests }
        }
        Err(why) => Work::Refuse(why),
    }
}

/// An object that says who has brought it: fields alone do not tell, as an object may have none.
fn stamp(object: &mut Value, file: &str) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    // Others are refused by the API.
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(BROUGHT_BY.to_owned(), file.into());
    }
}

/// A file's objects, in the order in which they are applied.
fn objects(published: &Published) -> Result<Vec<Manifest>, String> {
    let content = published.content.as_ref().map_err(Clone::clone)?;
    let text = str::from_utf8(&content.bytes).map_err(|error| format!("it is no UTF-8: {error}"))?;
    let mut manifests = parse(text)?;
    sort(&mut manifests);
    Ok(manifests)
}

/// What has to be written down before these are applied, so that nothing is forgotten when it ends in the middle; nothing when it is
/// there already.
pub(crate) fn unrecorded(published: &Published, wanted: &[Reference]) -> Option<Vec<Reference>> {
    let known: BTreeSet<_> = published.recorded.iter().map(Reference::key).collect();
    let new: Vec<_> = wanted.iter().filter(|wanted| !known.contains(&wanted.key())).cloned().collect();
    (!new.is_empty()).then(|| [&published.recorded[..], &new].concat())
}

/// What a file has brought and does not want any more, nor any other file; what needs others first.
pub(crate) fn dropped<'a>(
    published: &Published,
    wanted: &[Reference],
    all: impl Iterator<Item = &'a Published>,
) -> Vec<Reference> {
    let keys = |references: &[Reference]| -> BTreeSet<Vec<String>> { references.iter().map(owned).collect() };
    let mut kept = keys(wanted);
    let mut dropped: Vec<_> =
        published.recorded.iter().filter(|it| !kept.contains(&owned(it))).cloned().collect();
    if dropped.is_empty() {
        return dropped;
    }
    for other in all.filter(|other| other.name != published.name && !other.is_going) {
        kept.extend(keys(&other.recorded));
        kept.extend(objects(other).iter().flatten().map(|manifest| owned(&manifest.reference())));
    }
    dropped.retain(|it| !kept.contains(&owned(it)) && !is_immortal(it));
    dropped.sort_by_key(Reference::order);
    dropped.reverse();
    dropped
}

fn owned(reference: &Reference) -> Vec<String> {
    let (group, kind, namespace, name) = reference.key();
    [group, kind, namespace, name].map(str::to_owned).to_vec()
}

fn is_immortal(reference: &Reference) -> bool {
    reference.group().is_empty()
        && reference.kind == "Namespace"
        && IMMORTAL.contains(&reference.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::file::Content;
    use crate::published::{packed, secret};

    fn published(file: &str, text: &str, recorded: &[&str]) -> Published {
        let packed = packed(&Content::of(text.as_bytes().to_vec())).unwrap();
        let mut published = Published::read(secret(file, packed, &BTreeMap::new())).unwrap();
        published.recorded = recorded.iter().map(|name| map(name)).collect();
        published
    }

    /// A config map, or an object of another kind as `kind/name`.
    fn map(name: &str) -> Reference {
        let (kind, name) = name.split_once('/').unwrap_or(("ConfigMap", name));
        let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        Reference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }

    fn text(names: &[&str]) -> String {
        let one = |name: &&str| {
            let Reference { api_version, kind, name, .. } = map(name);
            format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\n")
        };
        names.iter().map(one).collect::<Vec<_>>().join("---\n")
    }

    fn shown(references: &[Reference]) -> Vec<&str> {
        references.iter().map(|reference| reference.name.as_str()).collect()
    }

    #[test]
    fn what_is_new_is_applied_and_what_cannot_be_is_refused() {
        let mut file = published("a.yaml", &text(&["Deployment/d", "Namespace/shop"]), &[]);
        let Work::Apply { checksum, manifests } = work(&file) else { panic!("{:?}", work(&file)) };
        assert_eq!(manifests.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["shop", "d"]);
        let brought_by = json!({BROUGHT_BY: "a.yaml"});
        assert!(manifests.iter().all(|manifest| manifest.object["metadata"]["annotations"] == brought_by));
        file.applied = Some("of another content".to_owned());
        assert!(matches!(work(&file), Work::Apply { .. }));
        file.applied = Some(checksum);
        assert_eq!(work(&file), Work::Nothing);
        file.is_going = true;
        assert_eq!(work(&file), Work::Remove);
        for (text, why) in [
            ("", "no object"),
            ("# nothing\n---\n", "no object"),
            ("kind: A", "no apiVersion"),
            ("a: [", "line 1"),
        ] {
            let Work::Refuse(told) = work(&published("a.yaml", text, &["x"])) else { panic!("{text}") };
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn an_object_says_who_has_brought_it_beside_what_else_it_says() {
        for (annotations, expected) in [
            (json!({"k": "v"}), json!({"k": "v", BROUGHT_BY: "a"})),
            (json!(null), json!({BROUGHT_BY: "a"})),
            (json!({BROUGHT_BY: "b"}), json!({BROUGHT_BY: "a"})),
            (json!("wrong"), json!("wrong")),
        ] {
            let mut object = json!({"metadata": {"annotations": annotations}});
            stamp(&mut object, "a");
            assert_eq!(object["metadata"]["annotations"], expected);
        }
    }

    #[test]
    fn what_will_be_there_is_written_down_before() {
        let file = published("a.yaml", "", &["x", "w"]);
        assert_eq!(unrecorded(&file, &[map("w")]), None);
        let written = unrecorded(&file, &[map("z"), map("w")]).unwrap();
        assert_eq!(shown(&written), ["x", "w", "z"], "what was there may still be");
    }

    #[test]
    fn what_no_file_wants_goes_and_what_needs_others_first() {
        let file =
            published("a.yaml", "", &["Namespace/shop", "Namespace/default", "x", "Deployment/d", "w", "z"]);
        let going = || {
            let mut going = published("going.yaml", &text(&["Deployment/d"]), &["Deployment/d"]);
            going.is_going = true;
            going
        };
        let rows = [
            ("alone", vec![], vec!["d", "z", "w", "x", "shop"]),
            (
                "it stands in another file, which is not applied yet",
                vec![published("b.yaml", &text(&["w"]), &[])],
                vec!["d", "z", "x", "shop"],
            ),
            (
                "another brought it and cannot be read",
                vec![published("b.yaml", "a: [", &["z"])],
                vec!["d", "w", "x", "shop"],
            ),
            ("another goes as well", vec![going()], vec!["d", "z", "w", "x", "shop"]),
        ];
        for (what, mut others, expected) in rows {
            others.push(file.clone());
            assert_eq!(shown(&dropped(&file, &[], others.iter())), expected, "{what}");
        }
        let wanted = ["Namespace/shop", "x", "Deployment/d", "w"].map(map);
        assert_eq!(shown(&dropped(&file, &wanted, std::iter::once(&file))), ["z"]);
    }
}
