//! A node as the scheduler sees it, compiled. Pure; must never know the pods on it.

use barque_api::quantity::QuantityError;
use k8s_openapi::api::core::v1 as core;

use crate::label_set::LabelSet;
use crate::pod::Amounts;
use crate::taint::Taint;

/// A node that cannot be read. Objects that an API server validated can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It has no name.
    #[error("the node has no name")]
    Name,
    /// It offers an amount that is none.
    #[error("an allocatable amount cannot be read")]
    Amount(#[from] QuantityError),
}

/// A node, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: Box<str>,
    /// Its labels.
    pub labels: LabelSet,
    /// Its taints.
    pub taints: Box<[Taint]>,
    /// It is cordoned.
    pub unschedulable: bool,
    /// What pods can have of it.
    pub allocatable: Amounts,
    /// Every name of every image on it, with the image's bytes; sorted.
    pub images: Box<[(Box<str>, i64)]>,
}

impl NodeSpec {
    /// Compiles a node.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(node: &core::Node) -> Result<Self, NodeError> {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let mut images: Vec<(Box<str>, i64)> = images
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.as_str().into(), size))
            })
            .collect();
        images.sort_unstable();
        images.dedup_by(|later, kept| later.0 == kept.0);
        Ok(Self {
            name: node.metadata.name.as_deref().ok_or(NodeError::Name)?.into(),
            labels: LabelSet::of(node.metadata.labels.as_ref()),
            taints: taints.filter_map(Taint::of).collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable: allocatable.map_or_else(|| Ok(Amounts::default()), Amounts::of)?,
            images: images.into(),
        })
    }
}
