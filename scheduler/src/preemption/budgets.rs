//! How many pods of a kind may be missing at once. Must never count what happened; that is in the budgets' status.

use barque_api::labels::Selector;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::label_set::{SelectorError, selector_of};
use crate::snapshot::Pod;

/// One budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    namespace: Box<str>,
    name: Box<str>,
    selector: Selector,
    /// How many more may go.
    allowed: i64,
    /// Pods that are counted as gone.
    disrupted: Vec<Box<str>>,
}

impl Budget {
    /// Compiles a budget.
    ///
    /// # Errors
    /// When its selector is none.
    pub fn of(budget: &PodDisruptionBudget) -> Result<Self, SelectorError> {
        let text = |text: &Option<String>| Box::from(text.as_deref().unwrap_or_default());
        let status = budget.status.as_ref();
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref()).into_iter().flatten();
        Ok(Self {
            namespace: text(&budget.metadata.namespace),
            name: text(&budget.metadata.name),
            selector: selector_of(selector)?,
            allowed: status.and_then(|status| status.disruptions_allowed).map_or(0, i64::from),
            disrupted: disrupted.map(|(name, _)| name.as_str().into()).collect(),
        })
    }
}

/// All budgets.
#[derive(Debug, Default)]
pub struct Budgets {
    all: Vec<Budget>,
    version: u64,
}

impl Budgets {
    /// A budget that is there.
    pub fn put(&mut self, budget: Budget) {
        let same = |other: &Budget| other.namespace == budget.namespace && other.name == budget.name;
        match self.all.iter().position(same) {
            Some(at) if self.all[at] == budget => return,
            Some(at) => self.all[at] = budget,
            None => self.all.push(budget),
        }
        self.version += 1;
    }

    /// A budget that is gone.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        self.all.retain(|budget| !(&*budget.namespace == namespace && &*budget.name == name));
        self.version += 1;
    }

    /// Grows with every change.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Which of these pods a budget would keep, if all of them went in this order.
    pub(super) fn kept<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> Vec<bool> {
        let mut left: Vec<i64> = self.all.iter().map(|budget| budget.allowed).collect();
        let mut one = |pod: &Pod| {
            let mut kept = false;
            for (budget, left) in self.all.iter().zip(&mut left) {
                let meant = budget.namespace == pod.name.namespace
                    && !budget.selector.is_everything()
                    && budget.selector.matches(&pod.identity.labels)
                    && !budget.disrupted.contains(&pod.name.name);
                if meant {
                    *left -= 1;
                    kept |= *left < 0;
                }
            }
            kept
        };
        pods.map(&mut one).collect()
    }
}
