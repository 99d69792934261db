//! `kvctl snapshot verify`: a verdict over a saved file, or over several that are to follow each other.

use std::fmt;
use std::path::PathBuf;

use barque_store::offline::verify::verify;
use clap::Args;
use serde::Serialize;

use super::status::Told;
use super::{Bar, told};
use crate::error::Failure;
use crate::output::{Format, Output};

/// Arguments of `snapshot verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every file is read completely and its keyspace is built, as a restore would. Several files must be a whole snapshot and
the increments after it, from old to new, without a hole. The exit code is 0 only when everything is right."
)]
pub(crate) struct VerifyArgs {
    /// The files
    #[arg(required = true)]
    file: Vec<PathBuf>,
}

/// The verdict.
#[derive(Debug, Serialize)]
struct Report {
    /// `sound` or `unusable`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    files: Vec<Told>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{}", file.short())?;
        }
        match self.files.as_slice() {
            [one] if one.is_increment() => writeln!(f, "sound; it needs the snapshot that it continues"),
            [_] => writeln!(f, "sound: every byte is as it was written"),
            _ => writeln!(f, "sound: every byte is as it was written, and the files follow each other"),
        }
    }
}

impl VerifyArgs {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let bar = Bar::new(output);
        let verified = verify(&self.file, &mut |step| bar.step(step));
        drop(bar);
        match verified {
            Ok(files) => {
                let files = files.iter().map(Told::of).collect();
                output.report(&Report { verdict: "sound", reason: None, files })
            }
            // The verdict is the answer that was asked for; a file that cannot be read is none.
            Err(error) => {
                let failure = match told(error) {
                    Failure::Arguments(reason) => Failure::Verdict(reason),
                    other => other,
                };
                if output.format == Format::Json {
                    let reason = Some(failure.to_string());
                    output.report(&Report { verdict: "unusable", reason, files: Vec::new() })?;
                    return Err(Failure::Code(failure.exit_code()));
                }
                Err(failure)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::told;
    use super::*;

    #[test]
    fn a_verdict_says_what_was_verified() {
        let report = |files| Report { verdict: "sound", reason: None, files }.to_string();
        let one = report(vec![told()]);
        assert_eq!(
            one,
            "s: a whole snapshot, up to revision 10: 7 keys, 9 versions\nsound: every byte is as it was written\n"
        );
        assert!(report(vec![told(), told()]).ends_with("follow each other\n"));
    }
}
