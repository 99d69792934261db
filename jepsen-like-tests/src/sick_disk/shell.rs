//! What the kernel asks of the file system, handed on to the tree unless the disk is too sick. Must never decide what is on
//! the disk.
//!
//! Nothing is cached by the kernel: what a process reads is what the tree has at that time. Files can be mapped where the
//! kernel can do that without a cache of its own (Linux 6.6). Locks are the kernel's.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::sickness::{Sickness, Syncs, Writes};
use super::tree::{Attributes, Inode, Kind, Tree};

/// Nothing is remembered by the kernel.
const UNREMEMBERED: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4096;
/// What the disk is said to hold.
const DISK_BLOCKS: u64 = 1 << 20;
/// Syncs of a slow disk that wait for their turn; more make the kernel wait.
pub(super) const WAITING_SYNCS: usize = 64;

/// What is known of a directory that is being read.
type Listing = Vec<(OsString, Inode, Kind)>;

pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) sickness: Sickness,
    /// Without it everything fails.
    pub(super) power: bool,
    /// Since the mount.
    pub(super) counts: Counts,
    listings: BTreeMap<u64, Listing>,
    next_listing: u64,
}

/// What a disk was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were done.
    pub writes: u64,
    /// Syncs that were done.
    pub syncs: u64,
    /// Requests that failed because the disk was sick.
    pub refused: u64,
}

/// The disk, between the kernel's thread and whoever makes it sick.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Power or sickness changed.
    changed: Condvar,
}

impl Shared {
    pub(super) fn new() -> Self {
        let state = State {
            tree: Tree::default(),
            sickness: Sickness::NONE,
            power: true,
            counts: Counts::default(),
            listings: BTreeMap::new(),
            next_listing: 0,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that syncs wait for.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// Carries out the syncs of a slow disk, one after the other, until no more can come.
    pub(super) fn sync_slowly(&self, waiting: &Receiver<(Inode, ReplyEmpty)>) {
        while let Ok((inode, reply)) = waiting.recv() {
            let state = self.lock();
            let still = |state: &mut State| state.power && matches!(state.sickness.syncs, Syncs::Hang);
            let mut state = match state.sickness.syncs {
                Syncs::Hang => self.changed.wait_while(state, still).unwrap_or_else(PoisonError::into_inner),
                Syncs::Take(time) => {
                    let slow = |state: &mut State| state.power && state.sickness.syncs == Syncs::Take(time);
                    let waited = self.changed.wait_timeout_while(state, time, slow);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Syncs::Work | Syncs::Fail => state,
            };
            let done = state.sync(inode);
            drop(state);
            answer(reply, done);
        }
    }
}

impl State {
    /// Nothing works without power.
    fn powered(&mut self) -> Result<&mut Tree, Errno> {
        if self.power {
            Ok(&mut self.tree)
        } else {
            self.counts.refused += 1;
            Err(Errno::IO)
        }
    }

    /// For what takes space.
    fn writable(&mut self) -> Result<&mut Tree, Errno> {
        if let Some(error) = self.sickness.write_error() {
            self.counts.refused += 1;
            return Err(error);
        }
        self.powered()
    }

    fn sync(&mut self, inode: Inode) -> Result<(), Errno> {
        if self.sickness.syncs == Syncs::Fail {
            self.counts.refused += 1;
            self.powered()?.fail_sync(inode)?;
            return Err(Errno::IO);
        }
        self.powered()?.sync(inode)?;
        self.counts.syncs += 1;
        Ok(())
    }
}

/// The file system as the kernel knows it.
pub(super) struct Shell {
    pub(super) shared: Arc<Shared>,
    /// To whoever carries out slow syncs.
    pub(super) slow: SyncSender<(Inode, ReplyEmpty)>,
}

fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

fn answer(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn entry(reply: ReplyEntry, found: Result<Attributes, Errno>) {
    match found {
        Ok(found) => reply.entry(&UNREMEMBERED, &attributes(found), Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

fn attr(reply: ReplyAttr, found: Result<Attributes, Errno>) {
    match found {
        Ok(found) => reply.attr(&UNREMEMBERED, &attributes(found)),
        Err(error) => reply.error(errno(error)),
    }
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
    }
}

/// Times are not kept, and everything belongs to root.
fn attributes(of: Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.inode.0),
        size: of.length,
        blocks: of.length.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(of.kind),
        perm: of.mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn mode(mode: u32, umask: u32) -> u16 {
    // Permissions are the last twelve bits.
    u16::try_from(mode & !umask & 0o7777).unwrap_or_default()
}

fn opened_flags() -> FopenFlags {
    FopenFlags::FOPEN_DIRECT_IO
}

impl Shell {
    /// Does something with the tree, and tells of what came of it.
    fn made(&self, make: impl FnOnce(&mut Tree) -> Result<Inode, Errno>) -> Result<Attributes, Errno> {
        let mut state = self.shared.lock();
        let tree = state.writable()?;
        let inode = make(tree)?;
        tree.attributes(inode)
    }

    fn sync(&self, inode: INodeNo, reply: ReplyEmpty) {
        let mut state = self.shared.lock();
        if state.power && matches!(state.sickness.syncs, Syncs::Take(_) | Syncs::Hang) {
            drop(state);
            // Only fails when the disk is being taken away; the reply then says EIO by itself.
            let _ = self.slow.send((Inode(inode.0), reply));
            return;
        }
        let done = state.sync(Inode(inode.0));
        drop(state);
        answer(reply, done);
    }

    fn with_tree(&self, work: impl FnOnce(&mut Tree) -> Result<(), Errno>, reply: ReplyEmpty) {
        let done = self.shared.lock().powered().and_then(work);
        answer(reply, done);
    }
}

impl Filesystem for Shell {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Older kernels cannot; then only mapping is refused.
        let _ = config.add_capabilities(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.shared.lock();
        let tree = &mut state.tree;
        let found = tree.lookup(Inode(parent.0), name).and_then(|inode| tree.attributes(inode));
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, self.shared.lock().tree.attributes(Inode(ino.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        new_mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let inode = Inode(ino.0);
        let mut state = self.shared.lock();
        let set = |state: &mut State| {
            if let Some(length) = size {
                // Making it shorter takes no space.
                let longer = length > state.tree.attributes(inode)?.length;
                let tree = if longer { state.writable()? } else { state.powered()? };
                tree.resize(inode, length)?;
            }
            let tree = state.powered()?;
            if let Some(new) = new_mode {
                tree.set_mode(inode, mode(new, 0))?;
            }
            tree.attributes(inode)
        };
        attr(reply, set(&mut state));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, bits: u32, umask: u32, reply: ReplyEntry) {
        entry(reply, self.made(|tree| tree.make_directory(Inode(parent.0), name, mode(bits, umask))));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.with_tree(|tree| tree.unlink(Inode(parent.0), name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.with_tree(|tree| tree.remove_directory(Inode(parent.0), name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = |tree: &mut Tree| {
            if parent != new_parent {
                // What a power cut would leave of it differs too much between file systems.
                return Err(Errno::XDEV);
            }
            if flags == RenameFlags::RENAME_NOREPLACE && tree.lookup(Inode(parent.0), new_name).is_ok() {
                return Err(Errno::EXIST);
            }
            if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
                return Err(Errno::INVAL);
            }
            tree.rename(Inode(parent.0), name, new_name)
        };
        self.with_tree(rename, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.shared.lock().powered().and_then(|tree| tree.open(Inode(ino.0)));
        match opened {
            Ok(()) => reply.opened(FileHandle(0), opened_flags()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        bits: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let exclusive = OFlags::from_bits_retain(flags.cast_unsigned()).contains(OFlags::EXCL);
        let created = self.made(|tree| {
            let made = match tree.create(Inode(parent.0), name, mode(bits, umask)) {
                Err(Errno::EXIST) if !exclusive => tree.lookup(Inode(parent.0), name)?,
                other => other?,
            };
            tree.open(made)?;
            Ok(made)
        });
        match created {
            Ok(made) => {
                let attributes = attributes(made);
                reply.created(&UNREMEMBERED, &attributes, Generation(0), FileHandle(0), opened_flags());
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.shared.lock();
        if state.sickness.reads_fail {
            state.counts.refused += 1;
            return reply.error(fuser::Errno::EIO);
        }
        match state.powered().and_then(|tree| tree.read(Inode(ino.0), offset, size as usize)) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.shared.lock();
        match state.writable().and_then(|tree| tree.write(Inode(ino.0), offset, data)) {
            Ok(()) => {
                state.counts.writes += 1;
                // The kernel never sends more than a few MiB.
                reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocate = |state: &mut State| {
            let tree = state.writable()?;
            if mode != 0 {
                return Err(Errno::OPNOTSUPP);
            }
            let end = offset.saturating_add(length);
            if end > tree.attributes(Inode(ino.0))?.length { tree.resize(Inode(ino.0), end) } else { Ok(()) }
        };
        let done = allocate(&mut self.shared.lock());
        answer(reply, done);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.lock().tree.close(Inode(ino.0));
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut state = self.shared.lock();
        // What is there when it is opened; what changes while it is read may be told or not.
        match state.powered().and_then(|tree| tree.entries(Inode(ino.0))) {
            Ok(listing) => {
                state.next_listing += 1;
                let handle = state.next_listing;
                state.listings.insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.shared.lock();
        let Some(listing) = state.listings.get(&fh.0) else { return reply.error(fuser::Errno::EBADF) };
        let own = (OsStr::new("."), ino, FileType::Directory);
        let above = (OsStr::new(".."), INodeNo::ROOT, FileType::Directory);
        let inside = listing.iter().map(|(name, inode, of)| (name.as_os_str(), INodeNo(inode.0), kind(*of)));
        let all = [own, above].into_iter().chain(inside);
        for (number, (name, ino, kind)) in (1..).zip(all).skip(super::loss::index(offset)) {
            if reply.add(ino, number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.shared.lock().listings.remove(&fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.shared.lock();
        let used = state.tree.bytes().div_ceil(u64::from(BLOCK_BYTES));
        let full = state.sickness.writes == Writes::Full;
        let free = if full { 0 } else { DISK_BLOCKS.saturating_sub(used) };
        reply.statfs(DISK_BLOCKS, free, free, DISK_BLOCKS, free, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}
