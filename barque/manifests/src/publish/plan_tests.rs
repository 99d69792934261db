//! Tables of what a master does about its directory.

use super::*;

const FILE: &str = "a.yaml";

fn content(text: &str) -> Content {
    Content::of(text.as_bytes().to_vec())
}

/// A directory with the file, or with nothing.
fn listing(directory: &str, text: Option<&str>) -> Listing {
    let entries = text.map(|text| (FILE.to_owned(), Entry::File(content(text))));
    Listing { directory: directory.to_owned(), entries: entries.into_iter().collect() }
}

/// Holders as `directory master text`, with a further word when they are lost.
fn holders(all: &[&str]) -> Holders {
    let holder = |words: &&str| {
        let words: Vec<_> = words.split(' ').collect();
        let (master, checksum) = (words[1].to_owned(), content(words[2]).checksum);
        let holder = Holder { master, checksum, is_lost: words.get(3) == Some(&"lost") };
        (words[0].to_owned(), holder)
    };
    all.iter().map(holder).collect()
}

fn published(text: &str, held: &[&str]) -> All {
    let packed = crate::published::packed(&content(text)).unwrap();
    let secret = crate::published::secret(FILE, packed, &holders(held));
    let published = Published::read(secret).unwrap();
    BTreeMap::from([(published.name.clone(), published)])
}

/// In words: what is done, with which content, who holds it then, and what is told.
fn shown(steps: Vec<Step<'_>>) -> Vec<String> {
    let words = |holders: &Holders| {
        let all = holders.iter().map(|(directory, holder)| {
            let known = ["v1", "v2", "v3"].into_iter().find(|text| content(text).checksum == holder.checksum);
            let lost = if holder.is_lost { " lost" } else { "" };
            format!("{directory} {} {}{lost}", holder.master, known.unwrap())
        });
        all.collect::<Vec<_>>().join(", ")
    };
    let text = |content: &Content| String::from_utf8(content.bytes.to_vec()).unwrap();
    let step = |step: Step<'_>| match step {
        Step::Create { content, holders, .. } => format!("create {}: {}", text(content), words(&holders)),
        Step::Hold { content: Some(content), holders, story, .. } => {
            format!("publish {}: {}{}", text(content), words(&holders), told(story))
        }
        Step::Hold { content: None, holders, story, .. } => {
            format!("hold: {}{}", words(&holders), told(story))
        }
        Step::Delete { .. } => "delete".to_owned(),
    };
    steps.into_iter().map(step).collect()
}

fn told(story: Option<Story>) -> String {
    match story {
        None => String::new(),
        Some(Story::Yields) => "; yields".to_owned(),
        Some(Story::Replaces(masters)) => format!("; replaces {}", masters.join(" ")),
    }
}

/// Master m1 with directory d1. `start` is what was there when it started, `now` what is there now.
fn planned(start: Option<&str>, now: Option<&str>, all: &All) -> Vec<String> {
    let mut found = Found::default();
    found.see(&listing("d1", start));
    let now = listing("d1", now);
    found.see(&now);
    shown(plan("m1", &now, &found, all))
}

#[test]
fn a_directory_and_the_cluster_come_to_agree() {
    type Row<'a> =
        (&'a str, Option<&'a str>, Option<&'a str>, Option<(&'a str, &'a [&'a str])>, &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        ("nothing anywhere", None, None, None, &[]),
        ("new, found at the start", Some("v1"), Some("v1"), None, &["create v1: d1 m1 v1"]),
        ("new, while it runs", None, Some("v1"), None, &["create v1: d1 m1 v1"]),
        ("as it is known", Some("v1"), Some("v1"), Some(("v1", &["d1 m1 v1"])), &[]),
        (
            "changed while it runs",
            Some("v1"),
            Some("v2"),
            Some(("v1", &["d1 m1 v1"])),
            &["publish v2: d1 m1 v2"],
        ),
        (
            "changed while it was down",
            Some("v2"),
            Some("v2"),
            Some(("v1", &["d1 m1 v1"])),
            &["publish v2: d1 m1 v2"],
        ),
        ("removed while it runs", Some("v1"), None, Some(("v1", &["d1 m1 v1"])), &["delete"]),
        ("removed while it was down", None, None, Some(("v1", &["d1 m1 v1"])), &["delete"]),
        ("another's", None, None, Some(("v1", &["d2 m2 v1"])), &[]),
        (
            "the same as another's",
            Some("v1"),
            Some("v1"),
            Some(("v1", &["d2 m2 v1"])),
            &["hold: d1 m1 v1, d2 m2 v1"],
        ),
        (
            "removed here, but not there",
            Some("v1"),
            None,
            Some(("v1", &["d1 m1 v1", "d2 m2 v1"])),
            &["hold: d2 m2 v1"],
        ),
        ("changed there", Some("v1"), Some("v1"), Some(("v2", &["d1 m1 v1", "d2 m2 v2"])), &[]),
        (
            "changed there, then here",
            Some("v1"),
            Some("v3"),
            Some(("v2", &["d1 m1 v1", "d2 m2 v2"])),
            &["publish v3: d1 m1 v3, d2 m2 v2; replaces m2"],
        ),
        (
            "changed here to what is there",
            Some("v1"),
            Some("v2"),
            Some(("v2", &["d1 m1 v1", "d2 m2 v2"])),
            &["hold: d1 m1 v2, d2 m2 v2"],
        ),
        (
            "put here beside another one",
            None,
            Some("v2"),
            Some(("v1", &["d2 m2 v1"])),
            &["publish v2: d1 m1 v2, d2 m2 v1; replaces m2"],
        ),
        (
            "found here at the start beside another one",
            Some("v1"),
            Some("v1"),
            Some(("v2", &["d2 m2 v2"])),
            &["hold: d1 m1 v1, d2 m2 v2; yields"],
        ),
        (
            "what counted was removed there",
            Some("v1"),
            Some("v1"),
            Some(("v2", &["d1 m1 v1", "d3 m3 v1"])),
            &["publish v1: d1 m1 v1, d3 m3 v1"],
        ),
        ("replaced and empty", None, None, Some(("v1", &["d0 m1 v1"])), &["hold: d0 m1 v1 lost"]),
        ("replaced and empty, which is known", None, None, Some(("v1", &["d0 m1 v1 lost"])), &[]),
        (
            "lost there, an older one here",
            Some("v1"),
            Some("v1"),
            Some(("v2", &["d0 m2 v2 lost", "d1 m1 v1"])),
            &[],
        ),
        (
            "lost there, removed here",
            Some("v1"),
            None,
            Some(("v1", &["d0 m2 v1 lost", "d1 m1 v1"])),
            &["delete"],
        ),
        (
            "lost there, changed here",
            Some("v1"),
            Some("v2"),
            Some(("v1", &["d0 m2 v1 lost", "d1 m1 v1"])),
            &["publish v2: d1 m1 v2"],
        ),
        ("replaced, with the file", Some("v1"), Some("v1"), Some(("v1", &["d0 m1 v1"])), &["hold: d1 m1 v1"]),
        (
            "replaced, with an older file",
            Some("v1"),
            Some("v1"),
            Some(("v2", &["d0 m1 v2"])),
            &["hold: d0 m1 v2 lost, d1 m1 v1; yields"],
        ),
        (
            "the same, which is known",
            Some("v1"),
            Some("v1"),
            Some(("v2", &["d0 m1 v2 lost", "d1 m1 v1"])),
            &[],
        ),
        (
            "the same, then changed",
            Some("v1"),
            Some("v3"),
            Some(("v2", &["d0 m1 v2 lost", "d1 m1 v1"])),
            &["publish v3: d1 m1 v3"],
        ),
        (
            "the same, and the older file goes again",
            Some("v1"),
            None,
            Some(("v2", &["d0 m1 v2 lost", "d1 m1 v1"])),
            &["hold: d0 m1 v2 lost"],
        ),
    ];
    for (what, start, now, cluster, expected) in rows {
        let all = cluster.map(|(text, held)| published(text, held)).unwrap_or_default();
        assert_eq!(planned(*start, *now, &all), *expected, "{what}");
    }
}

#[test]
fn what_is_left_alone_is_neither_published_nor_removed() {
    let mut listing = listing("d1", None);
    listing.entries.insert(FILE.to_owned(), Entry::LeftAlone);
    let mut found = Found::default();
    found.see(&listing);
    assert!(plan("m1", &listing, &found, &All::default()).is_empty());
    assert!(plan("m1", &listing, &found, &published("v1", &["d1 m1 v1"])).is_empty());
}

#[test]
fn what_goes_is_waited_for() {
    let mut all = published("v1", &["d1 m1 v1"]);
    all.values_mut().for_each(|published| published.is_going = true);
    assert!(planned(Some("v1"), Some("v1"), &all).is_empty());
    assert!(planned(Some("v1"), None, &all).is_empty());
}

#[test]
fn what_was_found_is_no_longer_when_it_was_away_or_the_directory_is_another_one() {
    let mut found = Found::default();
    found.see(&listing("d1", Some("v1")));
    assert!(found.has(FILE));
    found.see(&listing("d1", None));
    found.see(&listing("d1", Some("v1")));
    assert!(!found.has(FILE), "somebody put it there again");
    found.see(&listing("d2", Some("v1")));
    assert!(found.has(FILE), "another directory was mounted over it");
}

#[test]
fn what_was_broken_by_hand_is_published_again() {
    let mut all = published("v1", &["d1 m1 v1"]);
    all.values_mut().for_each(|published| published.content = Err("broken".to_owned()));
    assert_eq!(planned(Some("v1"), Some("v1"), &all), ["publish v1: d1 m1 v1"]);
    all.values_mut().for_each(|published| published.holders.clear());
    assert_eq!(planned(None, Some("v1"), &all), ["publish v1: d1 m1 v1"]);
}
