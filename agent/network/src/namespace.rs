//! Network namespaces: a socket to the kernel that belongs to one. Must never leave a thread of the runtime in another
//! namespace than it was in.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::runtime::Handle as Runtime;

use crate::kernel::{Changes, Socket};

/// Within a machine nobody takes longer to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a socket to the kernel in the namespace, in which it stays, and which is told of changes of its links. A thread enters the namespace, opens it, and ends.
pub(crate) async fn connect(namespace: &File) -> io::Result<(Socket, Changes)> {
    let namespace = namespace.try_clone()?;
    in_thread(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Socket::open_with_changes()
    })
    .await
}

/// Opens what a path names, if it is a network namespace.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Connects to somebody in the namespace, such as a program of a pod on its loopback address. The connection can be used
/// anywhere.
///
/// # Errors
///
/// The namespace is not there, or nobody listens.
pub async fn connect_tcp(namespace: &Path, address: SocketAddr) -> io::Result<TcpStream> {
    let namespace = open(namespace)?;
    let stream = in_thread(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let stream = std::net::TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    })
    .await?;
    TcpStream::from_std(stream)
}

/// Runs something in the namespace, such as the start of a program, within the runtime of the caller.
///
/// # Errors
/// The namespace is not there, or what the work says.
pub async fn inside<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = open(namespace)?;
    in_thread(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
    .await
}

/// Runs something in a thread of its own that may change its namespace; the thread ends afterwards.
pub(crate) async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let runtime = Runtime::current();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let body = move || {
        let _entered = runtime.enter();
        // Nobody waits any more if the caller was dropped.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().name("netns".to_owned()).spawn(body)?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
}
