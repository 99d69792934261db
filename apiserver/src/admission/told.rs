//! What is said of a request beside its answer: warnings for the client, annotations for the audit log. Must never change what
//! was decided.

/// What is said; also of a request that is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit log: keys and values. Of several with one key the first counts.
    pub annotations: Vec<(String, String)>,
    /// The same, where the audit log tells the bodies of requests too: these show parts of them.
    pub details: Vec<(String, String)>,
}

impl Told {
    /// Something for the client.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Something for the audit log.
    pub fn annotate(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations.push((key.into(), value.into()));
    }
}
