//! What somebody needs who helps from afar, in one file of bounded size: how the cluster is, objects without what they hold,
//! metrics, logs, networks. A piece that cannot be had is told of in `errors.txt`. Must never hold a secret, a key or a token.
//!
//! | file | what it is for |
//! |---|---|
//! | `redact` | secrets taken out of texts |
//! | `objects` | what of an object is told |
//! | `cluster` | pieces from API servers and the store |
//! | `machine` | pieces from this machine |
//! | `archive` | the file |

mod archive;
mod cluster;
mod machine;
mod objects;
mod redact;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

pub use self::archive::{ArchiveError, Written};
pub use self::cluster::{Source, TextSource};
pub use self::redact::Secrets;

/// A piece is cut off here, in bytes.
const PIECE: usize = 4 << 20;
/// All of them together, in bytes before they are compressed.
const ALL: usize = 64 << 20;

/// Pieces that are collected.
#[derive(Debug)]
pub struct Bundle {
    secrets: Secrets,
    pieces: Vec<(String, Vec<u8>)>,
    errors: Vec<String>,
    size: usize,
}

/// Which end of a piece that is too large is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its begin.
    First,
    /// Its end: of logs.
    Last,
}

impl Bundle {
    /// With nothing in it; `secrets` will not be either.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, pieces: Vec::new(), errors: Vec::new(), size: 0 }
    }

    /// Adds a text, or why there is none.
    pub fn text(&mut self, name: &str, text: Result<String, String>, keep: Keep) {
        match text {
            Ok(text) => {
                let text = self.secrets.redacted(&text);
                self.add(name, text, keep);
            }
            Err(why) => self.error(name, &why),
        }
    }

    /// Adds a value, or why there is none.
    pub fn json<T: Serialize>(&mut self, name: &str, value: Result<T, String>) {
        let value = value.and_then(|value| serde_json::to_value(value).map_err(|error| error.to_string()));
        match value {
            Ok(mut value) => {
                self.secrets.redact(&mut value);
                let text = serde_json::to_string_pretty(&value).unwrap_or_default();
                self.add(name, format!("{text}\n"), Keep::First);
            }
            Err(why) => self.error(name, &why),
        }
    }

    fn error(&mut self, name: &str, why: &str) {
        let why = self.secrets.redacted(why);
        let lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        self.errors.push(format!("{name}: {}", lines.join("; ")));
    }

    fn add(&mut self, name: &str, text: String, keep: Keep) {
        let room = PIECE.min(ALL.saturating_sub(self.size));
        let whole = text.len();
        let text = cut(text, room, keep);
        if text.len() < whole {
            let end = if keep == Keep::First { "first" } else { "last" };
            self.error(name, &format!("the {end} {} bytes of {whole} are kept", text.len()));
        }
        self.size += text.len();
        self.pieces.push((name.to_owned(), text.into_bytes()));
    }

    /// What went wrong, a line for each piece.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// The pieces with their sizes in bytes.
    pub fn pieces(&self) -> impl Iterator<Item = (&str, usize)> {
        self.pieces.iter().map(|(name, content)| (name.as_str(), content.len()))
    }

    /// Writes the file, for its owner alone; `name` is what everything in it is below.
    ///
    /// # Errors
    /// When it is there already, or cannot be written.
    pub fn write(mut self, path: &Path, name: &str, seconds: u64) -> Result<Written, ArchiveError> {
        let mut errors = self.errors.join("\n");
        if !errors.is_empty() {
            errors.push('\n');
        }
        self.pieces.push(("errors.txt".to_owned(), errors.into_bytes()));
        archive::write(path, name, &self.pieces, seconds)
    }

    /// Everything of this machine.
    pub async fn machine(&mut self, units: &[&str]) {
        machine::collect(self, units).await;
    }

    /// Objects of the cluster.
    pub async fn objects(&mut self, source: &Source) {
        for (name, found) in cluster::objects(source).await {
            self.listed(&name, found);
        }
    }

    fn listed(&mut self, name: &str, found: Result<cluster::Listed, String>) {
        match found {
            Ok(listed) => {
                if let Some(more) = listed.cut_off {
                    self.error(name, &more);
                }
                self.json(name, Ok(Value::Array(listed.items)));
            }
            Err(why) => self.error(name, &why),
        }
    }

    /// Texts that are served, such as metrics.
    pub async fn texts(&mut self, sources: Vec<TextSource>) {
        for (name, text) in cluster::texts(sources).await {
            self.text(&name, text, Keep::First);
        }
    }
}

/// The first or last so many bytes, between letters.
fn cut(text: String, most: usize, keep: Keep) -> String {
    if text.len() <= most {
        return text;
    }
    match keep {
        Keep::First => text[..text.floor_char_boundary(most)].to_owned(),
        Keep::Last => text[text.ceil_char_boundary(text.len() - most)..].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_lose_an_end_and_say_so() {
        let mut bundle = Bundle::new(Secrets::default());
        bundle.text("log", Ok(format!("{}end", "x".repeat(PIECE))), Keep::Last);
        assert_eq!(bundle.errors(), [format!("log: the last {PIECE} bytes of {} are kept", PIECE + 3)]);
        assert!(bundle.pieces[0].1.ends_with(b"xend"));
        assert_eq!(cut("aü".to_owned(), 2, Keep::First), "a");
        assert_eq!(cut("üa".to_owned(), 2, Keep::Last), "a");
    }

    #[test]
    fn all_pieces_together_are_bounded() {
        let mut bundle = Bundle::new(Secrets::default());
        for _ in 0..20 {
            bundle.text("log", Ok("x".repeat(PIECE)), Keep::First);
        }
        assert_eq!(bundle.pieces().map(|(_, size)| size).sum::<usize>(), ALL);
        assert_eq!(bundle.errors().len(), 4);
    }
}
