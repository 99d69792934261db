//! A bar on the terminal while large files are read and written.

use std::io::IsTerminal;

use barque_store::offline::Step;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// Gone when it is dropped.
pub(in crate::command) struct Bar(ProgressBar);

impl Bar {
    pub(in crate::command) fn new(output: Output) -> Self {
        if !output.is_for_people() || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{msg:>9} [{bar:40}] {percent}%");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// Shows how far it has come.
    pub(in crate::command) fn step(&self, step: Step) {
        self.0.set_message(step.what);
        self.0.set_length(step.total);
        self.0.set_position(step.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
