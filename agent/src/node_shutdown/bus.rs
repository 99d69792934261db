//! The system's D-Bus, by a socket whose descriptors end with this process: whoever is started by an agent outlives it, and would go
//! on holding up a shutdown with a descriptor that it inherits. zbus' own socket does not see to that. Must never know what is
//! said.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::pin::Pin;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split};
use zbus::{Address, Connection};

/// Descriptors that come with one message at most.
const DESCRIPTORS: usize = 16;

/// Connects to the bus of `DBUS_SYSTEM_BUS_ADDRESS`, or the usual one.
pub(super) async fn connect() -> zbus::Result<Connection> {
    let address = Address::system()?;
    let stream = match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => UnixStream::connect(path).await?,
            UnixSocket::Abstract(name) => {
                // It is there, or it is not: nothing waits for it.
                let stream = StdStream::connect_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)?;
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream)?
            }
            _ => return Err(unfit(&address)),
        },
        // Descriptors do not go over others.
        _ => return Err(unfit(&address)),
    };
    Builder::socket(CloseOnExec(stream)).build().await
}

fn unfit(address: &Address) -> zbus::Error {
    zbus::Error::Address(format!("{address} is not the address of a socket of this machine"))
}

/// A socket that closes what it receives when another program is started.
struct CloseOnExec(UnixStream);

impl Socket for CloseOnExec {
    type ReadHalf = Reader;
    type WriteHalf = OwnedWriteHalf;

    fn split(self) -> Split<Reader, OwnedWriteHalf> {
        let (read, write) = self.0.into_split();
        Split::new(Reader(read), write)
    }
}

#[derive(Debug)]
struct Reader(OwnedReadHalf);

/// Bytes, and the descriptors that came with them.
type Received = io::Result<(usize, Vec<OwnedFd>)>;

impl Reader {
    async fn receive(&self, buffer: &mut [u8]) -> Received {
        let stream: &UnixStream = self.0.as_ref();
        stream.async_io(Interest::READABLE, || receive(stream, buffer)).await
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> Received {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(those) = message {
            descriptors.extend(those);
        }
    }
    Ok((received.bytes, descriptors))
}

impl ReadHalf for Reader {
    fn recvmsg<'own, 'buffer, 'both>(
        &'own mut self,
        buffer: &'buffer mut [u8],
    ) -> Pin<Box<dyn Future<Output = Received> + Send + 'both>>
    where
        'own: 'both,
        'buffer: 'both,
        Self: 'both,
    {
        Box::pin(self.receive(buffer))
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd as _;

    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[tokio::test]
    async fn nobody_inherits_what_came() {
        let (near, far) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&far, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
        let (mut reader, _write) = CloseOnExec(near).split().take();
        let mut buffer = [0; 8];
        let (read, came) = reader.recvmsg(&mut buffer).await.unwrap();
        assert_eq!((read, came.len()), (1, 1));
        assert!(fcntl_getfd(&came[0]).unwrap().contains(FdFlags::CLOEXEC));
        drop(far);
        assert_eq!(reader.recvmsg(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
