//! Which images go when the disk fills, by the kubelet's rules: old ones first where an age is set, then, above the high threshold,
//! the least recently used until the low one is reached. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::image::{Image, ImageId};

/// When images are collected (`imageGCHighThresholdPercent` and its relatives).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectPolicy {
    /// Nothing is collected below; percent of the file system that is used.
    pub high_percent: u8,
    /// What collecting aims at.
    pub low_percent: u8,
    /// Younger images stay.
    pub min_age: Duration,
    /// Images that nobody used for longer go whatever the disk has.
    pub max_age: Option<Duration>,
}

impl Default for CollectPolicy {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age: Duration::from_secs(120), max_age: None }
    }
}

/// The file system of the images, in bytes and files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Of the file system.
    pub capacity_bytes: u64,
    /// For those without privileges.
    pub available_bytes: u64,
    /// Files that the file system can have; 0 where it does not count them.
    pub inodes: u64,
    /// Files that it can still have.
    pub inodes_free: u64,
    /// What the images take, each layer counted once.
    pub images_bytes: u64,
}

/// An image that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<I> {
    /// Which.
    pub id: I,
    /// What its removal gives back.
    pub size_bytes: u64,
    /// When it came, in nanoseconds since 1970.
    pub pulled_ns: i64,
    /// When it was last used, in nanoseconds since 1970; 0 is never.
    pub used_ns: i64,
}

/// What to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection<I = ImageId> {
    /// These go, in this order, for these reasons.
    pub images: Vec<(I, CollectReason)>,
    /// What is still missing to the low threshold when all of them are gone.
    pub short_by_bytes: u64,
}

impl<I> Default for Collection<I> {
    fn default() -> Self {
        Self { images: Vec::new(), short_by_bytes: 0 }
    }
}

/// Why an image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectReason {
    /// Nobody used it for longer than `max_age`.
    Old,
    /// The disk is fuller than the high threshold.
    Space,
}

/// Plans what to collect. `now_ns` is in nanoseconds since 1970. Pinned images and those in use stay.
#[must_use]
pub fn collect(
    images: &[Image],
    in_use: &BTreeSet<ImageId>,
    usage: Usage,
    policy: CollectPolicy,
    now_ns: i64,
) -> Collection {
    let may_go = images.iter().filter(|image| !image.pinned && !in_use.contains(&image.id));
    let candidates = may_go.map(|image| Candidate {
        id: image.id.clone(),
        size_bytes: image.size_bytes,
        pulled_ns: image.pulled_ns,
        used_ns: image.used_ns,
    });
    choose(candidates.collect(), usage, policy, now_ns)
}

/// The same among images of anybody, none of which is in use. `now_ns` is in nanoseconds since 1970.
#[must_use]
pub fn choose<I: Ord + Clone>(
    mut candidates: Vec<Candidate<I>>,
    usage: Usage,
    policy: CollectPolicy,
    now_ns: i64,
) -> Collection<I> {
    let age = |since: i64| Duration::from_nanos(u64::try_from(now_ns.saturating_sub(since)).unwrap_or(0));
    candidates.sort_by_key(|image| (image.used_ns, image.pulled_ns, image.id.clone()));

    let mut collection = Collection::default();
    let mut freed = 0_u64;
    if let Some(max_age) = policy.max_age {
        candidates.retain(|image| {
            let old = age(image.used_ns) > max_age;
            if old {
                collection.images.push((image.id.clone(), CollectReason::Old));
                freed = freed.saturating_add(image.size_bytes);
            }
            !old
        });
    }

    let available = usage.available_bytes.saturating_add(freed).min(usage.capacity_bytes);
    let used = usage.capacity_bytes - available;
    let percent = |part: u64| u128::from(part) * 100 / u128::from(usage.capacity_bytes.max(1));
    // The kubelet rounds what is free down, and so what is used up.
    if usage.capacity_bytes == 0 || 100 - percent(available) < u128::from(policy.high_percent) {
        return collection;
    }
    let target = u128::from(usage.capacity_bytes) * u128::from(policy.low_percent) / 100;
    let mut wanted = used.saturating_sub(u64::try_from(target).unwrap_or(u64::MAX));
    for image in candidates {
        if wanted == 0 {
            break;
        }
        if age(image.pulled_ns) < policy.min_age {
            continue;
        }
        collection.images.push((image.id, CollectReason::Space));
        wanted = wanted.saturating_sub(image.size_bytes);
    }
    collection.short_by_bytes = wanted;
    collection
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;
    use crate::image::ImageConfig;

    const SECOND: i64 = 1_000_000_000;

    fn image(name: u64, size_bytes: u64, pulled: i64, used: i64) -> Image {
        Image {
            id: Digest::of(&name.to_le_bytes()),
            references: vec![],
            repo_digests: vec![],
            manifest: Digest::of(b""),
            size_bytes,
            layers: vec![],
            diff_ids: vec![],
            config: ImageConfig::default(),
            platform: String::new(),
            created: None,
            pulled_ns: pulled * SECOND,
            used_ns: used * SECOND,
            pinned: false,
        }
    }

    fn usage(available_bytes: u64) -> Usage {
        Usage { capacity_bytes: 1000, available_bytes, ..Usage::default() }
    }

    fn ids(collection: &Collection) -> Vec<ImageId> {
        collection.images.iter().map(|(id, _)| id.clone()).collect()
    }

    #[test]
    fn the_least_recently_used_go_until_the_low_threshold() {
        let images = [image(1, 30, 0, 50), image(2, 30, 0, 10), image(3, 30, 0, 90), image(4, 500, 0, 1)];
        let in_use = BTreeSet::from([images[3].id.clone()]);
        let now = 1000 * SECOND;
        let policy = CollectPolicy::default();
        assert!(
            collect(&images, &in_use, usage(151), policy, now).images.len() == 2,
            "85.x percent rounds up"
        );
        assert_eq!(collect(&images, &in_use, usage(160), policy, now), Collection::default());
        let collection = collect(&images, &in_use, usage(150), policy, now);
        assert_eq!(ids(&collection), [images[1].id.clone(), images[0].id.clone()]);
        let collection = collect(&images, &in_use, usage(50), policy, now);
        assert_eq!((collection.images.len(), collection.short_by_bytes), (3, 60));
    }

    #[test]
    fn young_and_pinned_images_stay_and_old_ones_go_at_any_rate() {
        let mut images = [image(1, 900, 990, 990), image(2, 900, 0, 10), image(3, 10, 0, 20)];
        images[1].pinned = true;
        let policy = CollectPolicy { max_age: Some(Duration::from_secs(500)), ..CollectPolicy::default() };
        let collection = collect(&images, &BTreeSet::new(), usage(900), policy, 1000 * SECOND);
        assert_eq!(collection.images, [(images[2].id.clone(), CollectReason::Old)]);
        let collection = collect(&images, &BTreeSet::new(), usage(0), policy, 1000 * SECOND);
        assert_eq!((ids(&collection), collection.short_by_bytes), (vec![images[2].id.clone()], 190));
    }

    proptest! {
        #[test]
        fn nothing_needed_goes_and_no_more_than_needed(
            sizes in prop::collection::vec((1_u64..200, 0_i64..100, 0_i64..2000, any::<bool>(), any::<bool>()), 0..12),
            available in 0_u64..=1000,
        ) {
            let mut images: Vec<Image> = Vec::new();
            let mut in_use = BTreeSet::new();
            for (n, (size, pulled, used, pinned, needed)) in sizes.iter().enumerate() {
                let mut made = image(n as u64, *size, *pulled, *used);
                made.pinned = *pinned;
                if *needed {
                    in_use.insert(made.id.clone());
                }
                images.push(made);
            }
            let collection = collect(&images, &in_use, usage(available), CollectPolicy::default(), 1000 * SECOND);
            let gone = ids(&collection);
            let size = |id: &ImageId| images.iter().find(|image| image.id == *id).unwrap().size_bytes;
            for image in images.iter().filter(|image| gone.contains(&image.id)) {
                prop_assert!(!image.pinned && !in_use.contains(&image.id));
            }
            let freed: u64 = gone.iter().map(size).sum();
            let wanted = 200_u64.saturating_sub(available);
            if let Some(last) = gone.last() {
                prop_assert!(freed - size(last) < wanted);
            }
            prop_assert!(collection.short_by_bytes == 0 || freed + collection.short_by_bytes == wanted);
        }
    }
}
