//! Files and directories, twice: as processes see them, and as they are on the disk. Pure: no clock, no I/O.
//!
//! What a process changes is seen at once and is on the disk after a sync: of the file for its content and length, of
//! the directory for the names in it. Nothing else makes anything durable, as POSIX has it and no file system at hand
//! is so strict. Must never change what is on the disk but by a sync, a power cut or damage that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem::take;
use std::path::{Path, PathBuf};

use rand::Rng;
use rustix::io::Errno;

use super::loss::{Change, Loss, index, surviving_names, survivors};

/// The number of a file or directory. Never used again after a power cut, so that no cache takes one for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode(pub u64);

impl Inode {
    /// The directory that everything is in.
    pub const ROOT: Self = Self(1);
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// What is told of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Which it is.
    pub inode: Inode,
    /// What it is.
    pub kind: Kind,
    /// Bytes in a file.
    pub length: u64,
    /// Permissions.
    pub mode: u16,
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// From `durable` to `now`, but for what a failed sync took for written.
    pending: Vec<Change>,
    /// Processes that have it open; it stays as long as they do.
    opens: usize,
}

type Names = BTreeMap<OsString, Inode>;

#[derive(Clone, Debug, Default)]
struct Directory {
    now: Names,
    durable: Names,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(OsString, Inode),
    Unlink(OsString),
    Rename(OsString, OsString),
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }
}

#[derive(Clone, Debug)]
enum Content {
    File(File),
    Directory(Directory),
}

#[derive(Clone, Debug)]
struct Node {
    mode: u16,
    content: Content,
}

/// The files and directories of one disk.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: BTreeMap<Inode, Node>,
    next: u64,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { mode: 0o755, content: Content::Directory(Directory::default()) };
        Self { nodes: BTreeMap::from([(Inode::ROOT, root)]), next: Inode::ROOT.0 + 1 }
    }
}

impl Tree {
    fn node(&mut self, inode: Inode) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&inode).ok_or(Errno::NOENT)
    }

    fn file(&mut self, inode: Inode) -> Result<&mut File, Errno> {
        match &mut self.node(inode)?.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(Errno::ISDIR),
        }
    }

    fn directory(&mut self, inode: Inode) -> Result<&mut Directory, Errno> {
        match &mut self.node(inode)?.content {
            Content::Directory(directory) => Ok(directory),
            Content::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn add(&mut self, parent: Inode, name: &OsStr, mode: u16, content: Content) -> Result<Inode, Errno> {
        let inode = Inode(self.next);
        let directory = self.directory(parent)?;
        if directory.now.contains_key(name) {
            return Err(Errno::EXIST);
        }
        directory.change(NameChange::Link(name.to_owned(), inode));
        self.nodes.insert(inode, Node { mode, content });
        self.next += 1;
        Ok(inode)
    }

    /// What stands under a name.
    ///
    /// # Errors
    /// As of `stat`.
    pub fn lookup(&mut self, parent: Inode, name: &OsStr) -> Result<Inode, Errno> {
        self.directory(parent)?.now.get(name).copied().ok_or(Errno::NOENT)
    }

    /// What is told of it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn attributes(&mut self, inode: Inode) -> Result<Attributes, Errno> {
        let node = self.node(inode)?;
        let (kind, length) = match &node.content {
            Content::File(file) => (Kind::File, file.now.len() as u64),
            Content::Directory(_) => (Kind::Directory, 0),
        };
        Ok(Attributes { inode, kind, length, mode: node.mode })
    }

    /// Changes permissions.
    ///
    /// # Errors
    /// When it is gone.
    pub fn set_mode(&mut self, inode: Inode, mode: u16) -> Result<(), Errno> {
        self.node(inode)?.mode = mode;
        Ok(())
    }

    /// A new, empty file.
    ///
    /// # Errors
    /// As of `open` with `O_CREAT` and `O_EXCL`.
    pub fn create(&mut self, parent: Inode, name: &OsStr, mode: u16) -> Result<Inode, Errno> {
        self.add(parent, name, mode, Content::File(File::default()))
    }

    /// A new, empty directory.
    ///
    /// # Errors
    /// As of `mkdir`.
    pub fn make_directory(&mut self, parent: Inode, name: &OsStr, mode: u16) -> Result<Inode, Errno> {
        self.add(parent, name, mode, Content::Directory(Directory::default()))
    }

    /// Takes a file's name away.
    ///
    /// # Errors
    /// As of `unlink`.
    pub fn unlink(&mut self, parent: Inode, name: &OsStr) -> Result<(), Errno> {
        let inode = self.lookup(parent, name)?;
        self.file(inode)?;
        self.directory(parent)?.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    /// Takes an empty directory's name away.
    ///
    /// # Errors
    /// As of `rmdir`.
    pub fn remove_directory(&mut self, parent: Inode, name: &OsStr) -> Result<(), Errno> {
        let inode = self.lookup(parent, name)?;
        if !self.directory(inode)?.now.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.directory(parent)?.change(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    /// Gives another name, within one directory.
    ///
    /// # Errors
    /// As of `rename`.
    pub fn rename(&mut self, parent: Inode, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        let inode = self.lookup(parent, from)?;
        let kind = self.attributes(inode)?.kind;
        match self.lookup(parent, to) {
            Ok(replaced) if replaced == inode => return Ok(()),
            Ok(replaced) => match (kind, &self.node(replaced)?.content) {
                (Kind::File, Content::File(_)) => {}
                (Kind::File, Content::Directory(_)) => return Err(Errno::ISDIR),
                (Kind::Directory, Content::File(_)) => return Err(Errno::NOTDIR),
                (Kind::Directory, Content::Directory(target)) if target.now.is_empty() => {}
                (Kind::Directory, Content::Directory(_)) => return Err(Errno::NOTEMPTY),
            },
            Err(_) => {}
        }
        self.directory(parent)?.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// The names in a directory, with what they stand for.
    ///
    /// # Errors
    /// As of `opendir`.
    pub fn entries(&mut self, inode: Inode) -> Result<Vec<(OsString, Inode, Kind)>, Errno> {
        let names: Vec<_> = self.directory(inode)?.now.clone().into_iter().collect();
        let with_kind = |(name, inode)| Ok((name, inode, self.attributes(inode)?.kind));
        names.into_iter().map(with_kind).collect()
    }

    /// A process has the file open from now on.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(&mut self, inode: Inode) -> Result<(), Errno> {
        self.file(inode)?.opens += 1;
        Ok(())
    }

    /// It has not any more.
    pub fn close(&mut self, inode: Inode) {
        // One from before a power cut is gone.
        if let Ok(file) = self.file(inode) {
            file.opens = file.opens.saturating_sub(1);
        }
    }

    /// Bytes of a file: less than asked for at its end.
    ///
    /// # Errors
    /// As of `pread`.
    pub fn read(&mut self, inode: Inode, offset: u64, length: usize) -> Result<&[u8], Errno> {
        let content = &self.file(inode)?.now;
        let from = index(offset).min(content.len());
        Ok(&content[from..from.saturating_add(length).min(content.len())])
    }

    /// Writes into a file.
    ///
    /// # Errors
    /// As of `pwrite`.
    pub fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.change(inode, Change::Write { offset, bytes: bytes.to_vec() })
    }

    /// Gives a file another length.
    ///
    /// # Errors
    /// As of `ftruncate`.
    pub fn resize(&mut self, inode: Inode, length: u64) -> Result<(), Errno> {
        self.change(inode, Change::Resize { length })
    }

    fn change(&mut self, inode: Inode, change: Change) -> Result<(), Errno> {
        let file = self.file(inode)?;
        change.apply(&mut file.now);
        file.pending.push(change);
        Ok(())
    }

    /// Makes a file's content, or a directory's names, durable.
    ///
    /// # Errors
    /// When it is gone.
    pub fn sync(&mut self, inode: Inode) -> Result<(), Errno> {
        match &mut self.node(inode)?.content {
            Content::File(file) => {
                for change in take(&mut file.pending) {
                    change.apply(&mut file.durable);
                }
            }
            Content::Directory(directory) => {
                for change in take(&mut directory.pending) {
                    change.apply(&mut directory.durable);
                }
                self.forget_what_nothing_names();
            }
        }
        Ok(())
    }

    /// A sync that fails, as Linux does it: what was written stays readable, is taken for written from then on, and no
    /// later sync writes it. Names wait for the next one.
    ///
    /// # Errors
    /// When it is gone.
    pub fn fail_sync(&mut self, inode: Inode) -> Result<(), Errno> {
        if let Content::File(file) = &mut self.node(inode)?.content {
            file.pending.clear();
        }
        Ok(())
    }

    /// Makes everything durable, as a machine does in the background some time after it was written.
    pub fn write_back(&mut self) {
        let all: Vec<Inode> = self.nodes.keys().copied().collect();
        for inode in all {
            // One that nothing names goes meanwhile.
            let _ = self.sync(inode);
        }
    }

    /// The power goes and comes back: what is on the disk is all there is. Nobody has anything open any more.
    pub fn power_cut(&mut self, loss: Loss, rng: &mut impl Rng) {
        for node in self.nodes.values_mut() {
            match &mut node.content {
                Content::File(file) => {
                    for change in survivors(&take(&mut file.pending), loss, rng) {
                        change.apply(&mut file.durable);
                    }
                    file.now.clone_from(&file.durable);
                    file.opens = 0;
                }
                Content::Directory(directory) => {
                    let pending = take(&mut directory.pending);
                    let left = surviving_names(pending.len(), loss, rng);
                    for change in &pending[..left] {
                        change.apply(&mut directory.durable);
                    }
                    directory.now.clone_from(&directory.durable);
                }
            }
        }
        self.forget_what_nothing_names();
        self.renumber();
    }

    fn forget_what_nothing_names(&mut self) {
        let mut named = BTreeSet::new();
        let mut found = vec![Inode::ROOT];
        while let Some(inode) = found.pop() {
            if !named.insert(inode) {
                continue;
            }
            if let Some(Node { content: Content::Directory(directory), .. }) = self.nodes.get(&inode) {
                found.extend(directory.now.values().chain(directory.durable.values()));
                found.extend(directory.pending.iter().filter_map(|change| match change {
                    NameChange::Link(_, inode) => Some(inode),
                    NameChange::Unlink(_) | NameChange::Rename(..) => None,
                }));
            }
        }
        let open = |node: &Node| matches!(&node.content, Content::File(file) if file.opens > 0);
        self.nodes.retain(|inode, node| named.contains(inode) || open(node));
    }

    fn renumber(&mut self) {
        let mut new = BTreeMap::from([(Inode::ROOT, Inode::ROOT)]);
        for &inode in self.nodes.keys() {
            new.entry(inode).or_insert_with(|| {
                self.next += 1;
                Inode(self.next - 1)
            });
        }
        for (inode, mut node) in take(&mut self.nodes) {
            if let Content::Directory(directory) = &mut node.content {
                let names = directory.now.values_mut().chain(directory.durable.values_mut());
                names.for_each(|inode| *inode = new[inode]);
            }
            self.nodes.insert(new[&inode], node);
        }
    }

    /// All files, with their paths, as processes see them.
    pub fn files(&mut self) -> Vec<(PathBuf, Inode)> {
        let mut files = Vec::new();
        let mut directories = vec![(PathBuf::new(), Inode::ROOT)];
        while let Some((path, inode)) = directories.pop() {
            for (name, inode, kind) in self.entries(inode).unwrap_or_default() {
                match kind {
                    Kind::File => files.push((path.join(name), inode)),
                    Kind::Directory => directories.push((path.join(name), inode)),
                }
            }
        }
        files.sort();
        files
    }

    /// The file at a path.
    ///
    /// # Errors
    /// As of `stat`.
    pub fn at(&mut self, path: &Path) -> Result<Inode, Errno> {
        path.iter().try_fold(Inode::ROOT, |parent, name| self.lookup(parent, name))
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let of = |node: &Node| match &node.content {
            Content::File(file) => file.now.len() as u64,
            Content::Directory(_) => 0,
        };
        self.nodes.values().map(of).sum()
    }
}

#[cfg(test)]
mod tests;
