//! How the agent and a shim speak: a connection to the shim's socket for each request, messages as JSON behind their length,
//! file descriptors along with them. The agent and the shim may be of different versions: fields and requests are added,
//! never changed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::spec::{ContainerSpec, Process, Resources};

/// What the agent asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// That the shim is there: answered when it is ready.
    Hello,
    /// To be told of changes, for as long as the connection is there.
    Subscribe,
    /// Makes a container.
    Create { spec: Box<ContainerSpec>, log: LogLimits },
    /// Runs what was made.
    Start { id: String },
    /// Sends a signal to its first process, by number.
    Kill { id: String, signal: i32 },
    /// Asks it to stop, and ends it after so long. Answered when it has ended.
    Stop { id: String, grace_ms: u64 },
    /// Removes one that does not run.
    Remove { id: String },
    /// Changes what it may use.
    Update { id: String, resources: Resources },
    /// Begins a new file of its log.
    ReopenLog { id: String },
    /// Runs something in it. Answered with streams, and at its end with the code.
    Exec { id: String, process: Box<Process>, stdin: bool, timeout_ms: Option<u64> },
    /// Takes part in its streams. Answered with streams, and with the code when the container ends.
    Attach { id: String, stdin: bool, stdout: bool, stderr: bool },
    /// The terminal of those who are attached has another size; no answer.
    Resize { columns: u16, rows: u16 },
    /// Ends all containers. Answered when they have ended.
    StopSandbox,
    /// The shim ends; containers must have ended before.
    Quit,
}

/// What the shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Failed(Failure),
    /// Something may have changed.
    Changed,
    /// The descriptors along with this message are those, in this order.
    Streams(Vec<Stream>),
    /// It ended.
    Exited {
        code: i32,
        timed_out: bool,
    },
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// There is no such container.
    NotFound,
    /// There is one already.
    Exists,
    /// It is not in a state for this.
    State(String),
    /// What was asked for is not possible.
    Refused(String),
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    Stdin,
    Stdout,
    Stderr,
    /// Both directions of a terminal.
    Terminal,
}

/// How much a container's log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLimits {
    /// Bytes of one file.
    pub(crate) file_bytes: u64,
    /// Files, with the one that is written.
    pub(crate) files: u32,
}

/// No message is longer.
const LONGEST: usize = 16 << 20;

/// No message has more descriptors.
const MOST_DESCRIPTORS: usize = 3;

/// Sends a message.
pub(crate) async fn send<T: Serialize>(
    stream: &UnixStream,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= LONGEST);
    let Some(length) = length else { return Err(invalid("a message is too long")) };
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(body);
    let mut sent = 0;
    while sent < bytes.len() {
        // Descriptors travel with the first byte.
        let descriptors = if sent == 0 { descriptors } else { &[] };
        let rest = &bytes[sent..];
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                    return Err(invalid("a message has too many descriptors"));
                }
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                Ok(rustix::net::sendmsg(stream, &[IoSlice::new(rest)], &mut control, flags)?)
            })
            .await?;
    }
    Ok(())
}

/// Receives a message and what came along; nothing if the other side has closed.
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut descriptors = Vec::new();
    let mut length = [0; 4];
    if !fill(stream, &mut length, &mut descriptors).await? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(invalid("a message is too long"));
    }
    let mut body = vec![0; length];
    if !fill(stream, &mut body, &mut descriptors).await? && length > 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

/// Fills a buffer; false if the other side closed before its first byte.
async fn fill(stream: &UnixStream, buffer: &mut [u8], found: &mut Vec<OwnedFd>) -> std::io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        let received = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
                let message =
                    rustix::net::recvmsg(stream, &mut [IoSliceMut::new(rest)], &mut control, flags)?;
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = part {
                        found.extend(rights);
                    }
                }
                Ok(message.bytes)
            })
            .await?;
        match received {
            0 if filled == 0 => return Ok(false),
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            received => filled += received,
        }
    }
    Ok(true)
}

fn invalid(story: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, story.to_owned())
}

/// The path of a socket that is short enough for its address, however deep its directory is: by way of a descriptor of the
/// directory, which must be kept until the address was used.
pub(crate) fn short_path(socket: &std::path::Path) -> std::io::Result<(OwnedFd, std::path::PathBuf)> {
    use rustix::fs::{Mode, OFlags};
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(invalid("a socket needs a directory and a name"));
    };
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory.as_fd());
    let path = std::path::PathBuf::from(format!("/proc/self/fd/{number}")).join(name);
    Ok((directory, path))
}

/// Connects to a shim.
pub(crate) async fn connect(socket: &std::path::Path) -> std::io::Result<UnixStream> {
    let (_directory, path) = short_path(socket)?;
    UnixStream::connect(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn descriptors_arrive_with_their_message() {
        runtime().block_on(async {
            let (here, there) = UnixStream::pair().unwrap();
            let (reader, writer) = std::io::pipe().unwrap();
            send(&here, &Reply::Streams(vec![Stream::Stdin]), &[writer.as_fd()]).await.unwrap();
            send(&here, &Reply::Done, &[]).await.unwrap();
            drop(writer);
            let (reply, mut descriptors) = receive::<Reply>(&there).await.unwrap().unwrap();
            assert!(matches!(reply, Reply::Streams(_)));
            assert_eq!(descriptors.len(), 1);
            let (_, none) = receive::<Reply>(&there).await.unwrap().unwrap();
            assert!(none.is_empty());
            let mut writer = std::fs::File::from(descriptors.remove(0));
            std::io::Write::write_all(&mut writer, b"x").unwrap();
            drop(writer);
            assert_eq!(std::io::read_to_string(reader).unwrap(), "x");
            drop(here);
            assert!(receive::<Reply>(&there).await.unwrap().is_none());
        });
    }

    #[test]
    fn a_message_longer_than_the_sockets_buffer_arrives_whole() {
        runtime().block_on(async {
            let (here, there) = UnixStream::pair().unwrap();
            let message = "x".repeat(3 << 20);
            let (sent, received) = tokio::join!(send(&here, &message, &[]), receive::<String>(&there));
            sent.unwrap();
            assert_eq!(received.unwrap().unwrap().0, message);
        });
    }

    #[test]
    fn a_connection_cut_within_a_message_is_an_error() {
        runtime().block_on(async {
            let (here, there) = UnixStream::pair().unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut { here }, &[0, 0, 0, 9, b'"']).await.unwrap();
            assert!(receive::<String>(&there).await.is_err());
        });
    }
}
