//! How a terminal gets from libcontainer, which makes it inside of the container, to the shim: over a socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// The socket where it arrives; its file is removed with this value.
#[derive(Debug)]
pub(super) struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        let (_directory, short) = crate::wire::short_path(&path)?;
        let listener = UnixListener::bind(short)?;
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal, once libcontainer has made the process: it is there already, or never comes.
    pub(super) fn take(&self) -> std::io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(terminal) = descriptors.next()
            {
                return Ok(terminal);
            }
        }
        Err(std::io::Error::other("no terminal came"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // A file that is left goes with the container's directory.
        let _ = std::fs::remove_file(&self.path);
    }
}
