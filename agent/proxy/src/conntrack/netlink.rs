//! Flows listed and deleted over netlink. Must never decide which.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{SendFlags, sendto, sockopt};

use super::plan::{Flow, Owners};
use crate::nft::Family;
use crate::nft::wire::{Attributes, Head, Writer, messages};
use crate::nft::{open_netfilter, receive_all};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Attributes of a flow.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const BUFFER: usize = 4 << 20;

/// Connection tracking could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// There is no socket.
    #[error("connection tracking cannot be reached over netlink")]
    Open(#[source] io::Error),
    /// Nothing was sent or read.
    #[error("netlink broke off")]
    Socket(#[source] io::Error),
    /// A question was refused.
    #[error("connection tracking refused to list or delete flows")]
    Refused(#[source] io::Error),
}

/// A socket to connection tracking.
#[derive(Debug)]
pub struct Conntrack {
    socket: OwnedFd,
}

/// What it takes to delete a flow: its attributes as the kernel told them.
struct Handle {
    original: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

impl Conntrack {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn open() -> Result<Self, ConntrackError> {
        let open = || {
            let socket = open_netfilter(0)?;
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(ConntrackError::Open)? })
    }

    /// Deletes the stale flows of all, and says how many. Blocks for as long as it takes to list all flows.
    ///
    /// # Errors
    /// When the kernel does not answer; flows deleted before stay so.
    pub fn clean(&mut self, owners: &Owners<'_>) -> Result<usize, ConntrackError> {
        let mut deleted = 0;
        for family in Family::ALL {
            for handle in self.stale(family, owners)? {
                deleted += usize::from(self.delete(family, &handle)?);
            }
        }
        Ok(deleted)
    }

    fn stale(&mut self, family: Family, owners: &Owners<'_>) -> Result<Vec<Handle>, ConntrackError> {
        let head = Head {
            kind: SUBSYSTEM | GET,
            flags: REQUEST | DUMP,
            sequence: 1,
            family: family.number(),
            resource: 0,
        };
        let mut writer = Writer::default();
        writer.message(head, |_| ());
        self.send(&writer.finish())?;
        let mut stale = Vec::new();
        let mut error = 0;
        receive_all(&self.socket, true, |bytes| {
            for message in messages(bytes) {
                match message.kind {
                    DONE => return true,
                    ERROR => {
                        error = message.error();
                        return true;
                    }
                    _ => stale.extend(read(message.attributes(), owners)),
                }
            }
            false
        })
        .map_err(socket_error)?;
        match error {
            0 => Ok(stale),
            error => Err(ConntrackError::Refused(io::Error::from_raw_os_error(error))),
        }
    }

    /// False if it was gone already.
    fn delete(&mut self, family: Family, handle: &Handle) -> Result<bool, ConntrackError> {
        let flags = REQUEST | ACKNOWLEDGE;
        let head =
            Head { kind: SUBSYSTEM | DELETE, flags, sequence: 1, family: family.number(), resource: 0 };
        let mut writer = Writer::default();
        writer.message(head, |message| {
            message.bytes(ORIGINAL | 0x8000, &handle.original);
            if let Some(id) = &handle.id {
                message.bytes(ID, id);
            }
            if let Some(zone) = &handle.zone {
                message.bytes(ZONE, zone);
            }
        });
        self.send(&writer.finish())?;
        let mut error = 0;
        receive_all(&self.socket, false, |bytes| {
            error = messages(bytes).filter(|message| message.kind == ERROR).fold(error, |_, one| one.error());
            false
        })
        .map_err(socket_error)?;
        match error {
            0 => Ok(true),
            error if error == Errno::NOENT.raw_os_error() => Ok(false),
            error => Err(ConntrackError::Refused(io::Error::from_raw_os_error(error))),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), ConntrackError> {
        loop {
            match sendto(&self.socket, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(socket_error(error)),
            }
        }
    }
}

fn socket_error(error: Errno) -> ConntrackError {
    ConntrackError::Socket(error.into())
}

fn read(attributes: Attributes<'_>, owners: &Owners<'_>) -> Option<Handle> {
    let original = attributes.get(ORIGINAL)?;
    let (protocol, destination) = end(Attributes(original), true)?;
    let (_, answered_by) = end(attributes.nested(REPLY), false)?;
    owners.is_stale(&Flow { protocol, destination, answered_by }).then(|| Handle {
        original: original.to_vec(),
        id: attributes.get(ID).map(<[u8]>::to_vec),
        zone: attributes.get(ZONE).map(<[u8]>::to_vec),
    })
}

/// Protocol, and address and port of the destination or the source.
fn end(tuple: Attributes<'_>, destination: bool) -> Option<(u8, (IpAddr, u16))> {
    let (ip, proto) = (tuple.nested(1), tuple.nested(2));
    let behind = u16::from(destination);
    let v4 = ip.get(1 + behind).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
    let v6 = || ip.get(3 + behind).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from);
    let port = u16::from_be_bytes(proto.get(2 + behind)?.try_into().ok()?);
    Some((*proto.get(1)?.first()?, (v4.or_else(v6)?, port)))
}
