//! A file that is put aside when it is full, and which of those that were put aside go (names and rules of the files that
//! Kubernetes' `--audit-log-*` flags make). Must never lose a line that it took.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use barque_api::time::Time;

const DAY: u64 = 24 * 60 * 60;

/// When a file is full, and how long full ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// In bytes; 0 for never.
    pub size: u64,
    /// How many full files are kept; 0 for all.
    pub backups: usize,
    /// For how many days full files are kept; 0 for ever.
    pub days: u64,
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    limits: Limits,
    file: File,
    size: u64,
}

impl RotatingFile {
    /// Opens a file at its end; makes it and its folder where they are not there. Only the owner can read it.
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limits, file, size })
    }

    /// Writes whole lines; before one that does not fit any more, the file is put aside.
    ///
    /// # Errors
    /// When lines could not be written; also when the file could not be put aside, or old ones not removed, though all lines
    /// were written then, into the file that is too full.
    pub(super) fn write(&mut self, lines: &[Vec<u8>], now: SystemTime) -> io::Result<()> {
        let mut aside = Ok(());
        let mut pending = Vec::new();
        for line in lines {
            let length = line.len() as u64;
            let size = self.size + pending.len() as u64;
            if self.limits.size > 0 && size > 0 && size + length > self.limits.size {
                self.append(&pending)?;
                pending.clear();
                aside = self.put_aside(now);
            }
            pending.extend_from_slice(line);
        }
        self.append(&pending)?;
        aside
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn put_aside(&mut self, now: SystemTime) -> io::Result<()> {
        let millis = millis_of(now);
        let free = (millis..).map(|millis| backup_name(&self.path, millis)).find(|name| !name.exists());
        if let Some(name) = free {
            match fs::rename(&self.path, name) {
                // Somebody else has moved it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        self.file = open(&self.path)?;
        self.size = 0;
        self.remove_old(millis)
    }

    fn remove_old(&self, now: u64) -> io::Result<()> {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        for name in superfluous(&self.path, &names, self.limits, now) {
            fs::remove_file(folder.join(name))?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn millis_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `audit.log` that is put aside is `audit-2026-01-31T12-00-00.123.log`.
fn backup_name(path: &Path, millis: u64) -> PathBuf {
    let (front, end) = name_parts(path);
    let time = Time::of_unix(i64::try_from(millis / 1000).unwrap_or(i64::MAX)).to_string();
    let time = time.trim_end_matches('Z').replace(':', "-");
    path.with_file_name(format!("{front}{time}.{:03}{end}", millis % 1000))
}

/// What stands before and after the time in the names of full files.
fn name_parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    (format!("{stem}-"), end)
}

/// When a file of this name was put aside, in milliseconds; nothing for other files.
fn time_of_backup(path: &Path, name: &str) -> Option<u64> {
    let (front, end) = name_parts(path);
    let text = name.strip_prefix(&front)?.strip_suffix(&end)?;
    let (seconds, millis) = text.split_once('.')?;
    let (day, time) = seconds.split_once('T')?;
    let time = Time::parse(&format!("{day}T{}Z", time.replace('-', ":"))).ok()?;
    Some(u64::try_from(time.unix()).ok()? * 1000 + millis.parse::<u64>().ok().filter(|_| millis.len() == 3)?)
}

/// The full files that are too many or too old.
fn superfluous<'a>(path: &Path, names: &'a [String], limits: Limits, now: u64) -> Vec<&'a str> {
    let mut backups: Vec<(u64, &str)> =
        names.iter().filter_map(|name| Some((time_of_backup(path, name)?, name.as_str()))).collect();
    backups.sort_unstable_by(|one, other| other.cmp(one));
    let oldest = now.saturating_sub(limits.days.saturating_mul(DAY * 1000));
    let goes = |(index, (time, _)): &(usize, (u64, &str))| {
        (limits.backups > 0 && *index >= limits.backups) || (limits.days > 0 && *time < oldest)
    };
    backups.into_iter().enumerate().filter(goes).map(|(_, (_, name))| name).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NONE: Limits = Limits { size: 0, backups: 0, days: 0 };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
        texts.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_full_file_is_put_aside_and_no_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let limits = Limits { size: 10, ..NONE };
        let mut file = RotatingFile::open(&path, limits).unwrap();
        file.write(&lines(&["one.\n", "two.\n", "three\n"]), at(86_400)).unwrap();
        file.write(&lines(&["longer than all that fits\n"]), at(86_400)).unwrap();
        drop(file);
        let mut file = RotatingFile::open(&path, limits).unwrap();
        file.write(&lines(&["end\n"]), at(86_401)).unwrap();
        let read = |name: &str| fs::read_to_string(path.with_file_name(name)).unwrap();
        assert_eq!(read("audit.log"), "end\n");
        assert_eq!(read("audit-1970-01-02T00-00-00.000.log"), "one.\ntwo.\n");
        assert_eq!(read("audit-1970-01-02T00-00-00.001.log"), "three\n");
        assert_eq!(read("audit-1970-01-02T00-00-01.000.log"), "longer than all that fits\n");
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let mut file = RotatingFile::open(&path, Limits { size: 4, ..NONE }).unwrap();
        file.write(&lines(&["one\n"]), at(1)).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(file.write(&lines(&["two\n"]), at(2)).is_err());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        file.write(&lines(&["three\n"]), at(3)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn full_files_that_are_too_many_or_too_old_go() {
        let path = Path::new("/logs/audit.log");
        let day = |day: u64| {
            backup_name(path, day * DAY * 1000).file_name().unwrap().to_string_lossy().into_owned()
        };
        let mut names = vec![day(1), day(2), day(3)];
        names.extend(["audit.log", "audit-mine.log", "other-1970-01-02T00-00-00.000.log"].map(str::to_owned));
        let table = [
            (0, 0, vec![]),
            (2, 0, vec![day(1)]),
            (0, 1, vec![day(2), day(1)]),
            (1, 9, vec![day(2), day(1)]),
        ];
        for (backups, days, gone) in table {
            let limits = Limits { backups, days, ..NONE };
            assert_eq!(superfluous(path, &names, limits, 4 * DAY * 1000), gone, "{backups} {days}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        RotatingFile::open(&path, NONE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
