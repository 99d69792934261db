//! How far a pull or a load is, for those who wait: a bar in a terminal, lines in a log. Must never hold anybody up.

use crate::digest::Digest;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A registry told what the reference means.
    Resolved {
        /// The digest of its manifest or index.
        digest: Digest,
        /// How many layers there are.
        layers: usize,
    },
    /// A layer is here already.
    Present {
        /// The layer as the registry knows it.
        layer: Digest,
    },
    /// More of a layer has come.
    Downloading {
        /// The layer as the registry knows it.
        layer: Digest,
        /// Bytes so far; less than before when it begins again.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The download of a layer broke and goes on.
    Retrying {
        /// The layer as the registry knows it.
        layer: Digest,
        /// Which attempt this is, beginning with 2.
        attempt: u32,
        /// Why it broke.
        reason: String,
    },
    /// A layer is being unpacked.
    Unpacking {
        /// The layer as the registry knows it.
        layer: Digest,
    },
    /// A layer is here now.
    Unpacked {
        /// The layer as the registry knows it.
        layer: Digest,
        /// Of its files.
        bytes: u64,
    },
}

/// Somebody who is told. Called from several tasks and threads, often: must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Nobody.
impl Progress for () {
    fn event(&self, _: Event) {}
}

/// A line in the log for what is worth one.
#[derive(Debug, Clone)]
pub struct LogProgress {
    /// The image, as it is named in the lines.
    pub image: String,
}

impl Progress for LogProgress {
    fn event(&self, event: Event) {
        let image = &self.image;
        match event {
            Event::Resolved { digest, layers } => tracing::info!("{image}: is {digest} with {layers} layers"),
            Event::Retrying { layer, attempt, reason } => {
                tracing::warn!("{image}: layer {layer} is tried again, attempt {attempt}: {reason}");
            }
            Event::Unpacked { layer, bytes } => tracing::debug!("{image}: layer {layer} has {bytes} bytes"),
            Event::Present { layer } => tracing::debug!("{image}: layer {layer} is here"),
            Event::Downloading { .. } | Event::Unpacking { .. } => {}
        }
    }
}
