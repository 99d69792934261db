//! Metrics of the other parts of a process that has more parts than an API server: they are told below `/metrics/`, to whoever may
//! ask for that path. So one certificate, and the rights of its user, are enough to see all of a master. Must never know a part.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a part tells when it is asked.
type Tell = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// The parts by their names, which are the last words of their paths.
#[derive(Clone, Default)]
pub struct PartMetrics(BTreeMap<&'static str, Tell>);

impl fmt::Debug for PartMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PartMetrics {
    /// And those of this part: what `tell` gives is Prometheus' text.
    #[must_use]
    pub fn with(mut self, name: &'static str, tell: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.0.insert(name, Arc::new(tell));
        self
    }

    /// What is told at a path; nothing where no part is.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<Vec<u8>> {
        Some(self.0.get(path.strip_prefix("/metrics/")?)?())
    }

    /// The paths, as the server lists them.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        self.0.keys().map(|name| format!("/metrics/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_path() {
        let parts = PartMetrics::default().with("store", || b"a 1\n".to_vec()).with("scheduler", Vec::new);
        assert_eq!(parts.at("/metrics/store").as_deref(), Some(&b"a 1\n"[..]));
        for path in ["/metrics", "/metrics/", "/metrics/kubelet", "/store", "/metrics/store/"] {
            assert_eq!(parts.at(path), None, "{path}");
        }
        assert_eq!(parts.paths().collect::<Vec<_>>(), ["/metrics/scheduler", "/metrics/store"]);
    }
}
