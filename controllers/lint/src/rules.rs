//! All rules over one picture: a file for each group. Decisions; time is that of the picture.

mod addresses;
mod counts;
mod left_over;
mod owners;
mod placement;
mod slices;
mod taints;
mod volumes;

use crate::finding::{Finding, Findings};
use crate::snapshot::Snapshot;

/// What is wrong in a picture, in an order that does not depend on the order of objects.
#[must_use]
pub fn lint(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Findings::default();
    for check in [
        addresses::check,
        owners::check,
        placement::check,
        slices::check,
        counts::check,
        volumes::check,
        left_over::check,
    ] {
        check(snapshot, &mut findings);
    }
    findings.sorted()
}

/// What could not be judged, as sentences: collections that were not read, and owners of kinds that nobody serves.
#[must_use]
pub fn notes(snapshot: &Snapshot) -> Vec<String> {
    let unread = snapshot.unread.iter().map(|(collection, why)| format!("{collection} was not read: {why}"));
    unread.chain(owners::unknown(snapshot)).collect()
}
