//! Tells whoever started this process how it is, as systemd wants to know it (sd_notify(3)): a datagram to the socket that the
//! environment names. Must never fail a process: who is not asked tells nobody.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// It serves.
pub(crate) fn ready() {
    tell("READY=1");
}

/// It was asked to end.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("{SOCKET}={}: {state} cannot be told: {error}", socket.display());
    }
}

/// An `@` in front is a name that is in no directory (unix(7)).
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_gets_what_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let name = format!("barque-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ];
        for (socket, called) in &sockets {
            send(called, "READY=1").unwrap();
            let mut text = [0; 32];
            let size = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..size], b"READY=1");
        }
        assert!(send(OsStr::new("/nowhere/socket"), "READY=1").is_err());
    }
}
