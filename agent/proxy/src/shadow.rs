//! What the tables should hold, piece by piece, and the transaction that brings the kernel from one state to the next. Must
//! never ask the kernel: what it has is known by what it was told.
//!
//! Every service, policy and pod brings a [`Fragment`]. Sets belong to one fragment. Chains may be brought by several, who
//! bring the same. Elements of shared maps may be claimed by several (two services with the same external address), and then
//! the first in order has them, so that what is there never depends on the order in which things came.
//!
//! A change costs as much as what it changes. Chains that nobody needs any more are emptied with the change, and deleted
//! later: kernels before 6.2 let go of a map's reference to a chain only a moment after the element is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::nft::{Chain, Family, Key, Name, Set, Step, Transaction, Value};

/// Whose fragment it is; the order decides who has a claimed element.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// What is there without any object.
    Base,
    /// A service, by `namespace/name`.
    Service(Arc<str>),
    /// The host ports of a pod, by `namespace/name`.
    HostPorts(Arc<str>),
    /// A policy, by `namespace/name`.
    Policy(Arc<str>),
    /// What policies say of a pod here, by `namespace/name`.
    Pod(Arc<str>),
}

/// What one unit brings to the table of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Its chains.
    pub chains: BTreeMap<Name, Arc<Chain>>,
    /// Its sets and maps. One name always means the same set: what may change of a set is part of its name.
    pub sets: BTreeMap<Name, Set>,
    /// Elements, of its own sets and of shared ones.
    pub elements: BTreeMap<(Name, Key), Value>,
}

impl Fragment {
    /// Whether it brings nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }
}

/// What is known of one family's table.
#[derive(Debug)]
pub struct Shadow {
    family: Family,
    units: BTreeMap<Unit, Fragment>,
    /// Who brings each chain.
    chains: HashMap<Name, BTreeMap<Unit, Arc<Chain>>>,
    /// Who claims each element of a set.
    claims: HashMap<Name, BTreeMap<Key, BTreeMap<Unit, Value>>>,
    /// As it was before the changes that no transaction has been made of yet.
    before: Before,
    /// Emptied, and to be deleted.
    stale: Stale,
}

#[derive(Debug, Default)]
struct Before {
    chains: BTreeMap<Name, Option<Arc<Chain>>>,
    sets: BTreeMap<Name, (Unit, Option<Set>)>,
    elements: BTreeMap<(Name, Key), Option<Value>>,
}

#[derive(Debug, Default)]
struct Stale {
    chains: BTreeSet<Name>,
    sets: BTreeSet<Name>,
}

impl Shadow {
    /// An empty table.
    #[must_use]
    pub fn new(family: Family) -> Self {
        Self {
            family,
            units: BTreeMap::new(),
            chains: HashMap::new(),
            claims: HashMap::new(),
            before: Before::default(),
            stale: Stale::default(),
        }
    }

    /// A unit brings this from now on.
    pub fn replace(&mut self, unit: &Unit, new: Fragment) {
        let old = self.units.remove(unit).unwrap_or_default();
        if old == new {
            if !new.is_empty() {
                self.units.insert(unit.clone(), new);
            }
            return;
        }
        for name in old.chains.keys().chain(new.chains.keys()) {
            let is = new.chains.get(name);
            if old.chains.get(name) != is {
                self.bring(unit, name, is);
            }
        }
        for name in old.sets.keys().chain(new.sets.keys()) {
            let (was, is) = (old.sets.get(name), new.sets.get(name));
            if was.is_some() != is.is_some() {
                self.before.sets.entry(name.clone()).or_insert_with(|| (unit.clone(), was.cloned()));
            }
        }
        for (place, value) in &old.elements {
            if new.elements.get(place) != Some(value) {
                self.claim(unit, place, new.elements.get(place));
            }
        }
        for (place, value) in &new.elements {
            if !old.elements.contains_key(place) {
                self.claim(unit, place, Some(value));
            }
        }
        if !new.is_empty() {
            self.units.insert(unit.clone(), new);
        }
    }

    fn bring(&mut self, unit: &Unit, name: &Name, chain: Option<&Arc<Chain>>) {
        let owners = self.chains.entry(name.clone()).or_default();
        let was = owners.values().next().cloned();
        self.before.chains.entry(name.clone()).or_insert(was);
        match chain {
            Some(chain) => {
                owners.insert(unit.clone(), chain.clone());
            }
            None => {
                owners.remove(unit);
            }
        }
        if owners.is_empty() {
            self.chains.remove(name);
        }
    }

    fn claim(&mut self, unit: &Unit, place: &(Name, Key), value: Option<&Value>) {
        let (set, key) = place;
        let keys = self.claims.entry(set.clone()).or_default();
        let claims = keys.entry(key.clone()).or_default();
        let was = claims.values().next().cloned();
        self.before.elements.entry(place.clone()).or_insert(was);
        match value {
            Some(value) => {
                claims.insert(unit.clone(), value.clone());
            }
            None => {
                claims.remove(unit);
            }
        }
        if claims.is_empty() {
            keys.remove(key);
            if keys.is_empty() {
                self.claims.remove(set);
            }
        }
    }

    /// The steps from the state of the last call to the present one.
    pub fn changes(&mut self, transaction: &mut Transaction) {
        let before = std::mem::take(&mut self.before);
        let family = self.family;
        let mut step = |step| transaction.steps.push((family, step));
        for (name, (unit, was)) in &before.sets {
            match (was, self.units.get(unit).and_then(|fragment| fragment.sets.get(name))) {
                (None, Some(set)) => {
                    // One that still waits for its deletion is there; to add it again is allowed.
                    self.stale.sets.remove(name);
                    step(Step::AddSet(name.clone(), set.clone()));
                }
                (Some(_), None) => {
                    self.stale.sets.insert(name.clone());
                }
                _ => {}
            }
        }
        let chains = &self.chains;
        let chain = |name| chains.get(name).and_then(|owners| owners.values().next());
        for (name, was) in &before.chains {
            if let (None, Some(chain)) = (was, chain(name)) {
                self.stale.chains.remove(name);
                step(Step::AddChain(name.clone(), chain.base, chain.comment.clone()));
            }
        }
        for (name, was) in &before.chains {
            if was.is_some() && was.as_ref() != chain(name) {
                step(Step::FlushChain(name.clone()));
            }
        }
        let mut gone: BTreeMap<&Name, Vec<(Key, Value)>> = BTreeMap::new();
        let mut added: BTreeMap<&Name, Vec<(Key, Value)>> = BTreeMap::new();
        for ((set, key), was) in &before.elements {
            let is =
                self.claims.get(set).and_then(|keys| keys.get(key)).and_then(|claims| claims.values().next());
            if was.as_ref() == is {
                continue;
            }
            if was.is_some() {
                gone.entry(set).or_default().push((key.clone(), Value::default()));
            }
            if let Some(is) = is {
                added.entry(set).or_default().push((key.clone(), is.clone()));
            }
        }
        for (set, elements) in gone {
            step(Step::DeleteElements(set.clone(), elements));
        }
        for (set, elements) in added {
            step(Step::AddElements(set.clone(), elements));
        }
        for (name, was) in &before.chains {
            match chain(name) {
                Some(chain) if was.as_ref() != Some(chain) => {
                    for rule in &chain.rules {
                        step(Step::AddRule(name.clone(), rule.clone()));
                    }
                }
                Some(_) => {}
                None => {
                    if was.is_some() {
                        self.stale.chains.insert(name.clone());
                    }
                }
            }
        }
    }

    /// The steps that make the whole table anew, whatever is there.
    pub fn whole(&mut self, transaction: &mut Transaction) {
        self.before = Before::default();
        self.stale = Stale::default();
        let family = self.family;
        let mut step = |step| transaction.steps.push((family, step));
        step(Step::AddTable);
        step(Step::DeleteTable);
        step(Step::AddTable);
        for (name, set) in self.units.values().flat_map(|fragment| &fragment.sets) {
            step(Step::AddSet(name.clone(), set.clone()));
        }
        let owned = self.chains.iter().filter_map(|(name, owners)| Some((name, owners.values().next()?)));
        let chains: BTreeMap<_, _> = owned.collect();
        for (name, chain) in &chains {
            step(Step::AddChain((*name).clone(), chain.base, chain.comment.clone()));
        }
        let sets: BTreeMap<_, _> = self.claims.iter().collect();
        for (set, keys) in sets {
            let elements =
                keys.iter().filter_map(|(key, claims)| Some((key.clone(), claims.values().next()?.clone())));
            step(Step::AddElements(set.clone(), elements.collect()));
        }
        for (name, chain) in chains {
            for rule in &chain.rules {
                step(Step::AddRule(name.clone(), rule.clone()));
            }
        }
    }

    /// Whether something is to be deleted.
    #[must_use]
    pub fn has_stale(&self) -> bool {
        !self.stale.chains.is_empty() || !self.stale.sets.is_empty()
    }

    /// The steps that delete what was emptied; not to be done sooner than a second after the change.
    pub fn sweep(&mut self, transaction: &mut Transaction) {
        let stale = std::mem::take(&mut self.stale);
        let family = self.family;
        let chains = stale.chains.into_iter().map(Step::DeleteChain);
        let sets = stale.sets.into_iter().map(Step::DeleteSet);
        transaction.steps.extend(chains.chain(sets).map(|step| (family, step)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Keys, Rule, Targets, Verdict, port_key};

    fn fragment(chain: &str, map: Option<u16>, comment: &str) -> Fragment {
        let mut fragment = Fragment::default();
        let rules = vec![Rule::new(Family::V4).comment(comment).verdict(Verdict::Accept)];
        fragment.chains.insert(chain.into(), Arc::new(Chain { rules, ..Chain::default() }));
        if let Some(port) = map {
            let verdict = Some(Verdict::Goto(chain.into()));
            fragment
                .elements
                .insert(("ports".into(), port_key(6, port)), Value { verdict, ..Value::default() });
        }
        fragment
    }

    fn said(shadow: &mut Shadow) -> Vec<String> {
        let mut transaction = Transaction::default();
        shadow.changes(&mut transaction);
        transaction.steps.iter().map(|(_, step)| step.describe()).collect()
    }

    fn service(name: &str) -> Unit {
        Unit::Service(name.into())
    }

    #[test]
    fn steps_are_those_of_what_changed() {
        let mut shadow = Shadow::new(Family::V4);
        let set = Set { keys: Keys::Ports, targets: Targets::Verdicts, timeout: None, comment: None };
        let base = Fragment { sets: [("ports".into(), set)].into(), ..Fragment::default() };
        shadow.replace(&Unit::Base, base);
        shadow.replace(&service("a"), fragment("a", Some(80), "x"));
        let all = [
            "add the set `ports`",
            "add the chain `a`",
            "add 1 elements to `ports`",
            "add a rule to the chain `a`",
        ];
        assert_eq!(said(&mut shadow), all);
        assert!(said(&mut shadow).is_empty());
        shadow.replace(&service("a"), fragment("a", Some(80), "y"));
        assert_eq!(said(&mut shadow), ["empty the chain `a`", "add a rule to the chain `a`"]);
        shadow.replace(&service("a"), Fragment::default());
        assert_eq!(said(&mut shadow), ["empty the chain `a`", "delete 1 elements of `ports`"]);
        assert!(shadow.has_stale());
        let mut transaction = Transaction::default();
        shadow.sweep(&mut transaction);
        assert_eq!(transaction.steps, [(Family::V4, Step::DeleteChain("a".into()))]);
        assert!(!shadow.has_stale());
    }

    #[test]
    fn a_chain_that_comes_back_is_not_swept() {
        let mut shadow = Shadow::new(Family::V4);
        shadow.replace(&service("a"), fragment("a", None, "x"));
        said(&mut shadow);
        shadow.replace(&service("a"), Fragment::default());
        said(&mut shadow);
        shadow.replace(&service("a"), fragment("a", None, "x"));
        assert_eq!(said(&mut shadow), ["add the chain `a`", "add a rule to the chain `a`"]);
        assert!(!shadow.has_stale());
    }

    #[test]
    fn what_came_and_went_between_two_transactions_is_not_said() {
        let mut shadow = Shadow::new(Family::V4);
        shadow.replace(&service("a"), fragment("a", Some(80), "x"));
        shadow.replace(&service("a"), Fragment::default());
        assert!(said(&mut shadow).is_empty());
        assert!(!shadow.has_stale());
    }

    #[test]
    fn the_first_in_order_has_an_element_whoever_came_first() {
        let mut shadow = Shadow::new(Family::V4);
        shadow.replace(&service("b"), fragment("b", Some(80), "x"));
        said(&mut shadow);
        shadow.replace(&service("a"), fragment("a", Some(80), "x"));
        let taken = [
            "add the chain `a`",
            "delete 1 elements of `ports`",
            "add 1 elements to `ports`",
            "add a rule to the chain `a`",
        ];
        assert_eq!(said(&mut shadow), taken);
        shadow.replace(&service("a"), Fragment::default());
        let back = ["empty the chain `a`", "delete 1 elements of `ports`", "add 1 elements to `ports`"];
        assert_eq!(said(&mut shadow), back);
    }
}
