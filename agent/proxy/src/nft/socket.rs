//! The kernel's side of netfilter: transactions sent, answers and notices read. Must never decide what to send.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, recv, sendto,
    socket_with, sockopt,
};
use tokio::io::unix::AsyncFd;

use super::encode::batch;
use super::wire::{Attributes, Head, Writer, messages};
use super::{Family, Key, Step, Transaction, Value};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const SUBSYSTEM: u16 = 10;
const NEW_GENERATION: u16 = 15;
const GET_GENERATION: u16 = 16;
const GET_ELEMENTS: u16 = 13;
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
/// The group of changes of nftables, as a bit.
const GROUP: u32 = 1 << 6;
/// Notices are many when much changes at once.
const MONITOR_BUFFER: usize = 8 << 20;
/// Answers of a batch: a few bytes, or one error for each message.
const ANSWER_BUFFER: usize = 4 << 20;
const DATAGRAM: usize = 64 << 10;
/// The kernel takes a message only if a socket's buffer could hold it with some room.
const SEND_ROOM: usize = 64 << 10;

/// The kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no socket to the kernel's packet filter.
    #[error(
        "the kernel's packet filter cannot be reached over netlink; it needs the capability CAP_NET_ADMIN"
    )]
    Open(#[source] io::Error),
    /// Nothing was sent or read.
    #[error("netlink broke off")]
    Socket(#[source] io::Error),
    /// One step was refused; none was done.
    #[error("the kernel refused to {step} of `{table}`: nothing of the transaction was done")]
    Refused {
        /// What it was.
        step: String,
        /// With its family.
        table: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The whole was refused.
    #[error("the kernel refused the transaction as a whole: nothing of it was done")]
    Transaction(#[source] io::Error),
    /// It is not known whether it was done.
    #[error("the kernel did not say whether the transaction was done")]
    Silent,
}

/// A socket to netfilter, non-blocking, in the network namespace of the calling thread; it stays there.
pub(crate) fn open_netfilter(groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Reads datagrams until `done` says so or, with `wait` false, there are none.
pub(crate) fn receive_all(
    socket: impl AsFd,
    wait: bool,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Result<(), Errno> {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                if each(&buffer[..length]) {
                    return Ok(());
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if wait => {
                // The kernel answers dumps from within the call, so this only guards.
                match poll(&mut [PollFd::new(&socket, PollFlags::IN)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Commits transactions.
#[derive(Debug)]
pub struct Kernel {
    socket: OwnedFd,
    port: u32,
    table: String,
    room: usize,
}

impl Kernel {
    /// For the tables of this name, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn open(table: &str) -> Result<Self, KernelError> {
        let open = || {
            let socket = open_netfilter(0)?;
            sockopt::set_socket_recv_buffer_size_force(&socket, ANSWER_BUFFER)?;
            let port = SocketAddrNetlink::try_from(getsockname(&socket)?)?.pid();
            Ok((socket, port))
        };
        let (socket, port) = open().map_err(KernelError::Open)?;
        Ok(Self { socket, port, table: table.to_owned(), room: 0 })
    }

    /// Does all of it or nothing. Blocks as long as the kernel takes, which is milliseconds for some changes, and up to a
    /// second for tens of thousands.
    ///
    /// # Errors
    /// When the kernel refuses, with the step that it names.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), KernelError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let batch = batch(&self.table, transaction);
        if self.room < batch.bytes.len() + SEND_ROOM {
            self.room = batch.bytes.len() + SEND_ROOM;
            sockopt::set_socket_send_buffer_size_force(&self.socket, self.room).map_err(socket_error)?;
        }
        self.send(&batch.bytes)?;
        // The kernel has worked already: what it has to say waits in the socket.
        let mut done = false;
        let mut refused = None;
        receive_all(&self.socket, false, |bytes| {
            for message in messages(bytes).filter(|message| message.kind == ERROR) {
                match message.error() {
                    0 => done |= message.sequence == batch.last,
                    error if refused.is_none() => refused = Some((message.sequence, error)),
                    _ => {}
                }
            }
            false
        })
        .map_err(socket_error)?;
        match refused {
            Some((sequence, error)) => {
                let source = io::Error::from_raw_os_error(error);
                Err(match batch.step(sequence).and_then(|index| transaction.steps.get(index)) {
                    Some((family, step)) => KernelError::Refused {
                        step: step.describe(),
                        table: format!("{} {}", family.word(), self.table),
                        source,
                    },
                    None => KernelError::Transaction(source),
                })
            }
            None if done => Ok(()),
            None => Err(KernelError::Silent),
        }
    }

    /// The number of the last change of nftables in this network namespace, whoever made it.
    ///
    /// # Errors
    /// When netlink breaks off.
    pub fn generation(&mut self) -> Result<u32, KernelError> {
        let mut writer = Writer::default();
        let kind = SUBSYSTEM << 8 | GET_GENERATION;
        writer.message(Head { kind, flags: REQUEST, sequence: 1, family: 0, resource: 0 }, |_| ());
        self.send(&writer.finish())?;
        let mut answer = Err(KernelError::Silent);
        receive_all(&self.socket, false, |bytes| {
            for message in messages(bytes) {
                match message.kind {
                    ERROR if message.error() != 0 => {
                        answer = Err(KernelError::Socket(io::Error::from_raw_os_error(message.error())));
                    }
                    kind if kind == SUBSYSTEM << 8 | NEW_GENERATION => {
                        answer = message.attributes().number(1).ok_or(KernelError::Silent);
                    }
                    _ => {}
                }
            }
            false
        })
        .map_err(socket_error)?;
        answer
    }

    /// Adds to a transaction that makes tables anew what packets have put into sets of the old ones, with the time it has left.
    ///
    /// # Errors
    /// When netlink breaks off.
    pub fn carry_over(&mut self, transaction: &mut Transaction) -> Result<(), KernelError> {
        let filled = transaction.steps.iter().filter_map(|(family, step)| match step {
            Step::AddSet(name, set) if set.timeout.is_some() => Some((*family, name.clone())),
            _ => None,
        });
        for (family, name) in filled.collect::<Vec<_>>() {
            let elements = self.remembered(family, &name)?;
            if !elements.is_empty() {
                transaction.steps.push((family, Step::AddElements(name, elements)));
            }
        }
        Ok(())
    }

    /// What a set with a timeout has; nothing, if it is not there.
    fn remembered(&mut self, family: Family, set: &str) -> Result<Vec<(Key, Value)>, KernelError> {
        let mut writer = Writer::default();
        let kind = SUBSYSTEM << 8 | GET_ELEMENTS;
        let head = Head { kind, flags: REQUEST | DUMP, sequence: 1, family: family.number(), resource: 0 };
        writer.message(head, |message| {
            message.text(1, &self.table);
            message.text(2, set);
        });
        self.send(&writer.finish())?;
        let mut elements = Vec::new();
        receive_all(&self.socket, true, |bytes| {
            for message in messages(bytes) {
                match message.kind {
                    DONE | ERROR => return true,
                    _ => elements.extend(
                        message.attributes().nested(3).filter_map(|(_, element)| remembered(element)),
                    ),
                }
            }
            false
        })
        .map_err(socket_error)?;
        Ok(elements)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        loop {
            match sendto(&self.socket, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(socket_error(error)),
            }
        }
    }
}

/// An element, unless it is as good as gone.
fn remembered(element: &[u8]) -> Option<(Key, Value)> {
    let element = Attributes(element);
    let left = element.get(5).and_then(|left| left.try_into().ok()).map(u64::from_be_bytes);
    let left = left.filter(|left| *left > 0).map(Duration::from_millis)?;
    Some((element.nested(1).get(1)?.to_vec(), Value { left: Some(left), ..Value::default() }))
}

fn socket_error(error: Errno) -> KernelError {
    KernelError::Socket(error.into())
}

fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the same open descriptor until it is dropped, and it moves into the `AsyncFd`, which
    // drops it only after it has given it back; nothing here takes it out or puts another one in.
    #[allow(unsafe_code, reason = "registering is safe for descriptors that are owned")]
    let registered = unsafe { AsyncFd::register(socket) };
    registered.map_err(|error| error.into_parts().1)
}

/// What a monitor heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Somebody else changed one of our tables.
    Foreign(Family),
    /// More happened than could be told.
    Missed,
}

/// Hears of every change of nftables in its network namespace.
#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<OwnedFd>,
    port: u32,
    table: String,
}

impl Monitor {
    /// One that leaves out what `kernel` does, in the network namespace of the calling thread. Needs a Tokio runtime with I/O.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn open(kernel: &Kernel) -> Result<Self, KernelError> {
        let open = || {
            let socket = open_netfilter(GROUP)?;
            sockopt::set_socket_recv_buffer_size_force(&socket, MONITOR_BUFFER)?;
            register(socket)
        };
        Ok(Self {
            socket: open().map_err(KernelError::Open)?,
            port: kernel.port,
            table: kernel.table.clone(),
        })
    }

    /// Waits for a change of our tables by somebody else. Safe to cancel.
    ///
    /// # Errors
    /// When netlink breaks off.
    pub async fn next(&mut self) -> Result<Notice, KernelError> {
        loop {
            let mut ready = self.socket.readable_mut().await.map_err(KernelError::Socket)?;
            let mut found = None;
            let read = receive_all(ready.get_inner(), false, |bytes| {
                found = found.or_else(|| foreign(bytes, self.port, &self.table));
                false
            });
            ready.clear_ready();
            match read {
                Ok(()) => {}
                Err(Errno::NOBUFS) => return Ok(Notice::Missed),
                Err(error) => return Err(socket_error(error)),
            }
            if let Some(family) = found {
                return Ok(Notice::Foreign(family));
            }
        }
    }
}

/// The table of ours that a datagram says somebody else changed.
fn foreign(bytes: &[u8], ours: u32, table: &str) -> Option<Family> {
    messages(bytes).find_map(|message| {
        let known = message.kind >> 8 == SUBSYSTEM && message.kind & 0xff != NEW_GENERATION;
        let family = Family::ALL.into_iter().find(|family| family.number() == message.family())?;
        // The name of the table is the first attribute of tables, chains, rules, sets and elements alike.
        let named = message.attributes().text(1) == Some(table);
        (known && named && message.port != ours && message.kind != DONE).then_some(family)
    })
}
