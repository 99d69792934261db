//! `barque image`: does what the words say and prints what came of it. Never decides anything about images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use barque_images::{Digest, Event, Image, ImageId, ImageStore, Options, Progress, PullOptions, Removed};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::component_args::Output;
use crate::image_args::{Credentials, ImageCommand, LoadArgs, PullArgs, SaveArgs};

/// As many digits of an id as people can tell apart.
const SHORT: usize = 12;

/// Does what the words say. `credentials` are for a pull.
pub(crate) async fn run(
    root: std::path::PathBuf,
    options: Options,
    command: ImageCommand,
    credentials: Option<Credentials>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let open = move || ImageStore::open(&root, options);
    let store = tokio::task::spawn_blocking(open).await.context("opening the images")??;
    if let ImageCommand::Pull(args) = command {
        let pulling = pull(&store, &args, credentials.as_ref());
        return stop.run_until_cancelled(pulling).await.context("stopped")?;
    }
    // A signal ends the program at once: nothing here takes long but reading and writing an archive.
    let working = tokio::task::spawn_blocking(move || local(&store, command));
    stop.run_until_cancelled(working).await.context("stopped")?.context("working on images")?
}

async fn pull(store: &ImageStore, args: &PullArgs, credentials: Option<&Credentials>) -> anyhow::Result<()> {
    let options = PullOptions { pin: args.pin, keep_blobs: args.discard_blobs.then_some(false) };
    for name in &args.images {
        let credentials = credentials.map(|credentials| credentials.of(name)).unwrap_or_default();
        let shown = Shown::new(name.familiar());
        let pulled = store.pull(name, &credentials, &options, shown.clone()).await;
        shown.end();
        let image = pulled?;
        println!("{}", image.repo_digests.first().map_or(image.id.as_str(), String::as_str));
    }
    Ok(())
}

fn local(store: &ImageStore, command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::Pull(_) => Ok(()),
        ImageCommand::List(args) => {
            let images = store.list()?;
            match args.output {
                Output::Table => print!("{}", table(&images, &store.holds()?, now_ns())),
                Output::Json => println!("{}", serde_json::to_string_pretty(&images)?),
            }
            Ok(())
        }
        ImageCommand::Rm(args) => {
            for image in &args.images {
                print!("{}", lines(&store.remove(image)?));
            }
            Ok(())
        }
        ImageCommand::Load(args) => load(store, &args),
        ImageCommand::Save(args) => save(store, &args),
        ImageCommand::Prune(args) => {
            let before = store.usage()?.images_bytes;
            let removed = store.prune(&BTreeSet::new())?;
            match args.output {
                Output::Table => {
                    let freed = before.saturating_sub(store.usage()?.images_bytes);
                    println!("{}freed {}", lines(&removed), HumanBytes(freed));
                }
                Output::Json => println!("{}", serde_json::to_string_pretty(&removed)?),
            }
            Ok(())
        }
        ImageCommand::Inspect(args) => {
            let found = args
                .images
                .iter()
                .map(|image| store.find(image)?.ok_or_else(|| anyhow::anyhow!("{image}: not found")));
            println!("{}", serde_json::to_string_pretty(&found.collect::<anyhow::Result<Vec<_>>>()?)?);
            Ok(())
        }
        ImageCommand::Tag(args) => Ok(store.tag(&args.image, &args.name)?),
    }
}

fn load(store: &ImageStore, args: &LoadArgs) -> anyhow::Result<()> {
    let what = args.input.as_ref().map_or_else(|| "archive".to_owned(), |file| file.display().to_string());
    let shown = Shown::new(what.clone());
    let loaded = match &args.input {
        Some(file) => {
            store.load(File::open(file).with_context(|| format!("--input={what}"))?, shown.as_ref())
        }
        None if io::stdin().is_terminal() => bail!("name an archive with --input, or pipe one in"),
        None => store.load(io::stdin(), shown.as_ref()),
    };
    shown.end();
    for image in loaded? {
        if image.references.is_empty() {
            println!("{}", image.id);
        }
        image.references.iter().for_each(|name| println!("{name}"));
    }
    Ok(())
}

fn save(store: &ImageStore, args: &SaveArgs) -> anyhow::Result<()> {
    let images: Vec<&str> = args.images.iter().map(String::as_str).collect();
    let Some(file) = &args.output else {
        if io::stdout().is_terminal() {
            bail!("name a file with --output, or pipe the archive on: it is nothing for a terminal");
        }
        return Ok(store.save(&images, BufWriter::new(io::stdout().lock()))?);
    };
    // Whoever finds the file finds it whole.
    let part = file.with_added_extension("part");
    let saved = File::create(&part)
        .with_context(|| format!("--output={}", file.display()))
        .and_then(|made| Ok(store.save(&images, BufWriter::new(made))?))
        .and_then(|()| std::fs::rename(&part, file).with_context(|| format!("--output={}", file.display())));
    if saved.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    saved
}

fn lines(removed: &Removed) -> String {
    let untagged = removed.untagged.iter().map(|name| format!("untagged: {name}\n"));
    untagged.chain(removed.deleted.iter().map(|id| format!("deleted: {id}\n"))).collect()
}

/// A line for each name of each image.
fn table(images: &[Image], holds: &BTreeMap<String, ImageId>, now_ns: i64) -> String {
    let mut rows = vec![["NAME", "ID", "SIZE", "PULLED", "USED BY"].map(str::to_owned)];
    for image in images {
        let users = holds.values().filter(|id| **id == image.id).count();
        let used_by = match (users, image.pinned) {
            (0, false) => "-".to_owned(),
            (0, true) => "pinned".to_owned(),
            (1, _) => "1 container".to_owned(),
            (more, _) => format!("{more} containers"),
        };
        let names = if image.references.is_empty() { &image.repo_digests } else { &image.references };
        let nameless = vec!["<none>".to_owned()];
        for name in if names.is_empty() { &nameless } else { names } {
            rows.push([
                name.clone(),
                image.id.hex()[..SHORT].to_owned(),
                HumanBytes(image.size_bytes).to_string(),
                ago(now_ns.saturating_sub(image.pulled_ns)),
                used_by.clone(),
            ]);
        }
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn ago(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds}s ago"),
        120..7200 => format!("{}m ago", seconds / 60),
        7200..172_800 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How far it is: bars in a terminal, lines elsewhere.
struct Shown {
    what: String,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Shown {
    fn new(what: String) -> Arc<Self> {
        let bars =
            io::stderr().is_terminal().then(|| Bars { all: MultiProgress::new(), layers: Mutex::default() });
        Arc::new(Self { what, bars })
    }

    fn end(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.all.clear();
        }
    }

    fn line(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.all.println(line)),
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

impl Bars {
    fn layer(&self, digest: &Digest) -> ProgressBar {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = layers.entry(digest.clone()).or_insert_with(|| {
            let form = "{prefix}  {msg:11} [{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec}";
            let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = self.all.add(ProgressBar::new(0)).with_prefix(digest.hex()[..SHORT].to_owned());
            bar.with_style(style.progress_chars("=> "))
        });
        bar.clone()
    }
}

impl Progress for Shown {
    fn event(&self, event: Event) {
        let short = |layer: &Digest| layer.hex()[..SHORT].to_owned();
        match (event, &self.bars) {
            (Event::Resolved { digest, layers }, _) => {
                self.line(&format!("{}: {digest}, {layers} layers", self.what));
            }
            (Event::Retrying { layer, attempt, reason }, _) => {
                self.line(&format!("{}: attempt {attempt}: {reason}", short(&layer)));
            }
            (Event::Downloading { layer, done, total }, Some(bars)) => {
                let bar = bars.layer(&layer);
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message("downloading");
            }
            (Event::Unpacking { layer }, Some(bars)) => bars.layer(&layer).set_message("unpacking"),
            (Event::Present { layer }, Some(bars)) => bars.layer(&layer).finish_with_message("is here"),
            (Event::Unpacked { layer, .. }, Some(bars)) => bars.layer(&layer).finish_with_message("done"),
            (Event::Present { layer }, None) => self.line(&format!("{}: is here", short(&layer))),
            (Event::Unpacked { layer, bytes }, None) => {
                self.line(&format!("{}: done, {}", short(&layer), HumanBytes(bytes)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (seconds, text) in
            [(-5, "0s ago"), (5, "5s ago"), (300, "5m ago"), (7300, "2h ago"), (864_000, "10d ago")]
        {
            assert_eq!(ago(seconds * 1_000_000_000), text);
        }
    }
}
