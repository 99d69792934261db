//! The sockets in a directory, and when they come and go. Must never connect to one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use barque_inotify::{Changes, WatchFlags};

/// A directory that is watched.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    changes: Changes,
}

/// A socket in a directory; one that was made anew is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Socket {
    /// Where it is.
    pub(crate) path: PathBuf,
    made: Option<SystemTime>,
}

impl Directory {
    /// Makes the directory if there is none, and watches it.
    pub(crate) fn watch(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let wanted = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ATTRIB;
        Ok(Self { path: path.to_owned(), changes: Changes::of(path, wanted)? })
    }

    /// The sockets that are there. Those whose names begin with a dot are not meant for anybody.
    pub(crate) fn sockets(&self) -> io::Result<Vec<Socket>> {
        use std::os::unix::fs::FileTypeExt as _;
        let mut sockets = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            // What has gone meanwhile is not there.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.file_type().is_socket() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
                sockets.push(Socket { path: entry.path(), made: metadata.modified().ok() });
            }
        }
        sockets.sort();
        Ok(sockets)
    }

    /// Waits until something has changed since this was called last.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        self.changes.next().await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn sockets_come_and_go() {
        let there = tempfile::tempdir().unwrap();
        let directory = Directory::watch(&there.path().join("made")).unwrap();
        assert_eq!(directory.sockets().unwrap(), []);
        let path = there.path().join("made/a.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::write(there.path().join("made/file"), "").unwrap();
        directory.changed().await.unwrap();
        let found = directory.sockets().unwrap();
        assert_eq!(found.iter().map(|socket| &socket.path).collect::<Vec<_>>(), [&path]);
        std::fs::remove_file(&path).unwrap();
        directory.changed().await.unwrap();
        assert_eq!(directory.sockets().unwrap(), []);
    }
}
