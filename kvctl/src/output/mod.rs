//! What commands print: one answer, in one of etcdctl's five formats.
//!
//! Everything here is a pure function from answers to text, but for `Output::print`, which writes it. Texts,
//! field names and their order are etcdctl 3.6's; scripts depend on them.

mod fields;
pub(crate) mod go_quote;
pub(crate) mod grid;
mod json;
mod protobuf;
mod rows;
mod simple;
pub(crate) mod size;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::{self, Write};

use barque_proto::etcdserverpb as pb;
use clap::ValueEnum;
use serde::Serialize;

use crate::error::Failure;

/// `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Every field on a line
    Fields,
    /// One JSON document a line
    Json,
    /// The answer's bytes on the wire
    Protobuf,
    /// For people
    Simple,
    /// A drawn table
    Table,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Which format.
    pub(crate) format: Format,
    /// Byte strings and ids as hexadecimal numbers, where the format has a choice.
    pub(crate) hex: bool,
}

/// What a command has to say.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Get {
        response: pb::RangeResponse,
        value_only: bool,
    },
    Put(pb::PutResponse),
    Delete(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Watch(pb::WatchResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke {
        id: i64,
        response: pb::LeaseRevokeResponse,
    },
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    LeaseTimeToLive {
        response: pb::LeaseTimeToLiveResponse,
        keys: bool,
    },
    Leases(pb::LeaseLeasesResponse),
    MemberAdd(pb::MemberAddResponse),
    MemberRemove {
        id: u64,
        response: pb::MemberRemoveResponse,
    },
    MemberUpdate {
        id: u64,
        response: pb::MemberUpdateResponse,
    },
    MemberPromote {
        id: u64,
        response: pb::MemberPromoteResponse,
    },
    MemberList(pb::MemberListResponse),
    Health(Vec<EndpointHealth>),
    Status(Vec<EndpointStatus>),
    HashKv(Vec<EndpointHash>),
    MoveLeader {
        from: u64,
        to: u64,
        response: pb::MoveLeaderResponse,
    },
    Downgrade {
        action: &'static str,
        response: pb::DowngradeResponse,
    },
    Alarm(pb::AlarmResponse),
    RoleAdd {
        role: String,
        response: pb::AuthRoleAddResponse,
    },
    RoleGet {
        role: String,
        response: pb::AuthRoleGetResponse,
    },
    RoleDelete {
        role: String,
        response: pb::AuthRoleDeleteResponse,
    },
    RoleList(pb::AuthRoleListResponse),
    RoleGrant {
        role: String,
        response: pb::AuthRoleGrantPermissionResponse,
    },
    RoleRevoke {
        role: String,
        key: Vec<u8>,
        range_end: Vec<u8>,
        response: pb::AuthRoleRevokePermissionResponse,
    },
    UserAdd {
        user: String,
        response: pb::AuthUserAddResponse,
    },
    UserGet {
        user: String,
        response: pb::AuthUserGetResponse,
    },
    UserDelete {
        user: String,
        response: pb::AuthUserDeleteResponse,
    },
    UserList(pb::AuthUserListResponse),
    UserPassword(pb::AuthUserChangePasswordResponse),
    UserGrant {
        user: String,
        role: String,
        response: pb::AuthUserGrantRoleResponse,
    },
    UserRevoke {
        user: String,
        role: String,
        response: pb::AuthUserRevokeRoleResponse,
    },
    AuthStatus(pb::AuthStatusResponse),
}

/// One endpoint's `endpoint health`.
#[derive(Clone, Debug)]
pub(crate) struct EndpointHealth {
    pub(crate) endpoint: String,
    /// As Go writes durations; empty if there was no connection.
    pub(crate) took: String,
    /// Why it is not healthy; empty if it is.
    pub(crate) error: String,
}

impl EndpointHealth {
    pub(crate) fn healthy(&self) -> bool {
        self.error.is_empty()
    }
}

/// One endpoint's `endpoint status`.
#[derive(Clone, Debug)]
pub(crate) struct EndpointStatus {
    pub(crate) endpoint: String,
    pub(crate) response: pb::StatusResponse,
}

/// One endpoint's `endpoint hashkv`.
#[derive(Clone, Debug)]
pub(crate) struct EndpointHash {
    pub(crate) endpoint: String,
    pub(crate) response: pb::HashKvResponse,
}

/// Text for both streams.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl From<String> for Rendered {
    fn from(out: String) -> Self {
        Self { out: out.into_bytes(), err: String::new() }
    }
}

impl From<Vec<u8>> for Rendered {
    fn from(out: Vec<u8>) -> Self {
        Self { out, err: String::new() }
    }
}

impl Output {
    /// Whether what is printed is for a person who looks at it.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self.format, Format::Simple | Format::Table)
    }

    /// The answer as text; `None` if the format does not have it.
    fn render(self, answer: &Answer) -> Option<Rendered> {
        match self.format {
            Format::Simple => Some(simple::render(answer, self.hex)),
            Format::Table => table::render(answer).map(Rendered::from),
            Format::Json => Some(json::render(answer, self.hex).into()),
            Format::Fields => Some(fields::render(answer, self.hex).into()),
            Format::Protobuf => protobuf::render(answer).map(Rendered::from),
        }
    }

    /// Prints the answer.
    ///
    /// # Errors
    /// If the format does not have it, or standard output is closed.
    pub(crate) fn print(self, answer: &Answer) -> Result<(), Failure> {
        let rendered = self.render(answer).ok_or_else(|| self.unsupported())?;
        if !rendered.err.is_empty() {
            eprint!("{}", rendered.err);
        }
        write_out(&rendered.out)
    }

    /// Prints what etcdctl has no equal of: for people as it displays itself, for programs as JSON.
    ///
    /// # Errors
    /// If the format has no such thing, or standard output is closed.
    pub(crate) fn report<T: Serialize + Display>(self, report: &T) -> Result<(), Failure> {
        match self.format {
            Format::Simple | Format::Table => write_out(report.to_string().as_bytes()),
            Format::Json => {
                let text = serde_json::to_string(report).map_err(|why| Failure::Verdict(why.to_string()))?;
                line(&text)
            }
            Format::Fields | Format::Protobuf => Err(self.unsupported()),
        }
    }

    /// The command has no such format.
    pub(crate) fn unsupported(self) -> Failure {
        let name =
            self.format.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        Failure::Unsupported(format!("this command has no {name} output: choose another --write-out"))
    }
}

/// Prints one line of text.
///
/// # Errors
/// If standard output is closed.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write_out(format!("{text}\n").as_bytes())
}

/// Writes to standard output at once: whoever reads from a pipe waits for it.
fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::io("standard output"))
}
