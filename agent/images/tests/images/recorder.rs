//! What a pull told.

use std::sync::{Arc, Mutex};

use barque_images::{Digest, Event, Progress};

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often each layer was unpacked.
    pub(crate) fn unpacked(&self, layer: &Digest) -> usize {
        self.count(|event| matches!(event, Event::Unpacked { layer: other, .. } if other == layer))
    }

    pub(crate) fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| which(event)).count()
    }
}
