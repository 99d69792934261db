//! A batch of commands as the payload of one log entry.
//!
//! Many clients' commands share an entry, because Raft's cost is per entry. The batch says which member
//! made it and under which number, so that this member, when it applies the entry, finds the callers that
//! wait for it; the other members execute the same commands and answer nobody.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::ids::MemberId;

/// Which proposal a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchId {
    /// The member whose clients wait.
    pub origin: MemberId,
    /// A random number of the origin's process: waiters do not survive a restart.
    pub boot: u64,
    /// Counts up in the process.
    pub sequence: u64,
}

/// A batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Cut off or damaged.
    #[error("a batch of commands cannot be decoded")]
    Decode(#[source] bincode::error::DecodeError),
    /// Written by a newer version.
    #[error("a batch of commands has format {0}, which this version does not know: upgrade this member")]
    Format(u8),
    /// Empty.
    #[error("a batch of commands is empty")]
    Empty,
}

const FORMAT: u8 = 1;

/// The payload for a log entry.
///
/// # Panics
/// Never: commands are numbers, bytes and lists of them.
#[must_use]
pub fn encode(id: BatchId, commands: &[Command], size_hint: usize) -> Bytes {
    let mut out = Vec::with_capacity(size_hint + 64);
    out.push(FORMAT);
    let config = bincode::config::standard();
    bincode::serde::encode_into_std_write(id, &mut out, config)
        .and_then(|_| bincode::serde::encode_into_std_write(commands, &mut out, config))
        .expect("commands are numbers, bytes and lists, and memory takes every byte");
    out.into()
}

/// The commands of a log entry.
///
/// # Errors
/// When the payload is damaged or newer than this version.
pub fn decode(payload: &[u8]) -> Result<(BatchId, Vec<Command>), BatchError> {
    let (&format, rest) = payload.split_first().ok_or(BatchError::Empty)?;
    if format != FORMAT {
        return Err(BatchError::Format(format));
    }
    let config = bincode::config::standard();
    let (id, read) = bincode::serde::decode_from_slice(rest, config).map_err(BatchError::Decode)?;
    let (commands, _) =
        bincode::serde::decode_from_slice(&rest[read..], config).map_err(BatchError::Decode)?;
    Ok((id, commands))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Put;

    #[test]
    fn a_batch_survives_the_log() {
        let id = BatchId { origin: MemberId(7), boot: u64::MAX, sequence: 3 };
        let put = Put { key: Bytes::from_static(b"k"), value: Bytes::from(vec![7; 300]), ..Put::default() };
        let commands = vec![Command::Put(put), Command::Compact { revision: crate::ids::Revision(4) }];
        let payload = encode(id, &commands, 300);
        assert_eq!(decode(&payload).unwrap(), (id, commands));
        assert!(decode(&payload[..payload.len() - 1]).is_err());
        assert!(matches!(decode(&[9, 9]), Err(BatchError::Format(9))));
    }
}
