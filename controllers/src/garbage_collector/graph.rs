//! The graph of owners and dependents, as watches tell it, and who is to be looked at after each change. A state machine; must
//! never decide that something goes: it may be out of date.
//!
//! A node is virtual while only dependents tell of it: it may be under way, of a kind that is not watched, or long gone, and its
//! name and namespace are what a dependent claims.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::absent::Absent;
use super::identity::Identity;

/// The finalizer of what goes after its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of what leaves its dependents behind.
pub(super) const ORPHAN: &str = "orphan";

/// An object and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Who it is, or who a dependent says that it is.
    pub(super) identity: Identity,
    /// Whether no watch has told of it.
    pub(super) is_virtual: bool,
    /// Its owners.
    pub(super) owners: Vec<OwnerReference>,
    /// The uids of those that name it as an owner.
    pub(super) dependents: BTreeSet<String>,
    /// Whether somebody has deleted it.
    pub(super) deleting: bool,
    /// Whether it waits until its dependents are gone.
    pub(super) deleting_dependents: bool,
    /// Whether it waited for its dependents to be orphaned when it was last seen.
    orphaning: bool,
    /// Whether it waited for its dependents to be gone when it was last seen.
    waiting: bool,
}

/// Who is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Whether it goes.
    Delete(String),
    /// The same, not at once: it was looked at just now, under another name.
    DeleteLater(String),
    /// Its dependents are orphaned.
    Orphan(String),
}

/// What follows from a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Who is to be looked at.
    pub(super) work: BTreeSet<Work>,
    /// Dependents that name an owner of another namespace, with whom they name in their own.
    pub(super) strangers: Vec<(Identity, Identity)>,
}

impl Effects {
    fn look_at(&mut self, uid: &str) {
        self.work.insert(Work::Delete(uid.to_owned()));
    }
}

/// All nodes by their uids.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    /// Owners that are not there.
    pub(super) absent: Absent,
}

impl Graph {
    /// The node of a uid.
    pub(super) fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Dependents that an owner waits for while it is deleted in the foreground.
    pub(super) fn blocking(&self, uid: &str) -> Vec<&Node> {
        let blocks = |node: &&Node| {
            node.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        self.dependents(uid).filter(blocks).collect()
    }

    /// All dependents of an owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        let dependents = self.nodes.get(uid).map(|node| &node.dependents);
        dependents.into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// A watch told that it is so.
    pub(super) fn observe(&mut self, identity: Identity, meta: &ObjectMeta) -> Effects {
        let mut effects = Effects::default();
        let uid = identity.uid.clone();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|one| one == finalizer);
        let deleting = meta.deletion_timestamp.is_some();
        if self.nodes.get(&uid).is_some_and(|node| node.is_virtual) {
            self.appears(identity.clone(), &mut effects);
        }
        if self.nodes.contains_key(&uid) {
            self.change_owners(&uid, owners, &mut effects);
        } else {
            let node = Node {
                identity,
                is_virtual: false,
                owners: owners.clone(),
                dependents: BTreeSet::new(),
                deleting,
                deleting_dependents: deleting && has(FOREGROUND),
                orphaning: false,
                waiting: false,
            };
            self.nodes.insert(uid.clone(), node);
            self.link(&uid, &owners, &mut effects);
        }
        let Some(node) = self.nodes.get_mut(&uid) else { return effects };
        node.deleting |= deleting;
        let (orphaned, waited) = (node.orphaning, node.waiting);
        node.orphaning = deleting && has(ORPHAN);
        node.waiting = deleting && has(FOREGROUND);
        if node.orphaning && !orphaned {
            effects.work.insert(Work::Orphan(uid));
        } else if node.waiting && !waited {
            node.deleting_dependents = true;
            node.dependents.iter().for_each(|dependent| effects.look_at(dependent));
            effects.look_at(&uid);
        }
        effects
    }

    /// A virtual node is seen; dependents that called it otherwise are looked at again.
    fn appears(&mut self, identity: Identity, effects: &mut Effects) {
        let (_, wrong) = self.told_apart(&identity);
        for dependent in wrong {
            let Some(node) = self.nodes.get(&dependent) else { continue };
            if !identity.namespace.is_empty() && node.identity.namespace != identity.namespace {
                stranger(node, &identity.uid, effects);
            }
            effects.look_at(&dependent);
        }
        if let Some(node) = self.nodes.get_mut(&identity.uid) {
            node.identity = identity;
            node.is_virtual = false;
        }
    }

    fn change_owners(&mut self, uid: &str, owners: Vec<OwnerReference>, effects: &mut Effects) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        if node.owners == owners {
            return;
        }
        let before = std::mem::replace(&mut node.owners, owners.clone());
        let blocks = |owners: &[OwnerReference], uid: &str| {
            owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        for owner in &before {
            // Who waited for this dependent perhaps need not any more.
            if blocks(&before, &owner.uid)
                && !blocks(&owners, &owner.uid)
                && self.nodes.contains_key(&owner.uid)
            {
                effects.look_at(&owner.uid);
            }
        }
        let named = |owners: &[OwnerReference], uid: &str| owners.iter().any(|owner| owner.uid == uid);
        let added: Vec<_> = owners.iter().filter(|owner| !named(&before, &owner.uid)).cloned().collect();
        self.link(uid, &added, effects);
        for owner in before.iter().filter(|owner| !named(&owners, &owner.uid)) {
            if let Some(node) = self.nodes.get_mut(&owner.uid) {
                node.dependents.remove(uid);
            }
        }
    }

    /// A node is a dependent of these owners. What does not fit together is looked at.
    fn link(&mut self, uid: &str, owners: &[OwnerReference], effects: &mut Effects) {
        let Some(dependent) = self.nodes.get(uid).cloned() else { return };
        let namespace = &dependent.identity.namespace;
        let mut doubtful = false;
        for owner in owners {
            let Some(node) = self.nodes.get_mut(&owner.uid) else {
                let node = Node {
                    identity: Identity::of_owner(owner, namespace),
                    is_virtual: true,
                    owners: Vec::new(),
                    dependents: BTreeSet::from([uid.to_owned()]),
                    deleting: false,
                    deleting_dependents: false,
                    orphaning: false,
                    waiting: false,
                };
                self.nodes.insert(owner.uid.clone(), node);
                effects.look_at(&owner.uid);
                continue;
            };
            node.dependents.insert(uid.to_owned());
            let scoped = !node.identity.namespace.is_empty();
            if doubtful {
                continue;
            }
            if scoped && node.identity.namespace != *namespace {
                if !node.is_virtual {
                    stranger(&dependent, &owner.uid, effects);
                }
                doubtful = true;
            } else if !node.identity.is_named_by(owner) {
                doubtful = true;
            } else if !scoped && !namespace.is_empty() && node.is_virtual {
                // Perhaps one of a namespace, wrongly named by an object of none.
                doubtful = true;
            }
        }
        if doubtful {
            effects.look_at(uid);
        }
    }

    /// A watch told that it is gone.
    pub(super) fn gone(&mut self, uid: &str) -> Effects {
        let mut effects = Effects::default();
        if let Some(node) = self.nodes.get(uid) {
            self.remove(node.identity.clone(), &mut effects);
        }
        effects
    }

    /// The API told that there is no such object.
    pub(super) fn absent(&mut self, identity: &Identity) -> Effects {
        let mut effects = Effects::default();
        let Some(node) = self.nodes.get(&identity.uid) else { return effects };
        let (is_virtual, same) = (node.is_virtual, node.identity == *identity);
        let (right, wrong) = self.told_apart(identity);
        let stays = if is_virtual { !wrong.is_empty() } else { !same };
        if !stays {
            self.remove(identity.clone(), &mut effects);
            return effects;
        }
        // Others call it otherwise, and may be right.
        if !right.is_empty() {
            self.absent.add(identity.clone());
            right.iter().for_each(|dependent| effects.look_at(dependent));
        }
        if is_virtual
            && same
            && let Some(other) = self.other_name(&wrong, identity)
            && let Some(node) = self.nodes.get_mut(&identity.uid)
        {
            node.identity = other;
            effects.work.insert(Work::DeleteLater(identity.uid.clone()));
        }
        effects
    }

    fn remove(&mut self, identity: Identity, effects: &mut Effects) {
        let Some(node) = self.nodes.remove(&identity.uid) else { return };
        for owner in &node.owners {
            if let Some(owner) = self.nodes.get_mut(&owner.uid) {
                owner.dependents.remove(&identity.uid);
                if owner.deleting_dependents {
                    effects.look_at(&owner.identity.uid);
                }
            }
        }
        node.dependents.iter().for_each(|dependent| effects.look_at(dependent));
        if !node.dependents.is_empty() {
            self.absent.add(identity);
        }
    }

    /// Dependents that call an owner by this name, and those that call it otherwise; some do both.
    fn told_apart(&self, identity: &Identity) -> (Vec<String>, Vec<String>) {
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        for node in self.dependents(&identity.uid) {
            let elsewhere = !identity.namespace.is_empty() && node.identity.namespace != identity.namespace;
            let mut named = node.owners.iter().filter(|owner| owner.uid == identity.uid);
            let uid = || node.identity.uid.clone();
            if elsewhere {
                wrong.push(uid());
                continue;
            }
            if named.clone().any(|owner| identity.is_named_by(owner)) {
                right.push(uid());
            }
            if named.any(|owner| !identity.is_named_by(owner)) {
                wrong.push(uid());
            }
        }
        (right, wrong)
    }

    /// Another name by which dependents call an owner: the next one in order, then the first again.
    fn other_name(&self, dependents: &[String], identity: &Identity) -> Option<Identity> {
        let unscoped = identity.namespace.is_empty();
        let mut names = BTreeSet::new();
        for node in dependents.iter().filter_map(|uid| self.nodes.get(uid)) {
            for owner in node.owners.iter().filter(|owner| owner.uid == identity.uid) {
                let here = unscoped || identity.namespace == node.identity.namespace;
                if identity.is_named_by(owner) && here {
                    continue;
                }
                let mut name = Identity::of_owner(owner, &node.identity.namespace);
                if unscoped && name.api_version == identity.api_version && name.kind == identity.kind {
                    // This kind is known to be in no namespace.
                    name.namespace.clear();
                }
                names.insert(name);
            }
        }
        names.remove(identity);
        names.iter().find(|name| *name > identity).or(names.first()).cloned()
    }

    /// How many nodes there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Holds between all calls: dependents name their owner. Not every one that names an owner is its dependent: once the owner
    /// was gone, they are being looked at.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for (uid, node) in &self.nodes {
            assert_eq!(*uid, node.identity.uid);
            for dependent in &node.dependents {
                let node = self.nodes.get(dependent).expect("a dependent is a node");
                assert!(node.owners.iter().any(|owner| owner.uid == *uid), "{dependent} names nobody");
            }
        }
    }
}

/// A dependent names an owner of another namespace.
fn stranger(dependent: &Node, owner: &str, effects: &mut Effects) {
    if let Some(reference) = dependent.owners.iter().find(|reference| reference.uid == owner) {
        let named = Identity::of_owner(reference, &dependent.identity.namespace);
        effects.strangers.push((dependent.identity.clone(), named));
    }
}
