//! What every process counts that works over the API: its requests, and what the system says of it. Must never decide anything.

use barque_process_metrics::ProcessCollector;
use prometheus::Registry;

use crate::servers::Requests;

/// Counts in this registry: `process_*` by itself, `rest_client_*` by a client that is made with the answer.
///
/// # Panics
/// When the registry has metrics of these names.
#[must_use]
pub fn count_process(registry: &Registry) -> Requests {
    registry.register(Box::new(ProcessCollector::new())).expect("it is registered once");
    Requests::register(registry)
}
