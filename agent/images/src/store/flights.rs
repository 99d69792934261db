//! Work that several want is done by one of them while the others wait, and look again when it is done. Whoever waits takes over when
//! the first one fails or is not wanted any more.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::digest::Digest;

/// By what is made.
#[derive(Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Flights {
    /// The turn to make `what`; it ends when the guard is dropped.
    pub(crate) async fn turn(&self, what: &Digest) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut under_way = self.under_way.lock();
            under_way.retain(|_, mutex| mutex.strong_count() > 0);
            match under_way.get(what).and_then(Weak::upgrade) {
                Some(mutex) => mutex,
                None => {
                    let mutex = Arc::new(tokio::sync::Mutex::new(()));
                    under_way.insert(what.clone(), Arc::downgrade(&mutex));
                    mutex
                }
            }
        };
        mutex.lock_owned().await
    }
}
