//! The file system of sick disks, through the kernel: what programs do with files works, and what a power cut, a full disk
//! or a failed sync does to them is what was asked for.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use jepsen_like_tests::sick_disk::loss::Loss;
use jepsen_like_tests::sick_disk::sickness::{Sickness, Syncs, Writes};
use jepsen_like_tests::sick_disk::{SickDisk, missing};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use rustix::io::Errno;

/// A disk, unless there can be none here.
fn disk() -> Option<SickDisk> {
    if let Some(what) = missing() {
        println!("skipped: {what}");
        return None;
    }
    Some(SickDisk::mount().unwrap())
}

fn cut(disk: &SickDisk) {
    disk.power_off();
    disk.power_on(Loss::Everything, &mut StdRng::seed_from_u64(1));
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}

#[test]
fn files_are_files() {
    let Some(disk) = disk() else { return };
    let dir = disk.path().join("a/b");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("file");
    let options = OpenOptions::new().create_new(true).read(true).write(true).clone();
    let mut file = options.open(&path).unwrap();
    assert_eq!(options.open(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);

    // More than one request of the kernel takes.
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    file.write_all(&content).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    file.write_all_at(b"xyz", 1_500_000).unwrap();
    let mut read = [0; 5];
    file.read_exact_at(&mut read, 1_499_999).unwrap();
    assert_eq!(&read[1..4], b"xyz");
    file.set_len(10).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10);
    fallocate(&file, FallocateFlags::empty(), 0, 5000).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&content[..10], &[0; 4990]].concat());

    // What is appended goes behind what others wrote meanwhile.
    let mut end = OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(4).unwrap();
    end.write_all(b"end").unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "end");

    // Deleted while it is open, and renamed over.
    fs::remove_file(&path).unwrap();
    file.read_exact_at(&mut [0; 7], 0).unwrap();
    assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(&path, "old").unwrap();
    fs::write(dir.join("new"), "new").unwrap();
    fs::rename(dir.join("new"), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    let refused = fs::rename(&path, disk.path().join("elsewhere")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CrossesDevices);

    // Locks, and directories with more names than one answer takes.
    let (one, other) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    for number in 0..1000 {
        File::create(dir.join(format!("a-name-of-some-length-{number}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1001);
    drop((one, other));
    assert_eq!(fs::remove_dir(&dir).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_dir_all(disk.path().join("a")).unwrap();
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[test]
fn only_what_was_synced_outlives_a_power_cut() {
    let Some(disk) = disk() else { return };
    let path = disk.path().join("file");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    cut(&disk);
    assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotFound, "its name was not synced");

    let file = File::create(&path).unwrap();
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    file.write_all_at(b"unsync", 0).unwrap();
    fs::write(disk.path().join("other"), "x").unwrap();
    fs::rename(&path, disk.path().join("renamed")).unwrap();
    assert_eq!(fs::read(disk.path().join("renamed")).unwrap(), b"unsync");
    disk.power_off();
    assert_eq!(errno(file.sync_all().unwrap_err()), Errno::IO);
    disk.power_on(Loss::Everything, &mut StdRng::seed_from_u64(1));
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1);
    assert_eq!(fs::read(&path).unwrap(), b"synced");
}

#[test]
fn a_sick_disk_says_what_it_shall() {
    let Some(disk) = disk() else { return };
    let path = disk.path().join("file");
    let file = File::create_new(&path).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    disk.write_back();

    disk.set(Sickness::of_writes(Writes::Full));
    assert_eq!(errno(file.write_all_at(b"x", 0).unwrap_err()), Errno::NOSPC);
    assert_eq!(errno(file.set_len(100).unwrap_err()), Errno::NOSPC);
    assert_eq!(errno(File::create(disk.path().join("new")).unwrap_err()), Errno::NOSPC);
    assert_eq!(errno(fs::create_dir(disk.path().join("dir")).unwrap_err()), Errno::NOSPC);
    assert_eq!(statvfs(disk.path()).unwrap().f_bavail, 0);
    file.sync_all().unwrap();

    disk.set(Sickness::of_writes(Writes::Fail));
    assert_eq!(errno(file.write_all_at(b"x", 0).unwrap_err()), Errno::IO);

    disk.set(Sickness { reads_fail: true, ..Sickness::NONE });
    assert_eq!(errno(fs::read(&path).unwrap_err()), Errno::IO);

    // What a failed sync did not write stays readable, and is not written by the next one.
    disk.set(Sickness::NONE);
    file.write_all_at(b"after!", 0).unwrap();
    disk.set(Sickness::of_syncs(Syncs::Fail));
    assert_eq!(errno(file.sync_data().unwrap_err()), Errno::IO);
    disk.set(Sickness::NONE);
    file.sync_data().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"after!");
    assert!(disk.counts().refused >= 6, "{:?}", disk.counts());
    cut(&disk);
    assert_eq!(fs::read(&path).unwrap(), b"before");
}

#[test]
fn a_sync_hangs_until_the_disk_is_well_or_without_power() {
    let Some(disk) = disk() else { return };
    for well in [true, false] {
        let path = disk.path().join(format!("file-{well}"));
        let file = File::create(&path).unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        file.write_all_at(b"x", 0).unwrap();
        disk.set(Sickness::of_syncs(Syncs::Hang));
        let (done, outcome) = channel();
        let syncing = std::thread::spawn(move || done.send(file.sync_all().map_err(errno)).unwrap());
        // Other work goes on, and the sync does not end meanwhile.
        for number in 0..100 {
            fs::write(disk.path().join("other"), number.to_string()).unwrap();
        }
        let waited = outcome.recv_timeout(Duration::from_millis(50));
        assert_eq!(waited, Err(RecvTimeoutError::Timeout));
        if well {
            disk.set(Sickness::NONE);
        } else {
            disk.power_off();
        }
        let expected = if well { Ok(()) } else { Err(Errno::IO) };
        assert_eq!(outcome.recv().unwrap(), expected);
        syncing.join().unwrap();
        disk.set(Sickness::NONE);
        cut(&disk);
        assert_eq!(fs::read(&path).unwrap().len(), usize::from(well));
    }
}

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().contains(path.to_str().unwrap())
}

/// Whether a disk is left in a test of its own process, which tells where it is and waits.
const CHILD: &str = "SICK_DISK_OF_A_KILLED_PROCESS";

#[test]
fn nothing_stays_mounted() {
    if std::env::var_os(CHILD).is_some() {
        let disk = SickDisk::mount().unwrap();
        println!("mounted:{}", disk.path().display());
        io::stdin().read_exact(&mut [0]).unwrap();
        return;
    }
    let Some(disk) = disk() else { return };
    let path = disk.path().to_owned();
    assert!(is_mounted(&path));
    // A file that somebody still has open does not keep the mount.
    let open = File::create(path.join("file")).unwrap();
    let panicked = std::thread::spawn(move || {
        let _disk = disk;
        std::panic::resume_unwind(Box::new("a test failed"));
    });
    assert!(panicked.join().is_err());
    assert!(!is_mounted(&path) && !path.exists());
    assert_eq!(errno(open.write_all_at(b"x", 0).unwrap_err()), Errno::IO);

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["nothing_stays_mounted", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut told = String::new();
    let path = loop {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        told.push(char::from(byte[0]));
        if let Some((_, path)) = told.split_once("mounted:")
            && let Some(path) = path.strip_suffix('\n')
        {
            break Path::new(path).to_owned();
        }
    };
    assert!(is_mounted(&path));
    child.kill().unwrap();
    // The end of what it could print is the end of the guard, too.
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    child.wait().unwrap();
    assert!(!path.exists() && !is_mounted(&path), "{errors}");
}
