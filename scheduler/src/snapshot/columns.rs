//! Nodes in dense columns: what they offer and what their pods take. Must never know what terms pods have.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::PodId;
use crate::node::NodeSpec;
use crate::pod::{Amounts, HostPort};

/// A node, by its place in the columns; used again after the node and its pods are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) const fn at(self) -> usize {
        self.0 as usize
    }
}

/// A resource, by its place in the columns.
pub(crate) type ResourceId = usize;
pub(crate) const CPU: ResourceId = 0;
pub(crate) const MEMORY: ResourceId = 1;
pub(crate) const EPHEMERAL_STORAGE: ResourceId = 2;

/// What is taken of a node, and of which resource.
pub(crate) type Taken = (ResourceId, i64);

/// A driver and a volume.
pub(crate) type Attachment = (Box<str>, Box<str>);

/// The columns. All have the same length.
#[derive(Debug)]
pub(crate) struct Columns {
    by_name: HashMap<Box<str>, NodeId>,
    resource_ids: HashMap<Box<str>, ResourceId>,
    pub(crate) resource_names: Vec<Box<str>>,
    free: Vec<NodeId>,
    pub(crate) names: Vec<Box<str>>,
    /// None while only pods name the node.
    pub(crate) specs: Vec<Option<Arc<NodeSpec>>>,
    /// By resource, then by node.
    pub(crate) allocatable: Vec<Vec<i64>>,
    pub(crate) requested: Vec<Vec<i64>>,
    pub(crate) scored_cpu_milli: Vec<i64>,
    pub(crate) scored_memory: Vec<i64>,
    pub(crate) pods: Vec<Vec<PodId>>,
    pub(crate) ports: Vec<Vec<HostPort>>,
    pub(crate) attached: Vec<HashMap<Attachment, u32>>,
    driver_numbers: HashMap<Box<str>, usize>,
    /// Of each node: drivers, what they attach at most, and what they attach.
    drivers: Vec<Vec<(usize, Option<i64>, i64)>>,
    /// How many nodes are there.
    pub(crate) present: usize,
    /// How many nodes have an image, and a number that grows with every change of that.
    pub(crate) images: HashMap<Box<str>, (i64, u64)>,
    image_changes: u64,
}

impl Columns {
    pub(crate) fn new() -> Self {
        let names = ["cpu", "memory", "ephemeral-storage"].map(Box::<str>::from);
        let ids = names.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        Self {
            by_name: HashMap::new(),
            resource_ids: ids,
            resource_names: names.to_vec(),
            free: Vec::new(),
            names: Vec::new(),
            specs: Vec::new(),
            allocatable: vec![Vec::new(); 3],
            requested: vec![Vec::new(); 3],
            scored_cpu_milli: Vec::new(),
            scored_memory: Vec::new(),
            pods: Vec::new(),
            ports: Vec::new(),
            attached: Vec::new(),
            driver_numbers: HashMap::new(),
            drivers: Vec::new(),
            present: 0,
            images: HashMap::new(),
            image_changes: 0,
        }
    }

    /// How many places there are; some may be empty.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn id(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn spec(&self, node: NodeId) -> Option<&Arc<NodeSpec>> {
        self.specs.get(node.at())?.as_ref()
    }

    /// Nodes that are there.
    pub(crate) fn present(&self) -> impl Iterator<Item = (NodeId, &Arc<NodeSpec>)> {
        let specs = self.specs.iter().enumerate();
        specs.filter_map(|(at, spec)| Some((NodeId(at as u32), spec.as_ref()?)))
    }

    /// The number of a resource, new or known.
    pub(crate) fn resource(&mut self, name: &str) -> ResourceId {
        if let Some(&id) = self.resource_ids.get(name) {
            return id;
        }
        let id = self.resource_names.len();
        self.resource_names.push(name.into());
        self.resource_ids.insert(name.into(), id);
        // Nodes that came before may offer it: a name is only kept once somebody asks for it.
        let offered =
            |spec: &Option<Arc<NodeSpec>>| spec.as_ref().map_or(0, |spec| spec.allocatable.get(name));
        self.allocatable.push(self.specs.iter().map(offered).collect());
        self.requested.push(vec![0; self.len()]);
        id
    }

    pub(crate) fn known_resource(&self, name: &str) -> Option<ResourceId> {
        self.resource_ids.get(name).copied()
    }

    /// What a pod takes, by number.
    pub(crate) fn taken(&mut self, amounts: &Amounts) -> Arc<[Taken]> {
        let fixed = [
            (CPU, amounts.cpu_milli),
            (MEMORY, amounts.memory),
            (EPHEMERAL_STORAGE, amounts.ephemeral_storage),
        ];
        let mut taken: Vec<Taken> = fixed.into_iter().filter(|(_, amount)| *amount != 0).collect();
        for (name, amount) in amounts.scalar.iter().filter(|(_, amount)| *amount != 0) {
            taken.push((self.resource(name), *amount));
        }
        taken.into()
    }

    /// The place of a node of this name, which may have to be made.
    pub(crate) fn place(&mut self, name: &str) -> NodeId {
        if let Some(node) = self.id(name) {
            return node;
        }
        let node = self.free.pop().unwrap_or_else(|| {
            self.names.push("".into());
            self.specs.push(None);
            for column in self.allocatable.iter_mut().chain(&mut self.requested) {
                column.push(0);
            }
            self.scored_cpu_milli.push(0);
            self.scored_memory.push(0);
            self.pods.push(Vec::new());
            self.ports.push(Vec::new());
            self.attached.push(HashMap::new());
            self.drivers.push(Vec::new());
            NodeId(self.names.len() as u32 - 1)
        });
        self.names[node.at()] = name.into();
        self.by_name.insert(name.into(), node);
        node
    }

    /// The number of a driver that a node has or had.
    pub(crate) fn driver_number(&self, driver: &str) -> Option<usize> {
        self.driver_numbers.get(driver).copied()
    }

    fn driver(&mut self, node: NodeId, driver: &str) -> &mut (usize, Option<i64>, i64) {
        let known = self.driver_number(driver);
        let number = known.unwrap_or_else(|| {
            // Drivers are installed by people: there are few.
            self.driver_numbers.insert(driver.into(), self.driver_numbers.len());
            self.driver_numbers.len() - 1
        });
        let drivers = &mut self.drivers[node.at()];
        let at = drivers.iter().position(|(other, ..)| *other == number);
        let at = at.unwrap_or_else(|| {
            drivers.push((number, None, 0));
            drivers.len() - 1
        });
        &mut drivers[at]
    }

    /// What the drivers of a node attach at most.
    pub(crate) fn set_limits(&mut self, node: NodeId, limits: &BTreeMap<Box<str>, i64>) {
        for (_, limit, _) in &mut self.drivers[node.at()] {
            *limit = None;
        }
        for (driver, limit) in limits {
            self.driver(node, driver).1 = Some(*limit);
        }
    }

    /// What a driver attaches to a node at most and now, if it has a limit.
    pub(crate) fn attachable(&self, node: NodeId, driver: usize) -> Option<(i64, i64)> {
        let (_, limit, attached) = self.drivers[node.at()].iter().find(|(other, ..)| *other == driver)?;
        Some(((*limit)?, *attached))
    }

    pub(crate) fn attach(&mut self, node: NodeId, attached: &[Attachment]) {
        for one in attached {
            let users = self.attached[node.at()].entry(one.clone()).or_insert(0);
            *users += 1;
            if *users == 1 {
                self.driver(node, &one.0).2 += 1;
            }
        }
    }

    pub(crate) fn detach(&mut self, node: NodeId, attached: &[Attachment]) {
        for one in attached {
            let Some(users) = self.attached[node.at()].get_mut(one) else { continue };
            *users -= 1;
            if *users == 0 {
                self.attached[node.at()].remove(one);
                self.driver(node, &one.0).2 -= 1;
            }
        }
    }

    /// Gives a place back that nobody needs.
    pub(crate) fn give_back(&mut self, node: NodeId) {
        if self.specs[node.at()].is_none() && self.pods[node.at()].is_empty() {
            let name = std::mem::take(&mut self.names[node.at()]);
            self.drivers[node.at()].clear();
            if self.by_name.remove(&name).is_some() {
                self.free.push(node);
            }
        }
    }

    /// What the node is now.
    pub(crate) fn set_spec(&mut self, node: NodeId, spec: Option<Arc<NodeSpec>>) {
        let at = node.at();
        let old = std::mem::replace(&mut self.specs[at], spec);
        self.present += usize::from(self.specs[at].is_some());
        self.present -= usize::from(old.is_some());
        for (id, name) in self.resource_names.iter().enumerate() {
            self.allocatable[id][at] = self.specs[at].as_ref().map_or(0, |spec| spec.allocatable.get(name));
        }
        let images =
            |spec: &Option<Arc<NodeSpec>>| spec.as_ref().map_or_else(Box::default, |it| it.images.clone());
        let (old, new) = (images(&old), images(&self.specs[at]));
        if old != new {
            self.image_changes += 1;
            for (name, _) in &old {
                if let Some((nodes, changed)) = self.images.get_mut(name) {
                    (*nodes, *changed) = (*nodes - 1, self.image_changes);
                }
            }
            for (name, _) in &new {
                let (nodes, changed) = self.images.entry(name.clone()).or_default();
                (*nodes, *changed) = (*nodes + 1, self.image_changes);
            }
            for (name, _) in &old {
                if self.images.get(name).is_some_and(|(nodes, _)| *nodes == 0) {
                    self.images.remove(name);
                }
            }
        }
    }
}
