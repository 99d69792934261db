//! What is going on, for people: a line that moves on a terminal, plain lines elsewhere. Must never decide anything.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// Tells people on standard error.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    missing: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// On a terminal with a line that moves.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, begun: Instant::now(), missing: Arc::default() }
    }

    /// Something is done.
    pub fn done(&self, what: &str) {
        let line = format!("{:>6.1}s  {what}", self.begun.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Something is waited for, under a name.
    pub fn waiting(&self, name: &str, what: String) {
        let mut missing = self.missing.lock();
        missing.insert(name.to_owned(), what);
        self.show(&missing);
    }

    /// Nothing of this name is waited for any more.
    pub fn came(&self, name: &str) {
        let mut missing = self.missing.lock();
        missing.remove(name);
        self.show(&missing);
    }

    fn show(&self, missing: &BTreeMap<String, String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(joined(missing));
        }
    }

    /// What is waited for, as text.
    #[must_use]
    pub fn missing(&self) -> String {
        joined(&self.missing.lock())
    }

    /// How long it took until now.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Nothing moves any more.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn joined(missing: &BTreeMap<String, String>) -> String {
    missing.iter().map(|(name, what)| format!("{name} {what}")).collect::<Vec<_>>().join("; ")
}
