//! A master's directory: listed at the start and whenever something in it changes, when nothing happened to it for a moment. What
//! cannot be read is not gone, and is tried again. Must never write to it, nor take one that was mounted away for one that was emptied.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barque_inotify::{Changes, WatchFlags};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::file::{Content, Entry, Listing, Meaning, checksum, meaning};
use crate::published::MOST;

/// The wait before what could not be read is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// For how long nothing must have happened: whoever writes a file in place has come to its end by then.
const QUIET: Duration = Duration::from_millis(300);
/// For how long is waited for that at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory of manifests.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// Drawn once for this master's disk.
    pub(crate) key: String,
}

/// What a look has found.
struct Look {
    listing: Listing,
    /// Files that are left alone because they could not be read, with the reasons.
    unread: Vec<String>,
}

/// Tells what is in the directory whenever that changes, until the token is cancelled. One that is missing at the start is made.
pub(crate) async fn follow(
    directory: Directory,
    tell: watch::Sender<Option<Arc<Listing>>>,
    stop: CancellationToken,
) {
    let following = async {
        if let Err(error) = fs::create_dir_all(&directory.path) {
            tracing::error!(directory = %directory.path.display(), "--manifests: cannot be made: {error}");
        }
        let mut told = Vec::new();
        loop {
            // Watched before it is read, and each time anew: another directory may be there by now.
            let outcome = match watched(&directory.path) {
                Ok(changes) => look(&directory).await.map(|look| (changes, look)),
                Err(error) => Err(error),
            };
            let problems = match &outcome {
                Ok((_, look)) => look.unread.clone(),
                Err(error) => vec![format!("{}: {error}", directory.path.display())],
            };
            if problems != told {
                for problem in &problems {
                    tracing::error!("--manifests: {problem}; what it has brought stays");
                }
                told.clone_from(&problems);
            }
            match outcome {
                Ok((changes, look)) => {
                    tell.send_if_modified(|before| {
                        let differs = before.as_deref() != Some(&look.listing);
                        if differs {
                            *before = Some(Arc::new(look.listing));
                        }
                        differs
                    });
                    if problems.is_empty() {
                        changed(&changes).await;
                    } else {
                        // Whichever comes first.
                        let _: Result<(), _> = timeout(RETRY, changed(&changes)).await;
                    }
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    };
    let _: Option<()> = stop.run_until_cancelled(following).await;
}

fn watched(path: &Path) -> io::Result<Changes> {
    let in_it = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
    let wanted =
        in_it | WatchFlags::MOVE | WatchFlags::DELETE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    Changes::of(path, wanted)
}

/// Waits until something has happened, and then nothing for a moment.
async fn changed(changes: &Changes) {
    if changes.next().await.is_err() {
        // It is watched anew after a while.
        return sleep(RETRY).await;
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && matches!(timeout(QUIET, changes.next()).await, Ok(Ok(()))) {}
}

async fn look(directory: &Directory) -> io::Result<Look> {
    let directory = directory.clone();
    tokio::task::spawn_blocking(move || read(&directory)).await.map_err(io::Error::other)?
}

fn read(directory: &Directory) -> io::Result<Look> {
    let place = fs::metadata(&directory.path)?;
    let mut entries = BTreeMap::new();
    let (mut skipped, mut unread) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&directory.path)? {
        let name = entry?.file_name();
        // Names of other alphabets are texts as well; those that are none are told when they seem to be meant.
        let Some(name) = name.to_str() else {
            unread.push(format!("{}: the name is no UTF-8", directory.path.join(&name).display()));
            continue;
        };
        match meaning(name) {
            Meaning::Other => {}
            Meaning::Skip(skip) => skipped.push(skip.to_owned()),
            Meaning::Manifest => match content(&directory.path.join(name)) {
                Ok(Some(content)) => drop(entries.insert(name.to_owned(), Entry::File(content))),
                Ok(None) => {}
                // It has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    unread.push(format!("{}: {error}", directory.path.join(name).display()));
                    entries.insert(name.to_owned(), Entry::LeftAlone);
                }
            },
        }
    }
    entries.extend(skipped.into_iter().map(|name| (name, Entry::LeftAlone)));
    // The same place of the same disk: what was mounted over it is another one.
    let directory = checksum(format!("{} {}", directory.key, place.ino()).as_bytes())[..16].to_owned();
    Ok(Look { listing: Listing { directory, entries }, unread })
}

/// A file's content; nothing of what is no file.
fn content(path: &Path) -> io::Result<Option<Content>> {
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MOST).expect("a few MiB");
    if file.take(most + 1).read_to_end(&mut bytes)? > MOST {
        let why = format!("it is larger than {} MiB: divide it", MOST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(Some(Content::of(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_come_change_are_skipped_and_go() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("manifests");
        let directory = Directory { path: path.clone(), key: "k".to_owned() };
        let (tell, mut told) = watch::channel(None);
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(directory, tell, stop.clone()));
        let files = |listing: &Option<Arc<Listing>>| -> Vec<String> {
            let entries = listing.iter().flat_map(|listing| &listing.entries);
            let shown = entries.map(|(name, entry)| match entry {
                Entry::File(content) => format!("{name} {}", String::from_utf8_lossy(&content.bytes)),
                Entry::LeftAlone => format!("{name} is left alone"),
            });
            shown.collect()
        };
        let first = told.wait_for(Option::is_some).await.unwrap().clone();
        assert!(files(&first).is_empty(), "it was made");
        fs::write(path.join("a.yaml"), "one").unwrap();
        fs::write(path.join(".b.yaml"), "hidden").unwrap();
        fs::create_dir(path.join("c.yaml")).unwrap();
        told.wait_for(|it| files(it) == ["a.yaml one"]).await.unwrap();
        fs::write(path.join("a.yaml"), "two").unwrap();
        told.wait_for(|it| files(it) == ["a.yaml two"]).await.unwrap();
        fs::write(path.join("a.yaml.skip"), "").unwrap();
        told.wait_for(|it| files(it) == ["a.yaml is left alone"]).await.unwrap();
        fs::remove_file(path.join("a.yaml.skip")).unwrap();
        fs::remove_file(path.join("a.yaml")).unwrap();
        let last = told.wait_for(|it| files(it).is_empty()).await.unwrap().clone();
        assert_eq!(last.unwrap().directory, first.unwrap().directory);
        stop.cancel();
        following.await.unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_left_alone_and_other_directories_are_told_apart() {
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere/loop", place.path().join("gone.yaml")).unwrap();
        std::os::unix::fs::symlink("loop.yaml", place.path().join("loop.yaml")).unwrap();
        let directory = |path: &Path, key: &str| Directory { path: path.to_owned(), key: key.to_owned() };
        let look = read(&directory(place.path(), "k")).unwrap();
        assert_eq!(look.listing.entries, BTreeMap::from([("loop.yaml".to_owned(), Entry::LeftAlone)]));
        assert!(look.unread[0].contains("loop.yaml: "), "{:?}", look.unread);
        fs::create_dir(place.path().join("other")).unwrap();
        let identity = |path: &Path, key: &str| read(&directory(path, key)).unwrap().listing.directory;
        let here = identity(place.path(), "k");
        assert_eq!(here, look.listing.directory);
        assert_ne!(here, identity(place.path(), "another"));
        assert_ne!(here, identity(&place.path().join("other"), "k"));
        assert!(read(&directory(&place.path().join("none"), "k")).is_err());
    }
}
