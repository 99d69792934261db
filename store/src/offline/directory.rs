//! New data directories: prepared beside their place, complete and on disk before they get their name.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::OfflineError;
use crate::command::CommandError;
use crate::ids::{ClusterId, MemberId};
use crate::snapshot::{self, Manifest};
use crate::storage::data_dir::DataDir;
use crate::stored::{StateMeta, StoredVersion};

/// In a directory that a restore is preparing, so that it can be told from anything else that has its name.
const MARKER: &str = "restore-in-progress";

/// A directory under construction. Dropped before [`NewDirectory::publish`] it leaves what the next attempt removes.
pub(super) struct NewDirectory {
    part: PathBuf,
    place: PathBuf,
    /// The mark, locked, so that two restores never write into the same place.
    _mark: File,
}

impl NewDirectory {
    /// Whether something new may get this name.
    pub(super) fn check(place: &Path) -> Result<(), OfflineError> {
        if place.file_name().is_none() {
            return Err(OfflineError::Unnamed { path: place.to_owned() });
        }
        match is_empty(place) {
            Ok(true) => {}
            Ok(false) => return Err(OfflineError::NotEmpty { path: place.to_owned() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(OfflineError::NotEmpty { path: place.to_owned() });
            }
            Err(error) => return Err(OfflineError::io(place, "read the directory")(error)),
        }
        let part = part_of(place);
        match is_empty(&part) {
            Ok(true) => Ok(()),
            Ok(false) if part.join(MARKER).exists() => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => Err(OfflineError::InTheWay { path: part }),
        }
    }

    /// Begins it, and throws away what an interrupted attempt left.
    pub(super) fn begin(place: &Path) -> Result<Self, OfflineError> {
        Self::check(place)?;
        let part = part_of(place);
        let io = |action| OfflineError::io(&part, action);
        fs::create_dir_all(&part).map_err(io("create the directory"))?;
        let mark = File::options().create(true).truncate(false).write(true).open(part.join(MARKER));
        let mark = mark.map_err(io("write into the directory"))?;
        match mark.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OfflineError::Restoring { path: part }),
            Err(TryLockError::Error(error)) => return Err(io("lock the directory")(error)),
        }
        let clear = || {
            for entry in fs::read_dir(&part)? {
                let path = entry?.path();
                if path.is_dir() {
                    fs::remove_dir_all(path)?;
                } else if path != part.join(MARKER) {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        clear().map_err(io("remove what an interrupted restore left"))?;
        Ok(Self { part, place: place.to_owned(), _mark: mark })
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        &self.part
    }

    /// Gives it its name.
    pub(super) fn publish(self) -> Result<(), OfflineError> {
        let marker = self.part.join(MARKER);
        fs::remove_file(&marker).map_err(OfflineError::io(&marker, "remove the mark"))?;
        sync(&self.part)?;
        // An empty directory gives way.
        fs::rename(&self.part, &self.place)
            .map_err(OfflineError::io(&self.part, "give the directory its name"))?;
        sync(&parent(&self.place))
    }
}

fn is_empty(dir: &Path) -> std::io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

fn part_of(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    place.with_file_name(name)
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes names in a directory durable.
pub(super) fn sync(dir: &Path) -> Result<(), OfflineError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(OfflineError::io(dir, "sync the directory"))
}

/// Writes a member's data: a snapshot, an empty log, and last of all an identity with a new incarnation.
pub(super) fn write_member(
    dir: &Path,
    (cluster, member): (ClusterId, MemberId),
    meta: &StateMeta,
    versions: impl IntoIterator<Item = Result<StoredVersion, CommandError>>,
) -> Result<(), OfflineError> {
    let data_dir = DataDir::open(dir)?;
    for path in [data_dir.snapshots(), data_dir.wal()] {
        fs::create_dir(&path).map_err(OfflineError::io(&path, "create the directory"))?;
    }
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let manifest = Manifest {
        cluster,
        member,
        written_at_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        state: meta.clone(),
        since: None,
    };
    snapshot::write_file(&data_dir.snapshots(), &manifest, versions, &mut |_| ())
        .map_err(|error| OfflineError::state(dir, error))?;
    data_dir.set_identity(cluster, member)?;
    sync(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_never_touched() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("m1");
        assert!(NewDirectory::check(&place).is_ok());
        fs::create_dir(&place).unwrap();
        assert!(NewDirectory::check(&place).is_ok(), "empty");
        fs::write(place.join("x"), "x").unwrap();
        assert!(matches!(NewDirectory::check(&place), Err(OfflineError::NotEmpty { .. })));
        assert!(matches!(NewDirectory::check(&place.join("x")), Err(OfflineError::NotEmpty { .. })));

        assert!(matches!(NewDirectory::check(Path::new("..")), Err(OfflineError::Unnamed { .. })));

        let other = root.path().join("m2");
        fs::create_dir(root.path().join("m2.part")).unwrap();
        fs::write(root.path().join("m2.part/photo"), "x").unwrap();
        assert!(matches!(NewDirectory::begin(&other), Err(OfflineError::InTheWay { .. })));
        assert!(root.path().join("m2.part/photo").exists());
    }

    #[test]
    fn an_interrupted_attempt_gives_way_to_the_next() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("m1");
        let first = NewDirectory::begin(&place).unwrap();
        fs::write(first.path().join("half"), "x").unwrap();
        assert!(matches!(NewDirectory::begin(&place), Err(OfflineError::Restoring { .. })), "it goes on");
        drop(first);
        let second = NewDirectory::begin(&place).unwrap();
        fs::write(second.path().join("whole"), "x").unwrap();
        second.publish().unwrap();
        let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["whole"]);
        assert!(!root.path().join("m1.part").exists());
    }
}
