//! Drivers attach so many volumes to a node and no more.

use super::{Fault, Plugin, View};
use crate::snapshot::{Attachment, NodeId, Pod, Snapshot};

static EXCEEDED: Fault = Fault::resolvable(Plugin::NodeVolumeLimits, "node(s) exceed max volume count");

/// What a pod attaches: of each driver so many, and which.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// Of drivers that some node has or had: number, name and volumes.
    by_driver: Vec<(usize, Box<str>, i64)>,
    attachments: Vec<Attachment>,
}

impl Prepared {
    pub(crate) fn of(pod: &Pod, snapshot: &Snapshot) -> Self {
        let attachments = snapshot.storage.attachments(&pod.name, &pod.volumes);
        let mut by_driver: Vec<(usize, Box<str>, i64)> = Vec::new();
        // Sorted by driver.
        for (driver, _) in &attachments {
            match by_driver.last_mut() {
                Some((_, last, count)) if last == driver => *count += 1,
                _ => {
                    // A driver without a number has no limit anywhere.
                    let number = snapshot.columns.driver_number(driver);
                    by_driver.extend(number.map(|number| (number, driver.clone(), 1)));
                }
            }
        }
        Self { by_driver, attachments }
    }

    /// Whether there is room in any case.
    pub(crate) fn has_room(&self, snapshot: &Snapshot, node: NodeId) -> bool {
        let room = |(number, _, more): &(usize, Box<str>, i64)| {
            let attachable = snapshot.columns.attachable(node, *number);
            attachable.is_none_or(|(limit, attached)| attached + more <= limit)
        };
        self.by_driver.iter().all(room)
    }

    pub(crate) fn filter(&self, view: &View<'_>) -> Result<(), &'static Fault> {
        for (number, driver, more) in &self.by_driver {
            let Some((limit, attached)) = view.snapshot.columns.attachable(view.node, *number) else {
                continue;
            };
            // Those that are attached already need no more room; but most often there is room anyway.
            if view.overlay.is_empty() && attached + more <= limit {
                continue;
            }
            if self.counted(driver, view) > limit {
                return Err(&EXCEEDED);
            }
        }
        Ok(())
    }

    /// The volumes of a driver that would be attached with the pod, each once.
    fn counted(&self, driver: &str, view: &View<'_>) -> i64 {
        let storage = &view.snapshot.storage;
        let of = |pod: &Pod| storage.attachments(&pod.name, &pod.volumes);
        let mut users = view.snapshot.columns.attached[view.node.at()].clone();
        for one in view.overlay.removed.iter().flat_map(|pod| of(pod)) {
            if let Some(count) = users.get_mut(&one) {
                *count -= 1;
                if *count == 0 {
                    users.remove(&one);
                }
            }
        }
        let added = view.overlay.added.iter().flat_map(|pod| of(pod)).chain(self.attachments.iter().cloned());
        for one in added {
            *users.entry(one).or_insert(0) += 1;
        }
        users.keys().filter(|one| &*one.0 == driver).count() as i64
    }
}
